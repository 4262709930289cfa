"""One connection: silence, slowness, and exchanges that are given up."""

import asyncio
from typing import Any

import pytest

from support.pools import Clock, ask, pool_to, read_all, start
from support.scripted import ENOUGH_SECONDS, Script, Visit, scripted
from weir.core.outcome import FailureKind, Sent
from weir.upstream.exchange import Unanswered
from weir.upstream.http1 import PoolSettings

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\n"
SSE_HEAD = OK + b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Both loops: weir runs on uvloop where there is one."""
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


async def failure_of(script: Script, settings: PoolSettings | None = None) -> Unanswered:
    """How an exchange with this server fails, head or body."""
    async with scripted(script) as server, pool_to(server, settings) as pool:
        with pytest.raises(Unanswered) as caught:
            await read_all(await ask(pool))
    return caught.value


async def test_silence_ends_an_exchange() -> None:
    """Before the reply, and in the middle of it."""
    for said, sent in (
        (b"", Sent.YES),
        (SSE_HEAD, Sent.ANSWERED),
        (OK + b"Content-Length: 5\r\n\r\nhi", Sent.ANSWERED),
    ):

        async def script(visit: Visit, said: bytes = said) -> None:
            await visit.request()
            await visit.send(said)
            await visit.gone()

        failure = await failure_of(script, PoolSettings(idle_seconds=0.1))
        assert (FailureKind.TIMEOUT, "idle", 0.1, sent) == (
            failure.kind,
            failure.timer,
            failure.after_seconds,
            failure.sent,
        )


@pytest.mark.parametrize("seconds", [0.1, 0.6], ids=["shorter", "longer"])
async def test_an_exchange_may_have_a_silence_of_its_own(seconds: float) -> None:
    """The next one on the same connection is limited as all are."""

    async def script(visit: Visit) -> None:
        for pause in (0.0 if seconds < 0.3 else 0.4, 0.2):
            await visit.request()
            await asyncio.sleep(pause)
            await visit.send(OK + b"Content-Length: 2\r\n\r\nhi")
        await visit.request()
        await visit.gone()

    async with scripted(script) as server, pool_to(server, PoolSettings(idle_seconds=0.3)) as pool:
        special = await start(pool)
        special.limit_silence(seconds)
        await special.arrived
        assert b"hi" == await read_all(await ask(pool))
        last = await start(pool)
        last.limit_silence(seconds)
        with pytest.raises(Unanswered) as caught:
            await last.arrived
        assert ("idle", seconds) == (caught.value.timer, caught.value.after_seconds)
        last.close()
        assert 1 == server.connections


async def test_after_an_exchange_that_may_be_silent_for_long_the_next_may_not() -> None:
    """The timer that is set by then is not the longer one's."""

    async def script(visit: Visit) -> None:
        await visit.request()
        await asyncio.sleep(0.5)
        await visit.send(OK + b"Content-Length: 2\r\n\r\nhi")
        await visit.request()
        await visit.gone()

    async with scripted(script) as server, pool_to(server, PoolSettings(idle_seconds=0.2)) as pool:
        patient = await start(pool)
        patient.limit_silence(60.0)
        await patient.arrived
        began = asyncio.get_running_loop().time()
        with pytest.raises(Unanswered) as caught:
            await ask(pool)
        assert ("idle", 0.2) == (caught.value.timer, caught.value.after_seconds)
        assert 0.2 <= asyncio.get_running_loop().time() - began + 0.01 < 0.45
        assert 1 == server.connections


@pytest.mark.parametrize("seconds", [0.1, 0.5], ids=["shorter", "longer"])
async def test_a_silence_may_be_told_of_and_end_nothing(seconds: float) -> None:
    """Once. The other limit ends the exchange as it would have; what comes after that is not told."""
    told: list[float] = []

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.gone()

    async with scripted(script) as server, pool_to(server, PoolSettings(idle_seconds=0.3)) as pool:
        loop = asyncio.get_running_loop()
        exchange = await start(pool)
        began = loop.time()
        exchange.limit_silence(seconds, lambda: told.append(loop.time() - began))
        with pytest.raises(Unanswered) as caught:
            await exchange.arrived
        assert ("idle", 0.3) == (caught.value.timer, caught.value.after_seconds)
        assert 0.29 <= loop.time() - began < 0.45
        assert ([pytest.approx(seconds, abs=0.1)] if seconds < 0.3 else []) == told


async def test_any_byte_keeps_an_exchange_alive() -> None:
    """Comments count, however long the stream takes in all."""

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send(SSE_HEAD)
        for _ in range(15):
            await asyncio.sleep(0.05)
            await visit.chunk(b": ping\n\n")
        await visit.chunk(b"")

    async with scripted(script) as server, pool_to(server, PoolSettings(idle_seconds=0.5)) as pool:
        assert b": ping\n\n" * 15 == await read_all(await ask(pool))


async def test_silence_is_not_counted_while_nobody_reads() -> None:
    """The reader's own slowness is not the server's."""
    clock = Clock()

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send(OK + b"Content-Type: text/event-stream\r\n\r\n", b"x" * 4_000_000)

    async with scripted(script) as server, pool_to(server, PoolSettings(idle_seconds=0.2), clock=clock) as pool:
        exchange = await ask(pool)
        received = len(await exchange.read())
        for _ in range(3):
            await asyncio.sleep(0.3)
            clock.ahead += 10
            received += len(await exchange.read())
        assert 4_000_000 == received + len(await read_all(exchange))


async def test_an_excused_silence_does_not_end_an_exchange() -> None:
    """The server waits for somebody else, says its reader."""
    go_on = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send(SSE_HEAD)
        await go_on.wait()
        await visit.chunk(b"late")
        await visit.chunk(b"")

    async with scripted(script) as server, pool_to(server, PoolSettings(idle_seconds=0.1)) as pool:
        exchange = await ask(pool)
        exchange.excuse = lambda: True
        asyncio.get_running_loop().call_later(0.4, go_on.set)
        assert b"late" == await read_all(exchange)


async def test_a_reader_that_is_cancelled_closes_the_connection() -> None:
    """While it waits for the reply; the server sees it at once."""
    asked = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.request()
        asked.set()
        await visit.gone()

    async def wait(pool: Any) -> None:
        exchange = await start(pool)
        try:
            await exchange.arrived
        finally:
            exchange.close()

    async with scripted(script) as server, pool_to(server) as pool:
        async with asyncio.timeout(ENOUGH_SECONDS), asyncio.TaskGroup() as group:
            task = group.create_task(wait(pool))
            await asked.wait()
            task.cancel()
        await server.finished()


async def test_an_exchange_that_is_given_up_closes_its_connection() -> None:
    """Half a stream was read: the rest must not be taken for the next reply."""

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send(SSE_HEAD)
        await visit.chunk(b"x")
        await visit.gone()

    async with scripted(script) as server, pool_to(server) as pool:
        exchange = await ask(pool)
        await exchange.read()
        exchange.close()
        await server.finished()
        await ask(pool)
        assert 2 == server.connections


async def test_a_reply_before_the_request_was_read_is_delivered() -> None:
    """A 413 for a body that nobody will read; the connection is not used again."""

    async def script(visit: Visit) -> None:
        await visit.reader.readuntil(b"\r\n\r\n")
        await visit.answer(b"too large", status=b"413 Content Too Large")
        await visit.gone()

    async with scripted(script) as server, pool_to(server) as pool:
        exchange = await ask(pool, body=b"x" * 50_000_000)
        assert (413, b"too large") == (exchange.status, exchange.body())
        await ask(pool)
        assert 2 == server.connections
