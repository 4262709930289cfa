"""What a reply says about the call: complete bodies and event streams, looked at and never changed."""

import msgspec

from weir.core.call import Call, Headers, header
from weir.core.outcome import NO_ANSWER, PLAIN, Failed, FailureKind, Outcome, Replied, Sent, Verdict
from weir.protocol.envelope import Kind, Message, peek
from weir.protocol.sse import Event, Splitter, replace_data

_FIRST_STATELESS = "2026-07-28"
"""From this revision on streams are not resumed: one that ended without its answer is lost."""


def judge_complete(call: Call, status: int, headers: Headers, body: bytes) -> Outcome:
    """The outcome of a reply that came as one body."""
    if not body:
        return Replied(status, headers, body, NO_ANSWER)
    message = peek(body)
    is_success = 200 <= status < 300
    if not call.is_request or not is_success:
        return Replied(status, headers, body, _verdict(message) if message.kind is Kind.RESPONSE else NO_ANSWER)
    return _judge_answer(call, status, headers, body, message)


def _judge_answer(call: Call, status: int, headers: Headers, body: bytes, message: Message) -> Outcome:
    for each in message.members or (message,):
        if each.kind is Kind.RESPONSE and answers(call, each):
            return Replied(status, headers, body, _verdict(each))
    if message.kind is Kind.OPAQUE:
        if _looks_like_json(body):
            return Replied(status, headers, body, PLAIN)
        named = header(headers, b"content-type").split(b";")[0].strip().decode("latin-1") or "something else"
        return Failed(FailureKind.PROTOCOL, f"answered with {named[:80]} instead of JSON", sent=Sent.ANSWERED)
    return Failed(FailureKind.PROTOCOL, "answered under a foreign id", sent=Sent.ANSWERED)


def answers(call: Call, message: Message) -> bool:
    """Whether a response belongs to the call: the same id in any JSON type, or no id on an error."""
    if message.id == call.message.id:
        return True
    if message.id in (b"", b"null"):
        return message.error is not None
    return _plain(message.id) == _plain(call.message.id)


def _plain(raw_id: bytes) -> str:
    try:
        return str(msgspec.json.decode(raw_id))
    except (msgspec.DecodeError, RecursionError):
        return ""


def _looks_like_json(body: bytes) -> bool:
    text = body.strip()
    return text[:1] in (b"{", b"[") and text[-1:] in (b"}", b"]")


def _verdict(message: Message) -> Verdict:
    if message.error is not None:
        return Verdict(message.error.code, message.error.message)
    if message.result is not None and message.result.is_error:
        return Verdict(is_tool_error=True)
    return PLAIN


class StreamJudge:
    """Reads a stream of events as it passes: the answer, the server's questions and notifications."""

    __slots__ = ("_call", "_saw_id", "_splitter", "_verdict", "commits")

    def __init__(self, call: Call) -> None:
        self.commits = False
        self._call = call
        self._splitter = Splitter()
        self._saw_id = False
        self._verdict: Verdict | None = None

    def feed(self, data: bytes) -> bytes:
        """The bytes to relay now. `commits` is set once an event is among them."""
        return b"".join([self._look(event) for event in self._splitter.feed(data)])

    def rest(self) -> bytes:
        """What was held when the stream ended."""
        return self._splitter.rest()

    def outcome(self, status: int, headers: Headers, broken: Failed | None) -> Outcome:
        """How the stream ended; `broken` unless it ended cleanly."""
        if self._verdict is not None:
            return Replied(status, headers, None, self._verdict)
        call = self._call
        if call.is_request and 200 <= status < 300:
            if self._saw_id and call.revision < _FIRST_STATELESS:
                return Replied(status, headers, None, NO_ANSWER)
            return broken or Failed(FailureKind.RESET, "the stream ended before the answer", sent=Sent.YES)
        return broken or Replied(status, headers, None, NO_ANSWER)

    def _look(self, event: Event) -> bytes:
        if not event.is_comment:
            self.commits = True
        if event.id:
            self._saw_id = True
        data = event.data
        if not data or not event.is_message:
            return event.raw
        message = peek(data)
        if message.members:
            for each in message.members:
                self._take(each, b"")
            return event.raw
        edited = self._take(message, data)
        return event.raw if edited is data else replace_data(event, edited)

    def _take(self, message: Message, data: bytes) -> bytes:
        call = self._call
        if message.kind is Kind.RESPONSE:
            if call.is_request and answers(call, message):
                self._verdict = _verdict(message)
        elif call.asker is None:
            return data
        elif message.kind is Kind.REQUEST:
            return call.asker.asked(call, message, data)
        elif message.kind is Kind.NOTIFICATION:
            call.asker.told(call, message)
        return data
