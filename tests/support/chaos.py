"""A troublesome HTTP upstream that counts what it carries out."""

import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from support.crowd import SHARED, WRITE, posed, subject
from support.rawhttp import Exchange, ScriptedServer, fetch


@dataclass
class Asked:
    """One request at the upstream. `state` is how often anything had been written when it came, itself included."""

    exchange: Exchange
    id: Any
    kind: str
    number: int
    state: int

    def answer(self, filler: str = "", **changes: Any) -> bytes:
        """The JSON-RPC response; `changes` are to its members."""
        text = f"{subject(self.kind, self.number)};{self.state};{filler}"
        body = {"jsonrpc": "2.0", "id": self.id, "result": {"content": [{"type": "text", "text": text}]}, **changes}
        return json.dumps(body).encode()

    async def say(self, *messages: bytes) -> None:
        """The events of a stream that ends well."""
        await self.exchange.open()
        for message in messages:
            await self.exchange.write(b"event: message\ndata: " + message + b"\n\n")
        await self.exchange.end()


Trouble = Callable[[Asked], Awaitable[None]]


async def honest(asked: Asked) -> None:
    """Answer as one should."""
    await asked.exchange.json(asked.answer())


@dataclass
class Origin:
    """The upstream. It counts the arrivals itself: whoever counts them cannot be told a tale.

    `seen` are those of each call, `shared` those that are nobody's own, `arrived_at` the instants and kinds of all.
    `under_way` is how many requests it works on, `most` how many there ever were at once.
    """

    trouble: Trouble = honest
    port: int = 0
    seen: Counter[tuple[str, int]] = field(default_factory=Counter)
    shared: int = 0
    arrived_at: list[tuple[float, str]] = field(default_factory=list)
    state: int = 0
    under_way: int = 0
    most: int = 0
    errors: list[BaseException] = field(default_factory=list)

    @property
    def upstream(self) -> dict[str, Any]:
        """The upstream in weir's configuration."""
        return {"url": f"http://127.0.0.1:{self.port}/mcp"}

    def calm(self) -> None:
        """The trouble is over."""
        self.trouble = honest

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Serve, on the port it had before; all connections break at the end."""
        server = ScriptedServer(port=self.port)

        async def script(exchange: Exchange) -> None:
            server.got.clear()
            await self._asked(exchange)

        server.script = script
        async with server:
            self.port = server.port
            yield
        self.errors += server.errors

    async def _asked(self, exchange: Exchange) -> None:
        if not exchange.request.body:
            await exchange.reply(405)
            return
        body = json.loads(exchange.request.body)
        if "id" not in body:
            await exchange.reply(202)
            return
        asked = self._arrived(exchange, body)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self.trouble(asked)
        finally:
            self.under_way -= 1

    def _arrived(self, exchange: Exchange, body: dict[str, Any]) -> Asked:
        kind, number = posed(body)
        self.arrived_at.append((time.monotonic(), kind))
        self.state += kind == WRITE
        if kind == SHARED:
            self.shared += 1
        else:
            self.seen[kind, number] += 1
        return Asked(exchange, body["id"], kind, number, self.state)

    def arrivals(self) -> int:
        """All that came."""
        return self.shared + sum(self.seen.values())

    def repeats(self) -> int:
        """Arrivals beyond the first of each call."""
        return sum(self.seen.values()) - len(self.seen)


async def metric(port: int, name: str, *labels: str) -> float:
    """The sum of a metric's samples whose labels contain each of `labels` (`key="value"`)."""
    page = (await fetch(port, "GET", "/metrics")).body.decode()
    rows = [row for row in page.splitlines() if row.startswith(name + "{")]
    return sum(float(row.rsplit("} ", 1)[1].split(" ")[0]) for row in rows if all(label in row for label in labels))
