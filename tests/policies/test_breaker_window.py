"""What counts for the breaker, and how it is counted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.policed import (
    ACCEPTED,
    CLIENT_GONE,
    LATE,
    LOST,
    OK,
    REFUSED,
    TOOL_ERROR,
    UNREACHED,
    attempt_of,
    call_of,
    call_with,
    rpc_error,
    status,
    tool_call,
)
from weir.core.outcome import NO_ANSWER, Blame, Failed, FailureKind, Outcome, Replied, Sent
from weir.policies.breaker_window import SLICES, TRACES_KEPT, Reading, Sign, Window, is_unreached, sign_of

NOTIFICATION = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'


@pytest.mark.parametrize(
    "outcome",
    [
        UNREACHED,
        LOST,
        LATE,
        Failed(FailureKind.TLS, "bad certificate"),
        Failed(FailureKind.EXITED, "the server exited"),
        Failed(FailureKind.PROTOCOL, "nonsense"),
        *(status(code) for code in (500, 502, 503, 504)),
        rpc_error(-32603),
        rpc_error(0),
        rpc_error(-32603, http=500),
    ],
)
def test_what_the_upstream_did_wrong_is_a_failure(outcome: Outcome) -> None:
    """Not reached, broken off, too late, a server's fault with no answer, an internal error."""
    assert Sign.FAILURE is sign_of(attempt_of(tool_call()), outcome)


@pytest.mark.parametrize(
    "outcome",
    [
        Failed(FailureKind.EXITED, "the server had exited", sent=Sent.NO),
        REFUSED,
        CLIENT_GONE,
        Failed(FailureKind.CANCELLED, "cancelled"),
        Failed(FailureKind.INTERNAL, "a bug in weir", Blame.WEIR),
        Failed(FailureKind.TIMEOUT, "the client did not answer", Blame.DOWNSTREAM, timer="client_input"),
        *(status(code) for code in (301, 400, 401, 403, 404, 405, 406, 413, 415, 421, 429, 431, 501)),
        *(
            rpc_error(code)
            for code in (-32601, -32602, -32600, -32700, -32020, -32021, -32022, -32002, -32042, -32800, -32000, 1)
        ),
        *(rpc_error(-32603, http=code) for code in (401, 403, 404, 429)),
        rpc_error(-32000, http=503),
    ],
)
def test_what_others_did_says_nothing(outcome: Outcome) -> None:
    """Callers' mistakes, authorization, throttling, cancellation, weir's own refusals and bugs."""
    assert Sign.NOTHING is sign_of(attempt_of(tool_call()), outcome)


@pytest.mark.parametrize("outcome", [OK, status(200), status(202), Replied(200, [], None, NO_ANSWER)])
def test_an_answer_or_a_promise_of_one_is_a_success(outcome: Outcome) -> None:
    """A stream that ended after an event id is to be polled."""
    assert Sign.SUCCESS is sign_of(attempt_of(tool_call()), outcome)


def test_the_error_of_a_tool_is_read_by_itself() -> None:
    """Transport and server were well."""
    assert Sign.TOOL_ERROR is sign_of(attempt_of(tool_call()), TOOL_ERROR)


@pytest.mark.parametrize(("code", "expected"), [(199, Sign.NOTHING), (299, Sign.SUCCESS), (300, Sign.NOTHING)])
def test_only_a_success_of_http_is_a_promise(code: int, expected: Sign) -> None:
    """All of 2xx."""
    assert expected is sign_of(attempt_of(tool_call()), status(code))


def test_a_taken_notification_says_nothing_and_a_failed_one_does() -> None:
    """202 says that it arrived, not that anything was done."""
    attempt = attempt_of(call_with(NOTIFICATION))
    assert [Sign.NOTHING, Sign.FAILURE, Sign.FAILURE] == [
        sign_of(attempt, o) for o in (ACCEPTED, UNREACHED, status(502))
    ]


def test_a_stream_counts_until_it_has_begun() -> None:
    """A server that restarts cuts all of them at once, which is one event and not a hundred."""
    for call in (call_with(verb=b"GET"), call_of("subscriptions/listen")):
        attempt = attempt_of(call)
        assert Sign.FAILURE is sign_of(attempt, LOST)
        attempt.first_byte_at = 1.0
        assert Sign.NOTHING is sign_of(attempt, LOST)
    attempt = attempt_of(tool_call())
    attempt.first_byte_at = 1.0
    assert Sign.FAILURE is sign_of(attempt, LOST)


def test_a_total_that_was_spent_elsewhere_says_nothing() -> None:
    """Unless the time went into reaching the server."""
    attempt = attempt_of(tool_call())
    spent = Failed(FailureKind.TIMEOUT, "no answer", sent=Sent.NO, timer="total", after_seconds=5.0)
    assert Sign.NOTHING is sign_of(attempt, spent)
    attempt.connect_seconds = 2.0
    assert Sign.FAILURE is sign_of(attempt, spent)
    attempt.connect_seconds = 0.0
    assert Sign.FAILURE is sign_of(attempt, Failed(FailureKind.TIMEOUT, "no answer", sent=Sent.YES, timer="total"))
    assert Sign.FAILURE is sign_of(attempt, Failed(FailureKind.TIMEOUT, "no answer", sent=Sent.NO, timer="attempt"))


def test_unreached_is_what_never_met_the_server() -> None:
    """TLS is part of reaching it."""
    tls = Failed(FailureKind.TLS, "bad certificate")
    assert [True, True, False, False] == [is_unreached(outcome) for outcome in (UNREACHED, tls, LOST, OK)]


def test_a_window_counts_each_kind() -> None:
    """A slow failure is both."""
    window = Window(30.0)
    for reading in (
        Reading(Sign.SUCCESS),
        Reading(Sign.FAILURE, is_slow=True),
        Reading(Sign.TOOL_ERROR),
        Reading(Sign.SUCCESS, is_slow=True),
    ):
        window.add(reading, 1000.0)
    assert (4, 1, 1, 2) == (window.calls, window.failures, window.tool_errors, window.slow)
    window.clear()
    assert (0, 0, 0, 0) == (window.calls, window.failures, window.tool_errors, window.slow)


def test_a_window_names_the_last_traces_of_each_kind() -> None:
    """Newest last; what is not traced is not named."""
    window = Window(30.0)
    for number in range(TRACES_KEPT + 2):
        window.add(Reading(Sign.FAILURE, trace_id=f"f{number}"), 1000.0)
    window.add(Reading(Sign.FAILURE), 1000.0)
    window.add(Reading(Sign.TOOL_ERROR, is_slow=True, trace_id="t"), 1000.0)
    window.add(Reading(Sign.SUCCESS, trace_id="s"), 1000.0)
    assert ("f2", "f3", "f4", "f5", "f6") == window.traces("failure")
    assert (("t",), ("t",), ()) == (window.traces("tool_error"), window.traces("slow"), window.traces("success"))
    window.clear()
    assert () == window.traces("failure")


@given(
    st.lists(
        st.tuples(st.floats(0.0, 20.0), st.sampled_from(list(Sign)[1:]), st.booleans()),
        min_size=1,
        max_size=80,
    )
)
def test_a_window_holds_nine_tenths_at_least_and_the_whole_at_most(events: list[tuple[float, Sign, bool]]) -> None:
    """Of each kind, whatever the pauses."""
    seconds, now, past = 30.0, 1000.0, []
    window = Window(seconds)
    for pause, sign, is_slow in events:
        now += pause
        window.add(Reading(sign, is_slow), now)
        past.append((now, sign, is_slow))
        whole = [event for event in past if event[0] > now - seconds]
        sure = [event for event in past if event[0] > now - seconds * (SLICES - 1) / SLICES]
        for count, wanted in (
            (window.calls, set(Sign)),
            (window.failures, {Sign.FAILURE}),
            (window.tool_errors, {Sign.TOOL_ERROR}),
        ):
            assert sum(e[1] in wanted for e in sure) <= count <= sum(e[1] in wanted for e in whole)
        assert sum(e[2] for e in sure) <= window.slow <= sum(e[2] for e in whole)


def test_a_window_stands_when_a_report_is_older_than_the_last() -> None:
    """Two clocks of one process may differ by the time between their readings."""
    window = Window(30.0)
    window.add(Reading(Sign.SUCCESS), 1003.0)
    window.add(Reading(Sign.FAILURE), 1002.9)
    assert (2, 1) == (window.calls, window.failures)
