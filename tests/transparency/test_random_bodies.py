"""Whatever is sent arrives: drawn messages through a running weir, compared at both ends."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.jsontext import json_texts, messages, short
from support.limits import HANG_SECONDS
from support.processes import Running
from support.rawhttp import Exchange, Reply, ScriptedServer, post
from support.weirs import UNTRACED, Config, weir_http
from transparency.exchanges import BODIES
from transparency.spans import without_keys, without_meta
from weir.protocol.methods import WELL_KNOWN_METHODS

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

TRACED: Config = {"telemetry": {"traces": {"exporter": "console"}}}
EXAMPLES = settings(suppress_health_check=list(HealthCheck))
IDS = ["7", "-1", '"7"', '""', '"\\u00e9"', "1152921504606846976", '"a b"']
METHODS = [*sorted(WELL_KNOWN_METHODS), "vendor.example/do", "x", ""]


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
    """weir with traces off."""
    with weir_http(tmp_path_factory.mktemp("weir"), {"url": server.url}, UNTRACED) as one:
        yield one


@pytest.fixture(scope="module")
def tracing_weir(server: ScriptedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """weir with traces on."""
    with weir_http(tmp_path_factory.mktemp("weir"), {"url": server.url}, TRACED) as one:
        yield one


class Answers:
    """A server that answers every request with one drawn reply."""

    def __init__(self, status: int, body: bytes, *, is_stream: bool = False) -> None:
        self._status = status
        self._body = body
        self._is_stream = is_stream

    async def script(self, exchange: Exchange) -> None:
        """As JSON, or as one event."""
        if not self._is_stream:
            await exchange.json(self._body, self._status)
            return
        await exchange.open(self._status)
        await exchange.write(b"data: " + self._body + b"\n\n")
        await exchange.end()


async def ask(server: ScriptedServer, weir: Running, body: bytes, answers: Answers) -> tuple[bytes, Reply]:
    """What the server got, and what the client got."""
    server.script = answers.script
    server.got.clear()
    async with asyncio.timeout(HANG_SECONDS):
        reply = await post(weir.port, body)
    assert 1 == len(server.got), reply
    return server.got[0].body, reply


def with_one_more(body: bytes, at: int, byte: bytes) -> bytes:
    """A byte slipped in."""
    return body[:at] + byte + body[at:]


hostile = st.one_of(
    messages,
    st.sampled_from(sorted(BODIES.values())).filter(lambda body: len(body) < 10_000),
    st.binary(min_size=1, max_size=60),
    st.builds(
        lambda body, at, byte: body[:at] + bytes([byte]) + body[at:], messages, st.integers(0, 80), st.integers(0, 255)
    ),
)
"""Messages well made and ill made, bytes at random, and messages with one byte too many."""


@EXAMPLES
@given(body=hostile.filter(bytes.strip), answer=st.one_of(messages, st.binary(max_size=40)))
async def test_any_body_reaches_the_server_and_any_refusal_the_client(
    server: ScriptedServer, weir: Running, body: bytes, answer: bytes
) -> None:
    """The server judges what is nonsense, and may say so in any words."""
    got, reply = await ask(server, weir, body, Answers(400, answer))
    assert (body, 400, answer) == (got, reply.status, reply.body), short(body)


@st.composite
def exchanges(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A request that is one, of any method, and a result under its id."""
    identity = draw(st.sampled_from(IDS))
    method = draw(st.sampled_from(METHODS))
    arguments = draw(json_texts)
    space = draw(st.sampled_from(["", " ", "\n  "]))
    order: list[str] = draw(
        st.permutations(
            [
                '"jsonrpc":"2.0"',
                f'"id":{space}{identity}',
                f'"method":"{method}"',
                f'"params":{{"x":{space}{arguments}}}',
            ]
        )
    )
    result = draw(json_texts).replace("\n", " ").replace("\r", " ")
    asked = "{" + f"{space},{space}".join(order) + space + "}"
    return asked.encode(), f'{{"result":{result},"jsonrpc":"2.0","id":{identity}}}'.encode()


@EXAMPLES
@given(pair=exchanges(), is_stream=st.booleans())
async def test_any_request_and_any_result_pass_as_they_are(
    server: ScriptedServer, weir: Running, pair: tuple[bytes, bytes], is_stream: bool
) -> None:
    """Every revision's methods and invented ones; answered in JSON or in a stream."""
    asked, answered = pair
    got, reply = await ask(server, weir, asked, Answers(200, answered, is_stream=is_stream))
    expected = b"data: " + answered + b"\n\n" if is_stream else answered
    assert (asked, 200, expected) == (got, reply.status, reply.body)


@EXAMPLES
@given(pair=exchanges(), is_stream=st.booleans())
async def test_with_traces_on_only_trace_context_is_added(
    server: ScriptedServer, tracing_weir: Running, pair: tuple[bytes, bytes], is_stream: bool
) -> None:
    """The request differs in the three keys, the answer in nothing."""
    asked, answered = pair
    got, reply = await ask(server, tracing_weir, asked, Answers(200, answered, is_stream=is_stream))
    assert b'"traceparent"' in got
    assert without_keys(asked) == without_meta(got, asked)
    assert reply.body == (b"data: " + answered + b"\n\n" if is_stream else answered)
