"""A crowd of clients that counts what it is answered, and of which some vanish in the middle of a call."""

import asyncio
import itertools
import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from support.rawhttp import (
    JSON_POST,
    LIMIT_SECONDS,
    Headers,
    NoReplyError,
    Reply,
    await_head,
    connection,
    fetch,
    read_chunks,
    request_bytes,
)

WRITE, READ, LIST, SHARED = "write", "read", "tools/list", "resources/read"
KINDS = (WRITE, READ, LIST)
"""What a crowd asks for in turn: a tool nobody calls safe, one the operator calls safe, and a method that is."""
RESOURCES = 2
"""So few that equal reads meet: SHARED calls have nothing of their own to be told apart by."""

PACE_SECONDS = 0.1
"""How long a client at most heeds a refusal: less than it is asked to, so that an open breaker stays under traffic."""
VANISH_SECONDS = (0.001, 0.01, 0.1)
"""Within one of these a client that vanishes does so: before its call has arrived, while it waits, within a stream."""

MODERN = "2026-07-28"
ENVELOPE = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}
_GONE = "unknown_session"
_EVENT_GAP = re.compile(rb"\r?\n\r?\n")


def subject(kind: str, number: int) -> str:
    """What the answer to a call begins with."""
    return f"{kind} {number % RESOURCES if kind == SHARED else number}"


class Posed(NamedTuple):
    """One call of the crowd: its number is nobody else's, its id may be."""

    number: int
    kind: str
    id: int
    name: str
    """What `Mcp-Name` says."""
    body: dict[str, Any]


def pose(number: int, kind: str, raw_id: int, meta: dict[str, Any]) -> Posed:
    """The call of that number."""
    method, name = kind, ""
    params: dict[str, Any] = {}
    if kind == SHARED:
        name = params["uri"] = f"res://{number % RESOURCES}"
    elif kind == LIST:
        meta = {**meta, "number": number}
    else:
        method, name = "tools/call", kind
        params |= {"name": kind, "arguments": {"number": number}}
    if meta:
        params["_meta"] = meta
    return Posed(number, kind, raw_id, name, {"jsonrpc": "2.0", "id": raw_id, "method": method, "params": params})


def posed(body: dict[str, Any]) -> tuple[str, int]:
    """The kind and the number of a request, at the upstream; that of its resource for a SHARED one."""
    method, params = body["method"], body.get("params", {})
    if method == SHARED:
        return method, int(params["uri"].rpartition("/")[2])
    if method == LIST:
        return method, params["_meta"]["number"]
    return params["name"], params["arguments"]["number"]


class Dialect(Protocol):
    """How a client says what it wants. The ids it gives are its own, and other clients have the same."""

    async def pose(self, number: int, kind: str) -> tuple[Posed, Headers]:
        """A call, and the headers of its request.

        Raises:
            NotBegunError: its session cannot be begun.
        """

    def heard(self, headers: Headers, what: str) -> None:
        """How a call with these headers ended."""


class NotBegunError(Exception):
    """No session is to be had now; the text is the reason."""


class Plain:
    """Neither handshake nor envelope, as a stateless server of an older revision takes it."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)

    async def pose(self, number: int, kind: str) -> tuple[Posed, Headers]:
        """See Dialect."""
        return pose(number, kind, next(self._ids), {}), JSON_POST

    def heard(self, headers: Headers, what: str) -> None:
        """See Dialect."""


class Modern(Plain):
    """2026-07-28: each request says all."""

    async def pose(self, number: int, kind: str) -> tuple[Posed, Headers]:
        """See Dialect."""
        one = pose(number, kind, next(self._ids), ENVELOPE)
        mirrored = [(b"MCP-Protocol-Version", MODERN.encode()), (b"Mcp-Method", one.body["method"].encode())]
        if one.name:
            mirrored.append((b"Mcp-Name", one.name.encode()))
        return one, [*JSON_POST, *mirrored]


class Legacy(Plain):
    """A session of 2025-11-25, which several connections may share, and which is begun anew when it has ended."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port
        self._session = b""
        self._turn = asyncio.Lock()

    async def pose(self, number: int, kind: str) -> tuple[Posed, Headers]:
        """See Dialect."""
        async with self._turn:
            if not self._session:
                self._session = await self._begin()
        header = (b"Mcp-Session-Id", self._session)
        return pose(number, kind, next(self._ids), {}), [*JSON_POST, header]

    def heard(self, headers: Headers, what: str) -> None:
        """See Dialect."""
        if what == _GONE and (b"Mcp-Session-Id", self._session) in headers:
            self._session = b""

    async def _begin(self) -> bytes:
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "crowd", "version": "1"}}
        body = {"jsonrpc": "2.0", "id": next(self._ids), "method": "initialize", "params": params}
        reply = await fetch(self._port, "POST", "/mcp", JSON_POST, json.dumps(body).encode())
        (answer,) = responses(reply)
        assert body["id"] == answer["id"], reply
        if "error" in answer:
            raise NotBegunError(_reason(answer["error"]))
        return reply.get(b"mcp-session-id")


class Ending(NamedTuple):
    """How a call ended for its client: `what` is "ok", the reason of weir's error, or the upstream's status."""

    number: int
    kind: str
    began: float
    seconds: float
    what: str


@dataclass
class Crowd:
    """Clients on kept connections. `wrong` has what was not exactly one answer to what was asked.

    `vanishing` is the share of calls whose client hangs up before it has its answer, if that does not come at once;
    `vanished` are their numbers. `speak` gives each client its dialect. `state` is the latest that
    the answer to a WRITE has told of: nobody who asks afterwards may hear of an earlier one.
    """

    port: int
    vanishing: float = 0.0
    kinds: tuple[str, ...] = KINDS
    speak: Callable[[int], Dialect] = lambda client: Plain()
    endings: list[Ending] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    vanished: list[int] = field(default_factory=list)
    state: int = 0
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _draw: random.Random = field(default_factory=lambda: random.Random(5))

    async def call(self, calls: int, clients: int = 16) -> None:
        """Make so many calls and await their answers."""
        left = iter(range(calls))
        async with asyncio.TaskGroup() as group:
            for client in range(clients):
                group.create_task(self._client(self.speak(client), left))

    async def call_for(self, seconds: float, clients: int = 4) -> None:
        """Call at a walking pace for so long."""
        until = time.monotonic() + seconds

        def pacing() -> Iterator[int]:
            while time.monotonic() < until:
                yield 0

        left = pacing()
        async with asyncio.TaskGroup() as group:
            for client in range(clients):
                group.create_task(self._client(self.speak(client), left, pause=0.01))

    async def _client(self, dialect: Dialect, left: Iterator[int], pause: float = 0.0) -> None:
        while True:
            async with connection(self.port) as (reader, writer):
                try:
                    for _ in left:
                        await self._one(dialect, next(self._numbers), reader, writer)
                        await asyncio.sleep(pause)
                    return
                except _ClosedError:
                    continue

    async def _one(
        self, dialect: Dialect, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        began, state, kind = time.monotonic(), self.state, self.kinds[number % len(self.kinds)]
        try:
            one, headers = await dialect.pose(number, kind)
        except NotBegunError as error:
            self.endings.append(Ending(number, kind, began, time.monotonic() - began, str(error)))
            await asyncio.sleep(PACE_SECONDS)
            return
        patience = self._patience()
        writer.write(request_bytes("POST", "/mcp", headers, json.dumps(one.body).encode()))
        try:
            async with asyncio.timeout(patience):
                head = await await_head(reader)
                body = b"".join([piece async for piece in read_chunks(reader, head, until_close=True)])
        except (NoReplyError, TimeoutError, OSError) as error:
            if isinstance(error, TimeoutError) and patience < LIMIT_SECONDS:
                self.vanished.append(number)
            else:
                self.wrong.append(f"call {number}: {error!r}")
            raise _ClosedError from error
        what, retry_seconds = self._judge(one, Reply(head.line, head.headers, body), state)
        dialect.heard(headers, what)
        self.endings.append(Ending(number, one.kind, began, time.monotonic() - began, what))
        if head.get(b"connection").lower() == b"close":
            raise _ClosedError
        await asyncio.sleep(min(retry_seconds, PACE_SECONDS * self._draw.uniform(0.5, 1)))

    def _patience(self) -> float:
        if self._draw.random() >= self.vanishing:
            return LIMIT_SECONDS
        return self._draw.uniform(0.0005, self._draw.choice(VANISH_SECONDS))

    def _judge(self, one: Posed, reply: Reply, state: int) -> tuple[str, float]:
        messages = list(responses(reply))
        if not messages and reply.status >= 500:
            return f"http {reply.status}", 0.0
        if reply.get(b"content-type").startswith(b"text/event-stream"):
            # what a server says to nobody passes in a stream; a client takes no notice of it
            messages = [message for message in messages if message.get("id") == one.id]
        if [message.get("id") for message in messages] != [one.id]:
            return self._is_wrong(one, reply)
        error = messages[0].get("error")
        if error is None:
            return ("ok", 0.0) if self._is_answered(one, messages[0], state) else self._is_wrong(one, reply)
        return _reason(error), (error.get("data") or {}).get("retryAfterMs", 0) / 1000

    def _is_answered(self, one: Posed, message: dict[str, Any], state: int) -> bool:
        """Whether this answers what was asked, and with no older state than was known then."""
        about, _, said = message["result"]["content"][0]["text"].partition(";")
        now = int(said.partition(";")[0] or 0)
        if one.kind == WRITE:
            self.state = max(self.state, now)
        return about == subject(one.kind, one.number) and now >= state

    def _is_wrong(self, one: Posed, reply: Reply) -> tuple[str, float]:
        found = f"{reply.status} {dict(reply.headers)} {reply.body[:300]!r}"
        self.wrong.append(f"call {one.number} ({one.kind}, id {one.id}, state {self.state}): {found}")
        return "wrong", 0.0

    def ends(self) -> Counter[str]:
        """How many calls ended how."""
        return Counter(ending.what for ending in self.endings)

    def recovered_after(self, instant: float) -> float:
        """Seconds from `instant` to the beginning of the last call that did not end well; 0.0: all did."""
        late = [ending.began - instant for ending in self.endings if ending.what not in ("ok", _GONE)]
        return max([0.0, *late])


def _reason(error: dict[str, Any]) -> str:
    """weir's own word for an error, "error" for the server's."""
    return str((error.get("data") or {}).get("reason", "error"))


class _ClosedError(Exception):
    """The connection is of no more use."""


def responses(reply: Reply) -> Iterator[dict[str, Any]]:
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
