"""What holds whatever is configured, whoever comes and goes, and whatever the server does."""

import asyncio
from typing import Any

import pytest

from support.policed import RecordingSink
from support.random_calls import Draws, Run, configuration, run
from support.virtual_loop import VirtualLoop
from weir.app.protections import Protections
from weir.core.call import Call
from weir.core.outcome import Mode, Outcome, Replied
from weir.protocol.envelope import Kind

SEEDS = 20


def through(seed: int, policies: dict[str, Any], tools: dict[str, Any]) -> Run:
    """A loop of its own for each."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(run(seed, policies, tools))


@pytest.mark.parametrize("block", range(10))
def test_every_call_has_one_answer_and_nothing_is_left_behind(block: int) -> None:
    """Also: what must not be repeated is done once, and no more run at once than there are places."""
    for seed in range(block * SEEDS, (block + 1) * SEEDS):
        made = through(seed, *configuration(Draws(f"{seed}")))
        found = [
            text for call, (outcome, _) in zip(made.calls, made.ends, strict=True) for text in wrong(call, outcome)
        ]
        writes = [call for call in made.calls if call.message.name == "write"]
        found += ["done twice" for call in writes if made.server.executed[call.message.id] > 1]
        assert [] == found + left_behind(made.layers) + crowded(made), seed


def wrong(call: Call, outcome: Outcome | None) -> list[str]:
    """What is wrong with the end of a call."""
    sink, found = call.sink, list[str]()
    assert isinstance(sink, RecordingSink)
    told, is_whole = b"".join(sink.written), isinstance(outcome, Replied) and outcome.body is not None
    answers = told.count(b'"result"') + told.count(b'"error"')
    if len(sink.heads) > 1 or (told and not sink.heads):
        found.append(f"{len(sink.heads)} heads")
    if sink.heads and is_whole:
        found.append("a whole reply after a head")
    if answers > 1 or (answers and outcome is not None and not isinstance(outcome, Replied)):
        found.append(f"answered, and {outcome}")
    text = told if answers else (outcome.body or b"" if isinstance(outcome, Replied) else b"")
    if call.message.kind is Kind.REQUEST and b'"id"' in text and b'"id":%b' % call.message.id not in text:
        found.append(f"an answer to another call: {text!r}")
    if call.slot is not None or call.pending_asks or call.is_standing:
        found.append("it still holds something")
    return found


def left_behind(layers: Protections) -> list[str]:
    """What policies still hold when all calls have ended."""
    held: dict[str, Any] = {}
    if layers.admission is not None:
        held["places"] = sum(each.in_use + each.waiting for each, _ in layers.admission.bulkheads())
    if layers.coalesce is not None:
        held["shared"] = [layers.coalesce._flights, *(each._shared for each in layers.coalesce._all)]
        held["changing"] = [each._changing for each in layers.coalesce._all]
    for breaker in filter(None, (layers.breaker, *layers.tool_breakers.values())):
        held["probes"] = [circuit._probes for circuit in breaker._circuits.values()]
    if layers._deadlines is not None:
        deadlines = layers._deadlines
        held["deadlines"] = [deadlines._calls, deadlines._by_token, deadlines._timers._watches]
    if layers.budget is not None:
        held["budget"] = not 0.0 <= layers.budget._left <= layers.budget._most
    return [f"{name}: {value}" for name, value in held.items() if (any(value) if isinstance(value, list) else value)]


def crowded(made: Run) -> list[str]:
    """Where more ran than there were places."""
    bulkheads = made.layers.admission.bulkheads() if made.layers.admission is not None else []
    enforced = {each.name: each.limit for each, mode in bulkheads if mode is Mode.ENFORCE}
    return [
        f"{made.server.most[name]} of '{name}'" for name, limit in enforced.items() if made.server.most[name] > limit
    ]


@pytest.mark.parametrize("block", range(5))
def test_in_shadow_every_call_ends_as_if_nothing_were_configured(block: int) -> None:
    """In the same way, at the same instant, with the same bytes."""
    for seed in range(block * SEEDS, (block + 1) * SEEDS):
        bare, shadow = through(seed, {}, {}), through(seed, *configuration(Draws(f"{seed}"), ("shadow",)))
        assert bare.ends == shadow.ends, seed
        assert [written(call) for call in bare.calls] == [written(call) for call in shadow.calls], seed
        assert all(getattr(event, "is_shadow", True) for event in shadow.told), seed


def written(call: Call) -> bytes:
    """What its client was sent."""
    assert isinstance(call.sink, RecordingSink)
    return b"".join(call.sink.written)
