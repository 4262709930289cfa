"""How protections stand, as `/status` tells it: what is configured, and no word of who called."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from support.policed import LOST, OK, call_of, tool_call, traced
from support.protected import URL, Protected
from support.virtual_loop import VIRTUAL
from weir.app.build import Weir
from weir.app.standing import Clock, standing
from weir.config.model import Config
from weir.core.call import Attempt
from weir.core.outcome import Outcome
from weir.policies.faults import Fault, Instead, Registry
from weir.policies.rate_limit import Ledger

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return VIRTUAL


class Bench(Protected):
    """A protected upstream; instants are shown as seconds since the beginning."""

    def __init__(self, policies: dict[str, Any], *outcomes: Any, **more: Any) -> None:
        super().__init__(policies, *outcomes, **more)
        began = self.clock()
        self.shown = Clock(self.clock, lambda instant: f"{instant - began:g} s")
        self.faults: Registry | None = None

    def tree(self) -> Any:
        """What is told, as a program reads it."""
        return json.loads(json.dumps(standing(self.layers, self.faults, self.shown)))


async def test_nothing_is_told_of_what_is_not_configured() -> None:
    """Of deadlines and shared reads there is nothing to tell."""
    assert {} == Bench({"timeout": {}, "coalesce": {"mode": "enforce"}, "breaker": {"mode": "off"}}).tree()


async def test_a_circuit_says_since_when_why_and_in_which_calls() -> None:
    """Those are the traces to look at."""
    bench = Bench({"breaker": {"consecutive_failures": 2, "open_for": "60s"}}, LOST)
    closed = {"scope": "upstream", "mode": "enforce", "state": "closed", "since": "0 s"}
    assert [closed] == bench.tree()["breaker"]
    for number in (1, 2):
        await bench.serve(traced(tool_call(), number))
    expected = {
        "scope": "upstream",
        "mode": "enforce",
        "state": "open",
        "since": "0 s",
        "passes_in_seconds": 60.0,
        "tripped": {
            "reason": "consecutive_failures",
            "at": "0 s",
            "trace_ids": [f"{1:032x}", f"{2:032x}"],
        },
    }
    assert [expected] == bench.tree()["breaker"]


async def test_each_circuit_is_told_of() -> None:
    """Those that tools have got."""
    bench = Bench({"breaker": {"scope": "tool", "mode": "shadow", "consecutive_failures": 1}}, LOST, tools={"add": {}})
    await bench.serve(tool_call("add"))
    tree = bench.tree()["breaker"]
    assert [("shadow", "upstream", "closed"), ("shadow", "tool:add", "open")] == [
        (each["mode"], each["scope"], each["state"]) for each in tree
    ]


@pytest.mark.parametrize("of", [{"retry": {}}, {"hedge": {"mode": "enforce"}}])
async def test_the_budget_says_what_is_left_and_how_it_comes(of: dict[str, Any]) -> None:
    """A share of the calls, and a floor."""
    bench = Bench(of)
    await bench.serve(call_of("tools/list"))
    assert {"budget": {"left": 1.2, "ratio": 0.2, "min_per_second": 1.0}} == bench.tree()["retry"]


async def test_limits_say_whom_they_count_apart_but_not_who_that_is() -> None:
    """One address has a key and its shared window in a tiny table; a limit of a tool names the tool."""
    limits = [{"per": "client", "limit": 5, "window": "1m"}, {"per": ["upstream"], "limit": 9, "window": "10s"}]
    tools = {"add": {"rate_limits": [{"limit": 2, "window": "1s", "mode": "shadow"}]}}
    bench = Bench(
        {"client_key": "X-Key", "rate_limits": limits}, ledger=Ledger(keys_limit=3), tools={"other": {}, **tools}
    )
    for name in (b"alice", b"bob", b"carol"):
        await bench.serve(tool_call(headers=[(b"x-key", name)]))
    tree = bench.tree()["rate_limits"]
    assert [
        {"per": ["client"], "limit": 5, "window_seconds": 60.0, "mode": "enforce", "keys": 2, "overflowed": 2},
        {
            "per": ["upstream"],
            "limit": 9,
            "window_seconds": 10.0,
            "mode": "enforce",
            "keys": 1,
            "overflowed": 0,
            "remaining": 6,
            "reset_seconds": 10.0,
        },
        {
            "tool": "add",
            "per": ["tool"],
            "limit": 2,
            "window_seconds": 1.0,
            "mode": "shadow",
            "keys": 1,
            "overflowed": 0,
            "remaining": 0,
            "reset_seconds": 1.0,
        },
    ] == tree
    assert not any(name in json.dumps(tree) for name in ("alice", "bob", "carol"))


async def test_places_say_how_many_are_taken_and_how_many_wait() -> None:
    """Those of tools too."""
    places: list[Any] = []

    def look(attempt: Attempt) -> Outcome:
        places.append(bench.tree()["concurrency"])
        return OK

    tools = {"add": {"concurrency": {"limit": 2, "mode": "shadow"}}}
    bench = Bench({"concurrency": {"limit": 7}}, look, tools=tools)
    await bench.serve(tool_call())
    inside = [
        {"mode": "enforce", "limit": 7, "in_use": 1, "queued": 0},
        {"tool": "add", "mode": "shadow", "limit": 2, "in_use": 1, "queued": 0},
    ]
    assert [inside] == places
    assert [0, 0] == [each["in_use"] for each in bench.tree()["concurrency"]]


async def test_faults_are_told_of_while_they_last() -> None:
    """Those at this upstream; none is worth a word where they are allowed."""
    bench = Bench({})
    bench.faults = Registry()
    bench.faults.add(Fault("demo", instead=Instead.RESET, percent=10.0, expires_seconds=60.0), bench.clock())
    bench.faults.add(Fault("other", latency_seconds=1.0), bench.clock())
    expected = {"id": "f1", "upstream": "demo", "percent": 10.0, "reset": True, "remaining_seconds": 60.0}
    assert {"faults": [expected]} == bench.tree()
    bench.faults.clear()
    assert {"faults": []} == bench.tree()


async def test_weir_tells_it_by_the_wall_clock() -> None:
    """Each upstream its own; one without protections has none."""
    config = Config.model_validate(
        {
            "upstreams": [{"name": "a", "url": URL, "policies": {"breaker": {}}}, {"name": "b", "url": URL}],
        }
    )
    weir = Weir(config, lambda: 100.0)
    (circuit,) = json.loads(json.dumps(weir.subject.standing("a")))["breaker"]
    assert {"scope": "upstream", "state": "closed"} == {key: circuit[key] for key in ("scope", "state")}
    assert datetime.now(UTC).isoformat()[:10] == circuit["since"][:10]
    assert {} == weir.subject.standing("b")
    await weir.aclose()
