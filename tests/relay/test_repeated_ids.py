"""Whose answer it is: ids that repeat in flight and after, on the pipe of one stdio server with one client."""

import asyncio
import json
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.bridges import notification, request
from support.routed import Stage, bodies, call_of
from weir.core.call import Attempt
from weir.core.events import LimitReached
from weir.protocol.correlation import is_same
from weir.protocol.envelope import peek
from weir.relay.stdio_exchanges import ABANDONED_LIMIT
from weir.relay.stdio_mailbox import Exchange

SPELLINGS = ["1", "1.0", '"1"', "2", "1000000001"]
"""Ids that are the same or look so, and the first one that weir gives out."""


class Asked(NamedTuple):
    """A request: its POST, the caller's id and token, and the number that only its answer has."""

    exchange: Exchange
    own: str
    number: int


def ask(stage: Stage, own: str, number: int) -> tuple[Exchange, dict[str, Any]]:
    """POST a request whose id and progress token are the same text; returns what the server reads."""
    body = (
        b'{"jsonrpc":"2.0","id":%b,"method":"tools/call","params":{"_meta":{"progressToken":%b},"name":"x","n":%d}}'
        % (own.encode(), own.encode(), number)
    )
    exchange, sent = stage.post(body)
    assert sent is not None
    return exchange, json.loads(sent)


def cancel(stage: Stage, own: str) -> Exchange | None:
    """The client cancels the newest request with this id."""
    body = b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%b}}' % own.encode()
    exchange, _ = stage.router.cancelled(Attempt(call_of(body), 1, 0.0))
    return exchange


def answer(number: int, wire: Any) -> bytes:
    """The server's answer to one request."""
    return json.dumps({"jsonrpc": "2.0", "id": wire, "result": {"n": number}}).encode()


def progress(number: int, token: Any) -> bytes:
    """Progress of one request."""
    params = {"progressToken": token, "n": number}
    return json.dumps({"jsonrpc": "2.0", "method": "notifications/progress", "params": params}).encode()


@pytest.fixture(autouse=True)
def loop() -> Any:
    """RecordingSink has events, which want a loop on some versions."""
    with asyncio.Runner() as runner:
        yield runner.get_loop()


STEPS = st.lists(
    st.tuples(st.sampled_from(["ask", "ask", "answer", "leave", "cancel", "progress"]), st.integers(0, 40)), max_size=60
)


class Played:
    """Callers with equal ids before one server, which answers when a test says so."""

    def __init__(self) -> None:
        self.stage = Stage()
        self.asked: list[Asked] = []
        self.owed: list[tuple[int, Any, Any]] = []

    def play(self, step: str, pick: int) -> None:
        """One step; `pick` says which request or id it is about."""
        if step == "ask":
            number, own = len(self.asked), SPELLINGS[pick % len(SPELLINGS)]
            exchange, sent = ask(self.stage, own, number)
            self.asked.append(Asked(exchange, own, number))
            self.owed.append((number, sent["id"], sent["params"]["_meta"]["progressToken"]))
        elif step == "cancel":
            cancel(self.stage, SPELLINGS[pick % len(SPELLINGS)])
        elif step == "leave" and self.asked:
            self.stage.router.forget(self.asked[pick % len(self.asked)].exchange)
        elif self.owed:
            number, wire, token = self.owed[pick % len(self.owed)]
            self.stage.say(answer(number, wire) if step == "answer" else progress(number, token))
            if step == "answer":
                self.owed.remove((number, wire, token))


@given(STEPS)
def test_every_caller_gets_its_own_answer_or_none(steps: list[tuple[str, int]]) -> None:
    """Random interleavings of equal ids, answers, progress, cancellations and callers that leave."""
    played = Played()
    for step in steps:
        played.play(*step)
    for one in played.asked:
        for said in map(json.loads, bodies(one.exchange)):
            content = said.get("result") or said["params"]
            assert one.number == content["n"]
            assert is_same(one.own.encode(), json.dumps(said.get("id", content.get("progressToken"))).encode())


def test_two_calls_in_flight_under_one_id_get_their_own_answers() -> None:
    """The second goes to the server under a fresh id, and its answer comes back under its caller's."""
    stage = Stage()
    slow, first = ask(stage, "1", 10)
    fast, second = ask(stage, "1", 20)
    stage.say(answer(20, second["id"]))
    stage.say(answer(10, first["id"]))
    assert [(1, 10)] == [(said["id"], said["result"]["n"]) for said in map(json.loads, bodies(slow))]
    assert [(1, 20)] == [(said["id"], said["result"]["n"]) for said in map(json.loads, bodies(fast))]


@pytest.mark.parametrize("answers_late", [True, False])
def test_an_abandoned_id_is_not_answered_by_the_call_before(answers_late: bool) -> None:
    """Whether the server answers the abandoned call or never does. Its late answer is swallowed, and counted."""
    stage = Stage()
    left, first = ask(stage, "1", 10)
    stage.router.forget(left)
    fresh, second = ask(stage, "1", 20)
    if answers_late:
        stage.say(answer(10, first["id"]))
    stage.say(answer(20, second["id"]))
    assert [20] == [json.loads(said)["result"]["n"] for said in bodies(fresh)]
    assert ["late_answer"] * answers_late == [event.limit for event in stage.events.of(LimitReached)]


def test_a_cancellation_ends_the_newest_call_with_its_id() -> None:
    """The server hears the id that it knows."""
    stage = Stage()
    ask(stage, "1", 10)
    newest, sent = ask(stage, "1", 20)
    body = notification("notifications/cancelled", {"requestId": 1})
    exchange, told = stage.router.cancelled(Attempt(call_of(body), 1, 0.0))
    assert newest is exchange
    assert sent["id"] == json.loads(told)["params"]["requestId"] != 1


def test_beyond_what_is_remembered_every_request_gets_a_fresh_id() -> None:
    """A late answer to a forgotten request then meets no other one."""
    stage = Stage()
    for number in range(ABANDONED_LIMIT + 1):
        exchange, _ = ask(stage, str(number), number)
        stage.router.forget(exchange)
    waiting, _ = ask(stage, "0", 5000)
    stage.say(answer(0, 0))
    assert [] == bodies(waiting)


def test_a_server_may_repeat_the_id_of_an_open_question() -> None:
    """The client gets two ids, and each answer goes back under the server's own."""
    stage = Stage()
    exchange, _ = ask(stage, "1", 0)
    stage.say(request("roots/list", {"n": 1}, "q"))
    stage.say(request("roots/list", {"n": 2}, "q"))
    one, two = map(json.loads, bodies(exchange))
    answers = [json.dumps({"jsonrpc": "2.0", "id": each["id"], "result": {}}).encode() for each in (two, one)]
    told = [json.loads(stage.router.outgoing(peek(said), said))["id"] for said in answers]
    assert "q" == one["id"] != two["id"]
    assert ["q", "q"] == told
    assert not stage.router.is_held


def test_a_server_withdraws_the_newest_of_two_questions_under_one_id() -> None:
    """The client hears the id that it knows."""
    stage = Stage()
    exchange, _ = ask(stage, "1", 0)
    stage.say(request("roots/list", {}, "q"))
    stage.say(request("roots/list", {}, "q"))
    stage.say(notification("notifications/cancelled", {"requestId": "q"}))
    _, two, withdrawn = map(json.loads, bodies(exchange))
    assert two["id"] == withdrawn["params"]["requestId"]


def test_members_of_a_batch_under_one_id_get_their_own_answers() -> None:
    """Each answer comes back under the caller's id."""
    stage = Stage()
    member = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
    exchange, sent = stage.post(b"[%b, %b]" % (member, member))
    assert sent is not None
    first, second = (each["id"] for each in json.loads(sent))
    stage.say(json.dumps([json.loads(answer(2, second)), json.loads(answer(1, first))]).encode())
    assert [(1, 2), (1, 1)] == [(said["id"], said["result"]["n"]) for said in map(json.loads, bodies(exchange))]
