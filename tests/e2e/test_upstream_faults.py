"""An upstream that misbehaves: each fault gives the caller one clear answer under its own id, and never a hang."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.processes import Running, free_port
from support.rawhttp import Exchange, Headers, NoReplyError, Reply, Script, ScriptedServer, ask, post
from support.weirs import UNTRACED, weir_http
from weir.protocol.sse import Splitter

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

SSE: Headers = [(b"content-type", b"text/event-stream")]
IDS = [b"7", b'"7"', b'"a-\\u00e9-1"', b"1152921504606846976", b"-1"]
PROGRESS = b'event: message\ndata: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1}}\n\n'


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One loop for the module's server."""
    return "asyncio"


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[ScriptedServer]:
    """The upstream."""
    async with ScriptedServer() as one:
        yield one


@pytest.fixture(scope="module")
def weir(server: ScriptedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """weir that waits one second for a silent upstream; otherwise only what is always on."""
    config = {**UNTRACED, "policies": {"timeout": {"idle": "1s"}}}
    with weir_http(tmp_path_factory.mktemp("weir"), {"url": server.url}, config) as one:
        yield one


def call(identity: bytes = b"7", method: bytes = b"tools/call") -> bytes:
    """A request with that id."""
    return b'{"jsonrpc":"2.0","id":%b,"method":"%b","params":{"name":"echo"}}' % (identity, method)


def assert_failed(reply: Reply, identity: bytes, statuses: tuple[int, ...]) -> dict[str, Any]:
    """The reply is weir's error in its documented shape; gives `error.data`."""
    assert (reply.status in statuses, b"application/json") == (True, reply.get(b"content-type")), reply
    return assert_error(reply.body, identity)


def assert_error(body: bytes, identity: bytes) -> dict[str, Any]:
    """The body is a JSON-RPC error with exactly that id text and weir's data."""
    assert b'"id":' + identity in body
    error = json.loads(body)["error"]
    assert not -32768 <= error["code"] <= -32000
    assert "\n" not in error["message"]
    assert "one" == error["data"]["upstream"]
    assert error["data"]["blame"] == "upstream"
    data: dict[str, Any] = error["data"]
    return data


async def closes(exchange: Exchange) -> None:
    """No reply at all."""
    exchange.abort()


async def ends_within_the_head(exchange: Exchange) -> None:
    """A head without its end."""
    await exchange.raw(b"HTTP/1.1 200 OK\r\ncontent-ty")
    exchange.writer.close()


async def ends_within_the_body(exchange: Exchange) -> None:
    """Less than was promised."""
    await exchange.raw(b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{"jsonr')
    exchange.writer.close()


async def ends_within_a_chunk(exchange: Exchange) -> None:
    """A chunk without its end."""
    await exchange.raw(
        b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nff\r\n{"js'
    )
    exchange.writer.close()


async def speaks_no_http(exchange: Exchange) -> None:
    """Another protocol altogether."""
    await exchange.raw(b"220 mail.example ESMTP\r\n\r\n")


async def sends_an_endless_head(exchange: Exchange) -> None:
    """A head over the cap."""
    await exchange.raw(b"HTTP/1.1 200 OK\r\n" + b"x-pad: " + b"x" * 200_000 + b"\r\n\r\n")


async def answers_another(exchange: Exchange) -> None:
    """A result under an id nobody used."""
    await exchange.json(b'{"jsonrpc":"2.0","id":"foreign","result":{}}')


async def sends_no_json(exchange: Exchange) -> None:
    """A result that is none."""
    await exchange.json(b"<html>oops</html>")


async def says_nothing(exchange: Exchange) -> None:
    """A success without a word."""
    await exchange.json(b"")


async def says_blanks(exchange: Exchange) -> None:
    """A success of blanks."""
    await exchange.json(b" \r\n")


async def accepts_only(exchange: Exchange) -> None:
    """As if it were a notification."""
    await exchange.reply(202)


async def streams_nothing(exchange: Exchange) -> None:
    """A stream that ends without an event."""
    await exchange.open(200, SSE)
    await exchange.end()


async def stalls(exchange: Exchange) -> None:
    """Takes the request and says nothing."""
    await exchange.gone()


async def stalls_within_the_body(exchange: Exchange) -> None:
    """Stops in the middle of a reply."""
    await exchange.raw(b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{"jsonr')
    await exchange.gone()


BROKEN: list[tuple[Script, tuple[int, ...], set[str]]] = [
    (closes, (502,), {"upstream_reset"}),
    (ends_within_the_head, (502,), {"upstream_reset", "upstream_protocol_error"}),
    (ends_within_the_body, (502,), {"upstream_reset"}),
    (ends_within_a_chunk, (502,), {"upstream_reset"}),
    (speaks_no_http, (502,), {"upstream_protocol_error"}),
    (sends_an_endless_head, (502,), {"upstream_protocol_error"}),
    (answers_another, (502,), {"upstream_protocol_error"}),
    (sends_no_json, (502,), {"upstream_protocol_error"}),
    (says_nothing, (502,), {"upstream_protocol_error"}),
    (says_blanks, (502,), {"upstream_protocol_error"}),
    (accepts_only, (502,), {"upstream_protocol_error"}),
    (stalls, (504,), {"upstream_timeout"}),
    (stalls_within_the_body, (504,), {"upstream_timeout"}),
]


@pytest.mark.parametrize("identity", IDS[:2])
@pytest.mark.parametrize(("script", "statuses", "reasons"), BROKEN, ids=lambda value: getattr(value, "__name__", ""))
async def test_a_fault_before_an_answer_is_one_clear_error(
    server: ScriptedServer, weir: Running, script: Script, statuses: tuple[int, ...], reasons: set[str], identity: bytes
) -> None:
    """The id keeps its JSON type, the reason is from the closed list."""
    server.script = script
    data = assert_failed(await post(weir.port, call(identity)), identity, statuses)
    assert data["reason"] in reasons


@pytest.mark.parametrize("status", [200, 202, 204])
async def test_a_notification_may_be_answered_with_nothing(server: ScriptedServer, weir: Running, status: int) -> None:
    """It asks for no answer, and passes as the server said it."""

    async def accepts(exchange: Exchange) -> None:
        await exchange.reply(status)

    server.script = accepts
    reply = await post(weir.port, b'{"jsonrpc":"2.0","method":"notifications/initialized"}')
    assert (status, b"") == (reply.status, reply.body)


@pytest.mark.parametrize("identity", IDS)
async def test_a_server_that_is_not_there_is_a_502(tmp_path: Path, identity: bytes) -> None:
    """Nothing was sent, and the answer says so."""
    with weir_http(tmp_path, {"url": f"http://127.0.0.1:{free_port()}/mcp"}) as weir:
        data = assert_failed(await post(weir.port, call(identity)), identity, (502,))
    assert ("upstream_connect_error", False) == (data["reason"], data["sent"])


async def breaks_off_the_stream(exchange: Exchange) -> None:
    """One event, then the connection is cut."""
    await exchange.open(200, SSE)
    await exchange.write(PROGRESS)
    exchange.writer.close()


async def stalls_in_the_stream(exchange: Exchange) -> None:
    """One event, then silence."""
    await exchange.open(200, SSE)
    await exchange.write(PROGRESS)
    await exchange.gone()


async def ends_the_stream_unanswered(exchange: Exchange) -> None:
    """One event, a proper end, no answer."""
    await exchange.open(200, SSE)
    await exchange.write(PROGRESS)
    await exchange.end()


async def breaks_off_within_an_event(exchange: Exchange) -> None:
    """The first half of a second event, then the connection is cut."""
    await exchange.open(200, SSE)
    await exchange.write(PROGRESS + b'event: message\ndata: {"jsonrpc":"2.0","id":7,"res')
    exchange.writer.close()


async def ends_without_the_last_blank_line(exchange: Exchange) -> None:
    """The answer, but by the format's own rule it was never sent: clients drop an event without its blank line."""
    await exchange.open(200, SSE)
    await exchange.write(PROGRESS + b'event: message\ndata: {"jsonrpc":"2.0","id":7,"result":{}}\n')
    await exchange.end()


async def breaks_off_within_a_large_event(exchange: Exchange) -> None:
    """More of it than is held back, so that some has gone on to the client."""
    await exchange.open(200, SSE)
    await exchange.write(PROGRESS + b'event: message\ndata: {"jsonrpc":"2.0","id":7,"result":{"x":"')
    await exchange.write(b"x" * (5 * 1024 * 1024))
    exchange.writer.close()


async def stalls_within_a_large_event(exchange: Exchange) -> None:
    """The same, and silence."""
    await exchange.open(200, SSE)
    await exchange.write(PROGRESS + b'event: message\ndata: {"jsonrpc":"2.0","id":7,"result":{"x":"')
    await exchange.write(b"x" * (5 * 1024 * 1024))
    await exchange.gone()


@pytest.mark.parametrize(
    "script",
    [
        breaks_off_the_stream,
        stalls_in_the_stream,
        ends_the_stream_unanswered,
        breaks_off_within_an_event,
        ends_without_the_last_blank_line,
        breaks_off_within_a_large_event,
        stalls_within_a_large_event,
    ],
    ids=lambda f: f.__name__,
)
async def test_a_fault_after_an_event_ends_the_stream_with_the_error(
    server: ScriptedServer, weir: Running, script: Script
) -> None:
    """What had arrived stays; the error comes as the stream's last message, under the request's id.

    Whatever was begun before it ends first: the error is an event of its own.
    """
    server.script = script
    reply = await post(weir.port, call())
    assert (200, True) == (reply.status, reply.body.startswith(PROGRESS))
    *_, last = [event for event in Splitter(len(reply.body)).feed(reply.body) if event.data]
    assert_error(last.data or b"", b"7")


async def test_a_stream_that_ended_after_an_event_id_is_left_alone(server: ScriptedServer, weir: Running) -> None:
    """2025-11-25 polling: the client comes back with Last-Event-ID, so weir adds nothing."""
    stream = b"id: 1\nretry: 10\ndata: \n\n"

    async def polls(exchange: Exchange) -> None:
        await exchange.open(200, SSE)
        await exchange.write(stream)
        await exchange.end()

    server.script = polls
    reply = await post(weir.port, call(), [(b"MCP-Protocol-Version", b"2025-11-25")])
    assert (200, stream) == (reply.status, reply.body)


async def test_a_stream_without_an_event_fails_as_a_reply_does(server: ScriptedServer, weir: Running) -> None:
    """Nothing was relayed yet: an error status, or the error as the stream's only message."""
    server.script = streams_nothing
    reply = await post(weir.port, call())
    if reply.status == 200:
        assert_error(reply.body.split(b"data:")[1].strip(), b"7")
    else:
        assert_failed(reply, b"7", (502,))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_passed_on_and_not_followed(server: ScriptedServer, weir: Running, status: int) -> None:
    """Where to go is the client's decision."""

    async def redirects(exchange: Exchange) -> None:
        await exchange.reply(status, [(b"location", b"http://127.0.0.1:1/elsewhere")])

    server.script = redirects
    seen = len(server.got)
    reply = await post(weir.port, call())
    assert (status, b"http://127.0.0.1:1/elsewhere", seen + 1) == (
        reply.status,
        reply.get(b"location"),
        len(server.got),
    )


@pytest.mark.parametrize("status", [400, 401, 403, 404, 406, 429, 500, 503])
@pytest.mark.parametrize("body", [b"", b"<html>no</html>", b'{"jsonrpc":"2.0","id":null,"error":{"code":-1}}'])
async def test_an_error_reply_of_the_server_is_the_servers(
    server: ScriptedServer, weir: Running, status: int, body: bytes
) -> None:
    """weir does not dress up what the server said, whatever it is."""

    async def refuses(exchange: Exchange) -> None:
        await exchange.reply(status, [(b"content-type", b"text/html"), (b"retry-after", b"3")], body)

    server.script = refuses
    reply = await post(weir.port, call())
    assert (status, body, b"3") == (reply.status, reply.body, reply.get(b"retry-after"))


async def test_a_get_stream_that_the_server_breaks_off_is_broken_off(server: ScriptedServer, weir: Running) -> None:
    """An orderly end would claim that the server had ended it."""

    async def comments_then_breaks(exchange: Exchange) -> None:
        await exchange.open(200, SSE)
        await exchange.write(b": here\n\n")
        exchange.abort()

    server.script = comments_then_breaks
    async with ask(weir.port, "GET", "/mcp", [(b"Accept", b"text/event-stream")]) as answer:
        with pytest.raises(NoReplyError):
            await answer.rest()


async def test_a_stale_connection_is_not_used_for_the_next_call(server: ScriptedServer, weir: Running) -> None:
    """A server that closes after each reply is asked again on a new connection, without an error between."""

    async def answers_and_closes(exchange: Exchange) -> None:
        await exchange.json(b'{"jsonrpc":"2.0","id":7,"result":{}}')
        exchange.writer.close()

    server.script = answers_and_closes
    statuses = [(await post(weir.port, call())).status for _ in range(20)]
    assert [200] * 20 == statuses
