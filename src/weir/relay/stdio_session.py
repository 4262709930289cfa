"""One stdio server at work: its pipe, who gets what it says, and when it was last used."""

import asyncio
from collections.abc import Callable

from weir.core.call import Attempt
from weir.core.outcome import Blame, Failed, FailureKind, Outcome, RefusalKind, Refused
from weir.protocol.envelope import Kind, Message
from weir.relay.stdio_mailbox import Exchange, Mailbox
from weir.relay.stdio_pipe import Pipe
from weir.relay.stdio_reply import Head, accepted, reply, stream
from weir.relay.stdio_routing import Router

# servers need not answer a cancelled request (all revisions, utilities/cancellation); those that do answer at once
CANCEL_GRACE_SECONDS = 1.0

_CANCELLED = Failed(FailureKind.CANCELLED, "the client cancelled this request", Blame.DOWNSTREAM)


class Session:
    """One server process and the replies that are open on it. `id` is "" where clients share it."""

    def __init__(
        self, name: str, pipe: Pipe, router: Router, clock: Callable[[], float], tasks: asyncio.TaskGroup
    ) -> None:
        self.id = name
        self.pipe = pipe
        self.router = router
        self.head = Head(name)
        self._tasks = tasks
        self.revision = ""
        self.is_counted = False
        """Its beginning was told, so its end is."""
        self.opened_at = self.used_at = clock()
        self._clock = clock

    @property
    def is_over(self) -> bool:
        return self.router.ended_by is not None

    def is_idle(self, now: float, idle_seconds: float) -> bool:
        """Nobody waits, nobody listens, and nobody has for this long."""
        return not self.router.open and self.router.listener is None and now - self.used_at >= idle_seconds

    async def carry(self, attempt: Attempt) -> Outcome:
        """Bring a POST to the server, and back what it says to that."""
        message = attempt.call.message
        if message.kind is Kind.REQUEST or any(member.kind is Kind.REQUEST for member in message.members):
            return await self._ask(attempt)
        return await self._tell(attempt)

    async def listen(self, attempt: Attempt) -> Outcome:
        """Relay what has no owner on a GET stream."""
        box = Mailbox(attempt.call, self.router.bounds, self._clock())
        self.router.listen(box)
        attempt.sent_at = attempt.first_byte_at = self._clock()
        try:
            return await stream(box, self.router, self.head)
        finally:
            self.router.unlisten(box)
            self.used_at = self._clock()

    async def _ask(self, attempt: Attempt) -> Outcome:
        now = self._clock()
        exchange = Exchange(attempt.call, self.router.bounds, now)
        body = self.router.expect(exchange, attempt.body)
        if body is None:
            return Refused(RefusalKind.BAD_MESSAGE, "the message can be read in two ways: a member stands in it twice.")
        try:
            failed = await self.pipe.send(body)
            if failed is not None:
                return failed
            attempt.sent_at = self._clock()
            outcome = await self._reply(exchange, attempt)
            if exchange.answer is not None and exchange.answer.result is not None:
                self._note_revision(exchange.answer, attempt)
            return outcome
        finally:
            self.used_at = self._clock()
            note = self.router.forget(exchange)
            if note is not None:
                # the client has gone and waits for nothing, so a pipe that is full must not hold its task
                self._tasks.create_task(self._note(note))

    async def _reply(self, exchange: Exchange, attempt: Attempt) -> Outcome:
        if attempt.call.message.method == "subscriptions/listen":
            attempt.first_byte_at = self._clock()
            return await stream(exchange, self.router, self.head)
        return await reply(exchange, attempt, self.router, self.head, self._clock)

    async def _tell(self, attempt: Attempt) -> Outcome:
        call = attempt.call
        cancelled = self.router.cancelled(call) if call.message.method == "notifications/cancelled" else None
        body = self.router.outgoing(call, attempt.body, cancelled)
        failed = await self.pipe.send(body) if body is not None else None
        if failed is not None:
            return failed
        self.used_at = attempt.sent_at = self._clock()
        if cancelled is not None:
            asyncio.get_running_loop().call_later(CANCEL_GRACE_SECONDS, cancelled.finish, _CANCELLED)
        return accepted()

    async def _note(self, body: bytes) -> None:
        await self.pipe.send(body)

    def _note_revision(self, answer: Message, attempt: Attempt) -> None:
        if attempt.call.message.method == "initialize" and answer.result is not None:
            self.revision = attempt.call.revision = answer.result.protocol_version
