"""What the bridge needs of a running stdio server (upstream/child.py is one)."""

from typing import Protocol

from weir.core.budget import Account
from weir.core.outcome import Failed
from weir.protocol.envelope import Message


class Receiver(Protocol):
    """Who gets what a server says."""

    def message(self, message: Message, body: bytes) -> None:
        """One message, in the order written. JSON that is no JSON-RPC message comes as Kind.OPAQUE."""

    def spoiled(self, message: Message) -> None:
        """A bug of weir's cost this message."""

    def overflowed(self) -> None:
        """A line was longer than the limit, and is lost."""

    def ended(self, why: Failed) -> None:
        """The server will say no more. Called once, and only for a server that had started."""


class Pipe(Protocol):
    """One stdio server, from its start to its end."""

    @property
    def is_ending(self) -> bool:
        """It takes no more messages, and will be gone soon; what it has said is still handed on."""

    async def run(self, receiver: Receiver) -> None:
        """Own the server for its whole life; returns when nothing of it is left."""

    async def started(self) -> Failed | None:
        """Wait until it runs; returns why it does not."""

    async def send(self, message: bytes, account: Account | None = None) -> Failed | None:
        """Write one message; waits while the server does not read. Returns why it cannot.

        `account` holds what the server has not read of it, also when its caller has gone.
        """

    def pause(self) -> None:
        """Hand on no further messages for now (a few more may come)."""

    def resume(self) -> None:
        """Hand on messages again."""

    def stop(self) -> None:
        """Begin to end it; nothing it says from now on is handed on."""

    def unwanted(self, size: int) -> None:
        """A message of so many bytes reached nobody."""
