"""What a reply says about the call: complete bodies and event streams, looked at and never changed."""

from typing import Final

from weir.core.budget import Held
from weir.core.call import Attempt, Call, Headers
from weir.core.outcome import NO_ANSWER, PLAIN, Failed, FailureKind, Outcome, Replied, Sent, Verdict
from weir.protocol import correlation, edit, media_types, scan
from weir.protocol.correlation import NO_ID
from weir.protocol.decoding import any_of
from weir.protocol.envelope import Kind, Message, peek
from weir.protocol.headers import SEALS
from weir.protocol.media_types import EVENT_STREAM, accepts
from weir.protocol.methods import LISTS
from weir.protocol.sse import MAX_EVENT_BYTES, Event, Splitter, replace_data
from weir.protocol.verdicts import verdict_of

FIRST_STATELESS: Final = "2026-07-28"
"""From this revision on no stream is resumed: one that ended without its answer is lost."""

_DESCRIBING: Final = frozenset((b"content-length",)) | SEALS - {b"content-encoding"}
"""Headers that hold for the very bytes they came with. The coding is another matter: it says how to read them."""
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


def undescribed(headers: Headers, *, is_decoded: bool = False) -> Headers:
    """The headers of a reply whose bytes weir changes, or may change; `is_decoded`: its content coding is undone."""
    return [
        each for each in headers if each[0] not in _DESCRIBING and not (is_decoded and each[0] == b"content-encoding")
    ]


def judge_complete(attempt: Attempt, status: int, headers: Headers, body: bytes, text: bytes | None) -> Outcome:
    """The outcome of a reply that came as one body. `text` is the body decoded, None when that cannot be had."""
    if not body:
        return _judge_nothing(attempt, Replied(status, headers, body, NO_ANSWER))
    kind = attempt.call.message.kind
    is_awaited = kind is Kind.REQUEST or (kind is Kind.BATCH and _needs_answer(attempt.call))
    is_success = 200 <= status < 300 and is_awaited
    if text is None:
        return Replied(status, headers, body, PLAIN if is_success else NO_ANSWER)
    message = peek(text)
    if is_success:
        return _judge_answer(attempt, Replied(status, headers, body), text, message)
    answer = _answer_in(attempt, message)
    if answer is None:
        return Replied(status, headers, body, NO_ANSWER)
    return _renamed(attempt, Replied(status, headers, body, verdict_of(answer)), text)


def _judge_nothing(attempt: Attempt, reply: Replied) -> Outcome:
    """An empty body is right for what asks nothing; a request would wait for its answer for ever."""
    if 200 <= reply.status < 300 and _needs_answer(attempt.call) and not _is_answered_elsewhere(attempt, reply):
        return _said_nothing()
    return reply


def _said_nothing() -> Failed:
    return Failed(FailureKind.PROTOCOL, "answered with an empty body instead of JSON", sent=Sent.ANSWERED)


def _is_answered_elsewhere(attempt: Attempt, reply: Replied) -> bool:
    """Whether it belongs to the transport of 2024-11-05, whose POSTs are accepted and answered on another stream.

    Its clients do not ask for a stream of events here; those of Streamable HTTP must.
    """
    return reply.status == 202 and not accepts(attempt.headers, EVENT_STREAM)


def _needs_answer(call: Call) -> bool:
    return call.is_request or any(each.kind is Kind.REQUEST for each in call.message.members)


def _judge_answer(attempt: Attempt, reply: Replied, text: bytes, message: Message) -> Outcome:
    """A successful reply to a request must hold its answer, as far as that can be read."""
    if message.kind is Kind.RESPONSE and message.id == attempt.wire_id:
        answer: Message | None = message
    else:
        answer = _answer_in(attempt, message)
    if answer is not None:
        reply.verdict = verdict_of(answer)
        return _renamed(attempt, reply, text)
    if message.kind is not Kind.OPAQUE:
        return Failed(FailureKind.PROTOCOL, "the reply is not the answer to this request", sent=Sent.ANSWERED)
    if _looks_like_json(text):
        # what can be read and is no message is told by its status alone
        reply.verdict = PLAIN if any_of(text) is None else NO_ANSWER
        return reply
    if _is_answered_elsewhere(attempt, reply):
        reply.verdict = NO_ANSWER
        return reply
    if not text.strip():
        return _said_nothing()
    named = media_types.of(reply.headers)
    if media_types.is_json(named) and (charset := media_types.foreign_charset(reply.headers)):
        detail = f"answered in the character set '{charset.decode('latin-1')[:40]}'; JSON-RPC is in UTF-8"
        return Failed(FailureKind.PROTOCOL, detail, sent=Sent.ANSWERED)
    detail = f"answered with {named[:80].decode('latin-1') or 'something'} instead of JSON"
    return Failed(FailureKind.PROTOCOL, detail, sent=Sent.ANSWERED)


def _renamed(attempt: Attempt, reply: Replied, text: bytes) -> Replied:
    """The reply under the id that its caller knows: other bytes, of another length, and no longer encoded."""
    edited = _under_own_id(attempt, text)
    if edited != text:
        reply.body = edited
        reply.headers = undescribed(reply.headers, is_decoded=True)
    return reply


def _under_own_id(attempt: Attempt, text: bytes) -> bytes:
    if not attempt.is_renamed or peek(text).id in NO_ID:
        # an error that names no call says so to the caller too
        return text
    try:
        return edit.set_id(text, attempt.call.message.id)
    except ValueError:
        # it names two
        return text


class Restored:
    """The bytes of a reply too large to be read, with the caller's id where the attempt's own is: nobody else has it.

    `headers`: those of the reply, as they are to be told.
    """

    __slots__ = ("_held", "_own", "_wire", "headers")

    def __init__(self, attempt: Attempt, headers: Headers, *, is_events: bool = False) -> None:
        self._wire = attempt.wire_id if attempt.is_renamed else b""
        self._own = attempt.call.message.id
        self._held = b""
        # an error of weir's may follow events
        self.headers = undescribed(headers) if self._wire or is_events else headers

    def feed(self, data: bytes) -> bytes:
        """What of the reply is to be relayed now."""
        wire = self._wire
        if not wire:
            return data
        text = (self._held + data).replace(wire, self._own)
        # the id may go on in the next piece
        end = len(text) - _begun(text, wire)
        self._held = text[end:]
        return text[:end]

    def rest(self) -> bytes:
        """What was held back for a piece that never came."""
        return self._held


def _begun(text: bytes, wanted: bytes) -> int:
    """How many bytes at the end of a text may be the beginning of what is wanted."""
    return next((size for size in range(len(wanted) - 1, 0, -1) if text.endswith(wanted[:size])), 0)


def _looks_like_json(text: bytes) -> bool:
    text = text.removeprefix(_BYTE_ORDER_MARK).strip(b" \t\r\n")
    return text[:1] + text[-1:] in (b"{}", b"[]")


def _answer_in(attempt: Attempt, message: Message) -> Message | None:
    """The response to the call in a body that may be a batch."""
    found = None
    for each in message.members or (message,):
        if answers(attempt, each):
            found = found or each
            if attempt.call.members:
                attempt.call.answered(each.id, verdict_of(each))
    return found


def answers(attempt: Attempt, message: Message) -> bool:
    """Whether a message is the response to the call.

    For a request: the same id in whatever JSON type, or no id on an error. For a batch, a body that could not be read,
    or one that the server may have read under another id, any response.
    """
    if message.kind is not Kind.RESPONSE:
        return False
    asked = attempt.call.message.kind
    if asked is not Kind.REQUEST:
        return asked is Kind.BATCH or asked is Kind.OPAQUE
    return correlation.answers(message, attempt.wire_id) or attempt.call.is_ambiguous


class StreamJudge:
    """Reads a stream of events as it passes: the answer, the server's questions, its notifications.

    `has_events`: something other than comments has passed. `has_oversized`: an event was too large to be read.
    `listing`: the answer, of a call that lists what others may be told about.
    """

    __slots__ = (
        "_attempt",
        "_call",
        "_held",
        "_saw_id",
        "_saw_unread",
        "_splitter",
        "_verdict",
        "has_events",
        "has_oversized",
        "listing",
    )

    def __init__(self, attempt: Attempt, event_limit_bytes: int = MAX_EVENT_BYTES) -> None:
        self.has_events = False
        self.has_oversized = False
        self.listing = b""
        self._attempt = attempt
        self._call = attempt.call
        self._splitter = Splitter(event_limit_bytes)
        self._held = Held(attempt.call.account)
        self._saw_id = False
        self._saw_unread = False
        self._verdict: Verdict | None = None

    def feed(self, data: bytes) -> bytes:
        """What of the stream is to be relayed now."""
        events = self._splitter.feed(data)
        if self._held.resize(self._splitter.held_bytes) is not None:
            # there is no room to wait for the end of this event
            events.append(self._splitter.pass_unread())
            self._held.resize(0)
        if len(events) == 1:
            return self._look(events[0])
        return b"".join([self._look(event) for event in events])

    def let_go(self) -> None:
        """The stream is over: nothing is held any more."""
        self._held.resize(0)

    def rest(self) -> bytes:
        """What was held of an event that never ended."""
        return self._splitter.rest()

    def outcome(self, status: int, headers: Headers, broken: Failed | None) -> Outcome:
        """What the stream was, now that it has ended; `broken` unless it ended as it should."""
        if self._verdict is not None:
            return Replied(status, headers, None, self._verdict)
        if not _needs_answer(self._call) or not 200 <= status < 300:
            return broken or Replied(status, headers, None, NO_ANSWER)
        if broken is not None and broken.kind is not FailureKind.RESET:
            return broken
        if self._saw_id and self._call.revision < FIRST_STATELESS:
            # the client will come back for the rest, with the id
            return Replied(status, headers, None, NO_ANSWER)
        if self._saw_unread and broken is None:
            # it may well have been the answer
            return Replied(status, headers, None, PLAIN)
        return Failed(FailureKind.RESET, "the stream ended before the answer", sent=Sent.YES)

    def _look(self, event: Event) -> bytes:
        """Read one piece; returns the bytes to relay for it."""
        if event.is_comment:
            return event.raw
        self.has_events = True
        if event.is_opaque:
            self.has_oversized = self._saw_unread = True
        if event.id:
            self._saw_id = True
        data = event.data
        if not data or not event.is_message:
            return event.raw
        message = peek(data)
        if message.kind is Kind.OPAQUE and _looks_like_json(data):
            # NaN and the like, which some clients read; what can be read and is no message is no answer
            self._saw_unread |= any_of(data) is None
            return event.raw
        edited = self._take_batch(message, data) if message.members else self._take(message, data)
        return event.raw if edited == data else replace_data(event, edited)

    def _take_batch(self, batch: Message, data: bytes) -> bytes:
        places = scan.elements(data)
        edited = [
            self._take(member, data[begin:end]) for member, (begin, end) in zip(batch.members, places, strict=True)
        ]
        return edit.set_elements(data, edited)

    def _take(self, message: Message, data: bytes) -> bytes:
        """Note one message; returns its event's data, changed only for a question."""
        call, kind = self._call, message.kind
        if kind is Kind.RESPONSE:
            if answers(self._attempt, message):
                return self._take_answer(message, data)
        elif call.asker is None:
            pass
        elif kind is Kind.REQUEST:
            return call.asker.asked(call, message, data)
        elif kind is Kind.NOTIFICATION:
            call.asker.told(call, message)
        return data

    def _take_answer(self, message: Message, data: bytes) -> bytes:
        verdict = verdict_of(message)
        self._verdict = self._verdict or verdict
        self._call.answered(message.id, verdict)
        if self._call.message.method in LISTS:
            self.listing = data
        return _under_own_id(self._attempt, data)
