"""Make two ends speak one transcript, step by step, and compare what each heard with what the other said."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from support.rawhttp import LIMIT_SECONDS
from transparency.ends import Client, Heard, Server, kind_of
from transparency.headers import routing_headers
from transparency.spans import replace, value, without_keys, without_meta

SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"
_IDS = [("id",), ("params", "requestId"), ("params", "_meta", SUBSCRIPTION), ("result", "_meta", SUBSCRIPTION)]
_TOKENS = [("params", "_meta", "progressToken"), ("params", "progressToken")]


@dataclass(frozen=True)
class Says:
    """One message. `on` is the id text of the client's request that a server's message belongs to, b"" for none."""

    is_client: bool
    body: bytes
    on: bytes = b""
    is_last: bool = False


@dataclass(frozen=True)
class Listens:
    """The client opens its GET stream, where the transport has one."""


Step = Says | Listens
Transcript = Sequence[Step]


def client(body: bytes) -> Says:
    """The client says it, the server must hear it."""
    return Says(True, body)


def during(on: bytes, body: bytes) -> Says:
    """The server says it while it works on a request."""
    return Says(False, body, on)


def answer(on: bytes, body: bytes) -> Says:
    """The server's last word on a request."""
    return Says(False, body, on, is_last=True)


def push(body: bytes) -> Says:
    """The server says it by itself."""
    return Says(False, body)


@dataclass
class Names:
    """Ids and progress tokens as the client wrote them and as the server heard them.

    They differ only where modern clients share one stdio child; there each must come back as it was.
    """

    may_differ: bool
    heard_as: dict[tuple[bool, bytes], bytes] = field(default_factory=dict)
    """By whether it is a token, and the client's text of it: the server's text of it."""

    def restore(self, heard: bytes, said: bytes) -> bytes:
        """What the server heard, with the client's own names; learns the names of a new request."""
        if not self.may_differ or kind_of(said) not in ("request", "notification"):
            return heard
        for path in (*_IDS[:2], _TOKENS[0]):
            theirs, ours = value(said, path), value(heard, path)
            if theirs is None or ours is None:
                continue
            if path == ("params", "requestId"):
                assert self.heard_as[False, theirs] == ours, "a cancellation must name the id that the server knows"
            self.heard_as.setdefault((path in _TOKENS, theirs), ours)
            heard = replace(heard, path, theirs)
        return heard

    def translate(self, said: bytes) -> bytes:
        """What a server that knows only its own names says."""
        if not self.may_differ:
            return said
        for path in (*_IDS, *_TOKENS[1:]):
            theirs = value(said, path)
            if theirs is not None:
                said = replace(said, path, self.heard_as.get((path in _TOKENS, theirs), theirs))
        return said


@dataclass
class Conversation:
    """One transcript between two ends."""

    client: Client
    server: Server
    names: Names
    is_edited: bool = False
    """Both sides may find in `params._meta` trace context and a deadline that the other did not write."""
    revision: bytes = b""

    async def run(self, transcript: Transcript) -> None:
        """Every step; each is heard before the next is said, and nothing else is."""
        for step in transcript:
            async with self._limit(step):
                await self._take(step)
        assert (0, 0) == (self.client.inbox.qsize(), self.server.inbox.qsize())

    @contextlib.asynccontextmanager
    async def _limit(self, step: Step) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(LIMIT_SECONDS):
                yield
        except TimeoutError as late:
            waiting = [] if self.client.inbox.empty() else [self.client.inbox.get_nowait()]
            late.add_note(f"never heard: {step}; the client was told instead: {waiting}")
            raise

    async def _take(self, step: Step) -> None:
        if isinstance(step, Listens):
            await self.client.listen()
        elif step.is_client:
            await self.client.say(step.body)
            heard = await self.server.inbox.get()
            self._same(step.body, self.names.restore(heard.body, step.body))
            self._same_headers(step.body, heard)
        else:
            await self.server.say(self.names.translate(step.body), step.on, is_last=step.is_last)
            self._same(step.body, await self.client.inbox.get())
            self._note_revision(step.body)

    def _same(self, said: bytes, heard: bytes) -> None:
        if self.is_edited:
            said, heard = without_keys(said), without_meta(heard, said)
        assert said == heard, f"{said!r}\n!= {heard!r}"

    def _same_headers(self, said: bytes, heard: Heard) -> None:
        """On HTTP the routing headers stand beside the body, whoever had to write them."""
        if heard.exchange is None:
            return
        for name, expected in routing_headers(said, self.revision):
            assert [expected] == heard.exchange.request.all(name), name

    def _note_revision(self, body: bytes) -> None:
        if (revision := value(body, ("result", "protocolVersion"))) is not None:
            self.revision = revision.strip(b'"')
