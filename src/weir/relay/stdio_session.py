"""One stdio server at work: its pipe, who gets what it says, and when it was last used."""

import asyncio
from collections.abc import Callable, Coroutine

from weir.core.budget import Account
from weir.core.call import Attempt
from weir.core.outcome import Blame, Failed, FailureKind, Outcome, RefusalKind, Refused, Sent
from weir.protocol.envelope import Kind
from weir.relay.stdio_mailbox import Exchange, Mailbox
from weir.relay.stdio_pipe import Pipe
from weir.relay.stdio_reply import Head, accepted, reply, stream, unless_aborted
from weir.relay.stdio_routing import Router

# servers need not answer a cancelled request (all revisions, utilities/cancellation); those that do answer at once
CANCEL_GRACE_SECONDS = 1.0
# a notification or an answer waits so long for a server that does not read
WRITE_SECONDS = 300.0
# a server that asks and does not read has no use for more answers than these
ANSWERS_LIMIT = 64

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
        self.revision = ""
        self.client: str | None = None
        """Where its client is (see core/origin); None where it takes no place, as clients share it."""
        self.has_spoken = False
        """Its client sent something after `initialize`, or opened the GET stream."""
        self.is_started = False
        self.is_counted = False
        """Its beginning was told, so its end is."""
        self.opened_at = self.used_at = clock()
        self._clock = clock
        self._tasks = tasks
        self._answers = 0
        """Answers of weir's own that wait for the server to read."""
        router.answer = self._answer_server

    @property
    def is_over(self) -> bool:
        """It can be asked nothing more. What it was asked may still be answered."""
        return self.router.ended_by is not None or self.pipe.is_ending

    def close(self) -> None:
        """The server is gone. Without this the router and the session would keep each other alive."""
        self.router.answer = lambda body: None

    async def carry(self, attempt: Attempt) -> Outcome:
        """Bring a POST to the server, and back what it says to that."""
        message = attempt.call.message
        if message.kind is Kind.REQUEST or any(member.kind is Kind.REQUEST for member in message.members):
            return await self._ask(attempt)
        return await self._tell(attempt)

    async def listen(self, attempt: Attempt) -> Outcome:
        """Relay what has no owner on a GET stream."""
        box = Mailbox(attempt, self.router.bounds, self._clock())
        self.router.listen(box)
        attempt.sent_at = attempt.first_byte_at = self._clock()
        try:
            return await unless_aborted(box, stream(box, self.router, self.head, self._clock))
        finally:
            self.router.unlisten(box)
            self.used_at = self._clock()

    async def _ask(self, attempt: Attempt) -> Outcome:
        exchange = Exchange(attempt, self.router.bounds, self._clock())
        body = self.router.expect(exchange, attempt.body)
        if body is None:
            return Refused(RefusalKind.BAD_MESSAGE, "The message can be read in two ways: it has a member twice.")
        attempt.wire_id = exchange.wire_id
        try:
            return await unless_aborted(exchange, self._exchange(exchange, body, attempt))
        finally:
            self.used_at = self._clock()
            note = self.router.forget(exchange)
            if note is not None and attempt.sent_at:
                # the client has gone and waits for nothing, so a pipe that is full must not hold its task
                self._later(self._note(note))

    async def _exchange(self, exchange: Exchange, body: bytes, attempt: Attempt) -> Outcome:
        exchange.is_sent = False
        failed = await self.pipe.send(body, attempt.call.account)
        if failed is not None:
            return failed
        exchange.is_sent = True
        attempt.sent_at = self._clock()
        method = attempt.call.message.method
        if method == "subscriptions/listen":
            attempt.first_byte_at = attempt.sent_at
            return await stream(exchange, self.router, self.head, self._clock)
        outcome = await reply(exchange, attempt, self.router, self.head, self._clock)
        if method == "initialize" and exchange.answer is not None and exchange.answer.result is not None:
            self.revision = attempt.call.revision = exchange.answer.result.protocol_version
        return outcome

    async def _tell(self, attempt: Attempt) -> Outcome:
        call = attempt.call
        cancelled, body = None, self.router.outgoing(call.message, attempt.body)
        if call.message.method == "notifications/cancelled":
            cancelled, body = self.router.cancelled(attempt)
        failed = await self._send_within(body, call.account) if body is not None else None
        if failed is not None:
            return failed
        self.used_at = attempt.sent_at = self._clock()
        if cancelled is not None:
            asyncio.get_running_loop().call_later(CANCEL_GRACE_SECONDS, cancelled.finish, _CANCELLED)
        return accepted()

    async def _send_within(self, body: bytes, account: Account | None) -> Failed | None:
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                return await self.pipe.send(body, account)
        except TimeoutError:
            text = f"read nothing for {WRITE_SECONDS:g} s (timer 'idle')"
            return Failed(FailureKind.TIMEOUT, text, sent=Sent.NO, timer="idle", after_seconds=WRITE_SECONDS)

    def _later(self, work: Coroutine[None, None, None]) -> None:
        try:
            self._tasks.create_task(work)
        except RuntimeError:
            # the upstream is being killed: nobody is left to be told
            work.close()

    async def _note(self, body: bytes) -> None:
        await self.pipe.send(body)

    def _answer_server(self, body: bytes) -> None:
        if self._answers < ANSWERS_LIMIT:
            self._answers += 1
            self._later(self._answer(body))

    async def _answer(self, body: bytes) -> None:
        try:
            await self.pipe.send(body)
        finally:
            self._answers -= 1
