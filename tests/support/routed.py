"""The router of a stdio server alone, with the pipe played."""

from collections.abc import Callable
from functools import partial

from support.bridges import Events, RecordingSink
from weir.core.budget import Account
from weir.core.call import Attempt, Call, Peer, Transport
from weir.core.outcome import Failed
from weir.protocol.envelope import peek
from weir.relay.stdio_mailbox import Bounds, Exchange, Mailbox
from weir.relay.stdio_pipe import Receiver
from weir.relay.stdio_routing import Router, RoutingSettings
from weir.relay.stdio_shared import SharedRouter
from weir.relay.tool_headers import ToolHeaders


class PlayedPipe:
    """A pipe that only remembers whether it is paused."""

    is_ending = False

    def __init__(self) -> None:
        self.is_paused = False

    async def run(self, receiver: Receiver) -> None:
        """Nothing runs."""

    async def started(self) -> Failed | None:
        """At once."""
        return None

    async def send(self, message: bytes, account: Account | None = None) -> Failed | None:
        """Goes nowhere."""
        return None

    def pause(self) -> None:
        """Remember."""
        self.is_paused = True

    def resume(self) -> None:
        """Remember."""
        self.is_paused = False

    def stop(self) -> None:
        """Nothing runs."""

    def unwanted(self, size: int) -> None:
        """Not counted."""


shared = partial(SharedRouter, tools=ToolHeaders())


class Stage:
    """A router with its pipe, its events and a clock that stands still."""

    def __init__(
        self, kind: Callable[..., Router] = Router, bounds: Bounds | None = None, *, keeps_strays: bool = False
    ) -> None:
        self.pipe = PlayedPipe()
        self.events = Events()
        settings = RoutingSettings(bounds, bounds) if bounds is not None else RoutingSettings()
        self.router = kind("script", self.pipe, settings, self.events, lambda: 1.0)

    def post(self, body: bytes) -> tuple[Exchange, bytes | None]:
        """A POST that waits, and what the server is sent."""
        exchange = Exchange(Attempt(call_of(body), 1, 0.0), self.router.bounds, 1.0)
        return exchange, self.router.expect(exchange, body)

    def say(self, body: bytes) -> None:
        """The server says something."""
        self.router.message(peek(body), body)


def call_of(body: bytes) -> Call:
    """A call with this body."""
    return Call(
        upstream="script",
        peer=Peer(Transport.HTTP),
        sink=RecordingSink(),
        received_at=0.0,
        body=body,
        message=peek(body),
    )


def bodies(box: Mailbox) -> list[bytes]:
    """What waits in a mailbox."""
    return [letter.body for letter in box.leftovers()]
