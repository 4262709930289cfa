"""What may be tried again: one row for each way an attempt can end."""

import time

import pytest

from support.policed import (
    CLIENT_GONE,
    LATE,
    LOST,
    OK,
    REFUSED,
    TOOL_ERROR,
    UNREACHED,
    body_of,
    call_of,
    call_with,
    rpc_error,
    status,
    tool_call,
)
from weir.core.call import Call
from weir.core.outcome import NO_ANSWER, Blame, Failed, FailureKind, Outcome, Replied, Sent
from weir.policies.retry_rules import Again, allowed_again, needs, reason_of
from weir.protocol.http_dates import retry_after

AFTER = (b"retry-after", b"2")
DATE = (b"date", b"Sat, 21 Nov 2026 09:00:00 GMT")


@pytest.mark.parametrize(
    ("expected", "outcome"),
    [
        # not sent
        (Again.UNSENT, UNREACHED),
        (Again.UNSENT, Failed(FailureKind.RESET, "before anything was sent", sent=Sent.NO)),
        (Again.UNSENT, Failed(FailureKind.EXITED, "the server had exited", sent=Sent.NO)),
        (Again.UNSENT, Failed(FailureKind.TIMEOUT, "no connection", sent=Sent.NO, timer="attempt")),
        (Again.NEVER, Failed(FailureKind.TLS, "the certificate is another's", sent=Sent.NO)),
        # all the time there was for it has been spent
        (Again.NEVER, Failed(FailureKind.TIMEOUT, "no answer", timer="total")),
        (Again.NEVER, Failed(FailureKind.CONNECT, "no connection within 5 s", sent=Sent.NO, timer="connect")),
        # sent, nothing back
        (Again.REPEATABLE, LOST),
        (Again.REPEATABLE, LATE),
        (Again.REPEATABLE, Failed(FailureKind.TIMEOUT, "silence", timer="idle")),
        (Again.REPEATABLE, Failed(FailureKind.EXITED, "the server exited")),
        (Again.REPEATABLE, Failed(FailureKind.PROTOCOL, "nonsense", sent=Sent.ANSWERED)),
        (Again.REPEATABLE, Failed(FailureKind.TLS, "the server sent the TLS alert 'decode error'")),
        # others' doing
        (Again.NEVER, Failed(FailureKind.TOO_LARGE, "too large", sent=Sent.ANSWERED)),
        (Again.NEVER, CLIENT_GONE),
        (Again.NEVER, Failed(FailureKind.INTERNAL, "a bug", Blame.WEIR)),
        (Again.NEVER, Failed(FailureKind.TIMEOUT, "no input", Blame.DOWNSTREAM, timer="client_input")),
        (Again.NEVER, REFUSED),
        # a server's fault without an answer
        *((Again.REPEATABLE, status(code)) for code in (500, 502, 503, 504)),
        # proven not to have been carried out
        (Again.UNDONE, status(429, AFTER)),
        (Again.UNDONE, status(429)),
        (Again.UNDONE, Replied(429, [AFTER], b"{}", rpc_error(-32000).verdict)),
        (Again.UNDONE, rpc_error(-32000, http=429)),
        (Again.UNDONE, Failed(FailureKind.TLS, "the server refused the client certificate", is_undone=True)),
        # 503 is sent after the work was done, too
        (Again.REPEATABLE, status(503, AFTER)),
        (Again.REPEATABLE, Replied(503, [AFTER], b"{}", rpc_error(-32000).verdict)),
        (Again.NEVER, rpc_error(-32000, http=503)),
        (Again.REPEATABLE, status(502, AFTER)),
        # a result was carried out, whatever the status says
        *((Again.NEVER, Replied(code, [AFTER], OK.body, OK.verdict)) for code in (429, 500, 503)),
        (Again.NEVER, Replied(429, [AFTER], TOOL_ERROR.body, TOOL_ERROR.verdict)),
        # answered
        (Again.NEVER, OK),
        (Again.NEVER, TOOL_ERROR),
        (Again.READ, rpc_error(-32603)),
        (Again.READ, rpc_error(0)),
        (Again.READ, rpc_error(-32603, http=500)),
        *(
            (Again.NEVER, rpc_error(code))
            for code in (-32601, -32602, -32600, -32700, -32020, -32021, -32022, -32002, -32042, -32800, -32000, -1)
        ),
        *((Again.NEVER, status(code)) for code in (200, 202, 301, 400, 401, 403, 404, 405, 413, 415, 421, 431, 501)),
        # it went down already, whatever it was
        (Again.NEVER, Replied(503, [AFTER], None, NO_ANSWER)),
    ],
)
def test_what_an_outcome_leaves_room_for(expected: Again, outcome: Outcome) -> None:
    """Row by row."""
    assert expected is allowed_again(outcome)


TOOLS = {"safe": "always", "unsafe": "never"}


def hinted(call: Call) -> bool:
    return call.message.name.startswith("hinted")


@pytest.mark.parametrize(
    ("expected", "call"),
    [
        *(
            (Again.READ, call_of(method))
            for method in (
                *("tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read"),
                *("prompts/get", "completion/complete", "tasks/get", "tasks/list", "ping"),
            )
        ),
        *(
            (Again.REPEATABLE, call_of(method))
            for method in ("resources/subscribe", "resources/unsubscribe", "logging/setLevel", "tasks/cancel")
        ),
        (Again.UNSENT, call_of("initialize")),
        (Again.UNSENT, call_of("server/discover")),
        (Again.UNDONE, call_of("tasks/update")),
        (Again.UNDONE, call_of("sampling/createMessage")),
        (Again.UNDONE, call_of("nobody/knows")),
        (Again.UNDONE, tool_call("unknown")),
        (Again.READ, tool_call("safe")),
        (Again.UNDONE, tool_call("unsafe")),
        (Again.REPEATABLE, tool_call("hinted")),
        (Again.UNDONE, call_with(body_of("tools/call", {}))),
        # a leg of a multi-round-trip request
        (Again.UNDONE, call_with(body_of("tools/call", {"name": "safe", "inputResponses": {}}))),
        (Again.UNDONE, call_with(body_of("resources/read", {"uri": "x:y", "requestState": "s"}))),
        # one task is asked for
        (Again.UNDONE, call_with(body_of("tools/call", {"name": "safe", "task": {}}))),
        (Again.UNSENT, call_with(body_of("tools/call", {"name": "hinted", "TASK": {}}))),
        # two readers could read two messages
        (Again.UNSENT, call_with(b'{"id":1,"method":"tools/call","method":"tools/list"}')),
        (Again.UNSENT, call_with(b'{"id":1,"id":2,"method":"tools/list"}')),
    ],
)
def test_what_a_call_needs(expected: Again, call: Call) -> None:
    """By its method; of a tool by the operator's word, else by a trusted hint."""
    assert expected is needs(call, TOOLS, hinted)


def test_the_operators_word_is_above_the_servers_hint() -> None:
    """Never means never."""
    assert Again.UNDONE is needs(tool_call("hinted"), {"hinted": "never"}, hinted)


def test_an_outcome_that_leaves_more_room_leaves_less_too() -> None:
    """The order is what is compared."""
    assert Again.NEVER < Again.READ < Again.REPEATABLE < Again.UNDONE < Again.UNSENT


@pytest.mark.parametrize(
    ("expected", "headers"),
    [
        (None, []),
        (2.0, [AFTER]),
        (0.0, [(b"retry-after", b"0")]),
        (120.0, [(b"retry-after", b" 120 ")]),
        (90.0, [(b"retry-after", b"Sat, 21 Nov 2026 09:01:30 GMT"), DATE]),
        (0.0, [(b"retry-after", b"Sat, 21 Nov 2026 08:00:00 GMT"), DATE]),
        (float("inf"), [(b"retry-after", b"9" * 400)]),
        (None, [(b"retry-after", b"Sat, 21 Nov 2026 09:01:30 GMT")]),
        (None, [(b"retry-after", b"soon"), DATE]),
        (None, [(b"retry-after", b"-1"), DATE]),
        (None, [(b"retry-after", b"1.5"), DATE]),
        (None, [(b"retry-after", b"\xb2")]),
        (None, [(b"retry-after", b"Sat, 99 Nov 2026 09:01:30 GMT"), DATE]),
        (None, [(b"retry-after", b"Sat, 21 Nov 2026 09:01:30 +9999"), DATE]),
        (None, [(b"retry-after", b"Mon, 01 Jan 0001 00:00:00 -0000"), (b"date", b"")]),
    ],
)
def test_what_retry_after_asks_for(expected: float | None, headers: list[tuple[bytes, bytes]]) -> None:
    """Seconds, or a date beside the reply's own: the server's clock against itself. Nonsense asks for nothing."""
    assert expected == retry_after(headers)


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
@pytest.mark.parametrize("date", [b"Sat Nov 21 09:00:30 2026", b"Sat, 21 Nov 2026 09:00:30 -0000"])
def test_a_date_without_a_zone_is_of_greenwich(monkeypatch: pytest.MonkeyPatch, zone: str, date: bytes) -> None:
    """The old form of C names none. Where weir runs has nothing to do with it."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert 30.0 == retry_after([(b"retry-after", date), DATE])
    finally:
        monkeypatch.undo()
        time.tzset()


def test_why_there_is_another_try_is_a_word() -> None:
    """For a span."""
    outcomes = (LOST, status(503), rpc_error(-32603), REFUSED)
    assert ["upstream_reset", "http 503", "error -32603", "overloaded"] == [reason_of(outcome) for outcome in outcomes]
