"""The policies of one upstream as the configuration makes them, around a played server."""

from typing import Any

from support.composed import observe_attempt, observe_call
from support.policed import OK, PlayedUpstream, Told, clock_of_loop
from weir.app.means import Means
from weir.app.protections import Protections
from weir.app.stack import build_stack
from weir.config.model import Config
from weir.policies.rate_limit import Ledger
from weir.relay.catalog import Catalog

URL = "http://127.0.0.1:9/mcp"
"""Nobody listens there."""


def nothing(*_: object) -> None:
    """Nobody is told."""


class Protected:
    """Upstream `demo` with these policies, on the running loop's clock; `upstream` is what else its entry says."""

    def __init__(self, policies: dict[str, Any], *outcomes: Any, ledger: Ledger | None = None, **upstream: Any) -> None:
        config = Config.model_validate({"upstreams": [{"name": "demo", "url": URL, **upstream}], "policies": policies})
        self.told, self.clock = Told(), clock_of_loop()
        self.upstream = PlayedUpstream(*(outcomes or (OK,)))
        means = Means(Catalog(nothing), ledger or Ledger(), self.told.append, self.clock, nothing)
        self.layers = Protections(config, config.upstreams[0], means, self.upstream)
        self.serve = build_stack(observe_call, observe_attempt, self.layers, self.upstream, self.clock)
