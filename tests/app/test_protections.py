"""The policies of one upstream as the configuration makes them: what they share, and what is told of them."""

import asyncio
import math
from dataclasses import replace
from typing import Any

import pytest

from support.policed import ACCEPTED, LOST, OK, UNREACHED, batch_of, body_of, call_of, call_with, tool_call
from support.protected import Protected
from support.virtual_loop import VIRTUAL
from weir.app.standing import Clock, standing
from weir.config.policies import Hedge, Retry
from weir.core.call import Attempt, Call
from weir.core.events import LevelChanged, Listed
from weir.core.outcome import Failed, Mode, Outcome, Refused
from weir.policies.breaker import BreakerSettings, Scope
from weir.policies.deadline import DeadlineSettings, Limits
from weir.policies.retry import RetrySettings

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return VIRTUAL


class Bench(Protected):
    """A protected upstream."""

    def left(self) -> float:
        """Of the budget."""
        assert self.layers.budget is not None
        return self.layers.budget.remaining(self.clock())


HEDGED = {"mode": "enforce", "after": "100ms"}
SHARED = {"budget": {"ratio": 0.5, "min_per_second": 0}}


@pytest.mark.parametrize("policies", [{"retry": SHARED}, {"hedge": HEDGED, "retry": {"mode": "off", **SHARED}}])
async def test_every_call_pays_in_once_whoever_spends(policies: dict[str, Any]) -> None:
    """A request does; no notification, no batch, no stream."""
    bench = Bench(policies)
    calls = [call_of("tools/list"), call_of("tools/call")]
    other = [call_of("notifications/initialized", None), batch_of(body_of("ping")), call_of("subscriptions/listen")]
    for call in (*calls, *other, call_with()):
        await bench.serve(call)
    assert 0.5 * len(calls) == bench.left()


async def test_hedges_without_retries_live_on_what_calls_pay_in() -> None:
    """Every second call may be tried twice at once, although the floor is nothing."""

    async def late(_: Attempt) -> Outcome:
        await asyncio.sleep(0.3)
        return OK

    bench = Bench({"hedge": HEDGED, "retry": {"mode": "off", **SHARED}}, late)
    calls = [call_of("tools/list", number) for number in range(4)]
    for call in calls:
        await bench.serve(call)
    assert [1, 2, 1, 2] == [len(call.attempts) for call in calls]
    assert ["budget_exhausted", "hedged"] * 2 == bench.told.actions()


async def test_the_budget_is_told_as_it_is_when_it_is_asked_for() -> None:
    """It grows with time and calls, of which nobody tells."""
    bench = Bench({"retry": {"budget": {"ratio": 0.5, "min_per_second": 1}}}, LOST, OK)
    await bench.serve(call_of("tools/list"))
    assert [] == bench.told.of(LevelChanged)
    bench.layers.tell_levels()
    (told,) = bench.told.of(LevelChanged)
    assert ("retry", "demo", "budget") == (told.policy, told.upstream, told.scope)
    assert pytest.approx(1 + 0.5 - 1, abs=0.2) == told.value


async def test_what_a_tool_says_of_its_time_holds_for_its_calls_alone() -> None:
    """Silence and connecting are the edges' to watch: they are told only where a tool has its own."""
    tools = {"slow": {"timeout": {"idle": "7s", "connect": "2s"}}, "other": {"timeout": {"attempt": "1s"}}}
    seen: list[tuple[float | None, float]] = []

    async def note(attempt: Attempt) -> Outcome:
        seen.append((attempt.call.idle_seconds, attempt.call.connect_left_seconds))
        return OK

    bench = Bench({"timeout": {"idle": "60s", "connect": "5s"}}, note, tools=tools)
    for name in ("slow", "other", "any"):
        await bench.serve(tool_call(name))
    assert [(7.0, 2.0), (None, math.inf), (None, math.inf)] == seen


async def test_a_tools_own_limits_hold_beside_those_of_its_upstream() -> None:
    """Each in its own mode; what is off is not there."""
    costly = {
        "rate_limits": [
            {"limit": 2, "window": "10s"},
            {"per": "client", "limit": 1, "window": "10s", "mode": "shadow"},
            {"per": "client", "limit": 1, "window": "10s", "mode": "off"},
        ],
        "concurrency": {"limit": 1, "queue": 0, "mode": "shadow"},
    }
    tools = {"costly": costly, "off": {"concurrency": {"mode": "off"}}}
    bench = Bench({"rate_limits": [{"per": "upstream", "limit": 4, "window": "10s"}]}, tools=tools)
    calls = [tool_call("costly", number) for number in range(3)] + [tool_call("other", number) for number in range(3)]
    outcomes = [await bench.serve(call) for call in calls]
    assert [True, True, False, True, True, False] == [outcome is OK for outcome in outcomes]
    assert ["would_refuse", "refused", "would_refuse", "refused"] == bench.told.actions()
    assert bench.layers.rate_limit is not None
    assert bench.layers.admission is not None
    assert [("", 4), ("costly", 2), ("costly", 1)] == [
        (rule.settings.tool, rule.settings.limit) for rule in bench.layers.rate_limit.rules
    ]
    assert [("costly", Mode.SHADOW)] == [(each.name, mode) for each, mode in bench.layers.admission.bulkheads()]


async def test_without_a_limit_there_is_no_layer() -> None:
    """Nothing is added to a call for what is off."""
    bench = Bench({"concurrency": {"mode": "off"}}, tools={"a": {"concurrency": {"mode": "off"}, "rate_limits": []}})
    assert (None, None) == (bench.layers.rate_limit, bench.layers.admission)
    assert Bench({}).layers.admission is None


async def test_a_server_on_a_pipe_is_watched_for_serving_one_call_at_a_time() -> None:
    """Unless that is off, too. No place is counted, so none is shown."""
    pipe: dict[str, Any] = {"url": None, "command": ["server"]}
    bench = Bench({}, **pipe)
    assert bench.layers.admission is not None
    assert OK is await bench.serve(tool_call())
    assert "concurrency" not in standing(bench.layers, None, Clock(bench.clock, str))
    assert Bench({"concurrency": {"mode": "off"}}, **pipe).layers.admission is None


WRITTEN = {
    "timeout": {"attempt": "1s", "total": "2s", "client_input": "3s", "extend_on_progress": False},
    "retry": {
        "mode": "shadow",
        "attempts": 5,
        "backoff": {"initial": "10ms", "max": "3s"},
        "budget": {"ratio": 0.4, "min_per_second": 7},
        "trust_annotations": True,
    },
    "breaker": {
        "mode": "shadow",
        "scope": "tool",
        "consecutive_failures": 6,
        "failure_rate": 0.6,
        "slow_call": {"over": "11s", "rate": 0.7},
        "tool_errors": {"count": True, "rate": 0.8},
        "window": "31s",
        "min_calls": 12,
        "open_for": "61s",
        "half_open_probes": 4,
    },
    "concurrency": {"limit": 65, "queue": 33, "queue_timeout": "6s", "adaptive": True},
    "coalesce": {"mode": "shadow", "headers": ["X-One"]},
    "hedge": {"mode": "shadow", "after": "p99"},
}


async def test_every_word_of_the_configuration_reaches_its_policy() -> None:
    """No value here is a default; each stands where it belongs."""
    layers = Bench(WRITTEN, tools={"always": {"retry": "always"}, "auto": {"retry": "auto"}}).layers
    shadow = Mode.SHADOW
    assert BreakerSettings(shadow, Scope.TOOL, 6, 0.6, 11.0, 0.7, True, 0.8, 31.0, 12, 61.0, 4) == settings_of(
        layers.breaker
    )
    retry = RetrySettings(shadow, 5, 0.01, 3.0, 0.4, 7.0, True, {"always": "always"})
    assert retry == layers._hinge._retry_settings(Retry.model_validate(WRITTEN["retry"]))
    assert DeadlineSettings(limits=Limits(1.0, 2.0, 3.0, False)) == settings_of(layers._deadlines)
    assert layers.admission is not None
    ((bulkhead, mode),) = layers.admission.bulkheads()
    assert (Mode.ENFORCE, 65, 6.0) == (mode, bulkhead.limit, bulkhead.timeout_seconds)
    assert layers.coalesce is not None
    assert layers.coalesce._general is not None
    assert frozenset({b"authorization", b"accept", b"x-one"}) == layers.coalesce._general.headers
    assert (99.0, None) == (Hedge.model_validate(WRITTEN["hedge"]).percentile, Hedge(after="p99").after_seconds)


def settings_of(policy: Any) -> Any:
    """What it was made with."""
    assert policy is not None
    return policy._settings


async def test_a_limit_of_one_tool_is_none_of_the_others() -> None:
    """Without a section for all, only its calls have deadlines."""
    deadlines: list[float] = []

    async def slow(attempt: Attempt) -> Outcome:
        deadlines.append(attempt.call.deadline_at)
        await asyncio.sleep(200.0)
        return OK

    bench = Bench({}, slow, tools={"slow": {"timeout": {"attempt": "30s"}}})
    outcomes = [await bench.serve(call) for call in (tool_call("other"), call_of("tools/list"), tool_call("slow"))]
    assert (OK, OK) == (outcomes[0], outcomes[1])
    assert isinstance(outcomes[2], Failed)
    assert "attempt" == outcomes[2].timer
    assert ([math.inf] * 2, 120.0) == (deadlines[:2], deadlines[2] - (bench.clock() - 30.0))


async def test_a_tool_may_have_another_mode_of_its_deadlines() -> None:
    """What it leaves out is as for all; silence and connecting are the upstream's where its own are not enforced."""
    general = {"attempt": "1s", "total": "9s", "idle": "8s", "connect": "3s"}
    tools = {
        "watched": {"timeout": {"mode": "shadow", "idle": "7s"}},
        "free": {"timeout": {"mode": "off"}},
        "slow": {"timeout": {"attempt": "5s", "idle": "6s", "connect": "2s"}},
    }
    enforced = Bench({"timeout": general}, tools=tools).layers
    made: DeadlineSettings = settings_of(enforced._deadlines)
    limits = Limits(1.0, 9.0, 600.0)
    assert made.limits == limits
    assert {
        "watched": replace(limits, is_enforced=False),
        "free": None,
        "slow": replace(limits, attempt_seconds=5.0, idle_seconds=6.0, connect_seconds=2.0),
    } == made.tools
    shadow = Bench({"timeout": {**general, "mode": "shadow"}}, tools={"add": {"timeout": {"mode": "enforce"}}}).layers
    own = settings_of(shadow._deadlines).tools["add"]
    # the upstream's are only watched, so what is named for all is the tool's own
    assert replace(limits, idle_seconds=8.0, connect_seconds=3.0) == own


async def test_a_tool_may_be_tried_again_in_a_way_of_its_own() -> None:
    """What it leaves out is as for all; there is one budget."""
    general = {"attempts": 2, "backoff": {"initial": "1s", "max": "1s"}, "budget": {"ratio": 0.0, "min_per_second": 5}}
    tools = {
        "often": {"retry": {"safe": "always", "attempts": 4}},
        "watched": {"retry": {"safe": "always", "mode": "shadow"}},
        "once": {"retry": {"safe": "always", "mode": "off"}},
        "word": {"retry": "always"},
    }
    bench = Bench({"retry": general}, LOST, tools=tools)
    calls = [tool_call(name, number) for number, name in enumerate([*tools, "unsafe"])]
    for call in calls:
        await bench.serve(call)
    assert [4, 1, 1, 2, 1] == [len(call.attempts) for call in calls]
    assert ["scheduled"] * 3 + ["attempts_exhausted", "would_retry", "scheduled", "attempts_exhausted"] == (
        bench.told.actions()
    )


async def test_a_single_tool_may_be_tried_again_where_nothing_else_is() -> None:
    """A client's cancellation follows to its live attempt."""
    tools = {"add": {"retry": {"safe": "always", "mode": "enforce"}}}

    async def cancelled_meanwhile(attempt: Attempt) -> Outcome:
        body = body_of("notifications/cancelled", {"requestId": 1}, None)
        await bench.serve(call_with(body, session="s"))
        assert attempt.wire_id in bench.upstream.attempts[-1].body
        return LOST

    bench = Bench({}, LOST, cancelled_meanwhile, ACCEPTED, LOST, tools=tools)
    call, other = tool_call(session="s"), call_of("tools/list")
    await bench.serve(call)
    assert LOST is await bench.serve(other)
    assert (2, 1) == (len(call.attempts), len(other.attempts))
    assert ["scheduled"] == bench.told.actions()[:1]


STRICT = {"consecutive_failures": 1, "open_for": "60s"}


async def test_a_tool_may_have_a_breaker_of_its_own() -> None:
    """What is left out is as for all; its failures are its own, and those to connect are the server's too."""
    tools = {"add": {"breaker": {"consecutive_failures": 2}}}
    bench = Bench({"breaker": STRICT}, LOST, LOST, OK, tools=tools)
    outcomes = [await bench.serve(tool_call("add", number)) for number in range(3)]
    assert [LOST, LOST] == outcomes[:2]
    refused = outcomes[2]
    assert isinstance(refused, Refused)
    assert ("tool", 60.0) == (refused.scope, refused.retry_after_seconds)
    assert refused.detail.startswith("Tool 'add' of MCP server 'demo' has been failing")
    assert OK is await bench.serve(tool_call("other"))
    unreached = Bench({"breaker": STRICT}, UNREACHED, OK, tools=tools)
    await unreached.serve(tool_call("add"))
    refused = await unreached.serve(tool_call("other"))
    assert isinstance(refused, Refused)
    assert "upstream" == refused.scope


async def test_a_tool_may_have_the_only_breaker() -> None:
    """No other call is looked at."""
    bench = Bench({}, LOST, tools={"add": {"breaker": {"consecutive_failures": 1}}})
    outcomes = [await bench.serve(call) for call in (*(tool_call("other"),) * 9, tool_call("add"), tool_call("add"))]
    assert [LOST] * 10 == outcomes[:10]
    assert isinstance(outcomes[10], Refused)
    assert bench.layers.breaker is None


async def test_no_breaker_looks_at_a_tool_for_which_it_is_off() -> None:
    """Its failures count nowhere, and it is called when nothing else is."""
    bench = Bench({"breaker": STRICT}, LOST, tools={"add": {"breaker": {"mode": "off"}}})
    assert [LOST] * 4 == [await bench.serve(tool_call("add", number)) for number in range(4)]
    assert LOST is await bench.serve(tool_call("other"))
    assert isinstance(await bench.serve(tool_call("other")), Refused)
    assert LOST is await bench.serve(tool_call("add"))
    assert bench.layers.tool_breaker is None


@pytest.mark.parametrize(("mode", "of_tool"), [("enforce", "shadow"), ("shadow", "enforce")])
async def test_a_tools_breaker_has_a_mode_of_its_own(mode: str, of_tool: str) -> None:
    """One watches, and one refuses."""
    tools = {"add": {"breaker": {"mode": of_tool}}}
    bench = Bench({"breaker": {"mode": mode, **STRICT}}, UNREACHED, tools=tools)
    await bench.serve(tool_call("add"))
    refused = await bench.serve(tool_call("add"))
    assert isinstance(refused, Refused)
    assert ("upstream" if mode == "enforce" else "tool") == refused.scope
    expected = ["refused"] if mode == "enforce" else ["would_refuse", "refused"]
    assert expected == bench.told.actions()
    assert {"upstream": mode, "tool:add": of_tool} == {
        each["scope"]: each["mode"]
        for each in standing(bench.layers, None, Clock(bench.clock, str))["breaker"]  # type: ignore[attr-defined]
    }


LISTED = (
    b'{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"look","annotations":{"readOnlyHint":true}},{"name":"add"},'
    b'{"name":"find","annotations":{"readOnlyHint":true}}]}}'
)


@pytest.mark.parametrize("hedge", [{"mode": "enforce", "after": "100ms"}, {"mode": "off", "after": "100ms"}])
async def test_the_operators_word_on_running_twice_at_once_is_above_the_servers(hedge: dict[str, str]) -> None:
    """One is said to be safe, one not to be, and of a third the server that is trusted says so."""

    async def late(_: Attempt) -> Outcome:
        await asyncio.sleep(0.3)
        return OK

    tools = {"add": {"hedge": {"mode": "enforce"}}, "look": {"hedge": {"mode": "off"}}}
    bench = Bench({"hedge": hedge, "retry": {"trust_annotations": True, **PLENTY}}, late, tools=tools)
    bench.layers._means.catalog._listed(Listed("demo", "tools/list", LISTED))
    calls = {name: tool_call(name) for name in ("add", "look", "find", "unknown")}
    for call in calls.values():
        await bench.serve(call)
    is_general = hedge["mode"] == "enforce"
    assert {"add": 2, "look": 1, "find": 2 if is_general else 1, "unknown": 1} == {
        name: len(call.attempts) for name, call in calls.items()
    }


async def test_what_is_never_to_be_tried_again_is_not_tried_twice_at_once() -> None:
    """The operator's word is above the server's that is trusted, be it of the tool or of trusting."""

    async def late(_: Attempt) -> Outcome:
        await asyncio.sleep(0.3)
        return OK

    tools: dict[str, Any] = {"look": {"retry": "never"}, "find": {"retry": {"trust_annotations": False}}}
    bench = Bench({"hedge": HEDGED, "retry": {"trust_annotations": True, **PLENTY}}, late, tools=tools)
    bench.layers._means.catalog._listed(Listed("demo", "tools/list", LISTED))
    calls = [tool_call("look"), tool_call("find"), call_of("tools/list")]
    for call in calls:
        await bench.serve(call)
    assert [1, 1, 2] == [len(call.attempts) for call in calls]


@pytest.mark.parametrize(
    ("retry", "tools"),
    [
        ({"mode": "shadow"}, {}),
        ({"attempts": 1}, {"add": {"retry": {"mode": "shadow", "safe": "always", "attempts": 2}}}),
    ],
)
async def test_retries_in_shadow_spend_nothing_that_others_live_on(retry: dict[str, Any], tools: Any) -> None:
    """A hedge finds in the budget what calls have paid in."""

    async def late(_: Attempt) -> Outcome:
        await asyncio.sleep(0.3)
        return OK

    bench = Bench({"hedge": HEDGED, "retry": {**SHARED, **retry}}, LOST, LOST, late, tools=tools)
    for _ in range(2):
        await bench.serve(tool_call("add") if tools else call_of("tools/list"))
    call = call_of("tools/list")
    await bench.serve(call)
    assert ["budget_exhausted", "would_retry", "hedged"] == bench.told.actions()[:3]
    assert 2 == len(call.attempts)


async def test_a_second_try_that_was_refused_is_not_paid_for() -> None:
    """It is none: half open, the breaker lets one attempt through."""

    async def late(_: Attempt) -> Outcome:
        await asyncio.sleep(0.3)
        return OK

    breaker = {"consecutive_failures": 1, "open_for": "1s", "half_open_probes": 1}
    bench = Bench({"hedge": HEDGED, "retry": {"attempts": 1, **SHARED}, "breaker": breaker}, LOST, late)
    for _ in range(2):
        await bench.serve(call_of("tools/list"))
        await asyncio.sleep(1.0)
    assert ["attempts_exhausted", "probe", "hedged", "refused", "refused"] == bench.told.actions()
    assert 1.0 == bench.left()


PLENTY = {"budget": {"ratio": 1, "min_per_second": 100}}


async def test_a_cancellation_ends_the_second_try_of_a_tool_that_is_hedged_by_itself() -> None:
    """As it does those of all others."""
    ended: list[int] = []

    async def silent(attempt: Attempt) -> Outcome:
        if not attempt.call.is_request:
            return ACCEPTED
        try:
            await asyncio.sleep(5.0)
        except asyncio.CancelledError:
            ended.append(attempt.number)
            raise
        return OK

    tools = {"add": {"hedge": {"mode": "enforce", "after": "100ms"}}}
    bench = Bench({"retry": PLENTY}, silent, tools=tools)
    cancelled = call_with(body_of("notifications/cancelled", {"requestId": 7}, None), session="s")
    async with asyncio.TaskGroup() as group:

        async def serve(call: Call) -> Outcome:
            return await bench.serve(call)

        group.create_task(serve(tool_call("add", 7, session="s")))
        await asyncio.sleep(1.0)
        await bench.serve(cancelled)
        await asyncio.sleep(0.1)
        assert [2] == ended
