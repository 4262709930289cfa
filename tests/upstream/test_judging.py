"""What replies say: verdicts, foreign ids, what cannot be read, streams that end."""

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.core.call import Attempt, Call, Headers, Peer, Transport
from weir.core.outcome import NO_ANSWER, PLAIN, Failed, FailureKind, Outcome, Replied, Sent, Verdict
from weir.protocol.envelope import NOTHING, Message, peek
from weir.protocol.sse import encode
from weir.upstream.codings import decoded
from weir.upstream.judging import Restored, StreamJudge, judge_complete

REQUEST = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"x"}}'
NOTIFICATION = b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}'
RESULT = b'{"jsonrpc":"2.0","id":7,"result":{}}'
QUESTION = b'{"jsonrpc":"2.0","id":1,"method":"roots/list"}'
RESET = Failed(FailureKind.RESET, "broken off")
JSON: Headers = [(b"content-type", b"application/json")]


class Nowhere:
    """A sink that takes everything."""

    async def open(self, status: int, headers: Headers) -> None:
        """Take the head."""

    async def write(self, chunk: bytes) -> None:
        """Take bytes."""


class Asking:
    """Notes what it is told, and marks each question."""

    def __init__(self) -> None:
        self.asked_of: list[bytes] = []
        self.told_of: list[str] = []

    def asked(self, call: Call, message: Message, body: bytes) -> bytes:
        """A question."""
        self.asked_of.append(message.id)
        return body.replace(b"roots/list", b"roots/list-marked")

    def told(self, call: Call, message: Message) -> None:
        """A notification."""
        self.told_of.append(message.method)


def call_of(body: bytes = REQUEST, verb: bytes = b"POST", revision: str = "2025-11-25") -> Call:
    """A call with this body."""
    call = Call(
        upstream="u", peer=Peer(Transport.HTTP), sink=Nowhere(), received_at=0.0, verb=verb, body=body,
        message=peek(body) if body else NOTHING,
    )  # fmt: skip
    call.revision = revision
    return call


def attempt_of(body: bytes = REQUEST) -> Attempt:
    """Its first attempt."""
    return Attempt(call_of(body), 1, 0.0)


def test_the_callers_id_comes_back_where_the_upstream_knew_another() -> None:
    """A later attempt takes a fresh id; the caller must not see it, in a body or in an event."""
    attempt = attempt_of()
    attempt.wire_id = b'"weir-1"'
    body = b'{"jsonrpc":"2.0","id":"weir-1","result":{}}'
    restored = b'{"jsonrpc":"2.0","id":' + attempt.call.message.id + b',"result":{}}'
    assert Replied(200, JSON, restored, PLAIN) == judge_complete(attempt, 200, JSON, body, body)
    assert encode(restored) == StreamJudge(attempt).feed(encode(body))


@pytest.mark.parametrize("status", [200, 404])
def test_a_reply_under_the_callers_id_is_told_with_no_other_length_or_coding(status: int) -> None:
    """The upstream's Content-Length is that of a longer id, and its bytes may have been compressed."""
    attempt = attempt_of()
    attempt.wire_id = b'"weir-1234567890"'
    body = b'{"jsonrpc":"2.0","id":"weir-1234567890","error":{"code":-32602,"message":"no"}}'
    restored = body.replace(b'"weir-1234567890"', attempt.call.message.id)
    headers = [*JSON, (b"content-length", b"%d" % len(body)), (b"content-encoding", b"gzip")]
    verdict = Verdict(-32602, "no")
    assert Replied(status, JSON, restored, verdict) == judge_complete(attempt, status, headers, b"packed", body)


def test_an_error_without_an_id_answers_a_later_attempt_as_it_is() -> None:
    """There is no id to put the caller's in place of."""
    attempt = attempt_of()
    attempt.wire_id = b'"weir-1"'
    body = b'{"jsonrpc":"2.0","error":{"code":-32603,"message":"no"}}'
    assert Replied(200, JSON, body, Verdict(-32603, "no")) == judge_complete(attempt, 200, JSON, body, body)
    assert encode(body) == StreamJudge(attempt).feed(encode(body))


@given(cut=st.integers(0, 60), further=st.integers(0, 60))
def test_a_reply_too_large_to_be_read_has_the_callers_id_however_it_is_cut(cut: int, further: int) -> None:
    """The attempt's id is put back while the reply passes, and its length is not told."""
    attempt = attempt_of()
    attempt.wire_id = b'"weir-1234567890"'
    body = b'{"jsonrpc":"2.0","result":{"a":"\\"weir-1234"},"id":"weir-1234567890"}'
    restored = Restored(attempt, [*JSON, (b"content-length", b"68")])
    pieces = [body[:cut], body[cut : cut + further], body[cut + further :]]
    passed = b"".join(restored.feed(piece) for piece in pieces) + restored.rest()
    assert body.replace(b'"weir-1234567890"', attempt.call.message.id) == passed
    assert JSON == restored.headers
    assert body == Restored(attempt_of(), JSON).feed(body)


def judged(body: bytes, *, status: int = 200, request: bytes = REQUEST, headers: Headers = JSON) -> Outcome:
    """The outcome of a complete reply."""
    return judge_complete(attempt_of(request), status, headers, body, body)


def verdict(outcome: Outcome) -> Verdict:
    """Of a reply."""
    assert isinstance(outcome, Replied)
    return outcome.verdict


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (RESULT, PLAIN),
        (b'{"jsonrpc":"2.0","id":7,"result":{"isError":true}}', Verdict(is_tool_error=True)),
        (b'{"jsonrpc":"2.0","id":7,"error":{"code":-32602,"message":"no"}}', Verdict(-32602, "no")),
        (b'{"jsonrpc":"2.0","id":"7","result":{}}', PLAIN),
        (b'{"jsonrpc":"2.0","id":7.0,"result":{}}', PLAIN),
        (b'{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"no"}}', Verdict(-32700, "no")),
        (b'{"jsonrpc":"2.0","error":{"code":-32700,"message":"no"}}', Verdict(-32700, "no")),
        (b'[{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":"in a batch"}}]', Verdict(1, "in a batch")),
        (b'{"jsonrpc":"2.0","id":7,"result":{"x":NaN}}', PLAIN),
        (b' \r\n{"jsonrpc":"2.0","id":7,"result":{"x":\xff}} ', PLAIN),
        (b'{"jsonrpc":"2.0","id":7}', NO_ANSWER),
        (b'{"error":"maintenance"}', NO_ANSWER),
    ],
)
def test_an_answer_is_read_and_passes_unchanged(body: bytes, expected: Verdict) -> None:
    """Also under an id of another JSON type, and when only its outer form can be seen."""
    outcome = judged(body)
    assert Replied(200, JSON, body, expected) == outcome


@pytest.mark.parametrize(
    "body",
    [
        b'{"jsonrpc":"2.0","id":8,"result":{}}',
        b'{"jsonrpc":"2.0","id":"x","error":{"code":1,"message":""}}',
        b'{"jsonrpc":"2.0","id":null,"result":{}}',
        b'{"jsonrpc":"2.0","result":{}}',
        b'[{"jsonrpc":"2.0","id":8,"result":{}}]',
        QUESTION,
        NOTIFICATION,
        b"<html>Welcome</html>",
        b"ok",
        b"\xef\xbb\xbf",
    ],
)
def test_a_success_that_holds_no_answer_is_a_failure(body: bytes) -> None:
    """Somebody else's answer, or a page: the client would wait for ever, or read nonsense."""
    outcome = judged(body, headers=[(b"content-type", b"text/html; charset=utf-8")])
    assert isinstance(outcome, Failed)
    assert (FailureKind.PROTOCOL, Sent.ANSWERED) == (outcome.kind, outcome.sent)


def test_a_page_is_named_by_its_type() -> None:
    """So that a wrong URL is seen at once."""
    outcome = judged(b"<html>", headers=[(b"content-type", b"text/html; charset=utf-8")])
    assert isinstance(outcome, Failed)
    assert "answered with text/html instead of JSON" == outcome.detail


@pytest.mark.parametrize("status", [301, 400, 401, 404, 429, 500, 503])
def test_other_statuses_pass_with_whatever_they_say(status: int) -> None:
    """A page, somebody's error, the error of this very call."""
    assert NO_ANSWER == verdict(judged(b"<html>", status=status))
    assert NO_ANSWER == verdict(judged(b'{"detail":"no"}', status=status))
    assert Verdict(-32601, "no") == verdict(
        judged(b'{"jsonrpc":"2.0","id":7,"error":{"code":-32601,"message":"no"}}', status=status)
    )
    assert Verdict(1, "") == verdict(
        judged(b'{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":""}}', status=status)
    )


@pytest.mark.parametrize("body", [b"", b"Accepted"])
def test_a_request_may_be_accepted_where_no_stream_is_asked_for(body: bytes) -> None:
    """The transport of 2024-11-05 answers on another stream."""
    assert Replied(202, JSON, body, NO_ANSWER) == judged(body, status=202)
    attempt = attempt_of()
    attempt.headers = [(b"accept", b"application/json, text/event-stream")]
    assert isinstance(judge_complete(attempt, 202, JSON, body, body), Failed)


@pytest.mark.parametrize("request_body", [REQUEST, b"[" + NOTIFICATION + b"," + REQUEST + b"]"])
@pytest.mark.parametrize("status", [200, 204])
def test_a_request_that_gets_nothing_has_failed(request_body: bytes, status: int) -> None:
    """Its client would wait for ever."""
    outcome = judged(b"", status=status, request=request_body)
    assert Failed(FailureKind.PROTOCOL, "answered with an empty body instead of JSON", sent=Sent.ANSWERED) == outcome


def test_a_request_that_gets_blanks_has_failed() -> None:
    """As much as nothing."""
    outcome = judged(b" \r\n")
    assert Failed(FailureKind.PROTOCOL, "answered with an empty body instead of JSON", sent=Sent.ANSWERED) == outcome


@pytest.mark.parametrize("request_body", [NOTIFICATION, RESULT, b"[" + NOTIFICATION + b"]", b""])
@pytest.mark.parametrize("status", [200, 202, 204])
def test_what_asks_nothing_may_get_nothing(request_body: bytes, status: int) -> None:
    """Notifications, responses, DELETE."""
    assert Replied(status, JSON, b"", NO_ANSWER) == judged(b"", status=status, request=request_body)


def test_what_was_not_a_request_expects_no_answer() -> None:
    """Notifications, responses to the server, GET and DELETE, pages of other paths."""
    for body in (NOTIFICATION, RESULT, b""):
        assert NO_ANSWER == verdict(judged(b"<html>", request=body))
        assert NO_ANSWER == verdict(judged(RESULT, request=body))


def test_a_body_that_could_not_be_read_gets_whatever_answer_comes() -> None:
    """A request with NaN in it, and a batch."""
    error = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"no"}}'
    assert Verdict(-32700, "no") == verdict(judged(error, request=b'{"id":7,"method":"x","params":NaN}'))
    batch = b"[" + REQUEST + b"]"
    assert PLAIN == verdict(judged(b"[" + RESULT + b"]", request=batch))
    assert PLAIN == verdict(judged(b'[{"jsonrpc":"2.0","id":7,"result":NaN}]', request=batch))


def test_the_answer_to_a_request_with_two_ids_is_its_answer_under_either() -> None:
    """The server read the other one: it is not to blame, in a body or in an event."""
    asked = REQUEST.replace(b'"id":7', b'"id":7,"id":8')
    assert PLAIN == verdict(judged(RESULT, request=asked))
    stream = StreamJudge(attempt_of(asked))
    stream.feed(encode(RESULT))
    assert isinstance(stream.outcome(200, [], None), Replied)


@pytest.mark.parametrize("body", [b"<html>", NOTIFICATION, b'"no"'])
def test_a_batch_that_asks_gets_answers(body: bytes) -> None:
    """A page is none, whatever there was to ask; of one that asks nothing nothing is expected."""
    assert isinstance(judged(body, request=b"[" + NOTIFICATION + b"," + REQUEST + b"]"), Failed)
    assert NO_ANSWER == verdict(judged(body, request=b"[" + NOTIFICATION + b"]"))


@pytest.mark.parametrize(("said", "expected"), [(b'"w"', b"7"), (b"null", b"null")])
def test_only_the_id_of_the_attempt_becomes_the_callers(said: bytes, expected: bytes) -> None:
    """An error that names no call says so to the caller too."""
    call = Call(upstream="u", peer=Peer(Transport.HTTP), sink=Nowhere(), received_at=0.0, message=peek(REQUEST))
    attempt = Attempt(call, 2, 0.0)
    attempt.wire_id = b'"w"'
    body = b'{"jsonrpc":"2.0","id":%b,"error":{"code":1,"message":"no"}}'
    outcome = judge_complete(attempt, 200, JSON, body % said, body % said)
    assert isinstance(outcome, Replied)
    assert body % expected == outcome.body


@pytest.mark.parametrize(
    ("coding", "encoded"),
    [
        (b"gzip", gzip.compress(RESULT, mtime=0)),
        (b"X-GZIP", gzip.compress(RESULT, mtime=0)),
        (b"deflate", zlib.compress(RESULT)),
        (b"deflate", zlib.compress(RESULT, wbits=-15)),
        (b"identity", RESULT),
        (b"", RESULT),
    ],
    ids=["gzip", "X-GZIP", "zlib", "raw deflate", "identity", "none"],
)
def test_a_coded_reply_is_read(coding: bytes, encoded: bytes) -> None:
    """For the look only."""
    assert RESULT == decoded([(b"content-encoding", coding)], encoded, 1000)


@pytest.mark.parametrize(
    ("coding", "encoded"),
    [
        (b"br", b"anything"),
        (b"gzip, br", b"anything"),
        (b"gzip", b"not gzip"),
        (b"gzip", gzip.compress(RESULT, mtime=0)[:-5]),
        (b"gzip", gzip.compress(b"0" * 10_000_000, mtime=0)),
        (b"deflate", b"\xff\xff"),
    ],
    ids=["br", "two codings", "not gzip", "cut gzip", "bomb", "not deflate"],
)
def test_a_coded_reply_that_cannot_be_read_passes(coding: bytes, encoded: bytes) -> None:
    """An unknown coding, a broken one, a bomb: nothing of it is kept beyond the limit."""
    assert decoded([(b"content-encoding", coding)], encoded, 1000) is None
    assert Replied(200, JSON, encoded, PLAIN) == judge_complete(attempt_of(), 200, JSON, encoded, None)
    assert Replied(500, JSON, encoded, NO_ANSWER) == judge_complete(attempt_of(), 500, JSON, encoded, None)


def streamed(call: Call, *chunks: bytes, broken: Failed | None = None, status: int = 200) -> Outcome:
    """The outcome of a stream."""
    judge = StreamJudge(Attempt(call, 1, 0.0))
    out = b"".join(judge.feed(chunk) for chunk in chunks)
    assert b"".join(chunks) == out + judge.rest()
    return judge.outcome(status, [], broken)


def test_the_answer_in_a_stream_is_found() -> None:
    """Behind progress, in its own event or in a batch; the first one counts."""
    error = b'{"jsonrpc":"2.0","id":7,"error":{"code":5,"message":"no"}}'
    assert Replied(200, [], None, PLAIN) == streamed(call_of(), encode(NOTIFICATION) + encode(RESULT))
    assert Replied(200, [], None, Verdict(5, "no")) == streamed(call_of(), encode(error, b""), encode(RESULT))
    assert Replied(200, [], None, PLAIN) == streamed(call_of(), encode(b"[" + NOTIFICATION + b"," + RESULT + b"]"))


def test_an_answer_counts_even_if_the_stream_breaks_off_after_it() -> None:
    """The client has it."""
    assert Replied(200, [], None, PLAIN) == streamed(call_of(), encode(RESULT), broken=RESET)


@pytest.mark.parametrize("event", [b"ping", b"endpoint", b"error"])
def test_only_message_events_hold_messages(event: bytes) -> None:
    """Others pass and say nothing."""
    assert isinstance(streamed(call_of(), encode(RESULT, event)), Failed)


@pytest.mark.parametrize("broken", [None, RESET])
def test_a_stream_without_its_answer_is_lost(broken: Failed | None) -> None:
    """Nothing came, comments came, others' answers came."""
    for chunk in (b"", b": ping\n\n", encode(NOTIFICATION), encode(RESULT.replace(b"7", b"8"))):
        outcome = streamed(call_of(), chunk, broken=broken)
        assert Failed(FailureKind.RESET, "the stream ended before the answer", sent=Sent.YES) == outcome


@pytest.mark.parametrize("broken", [None, RESET])
def test_a_stream_that_ends_after_an_event_id_is_polled(broken: Failed | None) -> None:
    """Up to 2025-11-25 the client comes back for the rest; from 2026-07-28 on it cannot."""
    priming = b"id: 0\ndata:\n\n"
    for revision in ("", "2025-03-26", "2025-06-18", "2025-11-25"):
        outcome = streamed(call_of(revision=revision), priming, broken=broken)
        assert Replied(200, [], None, NO_ANSWER) == outcome
    assert isinstance(streamed(call_of(revision="2026-07-28"), priming, broken=broken), Failed)


def test_a_timer_that_ended_a_stream_is_not_polling() -> None:
    """The server did not end it."""
    silent = Failed(FailureKind.TIMEOUT, "silent", timer="idle")
    assert silent is streamed(call_of(), b"id: 0\ndata:\n\n", broken=silent)


def test_a_get_stream_ends_or_breaks_off() -> None:
    """It has no answer to wait for."""
    call = call_of(b"", b"GET")
    assert Replied(200, [], None, NO_ANSWER) == streamed(call, encode(NOTIFICATION))
    assert RESET is streamed(call, encode(NOTIFICATION), broken=RESET)


def test_an_unsuccessful_stream_needs_no_answer() -> None:
    """Its status has said enough."""
    assert Replied(500, [], None, NO_ANSWER) == streamed(call_of(), b": sorry\n\n", status=500)


def test_a_batch_with_a_request_needs_an_answer() -> None:
    """As each of its requests would by itself."""
    batch = b"[" + NOTIFICATION + b"," + REQUEST + b"]"
    assert isinstance(streamed(call_of(batch), encode(NOTIFICATION)), Failed)
    assert Replied(200, [], None, PLAIN) == streamed(call_of(batch), encode(RESULT))


def test_an_answer_too_large_to_be_read_may_have_been_there() -> None:
    """A stream that ended well with an opaque event is not called lost."""
    judge = StreamJudge(attempt_of(), event_limit_bytes=50)
    judge.feed(b"data: " + b"x" * 60)
    judge.feed(b"x\n\n")
    assert judge.has_oversized
    assert Replied(200, [], None, PLAIN) == judge.outcome(200, [], None)
    assert isinstance(judge.outcome(200, [], RESET), Failed)


def test_an_answer_that_no_strict_reader_reads_may_have_been_there() -> None:
    """NaN passes, and some clients read it."""
    event = encode(b'{"jsonrpc":"2.0","id":7,"result":{"x":NaN}}')
    assert Replied(200, [], None, PLAIN) == streamed(call_of(), event)
    assert isinstance(streamed(call_of(), encode(b"nonsense")), Failed)


def test_comments_are_no_events() -> None:
    """They do not commit a reply; anything else does, a priming event included."""
    judge = StreamJudge(attempt_of())
    judge.feed(b": ping\n\n")
    assert not judge.has_events
    judge.feed(b"id: 0\ndata:\n\n")
    assert judge.has_events


def test_questions_and_notifications_are_told() -> None:
    """And a question's body may be changed, with all else of its event kept."""
    call, asking = call_of(), Asking()
    call.asker = asking
    judge = StreamJudge(Attempt(call, 1, 0.0))
    raw = b"id: 5\nevent: message\ndata: " + QUESTION + b"\n\n" + encode(NOTIFICATION) + encode(RESULT)
    assert raw.replace(b"roots/list", b"roots/list-marked") == judge.feed(raw)
    assert ([b"1"], ["notifications/progress"]) == (asking.asked_of, asking.told_of)


def test_questions_in_a_batch_are_told_one_by_one() -> None:
    """Each with its own bytes."""
    call, asking = call_of(), Asking()
    call.asker = asking
    judge = StreamJudge(Attempt(call, 1, 0.0))
    raw = encode(b"[" + QUESTION + b", " + NOTIFICATION + b" ," + QUESTION.replace(b"1", b"2") + b"]")
    assert raw.replace(b"roots/list", b"roots/list-marked") == judge.feed(raw)
    assert [b"1", b"2"] == asking.asked_of


@given(st.binary(max_size=80), st.integers(100, 599), st.sampled_from([REQUEST, NOTIFICATION, b"", b"[1]"]))
def test_any_body_has_an_outcome(body: bytes, status: int, request: bytes) -> None:
    """Nothing raises."""
    outcome = judged(body, status=status, request=request)
    assert isinstance(outcome, Failed) or (outcome == Replied(status, JSON, body, verdict(outcome)))


@given(st.lists(st.binary(max_size=40), max_size=6))
def test_any_stream_passes_unchanged(chunks: list[bytes]) -> None:
    """Whatever it holds."""
    streamed(call_of(), *chunks)
