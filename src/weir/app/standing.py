"""How the protections of one upstream stand, for `/status`: only what is configured, and nothing of any client."""

from collections.abc import Callable
from dataclasses import dataclass

from weir.app.faults import described
from weir.app.protections import Protections
from weir.core.outcome import Mode
from weir.policies.admission_queue import Bulkhead
from weir.policies.breaker import Breaker
from weir.policies.faults import Registry
from weir.policies.rate_limit import Rule
from weir.policies.retry import Budget

Tree = dict[str, object]


@dataclass(frozen=True, slots=True)
class Clock:
    """`now` is monotonic; `shown` an instant of it as a date and time."""

    now: Callable[[], float]
    shown: Callable[[float], str]


def standing(layers: Protections, faults: Registry | None, clock: Clock) -> Tree:
    """One key for each kind of protection that is configured, named as its section."""
    tree: Tree = {}
    if layers.budget is not None:
        tree["retry"] = {"budget": _budget(layers.budget, clock.now())}
    breakers = [*filter(None, (layers.breaker,)), *layers.tool_breakers.values()]
    if breakers:
        tree["breaker"] = [_circuit(each, scope, clock) for each in breakers for scope in each.scopes()]
    if layers.rate_limit is not None:
        tree["rate_limits"] = [_rate_limit(rule, clock.now()) for rule in layers.rate_limit.rules]
    if layers.admission is not None and (bulkheads := layers.admission.bulkheads()):
        tree["concurrency"] = [_places(each, mode) for each, mode in bulkheads]
    if faults is not None:
        now = clock.now()
        tree["faults"] = [described(each, now) for each in faults.active(now) if each.fault.upstream == layers.name]
    return tree


def _budget(budget: Budget, now: float) -> Tree:
    """Retries that could be made now, and how they come: a share of the calls, and so many a second."""
    return {"left": round(budget.remaining(now), 2), "ratio": budget.ratio, "min_per_second": budget.min_per_second}


def _circuit(breaker: Breaker, scope: str, clock: Clock) -> Tree:
    """`tripped` is what opened it last, however long ago: the calls are those to look up in the traces."""
    circuit = breaker.state(scope)
    tree: Tree = {
        "scope": scope,
        "mode": breaker.mode.value,
        "state": circuit.state,
        "since": clock.shown(circuit.since),
    }
    if circuit.wait_seconds:
        tree["passes_in_seconds"] = round(circuit.wait_seconds, 1)
    if circuit.trip is not None:
        trip = circuit.trip
        tree["tripped"] = {"reason": trip.reason, "at": clock.shown(trip.at), "trace_ids": list(trip.traces)}
    return tree


def _rate_limit(rule: Rule, now: float) -> Tree:
    """`keys`: whose calls are counted apart now; `overflowed`: calls counted together, for want of room.

    `remaining`: calls that would pass now, and `reset_seconds` until all are there again, where all count together.
    """
    limit = rule.settings
    tree: Tree = {"tool": limit.tool} if limit.tool else {}
    return {
        **tree,
        "per": list(limit.per),
        "limit": limit.limit,
        "window_seconds": limit.window_seconds,
        "mode": limit.mode.value,
        "keys": len(rule.table),
        "overflowed": rule.table.overflows,
        **(_left(rule, now) if rule.is_one_window else {}),
    }


def _left(rule: Rule, now: float) -> Tree:
    left = rule.standing("", now)
    return {"remaining": left.remaining, "reset_seconds": round(left.reset_seconds, 1)}


def _places(bulkhead: Bulkhead, mode: Mode) -> Tree:
    """`limit` is what an adaptive one has found."""
    tree: Tree = {"tool": bulkhead.name} if bulkhead.name else {}
    return {
        **tree,
        "mode": mode.value,
        "limit": bulkhead.capacity,
        "in_use": bulkhead.in_use,
        "queued": bulkhead.waiting,
    }
