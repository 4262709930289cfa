"""The pool: which connection a request gets, how long it waits for one, and when one is thrown away."""

import asyncio
import socket
import threading
import time
from typing import Any

import pytest

from support.pools import Clock, ask, pool_to, start
from support.scripted import ENOUGH_SECONDS, Visit, scripted
from weir.core.outcome import FailureKind, Sent
from weir.upstream.connection import KEEP_IDLE_SECONDS
from weir.upstream.exchange import Shortage, Unanswered
from weir.upstream.http1 import Pool, PoolSettings, Request

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Both loops: weir runs on uvloop where there is one."""
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


async def echoing(visit: Visit) -> None:
    """A server that answers with the number of the connection."""
    while True:
        await visit.request()
        await visit.answer(b"%d" % visit.number)


class Gate:
    """A server that answers when it is let, and counts how many requests wait."""

    def __init__(self) -> None:
        self.waiting = 0
        self.order: list[bytes] = []
        self._moved = asyncio.Condition()
        self._is_open = False

    async def script(self, visit: Visit) -> None:
        """Play."""
        while True:
            head, _ = await visit.request()
            self.order.append(head.split(b" ")[1])
            async with self._moved:
                self.waiting += 1
                self._moved.notify_all()
                await self._moved.wait_for(lambda: self._is_open)
                self.waiting -= 1
            await visit.answer(b"%d" % visit.number)

    async def holds(self, count: int) -> None:
        """Wait until so many requests have come."""
        async with asyncio.timeout(ENOUGH_SECONDS), self._moved:
            await self._moved.wait_for(lambda: self.waiting >= count)

    async def open(self) -> None:
        """Answer."""
        async with self._moved:
            self._is_open = True
            self._moved.notify_all()


class Watching:
    """What the pool reports."""

    def __init__(self) -> None:
        self.opened = 0
        self.waited = 0
        self.has_waited = asyncio.Event()

    def connected(self, seconds: float) -> None:
        assert 0 <= seconds < ENOUGH_SECONDS
        self.opened += 1

    def crowded(self, limit: str) -> None:
        assert limit == "connections"
        self.waited += 1
        self.has_waited.set()


async def queued(pool: Pool, watching: Watching, group: asyncio.TaskGroup, target: bytes) -> "asyncio.Task[Any]":
    """A request that waits for a connection."""
    watching.has_waited.clear()
    task = group.create_task(ask(pool, target))
    async with asyncio.timeout(ENOUGH_SECONDS):
        await watching.has_waited.wait()
    return task


async def test_one_connection_carries_one_request_after_another() -> None:
    """And is reported once."""
    watching = Watching()
    async with scripted(echoing) as server, pool_to(server, watcher=watching) as pool:
        assert [b"1"] * 5 == [(await ask(pool)).body() for _ in range(5)]
    assert (1, 0) == (watching.opened, watching.waited)


async def test_the_connection_used_last_is_used_next() -> None:
    """So that the spare ones of a busy hour grow old and go."""
    gate = Gate()
    async with scripted(gate.script) as server, pool_to(server) as pool:
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(ask(pool))
            await gate.holds(3)
            await gate.open()
        assert 1 == len({(await ask(pool)).body() for _ in range(5)})
        assert 3 == server.connections


async def test_an_old_connection_is_not_used() -> None:
    """It may be closed on the other side at any moment; a request must not meet that."""
    clock = Clock()
    async with scripted(echoing) as server, pool_to(server, clock=clock) as pool:
        assert b"1" == (await ask(pool)).body()
        clock.ahead += KEEP_IDLE_SECONDS - 0.5
        assert b"1" == (await ask(pool)).body()
        clock.ahead += KEEP_IDLE_SECONDS
        assert b"2" == (await ask(pool)).body()


@pytest.mark.parametrize(
    ("announced", "idle_seconds", "expected"),
    [
        (b"timeout=30", 20.0, b"1"),
        (b"max=100, Timeout=30", 20.0, b"1"),
        (b"timeout=30", 29.5, b"2"),
        (b"timeout=3", 2.5, b"2"),
        (b"timeout=99999999999999", 90.0, b"2"),
        (b"timeout=1", 0.0, b"2"),
        (b"timeout=x", 3.0, b"1"),
    ],
)
async def test_a_server_may_say_how_long_it_keeps_a_connection(
    announced: bytes, idle_seconds: float, expected: bytes
) -> None:
    """`Keep-Alive: timeout`, less a margin, within bounds."""
    clock = Clock()

    async def script(visit: Visit) -> None:
        while True:
            await visit.request()
            await visit.answer(b"%d" % visit.number, b"Keep-Alive: " + announced)

    async with scripted(script) as server, pool_to(server, clock=clock) as pool:
        await ask(pool)
        clock.ahead += idle_seconds
        assert expected == (await ask(pool)).body()


async def test_an_unused_connection_is_closed_in_time() -> None:
    """Also when no further request comes."""

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.answer(b"{}", b"Keep-Alive: timeout=1")
        await visit.gone()

    async with scripted(script) as server, pool_to(server) as pool:
        await ask(pool)
        await server.finished()


class Hasty(threading.Thread):
    """A server in a thread of its own that closes each connection after one reply, when told to."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.may_close, self.has_closed = threading.Event(), threading.Event()
        self.served = 0

    def run(self) -> None:
        """Serve two connections."""
        with self._listener:
            for _ in range(2):
                visitor, _ = self._listener.accept()
                with visitor:
                    while b"\r\n\r\n{}" not in visitor.recv(65536):
                        pass
                    self.served += 1
                    visitor.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % self.served)
                    self.may_close.wait()
                self.has_closed.set()


async def test_a_connection_that_has_just_ended_is_not_used() -> None:
    """Also when the loop has not seen its end yet: the request goes out on a fresh one."""
    server = Hasty()
    server.start()
    async with pool_to(f"http://127.0.0.1:{server.port}") as pool:
        assert b"1" == (await ask(pool)).body()
        server.may_close.set()
        # blocks the loop on purpose: the end has arrived, and nobody has looked
        server.has_closed.wait()
        assert b"2" == (await ask(pool)).body()
    server.join()


async def test_no_more_connections_than_allowed_are_open() -> None:
    """Further requests wait, are counted, and are served in the order they came."""
    gate, watching = Gate(), Watching()
    settings = PoolSettings(connections=2)
    async with scripted(gate.script) as server, pool_to(server, settings, watcher=watching) as pool:
        async with asyncio.TaskGroup() as group:
            group.create_task(ask(pool, b"/1"))
            group.create_task(ask(pool, b"/2"))
            await gate.holds(2)
            for number in range(3, 8):
                await queued(pool, watching, group, b"/%d" % number)
            await gate.open()
        assert [b"/%d" % number for number in range(3, 8)] == gate.order[2:]
        assert 2 == server.connections
    assert 5 == watching.waited


async def test_a_request_that_stops_waiting_takes_nothing_with_it() -> None:
    """Cancelled before and after a connection was given to it."""
    gate, watching = Gate(), Watching()
    settings = PoolSettings(connections=1)
    async with scripted(gate.script) as server, pool_to(server, settings, watcher=watching) as pool:
        async with asyncio.TaskGroup() as group:
            first = group.create_task(ask(pool))
            await gate.holds(1)
            gone = await queued(pool, watching, group, b"/gone")
            late = await queued(pool, watching, group, b"/late")
            last = await queued(pool, watching, group, b"/last")
            gone.cancel()
            await gate.open()
            await first
            # the connection has been handed to `late`, which has not run yet or has just begun
            late.cancel()
            await last
        assert gone.cancelled()
        assert b"/gone" not in gate.order
        assert b"/last" in gate.order
        await ask(pool)


async def test_many_cancelled_waiters_leave_a_working_pool() -> None:
    """Whatever moment the cancellation meets."""
    settings = PoolSettings(connections=2)
    async with scripted(echoing) as server, pool_to(server, settings) as pool:
        for patience in range(40):
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(ask(pool)) for _ in range(8)]
                for _ in range(patience):
                    await asyncio.sleep(0)
                for task in tasks[::2]:
                    task.cancel()
            # the group waits for them: a place that got lost would hold up this test
            assert [False] * 4 == [task.cancelled() for task in tasks[1::2]]
        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(ask(pool))


async def test_waiting_for_a_connection_ends() -> None:
    """A full pool is weir's own shortage; nothing was sent."""
    gate = Gate()
    settings = PoolSettings(connections=1, connect_seconds=0.2)
    async with scripted(gate.script) as server, pool_to(server, settings) as pool:
        async with asyncio.TaskGroup() as group:
            group.create_task(ask(pool))
            await gate.holds(1)
            with pytest.raises(Shortage) as caught:
                await start(pool)
            await gate.open()
        assert (Sent.NO, None) == (caught.value.sent, caught.value.caused_by)
        await ask(pool)


async def test_a_place_that_comes_free_goes_to_who_waits() -> None:
    """A connection that was closed, not returned, lets another be opened."""
    asked = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.request()
        asked.set()
        if visit.number > 1:
            await visit.answer(b"%d" % visit.number)
        await visit.gone()

    watching = Watching()
    settings = PoolSettings(connections=1)
    async with (
        scripted(script) as server,
        pool_to(server, settings, watcher=watching) as pool,
        asyncio.TaskGroup() as group,
    ):
        exchange = await start(pool)
        await asked.wait()
        waiting = await queued(pool, watching, group, b"/")
        exchange.close()
        assert b"2" == (await waiting).body()


async def test_a_failed_connect_lets_the_next_one_try() -> None:
    """The place of a connection that never stood is given back."""
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    async with pool_to(f"http://127.0.0.1:{port}", PoolSettings(connections=1)) as pool:
        for _ in range(3):
            with pytest.raises(Unanswered) as caught:
                await start(pool)
            assert (FailureKind.CONNECT, Sent.NO) == (caught.value.kind, caught.value.sent)


async def test_a_server_that_closes_what_it_accepts_is_reported() -> None:
    """Before or after the request went out, never by hanging."""

    async def script(visit: Visit) -> None:
        visit.reset()

    async with scripted(script) as server, pool_to(server) as pool:
        for _ in range(5):
            with pytest.raises(Unanswered) as caught:
                await ask(pool)
            assert caught.value.kind in (FailureKind.CONNECT, FailureKind.RESET)


async def test_closing_the_pool_ends_everything() -> None:
    """What is under way fails, what waits fails, what comes later fails."""
    gate, watching = Gate(), Watching()
    settings = PoolSettings(connections=1)
    async with scripted(gate.script) as server, pool_to(server, settings, watcher=watching) as pool:
        async with asyncio.TaskGroup() as group:
            first = group.create_task(attempted(pool))
            await gate.holds(1)
            second = group.create_task(attempted(pool))
            await watching.has_waited.wait()
            await pool.aclose()
        assert (FailureKind.CANCELLED, Sent.YES) == await first
        assert (FailureKind.CONNECT, Sent.NO) == await second
        assert (FailureKind.CONNECT, Sent.NO) == await attempted(pool)


async def attempted(pool: Pool) -> tuple[FailureKind, Sent] | None:
    """How an exchange failed."""
    try:
        await ask(pool)
    except Unanswered as failure:
        return failure.kind, failure.sent
    return None


@pytest.mark.parametrize(
    "request_",
    [
        Request(b"POST", b"/", [b"x: a\r\nx-forged: 1"], b""),
        Request(b"POST", b"/", [b"x: a\nx-forged: 1"], b""),
        Request(b"POST", b"/", [b"x\r\ny: a"], b""),
        Request(b"POST", b"/ HTTP/1.1\r\nx: y\r\n\r\n", [], b""),
        Request(b"POST", b"/a b", [], b""),
        Request(b"POST", b"/", [b"x: a\0b"], b""),
    ],
)
async def test_a_value_cannot_break_out_of_its_line(request_: Request) -> None:
    """It is refused, and nothing is sent."""
    async with scripted(echoing) as server, pool_to(server) as pool:
        for _ in range(2):
            with pytest.raises(Unanswered) as caught:
                _ = pool.send(request_) or await pool.connect_and_send(request_)
            assert (FailureKind.INTERNAL, Sent.NO) == (caught.value.kind, caught.value.sent)
            await ask(pool)


async def test_a_thousand_requests_at_once_are_served_by_few_connections() -> None:
    """Nothing is lost or mixed up."""

    async def script(visit: Visit) -> None:
        while True:
            head, _ = await visit.request()
            await visit.answer(head.split(b" ")[1])

    async with scripted(script) as server, pool_to(server, PoolSettings(connections=5)) as pool:
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            tasks = {number: group.create_task(ask(pool, b"/%d" % number)) for number in range(1000)}
        assert all(b"/%d" % number == task.result().body() for number, task in tasks.items())
        assert 5 == server.connections
        assert time.monotonic() - began < ENOUGH_SECONDS
