"""Calls, outcomes and a played upstream for tests of policies."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from weir.core.call import Attempt, Call, Headers, Peer, Transport
from weir.core.outcome import (
    NO_ANSWER,
    PLAIN,
    Blame,
    Failed,
    FailureKind,
    Outcome,
    RefusalKind,
    Refused,
    Replied,
    Sent,
    Verdict,
)
from weir.protocol.envelope import NOTHING, peek
from weir.protocol.tracecontext import TraceContext

E = TypeVar("E")

OK = Replied(200, [], b'{"jsonrpc":"2.0","id":1,"result":{}}', PLAIN)
TOOL_ERROR = Replied(200, [], b'{"jsonrpc":"2.0","id":1,"result":{"isError":true}}', Verdict(is_tool_error=True))
ACCEPTED = Replied(202, [], b"", NO_ANSWER)
UNREACHED = Failed(FailureKind.CONNECT, "connection refused", sent=Sent.NO)
LOST = Failed(FailureKind.RESET, "the connection was reset")
LATE = Failed(FailureKind.TIMEOUT, "no answer", timer="attempt", after_seconds=60.0)
CLIENT_GONE = Failed(FailureKind.CANCELLED, "the client went away", Blame.DOWNSTREAM)
REFUSED = Refused(RefusalKind.OVERLOADED, "no", "upstream", 1.0)


def status(code: int, *headers: tuple[bytes, bytes], body: bytes = b"<html>") -> Replied:
    """A reply without a JSON-RPC answer."""
    return Replied(code, list(headers), body, NO_ANSWER)


def rpc_error(code: int, http: int = 200) -> Replied:
    """A JSON-RPC error."""
    return Replied(http, [], b'{"jsonrpc":"2.0","id":1,"error":{"code":%d,"message":"x"}}' % code, Verdict(code, "x"))


class RecordingSink:
    """The reply's head and bytes, as they come."""

    def __init__(self) -> None:
        self.heads: list[int] = []
        self.headers: list[Headers] = []
        self.written: list[bytes] = []

    async def open(self, status: int, headers: Headers) -> None:
        """Note the head."""
        self.heads.append(status)
        self.headers.append(headers)

    async def write(self, chunk: bytes) -> None:
        """Note the bytes."""
        self.written.append(chunk)


def body_of(method: str, params: dict[str, Any] | None = None, request_id: Any = 1) -> bytes:
    """A request, or a notification when the id is None."""
    message: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
    if request_id is not None:
        message["id"] = request_id
    if params is not None:
        message["params"] = params
    return msgspec.json.encode(message)


def call_with(body: bytes = b"", **facts: Any) -> Call:
    """A call of upstream `demo`; facts are the members that differ from those of a new call."""
    call = Call(
        upstream="demo",
        peer=Peer(Transport.HTTP, "127.0.0.7", 51234, "1.1"),
        sink=RecordingSink(),
        received_at=facts.pop("received_at", 1000.0),
        verb=facts.pop("verb", b"POST" if body else b"GET"),
        body=body,
        message=peek(body) if body else NOTHING,
    )
    for name, value in facts.items():
        setattr(call, name, value)
    return call


def call_of(method: str, request_id: Any = 1, **facts: Any) -> Call:
    """A request without parameters."""
    return call_with(body_of(method, None, request_id), **facts)


def tool_call(name: str = "add", request_id: Any = 1, **facts: Any) -> Call:
    """A tools/call."""
    return call_with(body_of("tools/call", {"name": name, "arguments": {}}, request_id), **facts)


def two_names(first: str, last: str) -> Call:
    """A tools/call with two names: readers differ in which one counts."""
    return call_with(tool_call(first).body.replace(b'"name":', b'"name":"%b","name":' % last.encode(), 1))


def batch_of(*bodies: bytes) -> Call:
    """A 2025-03-26 batch."""
    return call_with(b"[" + b",".join(bodies) + b"]")


def traced(call: Call, number: int) -> Call:
    """The call with the trace id 000...number."""
    call.trace = TraceContext(f"{number:032x}", "0" * 15 + "1")
    return call


def attempt_of(call: Call, number: int = 1) -> Attempt:
    """One try of it, added to the call's own."""
    attempt = Attempt(call, number, 1000.0)
    call.attempts.append(attempt)
    return attempt


class Told(list[Any]):
    """The events that were emitted: the list's `append` is the `emit`."""

    def of(self, kind: type[E]) -> list[E]:
        """Those of one type."""
        return [event for event in self if isinstance(event, kind)]

    def actions(self) -> list[str]:
        """What was decided, in order."""
        return [event.action for event in self if hasattr(event, "action")]


class PlayedUpstream:
    """The inner handler: gives the outcomes it was told, one an attempt, the last one for ever after.

    An outcome may be a function of the attempt, which may also be a coroutine function.
    """

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes = [*outcomes]
        self.attempts: list[Any] = []

    async def __call__(self, attempt: Any) -> Outcome:
        """Take note of the attempt (or call), and answer it."""
        self.attempts.append(attempt)
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if callable(outcome):
            outcome = outcome(attempt)
        if asyncio.iscoroutine(outcome):
            outcome = await outcome
        return outcome  # type: ignore[no-any-return]  # whatever the test gave


class Gate:
    """An upstream that answers when it is told to."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[Outcome]] = []

    async def __call__(self, _: Any) -> Outcome:
        """Wait for `answer`."""
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.waiting.append(answer)
        return await answer

    def answer(self, index: int, outcome: Outcome) -> None:
        """End one of those that wait."""
        self.waiting[index].set_result(outcome)


def clock_of_loop() -> Callable[[], float]:
    """The running loop's clock."""
    return asyncio.get_running_loop().time
