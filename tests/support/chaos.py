"""A troublesome upstream that counts what it carries out, and a crowd of clients that counts what it is answered."""

import asyncio
import itertools
import json
import random
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from support.rawhttp import (
    JSON_POST,
    LIMIT_SECONDS,
    Exchange,
    NoReplyError,
    Reply,
    ScriptedServer,
    await_head,
    connection,
    fetch,
    read_chunks,
    request_bytes,
)

WRITE, READ, LIST = "write", "read", "tools/list"
KINDS = (WRITE, READ, LIST)
"""What the crowd asks for in turn: a tool nobody calls safe, one the operator calls safe, and a method that is."""

PACE_SECONDS = 0.1
"""How long a client at most heeds a refusal: less than it is asked to, so that an open breaker stays under traffic."""

_EVENT_GAP = re.compile(rb"\r?\n\r?\n")


@dataclass
class Asked:
    """One request at the upstream."""

    exchange: Exchange
    id: Any
    kind: str
    number: int

    def answer(self, text: str = "done", **changes: Any) -> bytes:
        """The JSON-RPC response; `changes` are to its members."""
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
    """The upstream. `seen` counts the arrivals of each call: whoever counts them cannot be told a tale."""

    trouble: Trouble = honest
    port: int = 0
    seen: Counter[tuple[str, int]] = field(default_factory=Counter)
    errors: list[BaseException] = field(default_factory=list)

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
        method, params = body["method"], body.get("params", {})
        is_tool = method == "tools/call"
        number = params["arguments"]["number"] if is_tool else params["_meta"]["number"]
        asked = Asked(exchange, body["id"], params["name"] if is_tool else method, number)
        self.seen[asked.kind, number] += 1
        await self.trouble(asked)

    def repeats(self) -> int:
        """Arrivals beyond the first of each call."""
        return sum(self.seen.values()) - len(self.seen)


class Ending(NamedTuple):
    """How a call ended for its client: `what` is "ok", the reason of weir's error, or the upstream's status."""

    began: float
    seconds: float
    what: str


@dataclass
class Crowd:
    """Clients on kept connections. `wrong` has what was not exactly one answer to what was asked."""

    port: int
    endings: list[Ending] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    async def call(self, calls: int, clients: int = 16) -> None:
        """Make so many calls and await their answers."""
        left = iter(range(calls))
        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(self._client(left))

    async def call_for(self, seconds: float, clients: int = 4) -> None:
        """Call at a walking pace for so long."""
        until = time.monotonic() + seconds

        def pacing() -> Iterator[int]:
            while time.monotonic() < until:
                yield 0

        left = pacing()
        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(self._client(left, pause=0.01))

    async def _client(self, left: Iterator[int], pause: float = 0.0) -> None:
        while True:
            async with connection(self.port) as (reader, writer):
                try:
                    for _ in left:
                        await self._one(reader, writer)
                        await asyncio.sleep(pause)
                    return
                except _ClosedError:
                    continue

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = next(self._numbers)
        began = time.monotonic()
        writer.write(request_bytes("POST", "/mcp", JSON_POST, request_of(number)))
        try:
            async with asyncio.timeout(LIMIT_SECONDS):
                head = await await_head(reader)
                body = b"".join([piece async for piece in read_chunks(reader, head, until_close=True)])
        except (NoReplyError, TimeoutError, OSError) as error:
            self.wrong.append(f"call {number}: {error!r}")
            raise _ClosedError from error
        reply = Reply(head.line, head.headers, body)
        what, retry_seconds = self._judge(number, reply)
        self.endings.append(Ending(began, time.monotonic() - began, what))
        if head.get(b"connection").lower() == b"close":
            raise _ClosedError
        await asyncio.sleep(min(retry_seconds, PACE_SECONDS * random.uniform(0.5, 1)))

    def _judge(self, number: int, reply: Reply) -> tuple[str, float]:
        messages = list(_responses(reply))
        if not messages and reply.status >= 500:
            return f"http {reply.status}", 0.0
        if reply.get(b"content-type").startswith(b"text/event-stream"):
            # what a server says to nobody passes in a stream; a client takes no notice of it
            messages = [message for message in messages if message.get("id") == number]
        if [message.get("id") for message in messages] != [number]:
            self.wrong.append(f"call {number}: {reply.status} {dict(reply.headers)} {reply.body[:300]!r}")
            return "wrong", 0.0
        error = messages[0].get("error")
        if error is None:
            return "ok", 0.0
        data = error.get("data") or {}
        return data.get("reason", "error"), data.get("retryAfterMs", 0) / 1000

    def kinds(self) -> Counter[str]:
        """How many calls ended how."""
        return Counter(ending.what for ending in self.endings)

    def recovered_after(self, instant: float) -> float:
        """Seconds from `instant` to the beginning of the last call that did not end well; 0.0: all did."""
        late = [ending.began - instant for ending in self.endings if ending.what != "ok"]
        return max([0.0, *late])


class _ClosedError(Exception):
    """The connection is of no more use."""


def request_of(number: int) -> bytes:
    """The call of that number."""
    kind = KINDS[number % len(KINDS)]
    body: dict[str, Any] = {"jsonrpc": "2.0", "id": number, "method": "tools/call"}
    if kind == LIST:
        body |= {"method": kind, "params": {"_meta": {"number": number}}}
    else:
        body["params"] = {"name": kind, "arguments": {"number": number}}
    return json.dumps(body).encode()


def _responses(reply: Reply) -> Iterator[dict[str, Any]]:
    """The JSON-RPC responses in a reply, whatever it is; what is no JSON is none."""
    bodies = [reply.body]
    if reply.get(b"content-type").startswith(b"text/event-stream"):
        bodies = [_data(event) for event in _EVENT_GAP.split(reply.body)]
    for body in bodies:
        try:
            message = json.loads(body)
        except ValueError:
            continue
        for each in message if isinstance(message, list) else [message]:
            if isinstance(each, dict) and "method" not in each:
                yield each


def _data(event: bytes) -> bytes:
    return b"\n".join(line[5:] for line in event.splitlines() if line.startswith(b"data:"))


async def metric(port: int, name: str, *labels: str) -> float:
    """The sum of a metric's samples whose labels contain each of `labels` (`key="value"`)."""
    page = (await fetch(port, "GET", "/metrics")).body.decode()
    rows = [row for row in page.splitlines() if row.startswith(name + "{")]
    return sum(float(row.rsplit("} ", 1)[1].split(" ")[0]) for row in rows if all(label in row for label in labels))
