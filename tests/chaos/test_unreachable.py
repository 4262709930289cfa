"""weir before an upstream that nobody reaches, and before one that it has stopped asking."""

import asyncio
import socket
import statistics
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.chaos import Asked, Origin
from support.crowd import Crowd
from support.limits import HANG_SECONDS
from support.processes import free_port
from support.weirs import UNTRACED, weir_http

pytestmark = pytest.mark.anyio

CONNECT_SECONDS = 0.5
LATE_SECONDS = 0.1
"""What an answer may take beyond the time to connect."""
MACHINE_SECONDS = 0.15
"""What a busy test machine may add to it."""
READS = {"tools": {"read": {"retry": "always"}, "write": {"retry": "always"}}}


def policies(**changed: Any) -> dict[str, Any]:
    """Everything that could make a call wait longer."""
    return {
        "timeout": {"connect": "500ms", "attempt": "5s", "total": "10s"},
        "retry": {"attempts": 5, "backoff": {"initial": "200ms", "max": "2s"}, "budget": {"ratio": 1.0}},
        "concurrency": {"limit": 64},
        **changed,
    }


@contextmanager
def swallowing() -> Iterator[int]:
    """A port whose queue is full: whoever connects hears nothing, as behind a firewall that drops."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield int(listener.getsockname()[1])


@contextmanager
def refusing() -> Iterator[int]:
    """A port that nobody listens on."""
    yield free_port()


@pytest.mark.parametrize("place", [swallowing, refusing])
async def test_an_answer_from_nowhere_comes_within_the_time_to_connect(place: Any, tmp_path: Path) -> None:
    """The connect limit is one for all attempts of a call, their waits included."""
    with place() as port:
        upstream = {"url": f"http://127.0.0.1:{port}/mcp", **READS}
        with weir_http(tmp_path, upstream, {**UNTRACED, "policies": policies()}) as weir:
            crowd = Crowd(weir.port)
            await crowd.call(24, clients=8)
    seconds = sorted(ending.seconds for ending in crowd.endings)
    print(f"\n{place.__name__}: p50 {statistics.median(seconds):.3f} s, slowest {seconds[-1]:.3f} s {crowd.ends()}")
    assert [] == crowd.wrong
    assert {"upstream_connect_error", "upstream_timeout"} >= set(crowd.ends())
    assert CONNECT_SECONDS + LATE_SECONDS + MACHINE_SECONDS >= seconds[-1]


async def test_an_open_breaker_leaves_the_upstream_alone(tmp_path: Path) -> None:
    """From the moment it opens no call arrives, and none of the refused ones does later."""

    async def failing(asked: Asked) -> None:
        await asked.exchange.reply(500)

    origin = Origin(failing)
    config = {**UNTRACED, "policies": policies(breaker={"open_for": "60s"})}
    async with origin.listening():
        with weir_http(tmp_path, {"url": f"http://127.0.0.1:{origin.port}/mcp", **READS}, config) as weir:
            crowd = Crowd(weir.port)
            async with asyncio.timeout(HANG_SECONDS):
                while "circuit_open" not in crowd.ends():
                    await crowd.call(1, clients=1)
            arrived, before = sum(origin.seen.values()), len(crowd.endings)
            await crowd.call(100, clients=16)
    refused = crowd.endings[before:]
    print(
        f"\nopen after {arrived} arrivals; refusals p50 {statistics.median(e.seconds for e in refused) * 1000:.1f} ms"
    )
    assert [] == crowd.wrong
    assert {"circuit_open"} == {ending.what for ending in refused}
    assert arrived == sum(origin.seen.values())
