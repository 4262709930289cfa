"""weir between a crowd and an upstream in trouble, and what must hold whatever the trouble is."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from support.chaos import metric
from support.crowd import LIST, READ, SHARED, WRITE, Crowd
from support.processes import Running, free_port
from support.weirs import weir_http

OPEN_SECONDS = 1.0
PROBES_SECONDS = 0.5
"""What three probes may take, and the machine beside them."""
RATIO, FLOOR = 0.1, 1.0
CAPS = RATIO * 100 + FLOOR * 10
"""What a budget may have saved up: a hundred calls' share and ten seconds' floor."""
GROWTH_BYTES = 96 << 20
"""What weir may grow by: 16 calls with a reply buffer of 1 MiB each, the sockets' buffers, and the allocator's keep."""
VANISHING = 0.07
"""One client in fourteen hangs up in the middle of its call."""
SETTLED_POLLS = 250
"""Five seconds for weir to notice that the last of them have gone."""

POLICIES: dict[str, Any] = {
    "timeout": {"connect": "500ms", "attempt": "500ms", "total": "4s"},
    "retry": {
        "attempts": 3,
        "backoff": {"initial": "10ms", "max": "100ms"},
        "budget": {"ratio": RATIO, "min_per_second": FLOOR},
    },
    # three calls in ten may fail without tripping it
    "breaker": {"open_for": "1s", "window": "5s", "consecutive_failures": 8, "failure_rate": 0.6, "min_calls": 20},
    "concurrency": {"limit": 64, "queue": 64},
}
LATE_SECONDS = 0.02
SHARING: dict[str, Any] = {
    **POLICIES,
    "coalesce": {"mode": "enforce"},
    "hedge": {"mode": "enforce", "after": f"{LATE_SECONDS}s"},
}
SHARED_KINDS = (SHARED, WRITE, *(SHARED,) * 7, LIST, SHARED, SHARED, READ)
"""Reads that meet, with a write between now and then; reads that are nobody else's are hedged, too."""


class Upstream(Protocol):
    """What is in trouble, until it is calmed. `seen` counts the arrivals of each call."""

    @property
    def upstream(self) -> dict[str, Any]: ...
    @property
    def seen(self) -> Counter[tuple[str, int]]: ...
    @property
    def errors(self) -> list[BaseException]: ...
    def calm(self) -> None: ...
    def repeats(self) -> int: ...


@dataclass
class Stand:
    """weir, its clients and its upstream."""

    weir: Running
    diagnostics: int
    crowd: Crowd
    origin: Upstream
    rss_bytes: int
    began: float = field(default_factory=time.monotonic)

    async def metric(self, name: str, *labels: str) -> float:
        """One of weir's own figures."""
        return await metric(self.diagnostics, name, *labels)

    async def decided(self, action: str) -> float:
        """How often a policy did that."""
        return await self.metric("weir_policy_decisions_total", f'action="{action}"')

    async def retries(self) -> float:
        """Attempts that were not the first of their call."""
        return await self.metric("weir_attempts_total", 'try="retry"')

    async def asked_again(self) -> float:
        """Reads sent anew because the server had closed the unused connection; they are no attempts of their own."""
        return await self.metric("weir_limit_reached_total", 'limit="stale_connection"')

    def budget(self) -> float:
        """How many of these there may be by now."""
        calls = len(self.crowd.endings) + len(self.crowd.vanished)
        return RATIO * calls + FLOOR * (time.monotonic() - self.began) + CAPS

    async def settled(self) -> None:
        """Wait until nothing is under way any more: those who vanished do not linger."""
        for _ in range(SETTLED_POLLS):
            if not await self.metric("weir_requests_in_flight"):
                break
            await asyncio.sleep(0.02)
        assert 0 == await self.metric("weir_requests_in_flight")
        assert 0 == await self.metric("weir_policy_level", 'scope="queue"')


@asynccontextmanager
async def standing(
    directory: Path, origin: Upstream, policies: dict[str, Any] | None = None, **crowd: Any
) -> AsyncIterator[Stand]:
    """weir with every protection on before the upstream; `crowd` is what is special about the clients."""
    diagnostics = free_port()
    config = {
        "policies": policies or POLICIES,
        "listen": {"diagnostics": f"127.0.0.1:{diagnostics}", "max_reply_buffer": "1MiB"},
        "telemetry": {"traces": {"exporter": "none"}, "logs": {"access": False}},
    }
    upstream = {"tools": {"read": {"retry": "always"}}, **origin.upstream}
    with weir_http(directory, upstream, config) as weir:
        yield Stand(weir, diagnostics, Crowd(weir.port, **{"vanishing": VANISHING, **crowd}), origin, weir.rss_bytes())


async def _watch(stand: Stand, peak: list[int]) -> None:
    """Keep the largest resident memory until cancelled."""
    while True:
        peak[0] = max(peak[0], stand.weir.rss_bytes())
        await asyncio.sleep(0.02)


async def endure(stand: Stand, name: str, calling: Awaitable[None], over: Callable[[], None] = lambda: None) -> None:
    """The crowd is `calling` while the trouble lasts, and goes on after it; then all that must hold is checked."""
    crowd, origin, clock = stand.crowd, stand.origin, time.monotonic
    began, peak = clock(), [stand.rss_bytes]
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(_watch(stand, peak))
        await calling
        origin.calm()
        ended = clock()
        over()
        during, calls = crowd.ends(), len(crowd.endings) + len(crowd.vanished)
        await crowd.call_for(2 * OPEN_SECONDS + PROBES_SECONDS + 0.3)
        watching.cancel()
    await stand.settled()
    retries, budget = await stand.retries(), stand.budget()
    worst = max(ending.seconds for ending in crowd.endings)
    print(
        f"\n{name}: {calls} calls in {ended - began:.1f} s: {dict(during)}, {len(crowd.vanished)} vanished; "
        f"slowest {worst:.2f} s; retries {retries:.0f} (seen {origin.repeats()}) of {budget:.0f}; "
        f"RSS {stand.rss_bytes >> 20} -> {peak[0] >> 20} MiB; recovered after {crowd.recovered_after(ended):.2f} s"
    )
    print(*crowd.wrong[:8], sep="\n", end="")
    assert [] == crowd.wrong[:8]
    assert [] == origin.errors
    assert [] == [key for key, times in origin.seen.items() if key[0] == WRITE and times > 1]
    assert origin.repeats() <= retries + await stand.asked_again()
    assert retries <= budget
    assert peak[0] - stand.rss_bytes <= GROWTH_BYTES
    assert crowd.recovered_after(ended) <= 2 * OPEN_SECONDS + PROBES_SECONDS
