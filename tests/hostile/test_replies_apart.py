"""A reply's bytes and its head come from one source: whatever it promises, the next caller has its own."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.rawhttp import (
    JSON_POST,
    Exchange,
    Reply,
    ScriptedServer,
    await_head,
    connection,
    post,
    read_chunks,
    request_bytes,
)
from support.weirs import UNTRACED, Config, weir_http

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

RETRY: Config = {"backoff": {"initial": "5ms", "max": "10ms"}, "budget": {"ratio": 1, "min_per_second": 100}}
POLICIES: Config = {
    **UNTRACED,
    "policies": {"retry": RETRY, "hedge": {"mode": "enforce", "after": "50ms"}, "timeout": {"attempt": "300ms"}},
}
EVENTS = (b"Content-Type", b"text/event-stream")
NOTE = b'data: {"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}\n\n'
FORGED = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    """The upstream."""
    async with ScriptedServer() as one:
        yield one


def read(uri: str) -> bytes:
    """A read."""
    body = {"jsonrpc": "2.0", "id": len(uri), "method": "resources/read", "params": {"uri": uri}}
    return json.dumps(body).encode()


def answer(exchange: Exchange, text: str = "") -> bytes:
    """An answer as one event, under the id that was sent."""
    raw_id = json.loads(exchange.request.body)["id"]
    return b"data: " + json.dumps({"jsonrpc": "2.0", "id": raw_id, "result": {"text": text}}).encode() + b"\n\n"


async def one_after_the_other(port: int, *bodies: bytes) -> list[Reply]:
    """Replies on one connection, each read as its head frames it; fewer when weir closes the connection."""
    replies = []
    async with connection(port) as (reader, writer):
        for body in bodies:
            writer.write(request_bytes("POST", "/mcp", JSON_POST, body))
            head = await await_head(reader)
            pieces = [piece async for piece in read_chunks(reader, head, until_close=False)]
            replies.append(Reply(head.line, head.headers, b"".join(pieces)))
    return replies


@pytest.mark.parametrize("config", [UNTRACED, POLICIES], ids=["no policy", "policies"])
@pytest.mark.parametrize("kind", ["answer", "no answer", "foreign id", "half an event", "forged", "digest"])
async def test_a_length_of_events_frames_nothing(
    server: ScriptedServer, tmp_path: Path, kind: str, config: Config
) -> None:
    """The reply is chunked: what weir adds is part of it, and the next call has its own answer."""

    async def script(exchange: Exchange) -> None:
        foreign = b'data: {"jsonrpc":"2.0","id":999,"result":{}}\n\n'
        half = NOTE + b"data: half"
        bodies = {"no answer": NOTE, "foreign id": foreign, "half an event": half}
        body = bodies.get(kind, NOTE + answer(exchange, FORGED.decode() if kind == "forged" else ""))
        digest = [(b"Content-Digest", b"sha-256=:AAAA:")] if kind == "digest" else []
        if b"next" in exchange.request.body:
            body, digest = answer(exchange, "own"), []
        await exchange.reply(200, [EVENTS, *digest], body)

    server.script = script
    with weir_http(tmp_path, {"url": server.url}, config) as weir:
        first, second = await one_after_the_other(weir.port, read("x"), read("next"))
    assert (b"", b"chunked", b"") == (
        first.get(b"content-length"),
        first.get(b"transfer-encoding"),
        first.get(b"content-digest"),
    )
    assert (200, True, 1) == (second.status, b'"own"' in second.body, second.body.count(b'"result"'))
    is_failure = kind in ("no answer", "foreign id", "half an event")
    assert is_failure == (b'"error"' in first.body)


async def test_a_stalled_first_try_gives_no_bytes_to_the_seconds(server: ScriptedServer, tmp_path: Path) -> None:
    """Its head is out, with a length; half an event of it has come. The second try's event is whole."""

    async def script(exchange: Exchange) -> None:
        if len(server.got) == 1:
            head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 400\r\n\r\n"
            await exchange.raw(head + b": hello\n\ndata: {stalled")
            await exchange.gone()
        else:
            await exchange.reply(200, [EVENTS], answer(exchange, FORGED.decode() if len(server.got) == 2 else "own"))

    server.script = script
    config = {**UNTRACED, "policies": {"retry": RETRY, "timeout": {"attempt": "1500ms", "total": "20s"}}}
    with weir_http(tmp_path, {"url": server.url}, config) as weir:
        first, second = await one_after_the_other(weir.port, read("x"), read("next"))
    assert (b"", False, 1) == (first.get(b"content-length"), b"stalled" in first.body, first.body.count(b'"result"'))
    assert (200, True) == (second.status, b'"own"' in second.body)


async def test_a_reply_under_another_id_has_no_digest_of_the_first(server: ScriptedServer, tmp_path: Path) -> None:
    """weir restores the caller's id, so the server's digest and length hold no more."""

    async def script(exchange: Exchange) -> None:
        if len(server.got) == 1:
            exchange.abort()
            return
        body = answer(exchange)[6:].strip()
        headers = [(b"Content-Digest", b"sha-256=:AAAA:"), (b"Content-MD5", b"AAAA"), (b"X-Kept", b"1")]
        await exchange.json(body, headers=headers)

    server.script = script
    with weir_http(tmp_path, {"url": server.url}, {**UNTRACED, "policies": {"retry": RETRY}}) as weir:
        reply = await post(weir.port, read("x"))
    assert 1 == json.loads(reply.body)["id"]
    assert (b"", b"", b"1") == tuple(reply.get(name) for name in (b"content-digest", b"content-md5", b"x-kept"))
    assert str(len(reply.body)).encode() == reply.get(b"content-length")
