"""Outcomes that are no reply, as a client reads them. These literals are promises: programs parse them."""

import json

import pytest

from weir.core.call import Call, Headers, Peer, Transport
from weir.core.outcome import Blame, Failed, FailureKind, RefusalKind, Refused, Sent
from weir.downstream.rescue import rescue
from weir.protocol.envelope import peek


class Nowhere:
    """A sink for calls that never stream."""

    async def open(self, status: int, headers: Headers) -> None: ...

    async def write(self, chunk: bytes) -> None: ...


def call(body: bytes) -> Call:
    return Call(
        upstream="files",
        peer=Peer(Transport.HTTP),
        sink=Nowhere(),
        received_at=0.0,
        body=body,
        message=peek(body),
    )


REQUEST = b'{"jsonrpc":"2.0","id":"7","method":"tools/call","params":{"name":"read"}}'


def test_an_unreachable_upstream_is_502_and_says_that_nothing_was_sent() -> None:
    """The caller may try again: the text and the data both say so."""
    reply = rescue(Failed(FailureKind.CONNECT, "no connection to 127.0.0.1:9 within 5 s", sent=Sent.NO), call(REQUEST))
    assert (502, [(b"content-type", b"application/json")]) == (reply.status, reply.headers)
    assert {
        "jsonrpc": "2.0",
        "id": "7",
        "error": {
            "code": -33502,
            "message": "MCP server 'files': no connection to 127.0.0.1:9 within 5 s. "
            "The request was not sent; it can be tried again.",
            "data": {
                "reason": "upstream_connect_error",
                "upstream": "files",
                "blame": "upstream",
                "sent": False,
            },
        },
    } == json.loads(reply.body or b"")


def test_a_timer_is_504_and_names_itself() -> None:
    """Users of other proxies cannot tell which limit fired; here the error says."""
    failed = Failed(FailureKind.TIMEOUT, "no byte for 300 s", timer="idle", after_seconds=300.0)
    reply = rescue(failed, call(REQUEST))
    error = json.loads(reply.body or b"")["error"]
    assert (504, -33504, "idle", 300_000) == (
        reply.status,
        error["code"],
        error["data"]["timer"],
        error["data"]["afterMs"],
    )


@pytest.mark.parametrize(("expected", "timer"), [(504, "attempt"), (502, "")])
def test_an_outcome_that_nobody_knows_has_the_status_of_its_cause(expected: int, timer: str) -> None:
    """A limit that ran out is 504 and named; a connection that was lost is 502."""
    failed = Failed(FailureKind.OUTCOME_UNKNOWN, "x", timer=timer, after_seconds=1.5 if timer else 0.0)
    reply = rescue(failed, call(REQUEST))
    error = json.loads(reply.body or b"")["error"]
    assert (expected, -33000 - expected, "outcome_unknown") == (reply.status, error["code"], error["data"]["reason"])
    assert (timer, 1500 if timer else 0) == (error["data"].get("timer", ""), error["data"].get("afterMs", 0))


def test_a_refusal_says_when_to_come_back_in_header_text_and_data() -> None:
    """Seconds are rounded up for people and headers, milliseconds are exact."""
    refused = Refused(RefusalKind.RATE_LIMITED, "Too many calls of this tool.", "tool", retry_after_seconds=1.25)
    reply = rescue(refused, call(REQUEST))
    error = json.loads(reply.body or b"")["error"]
    assert 429 == reply.status
    assert (b"retry-after", b"2") in reply.headers
    assert "Too many calls of this tool. Try again in 2 s." == error["message"]
    assert {
        "reason": "rate_limited",
        "upstream": "files",
        "blame": "downstream",
        "scope": "tool",
        "retryAfterMs": 1250,
    } == error["data"]


def test_the_id_keeps_its_json_text() -> None:
    """A number beyond 2^53, a string that looks like a number, a fraction: all come back as they were."""
    for raw in (b"1152921504606846976", b'"7"', b"1.0", b"null"):
        body = b'{"jsonrpc":"2.0","id":' + raw + b',"method":"ping"}'
        reply = rescue(Failed(FailureKind.RESET, "the connection was lost"), call(body))
        assert b'"id":' + raw + b"," in (reply.body or b"")


def test_a_batch_gets_one_error_for_each_request_in_it() -> None:
    """Notifications in a batch have no id and get no answer."""
    batch = (
        b'[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","method":"notifications/initialized"},'
        b'{"jsonrpc":"2.0","id":"b","method":"tools/list"}]'
    )
    reply = rescue(Failed(FailureKind.EXITED, "exited with code 3"), call(batch))
    assert [1, "b"] == [member["id"] for member in json.loads(reply.body or b"")]


def test_what_cannot_be_parsed_is_a_parse_error_with_a_null_id() -> None:
    """JSON-RPC 2.0 §5.1 has its own code for this."""
    reply = rescue(Refused(RefusalKind.BAD_MESSAGE, "The body is not JSON."), call(b"{nonsense"))
    answer = json.loads(reply.body or b"")
    assert (400, None, -32700) == (reply.status, answer["id"], answer["error"]["code"])


@pytest.mark.parametrize("kind", list(FailureKind))
@pytest.mark.parametrize("blame", list(Blame))
def test_no_code_lies_in_a_reserved_range(kind: FailureKind, blame: Blame) -> None:
    """-32768..-32000 belongs to JSON-RPC and MCP."""
    error = json.loads(rescue(Failed(kind, "x", blame), call(REQUEST)).body or b"")["error"]
    assert not -32768 <= error["code"] <= -32000


@pytest.mark.parametrize("kind", list(RefusalKind))
def test_every_refusal_is_one_line_of_text(kind: RefusalKind) -> None:
    """A language model reads it inside other text."""
    error = json.loads(rescue(Refused(kind, "No."), call(REQUEST)).body or b"")["error"]
    assert "\n" not in error["message"]
    assert not -32768 <= error["code"] <= -32000
