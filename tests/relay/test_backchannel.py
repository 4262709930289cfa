"""The back-channel: what a server says on a call's stream, and what that means for the call's clocks."""

import math
from typing import Any

import pytest

from support.policed import Told, body_of, call_with, tool_call
from weir.core.call import Call, Peer, Transport
from weir.core.events import Ask, AskFinished, ServerNotified
from weir.core.outcome import Verdict
from weir.protocol.envelope import peek
from weir.relay.backchannel import OPEN_ASKS_LIMIT, Backchannel

QUESTION = body_of("sampling/createMessage", {}, "q-1")
PROGRESS = peek(body_of("notifications/progress", {"progressToken": 1, "progress": 1}, None))


class Untraced:
    """Leaves questions as they are."""

    def begin_ask(self, ask: Ask, body: bytes) -> bytes:
        """Nothing to set."""
        return body


class Talk:
    """A back-channel with a clock of its own."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.told = Told()
        self.channel = Backchannel("demo", Untraced(), self.told.append, lambda: self.now)

    def ask(self, call: Call, body: bytes = QUESTION) -> None:
        """The server asks."""
        assert body == self.channel.asked(call, peek(body), body)


def test_progress_is_noted_in_the_calls_own_time() -> None:
    """Which stood still while the client was asked."""
    talk, call = Talk(), tool_call()
    talk.ask(call)
    talk.now += 10.0
    talk.channel.answered(tool_call(), peek(b'{"jsonrpc":"2.0","id":"q-1","result":{}}'))
    talk.channel.told(call, PROGRESS)
    assert 1000.0 == call.progress_at
    assert 1 == len(talk.told.of(ServerNotified))


def test_other_notifications_are_no_progress() -> None:
    """Nor is progress on the GET stream, which says nothing of that stream."""
    talk, call, stream = Talk(), tool_call(), call_with(verb=b"GET")
    talk.channel.told(call, peek(body_of("notifications/message", {}, None)))
    talk.channel.told(stream, PROGRESS)
    assert [0.0, 0.0] == [call.progress_at, stream.progress_at]


def test_the_calls_deadline_moves_on_by_the_time_of_the_question() -> None:
    """And the call knows meanwhile what is asked, and since when."""
    talk, call = Talk(), tool_call(deadline_at=1100.0)
    talk.ask(call)
    talk.now += 40.0
    assert ("sampling/createMessage", 40.0) == (call.asked_method, call.client_input_seconds(talk.now))
    assert 1000.0 == call.own_time(talk.now)
    talk.channel.answered(tool_call(), peek(b'{"jsonrpc":"2.0","id":"q-1","result":{}}'))
    assert (1140.0, 0.0, 40.0) == (call.deadline_at, call.client_input_seconds(talk.now), call.client_seconds)


def test_a_call_without_a_deadline_gets_none() -> None:
    """For ever and forty seconds is for ever."""
    talk, call = Talk(), tool_call()
    talk.ask(call)
    talk.now += 40.0
    talk.channel.finished(call)
    assert math.inf == call.deadline_at
    assert [None] == [event.verdict for event in talk.told.of(AskFinished)]


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (b'{"jsonrpc":"2.0","id":"q-1","result":{}}', Verdict()),
        (b'{"jsonrpc":"2.0","id":"q-1","error":{"code":-1,"message":"no"}}', Verdict(-1, "no")),
    ],
)
def test_an_answer_ends_its_question(answer: bytes, verdict: Verdict) -> None:
    """Once; what nobody asked ends nothing."""
    talk, call = Talk(), tool_call()
    talk.ask(call)
    for _ in range(2):
        talk.channel.answered(tool_call(), peek(answer))
    talk.channel.answered(tool_call(session="another session"), peek(answer))
    assert [verdict] == [event.verdict for event in talk.told.of(AskFinished)]
    assert 0 == call.pending_asks


def test_open_questions_are_bounded() -> None:
    """The oldest is given up, and its call's clocks go on."""
    talk, first = Talk(), tool_call()
    talk.ask(first)
    other = tool_call()
    for number in range(OPEN_ASKS_LIMIT):
        talk.ask(other, body_of("sampling/createMessage", {}, number))
    assert 0 == first.pending_asks
    assert OPEN_ASKS_LIMIT == other.pending_asks


@pytest.mark.parametrize(
    "facts",
    [{"peer": Peer(Transport.HTTP, "127.0.0.8")}, {"headers": [(b"authorization", b"Bearer other")]}],
    ids=["address", "credential"],
)
def test_without_a_session_nobody_answers_for_another_caller(facts: dict[str, Any]) -> None:
    """Nor does the same question to another caller end the first one."""
    talk, call, other = Talk(), tool_call(), tool_call(**facts)
    talk.ask(call)
    talk.channel.answered(other, peek(b'{"jsonrpc":"2.0","id":"q-1","result":{}}'))
    talk.ask(other)
    assert [1, 1] == [call.pending_asks, other.pending_asks]
    talk.channel.answered(call, peek(b'{"jsonrpc":"2.0","id":"q-1","result":{}}'))
    assert [0, 1] == [call.pending_asks, other.pending_asks]
