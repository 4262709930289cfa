"""Replies in content codings and character sets, to a client on a pipe, which has neither, and to one over HTTP."""

import asyncio
import gzip
import json
import zlib
from pathlib import Path

import pytest

from support.limits import HANG_SECONDS
from support.rawhttp import Exchange, ScriptedServer, post
from support.talking import CALL, ask, leave
from support.weirs import weir_http, weir_stdio
from weir.protocol import sse

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

CAFE = {"jsonrpc": "2.0", "id": 1, "result": {"text": "café"}}
PLAIN = {"jsonrpc": "2.0", "id": 1, "result": {"text": "cafe"}}
ASCII = json.dumps(CAFE).encode()
UTF_8 = json.dumps(CAFE, ensure_ascii=False).encode()
EVENT = sse.encode(UTF_8)
LARGE = json.dumps({**CAFE, "result": "x" * 6_000_000}).encode()


def raw_deflate(text: bytes) -> bytes:
    """Deflate without the wrapper that the standard asks for."""
    machine = zlib.compressobj(wbits=-15)
    return machine.compress(text) + machine.flush()


READABLE = {
    "gzip": ("application/json", "gzip", gzip.compress(UTF_8)),
    "gzip of events": ("text/event-stream", "gzip", gzip.compress(EVENT)),
    "x-gzip of events": ("text/event-stream; charset=UTF-8", "X-GZIP", gzip.compress(EVENT)),
    "deflate of events": ("text/event-stream", "deflate", zlib.compress(EVENT)),
    "raw deflate of events": ("text/event-stream", "deflate", raw_deflate(EVENT)),
    "identity": ("application/json; charset=utf-8", "identity", UTF_8),
    "quoted charset": ('application/json; charset="UTF-8"', "", UTF_8),
    "ASCII in a foreign charset": ("application/json;charset=ISO-8859-1", "", ASCII),
    "ASCII events in a foreign charset": (
        "text/event-stream;charset=iso-8859-1",
        "",
        sse.encode(json.dumps(CAFE).encode()),
    ),
}
UNREADABLE = {
    "br": ("application/json", "br", b"\x8b\x05\x80" + UTF_8, "content coding 'br', which weir cannot read"),
    "zstd of events": ("text/event-stream", "zstd", EVENT, "content coding 'zstd', which weir cannot read"),
    "two codings": ("application/json", "gzip, br", UTF_8, "content coding 'gzip, br', which weir cannot read"),
    "broken gzip": ("application/json", "gzip", UTF_8, "content coding 'gzip', which is broken"),
    "cut gzip": ("application/json", "gzip", gzip.compress(UTF_8)[:-9], "content coding 'gzip', which is broken"),
    "broken gzip of events": ("text/event-stream", "gzip", EVENT, "content coding 'gzip', which is broken"),
    "latin-1": ("application/json; charset=ISO-8859-1", "", UTF_8.decode().encode("latin-1"), "set 'iso-8859-1'"),
    "utf-16": ("application/json; charset=utf-16", "", json.dumps(PLAIN).encode("utf-16-le"), "set 'utf-16'"),
    "latin-1 events": (
        'text/event-stream; charset="latin1"',
        "",
        EVENT.decode().encode("latin-1"),
        "set 'latin1'; JSON-RPC is in UTF-8",
    ),
}


class Encoding:
    """Answers each request with one body in one coding."""

    def __init__(self, server: ScriptedServer) -> None:
        self.reply: tuple[str, str, bytes] = ("", "", b"")
        self.status = 200
        server.script = self.answer

    async def answer(self, exchange: Exchange) -> None:
        """Whole, whatever it is."""
        kind, coding, body = self.reply
        headers = [(b"Content-Type", kind.encode()), *([(b"Content-Encoding", coding.encode())] if coding else [])]
        await exchange.reply(self.status, headers, body)


async def test_what_can_be_decoded_reaches_a_client_on_a_pipe(server: ScriptedServer, tmp_path: Path) -> None:
    encoding = Encoding(server)
    with weir_stdio(tmp_path, {"url": server.url}) as weir:
        for encoding.reply in READABLE.values():
            assert CAFE == await ask(weir, CALL)
        encoding.reply = ("application/json", "gzip", gzip.compress(LARGE))
        assert 6_000_000 == len((await ask(weir, CALL))["result"])
        await leave(weir)
    assert {b"identity"} == {request.get(b"accept-encoding") for request in server.got}


async def test_what_cannot_be_read_is_an_error_that_says_why(server: ScriptedServer, tmp_path: Path) -> None:
    encoding = Encoding(server)
    with weir_stdio(tmp_path, {"url": server.url}) as weir:
        for kind, coding, body, why in UNREADABLE.values():
            encoding.reply = (kind, coding, body)
            error = (await ask(weir, CALL))["error"]
            assert why in error["message"]
            assert ("upstream_protocol_error", "upstream", True) == tuple(
                error["data"][name] for name in ("reason", "blame", "sent")
            )
        assert why in (await ask(weir, CALL))["error"]["message"]
        encoding.status = 503
        encoding.reply = UNREADABLE["br"][:3]
        assert "HTTP 503" in (await ask(weir, CALL))["error"]["message"]
        encoding.reply = ("text/html; charset=iso-8859-1", "", b"<h1>caf\xe9</h1>")
        assert "HTTP 503" in (await ask(weir, CALL))["error"]["message"]
        encoding.status = 200
        assert "answered with text/html instead of JSON" in (await ask(weir, CALL))["error"]["message"]
        await leave(weir)


async def test_events_are_inflated_as_they_come(server: ScriptedServer, tmp_path: Path) -> None:
    """A flushed event is a message at once, and not at the end of the stream."""
    may_end = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        machine = zlib.compressobj(wbits=31)
        progress = b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}'
        await exchange.open(200, [(b"Content-Type", b"text/event-stream"), (b"Content-Encoding", b"gzip")])
        await exchange.write(machine.compress(sse.encode(progress)) + machine.flush(zlib.Z_SYNC_FLUSH))
        await may_end.wait()
        await exchange.write(machine.compress(EVENT) + machine.flush())
        await exchange.end()

    server.script = script
    with weir_stdio(tmp_path, {"url": server.url}) as weir:
        assert "notifications/progress" == (await ask(weir, CALL))["method"]
        may_end.set()
        async with asyncio.timeout(HANG_SECONDS):
            assert CAFE == json.loads(await asyncio.to_thread(weir.stdout.readline))
        await leave(weir)


async def test_a_client_over_http_gets_the_bytes_as_they_are(server: ScriptedServer, tmp_path: Path) -> None:
    encoding = Encoding(server)
    with weir_http(tmp_path, {"url": server.url}) as weir:
        for encoding.reply in [*READABLE.values(), *(each[:3] for each in UNREADABLE.values())]:
            kind, coding, body = encoding.reply
            if coding or "charset" not in kind:
                reply = await post(weir.port, CALL)
                assert (coding.encode(), body) == (reply.get(b"content-encoding"), reply.body)
