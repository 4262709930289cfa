"""How much weir takes on: its descriptors, shared out among clients, upstreams and its own needs."""

import resource
from dataclasses import dataclass

from weir.app.rooms import SetupError
from weir.config.model import Config
from weir.core.budget import Budget

OWN_DESCRIPTORS = 64
"""Listeners, log, event loop, name lookups, exporters, the guardian, what Python opens, and what is spare."""
DIAGNOSTICS_CONNECTIONS = 32
"""The second port serves some scrapers, probes, and people."""
DESCRIPTORS_A_CHILD = 5
"""Three pipes, a handle on the process, and one while it starts."""
DESCRIPTORS_LIMIT = 1 << 20
"""Where the system sets no limit; also what Linux allows at most by default (fs.nr_open)."""
CLIENTS_SHARE = 2
"""One client has at most half of the connections."""
LEAST_CONNECTIONS = 8


@dataclass(frozen=True, slots=True)
class Capacity:
    """How the limit of descriptors is shared out."""

    descriptors: int
    """The soft limit, after it was raised."""
    connections: int
    """Connections of clients to the MCP port."""

    @property
    def of_one_client(self) -> int:
        """Connections of one client."""
        return max(1, self.connections // CLIENTS_SHARE)


def reachable_descriptor_limit() -> int:
    """Returns the hard limit of descriptors, to which the soft one can be raised."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return DESCRIPTORS_LIMIT if hard == resource.RLIM_INFINITY else hard


def raised_descriptor_limit() -> int:
    """Raise the soft limit of descriptors to the hard one; returns what holds then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = reachable_descriptor_limit()
    if soft == resource.RLIM_INFINITY:
        return DESCRIPTORS_LIMIT
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    except (OSError, ValueError):
        # macOS names no hard limit and yet has one
        return soft
    return max(soft, wanted)


def capacity(config: Config, descriptors: int) -> Capacity:
    """Share the descriptors out.

    Raises:
        SetupError: `listen.max_connections` needs more than there are.
    """
    room = max(LEAST_CONNECTIONS, descriptors - OWN_DESCRIPTORS - DIAGNOSTICS_CONNECTIONS)
    said = config.listen.max_connections
    if said is not None:
        if said > room:
            raise SetupError(
                f"listen.max_connections: {said} connections need {said + descriptors - room} descriptors, and weir "
                f"has {descriptors}; raise the limit (ulimit -n, LimitNOFILE), or write 'auto'"
            )
        return Capacity(descriptors, said)
    # upstreams get what they may use, and at most half: what they lack is refused, call by call
    needed = sum(_needed_by(config, index) for index in range(len(config.upstreams)))
    return Capacity(descriptors, max(LEAST_CONNECTIONS, room - min(needed, room // 2)))


def _needed_by(config: Config, index: int) -> int:
    one = config.upstreams[index]
    return config.max_sessions * DESCRIPTORS_A_CHILD if one.is_stdio else one.connections + one.streams


def held(connections: int, room: Capacity, budget: Budget) -> dict[str, object]:
    """What clients hold of weir now, for `/status`."""
    return {
        "connections": {"open": connections, "most": room.connections, "most_of_one_client": room.of_one_client},
        "buffered_bytes": {
            "held": budget.held_bytes,
            "most": budget.limit_bytes,
            "most_of_one_client": budget.share_bytes,
            "refusals": budget.refusals,
        },
        "descriptors": {"most": room.descriptors},
    }
