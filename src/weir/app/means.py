"""What is lent to the policies of every upstream."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from weir.core.call import Call
from weir.core.events import Emit
from weir.policies.faults import Registry
from weir.policies.rate_limit import Ledger
from weir.relay.catalog import Catalog

Service = Callable[[], Coroutine[Any, Any, None]]
"""Something that runs as long as weir serves."""


@dataclass(frozen=True, slots=True)
class Means:
    """What every policy is given. `finished` is told of calls that no edge finishes (coalesced ones)."""

    catalog: Catalog
    ledger: Ledger
    emit: Emit
    clock: Callable[[], float]
    finished: Callable[[Call], None]
    faults: Registry | None = None
    """None: the operator allows no faults."""
