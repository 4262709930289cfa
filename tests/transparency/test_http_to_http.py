"""HTTP exchanges direct and through weir: what the server gets and what the client gets is the same, to the byte.

Differences that are weir's by design, and all of them: Host names the server dialled; Accept-Encoding is identity, so
that a reply can be read; headers of one hop end there; with traces on, three keys of `params._meta` and three headers;
with deadlines, one of each; with retries, a read that failed is asked again.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from support.limits import HANG_SECONDS
from support.processes import Running
from support.rawhttp import Headers, Reply, Request, ScriptedServer, fetch
from support.weirs import GENEROUS, UNTRACED, Config, weir_http
from transparency.exchanges import BODIES, NO_ANSWER, REPLIES, REQUESTS, Said
from transparency.headers import end_to_end
from transparency.spans import TRACE_KEYS, without_keys, without_meta

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

TRACED: Config = {"telemetry": {"traces": {"exporter": "console"}}}
CONFIGS = {"untraced": UNTRACED, "traced": TRACED, "policed": {**UNTRACED, **GENEROUS}}
WEIRS_OWN = {b"host", b"accept-encoding"}
ADDED: dict[str, set[bytes]] = {
    "untraced": set(),
    "traced": {key.encode() for key in TRACE_KEYS},
    "policed": {b"weir-deadline-ms"},
}
"""Headers whose keys stand in `params._meta` too."""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One loop for the module's server."""
    return "asyncio"


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[ScriptedServer]:
    """The upstream."""
    async with ScriptedServer() as one:
        yield one


@pytest.fixture(scope="module", params=CONFIGS)
def tracing(request: pytest.FixtureRequest) -> str:
    """With traces off and on, and with every policy."""
    return str(request.param)


@pytest.fixture(scope="module")
def weir(server: ScriptedServer, tracing: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """weir before it."""
    with weir_http(tmp_path_factory.mktemp("weir"), {"url": server.url}, CONFIGS[tracing]) as one:
        yield one


@dataclass(frozen=True)
class Observed:
    """What both ends got."""

    request: Request
    reply: Reply


async def observe(server: ScriptedServer, port: int, said: Said, tries: int = 1) -> Observed:
    """One exchange, seen from both ends. `tries`: how often at most the server is asked."""
    server.script = said.answer
    server.got.clear()
    async with asyncio.timeout(HANG_SECONDS):
        reply = await fetch(port, said.verb, f"/mcp{said.query}", said.headers, said.body)
    assert [] == server.errors
    assert 1 <= len(server.got) <= tries
    return Observed(server.got[0], reply)


def comparable(headers: Headers, ignored: set[bytes]) -> list[tuple[bytes, bytes]]:
    """End-to-end headers, in an order that does not depend on where weir put them among the others."""
    kept = [pair for pair in end_to_end(headers) if pair[0] not in ignored]
    return sorted(kept, key=lambda pair: pair[0])


async def assert_same(server: ScriptedServer, weir: Running, tracing: str, said: Said) -> None:
    """Direct and through weir, at both ends."""
    direct = await observe(server, server.port, said)
    through = await observe(server, weir.port, said, tries=3 if tracing == "policed" else 1)
    assert_same_request(direct.request, through.request, ADDED[tracing])
    assert (direct.reply.status, direct.reply.body) == (through.reply.status, through.reply.body)
    assert comparable(direct.reply.headers, set()) == comparable(through.reply.headers, set())


def assert_same_request(direct: Request, through: Request, added: set[bytes]) -> None:
    """What the server got."""
    ignored = WEIRS_OWN | added
    assert direct.line == through.line
    assert comparable(direct.headers, ignored) == comparable(through.headers, ignored)
    if not added or direct.body == through.body:
        assert direct.body == through.body
    else:
        assert without_keys(direct.body) == without_meta(through.body, direct.body)


@pytest.mark.parametrize("name", REQUESTS)
async def test_an_exchange_is_the_same_at_both_ends(
    server: ScriptedServer, weir: Running, tracing: str, name: str
) -> None:
    """Status, headers and bytes, for the exchanges of every revision."""
    await assert_same(server, weir, tracing, REQUESTS[name])


@pytest.mark.parametrize("name", BODIES)
async def test_a_request_body_arrives_as_it_was_sent(
    server: ScriptedServer, weir: Running, tracing: str, name: str
) -> None:
    """Valid or not: the server judges it."""
    await assert_same(server, weir, tracing, Said(BODIES[name], chunks=(b'{"jsonrpc":"2.0","id":null,"error":{}}',)))


@pytest.mark.parametrize("is_stream", [False, True], ids=["json", "sse"])
@pytest.mark.parametrize("name", REPLIES)
async def test_a_reply_body_arrives_as_it_was_sent(
    server: ScriptedServer, weir: Running, tracing: str, name: str, is_stream: bool
) -> None:
    """The client judges it."""
    body = REPLIES[name]
    if not is_stream:
        await assert_same(server, weir, tracing, Said(chunks=(body,)))
        return
    event = b"".join(b"data: %b\n" % line for line in body.splitlines()) + b"\n"
    streamed = replace(REQUESTS["a stream"], chunks=(event,))
    await assert_same(server, weir, tracing, streamed)


async def test_what_is_no_answer_passes_as_a_body_and_in_an_event_with_an_error_behind_it(
    server: ScriptedServer, weir: Running, tracing: str
) -> None:
    """A body ends the exchange by itself; at a stream's end the client would wait for the answer for ever."""
    await assert_same(server, weir, tracing, Said(chunks=(NO_ANSWER,)))
    event = b"data: %b\n\n" % NO_ANSWER
    got = await observe(server, weir.port, replace(REQUESTS["a stream"], chunks=(event,)))
    assert got.reply.body.startswith(event)
    behind = error_behind(got.reply.body, event)
    assert (7, int) == (behind["id"], type(behind["error"]["code"]))


def error_behind(body: bytes, event: bytes) -> Any:
    """The message of the event that follows."""
    return json.loads(body.removeprefix(event).partition(b"data: ")[2])


async def test_two_trace_headers_name_weirs_own_span(server: ScriptedServer, weir: Running, tracing: str) -> None:
    """Off: the caller's go through. On: the server is told of weir's span in the caller's trace."""
    said = REQUESTS["headers of every kind"]
    theirs = dict(said.headers)[b"traceparent"]
    got = (await observe(server, weir.port, said)).request.get(b"traceparent")
    assert (theirs[:36], tracing != "traced") == (got[:36], theirs == got)
