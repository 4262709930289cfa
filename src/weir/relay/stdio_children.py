"""The processes of one stdio upstream: begun on demand, owned by one task each, all ended with their owner."""

import asyncio
from collections.abc import Callable

from weir.core.events import Emit, Notice
from weir.core.outcome import Blame, Failed, FailureKind
from weir.relay.stdio_places import Places
from weir.relay.stdio_session import Session
from weir.relay.stdio_sweep import WaitSettings, is_idle, is_unspoken, look_at

_LOST = Failed(FailureKind.INTERNAL, "weir lost this server; its log has the reason", Blame.WEIR)


class Children:
    """Every process that was begun and has not yet ended. `gone` is told of each that ends by itself."""

    def __init__(
        self,
        upstream: str,
        waits: WaitSettings,
        gone: Callable[[Session, str], None],
        emit: Emit,
        clock: Callable[[], float],
        *,
        places_max: int,
    ) -> None:
        self._upstream = upstream
        self._waits = waits
        self._gone = gone
        self._emit = emit
        self._clock = clock
        self._tasks: asyncio.TaskGroup | None = None
        self._owners: dict[asyncio.Task[None], Session] = {}
        self.places = Places(places_max, self._owners.values)
        """The places that sessions take, up to the end of their processes."""
        self._closing = asyncio.Event()
        self._closed = asyncio.Event()

    @property
    def is_running(self) -> bool:
        """Whether processes may be begun."""
        return self._tasks is not None and not self._closing.is_set()

    async def run(self, stop_seconds: float) -> None:
        """Own the processes until `aclose`. Cancelling this kills them at once."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                sweeper = tasks.create_task(self._sweep())
                await self._closing.wait()
                sweeper.cancel()
                await self._stop_all(stop_seconds)
        finally:
            self._tasks = None
            self._closed.set()

    async def aclose(self) -> None:
        """End all processes; returns when none is left."""
        self._closing.set()
        if self._tasks is not None:
            await self._closed.wait()

    def begin(self, make: Callable[[asyncio.TaskGroup], Session]) -> Session:
        """Start a process and the task that owns it."""
        assert self._tasks is not None
        session = make(self._tasks)
        self._owners[self._tasks.create_task(self._own(session))] = session
        return session

    def stop(self, session: Session, why: Failed) -> None:
        """End one process in the background; what waits for it fails now."""
        session.router.ended(why)
        session.pipe.stop()

    async def _own(self, session: Session) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            await session.pipe.run(session.router)
        except Exception as error:  # noqa: BLE001 - a bug about one child must not end the others
            self._emit(Notice("error", "a bug in weir", {"error": repr(error), "upstream": self._upstream}))
            session.router.ended(_LOST)
        finally:
            del self._owners[task]
            self._gone(session, "exited")
            self.places.freed()
            session.close()

    async def _stop_all(self, stop_seconds: float) -> None:
        for session in list(self._owners.values()):
            self._gone(session, "shutdown")
            session.pipe.stop()
        if not self._owners:
            return
        _, alive = await asyncio.wait(list(self._owners), timeout=stop_seconds)
        for task in alive:
            task.cancel()

    async def _sweep(self) -> None:
        pause = self._waits.pause_seconds
        while True:
            await asyncio.sleep(pause)
            now = self._clock()
            is_crowded = self.places.is_crowded
            for session in list(self._owners.values()):
                self._look(session, now, is_crowded=is_crowded)

    def _look(self, session: Session, now: float, *, is_crowded: bool) -> None:
        try:
            if is_idle(session, self._waits, now):
                self._gone(session, "idle")
            elif is_crowded and is_unspoken(session, self._waits, now):
                self._gone(session, "evicted")
            else:
                look_at(session, self._waits, now, self._emit)
        except Exception as error:  # noqa: BLE001 - one look is for all: it must not end the processes of others
            self._emit(Notice("error", "a bug in weir", {"error": repr(error), "upstream": self._upstream}))
            session.router.ended(_LOST)
            session.pipe.stop()
