"""Serving one client on stdin and stdout: lines become postings, what comes back becomes lines.

A server at the end of a plain pipe sees messages in the order they were written. HTTP has no order
between exchanges, so this keeps what a client can rely on: nothing overtakes `initialize`, nothing
that follows a notification or a response overtakes it, and a cancellation never overtakes the request
it names. Requests do not wait for each other's answers.
"""

import asyncio
from dataclasses import dataclass

from weir.core.call import Call, Peer, Transport
from weir.core.events import LimitReached, Notice
from weir.core.outcome import STOPPED, Failed, Outcome, RefusalKind, Refused, Replied, bug_in
from weir.downstream.backlog import Backlog, BacklogLimits
from weir.downstream.descriptors import Input, Output
from weir.downstream.rescue import TOO_LONG_BATCH, error_body
from weir.downstream.unanswered import failure_of
from weir.protocol import framing
from weir.protocol.envelope import NOTHING, OVERLONG_BATCH, Kind, Message
from weir.protocol.methods import facts, is_modern
from weir.relay.http_client import HttpClient, HttpClientSettings, Wiring
from weir.relay.posting import Posting, posting_of
from weir.relay.unwrap import Unwrap

SENT_POLL_SECONDS = 0.01
"""How often a cancellation looks whether its request has been sent; it rarely has to look twice."""


@dataclass(frozen=True, slots=True)
class StdioSettings:
    """Limits of one client on a pipe.

    `eager_stream`: the upstream is this client's own child, so the pipe behind keeps the order:
    nothing is held back, and the GET stream is open before the first message.
    """

    http: HttpClientSettings
    eager_stream: bool = False
    line_limit_bytes: int = 16 * 1024 * 1024  # max_body of the other edges
    concurrent_limit: int = 1000  # beyond that stdin is not read on: the client's pipe fills and it waits
    held_limit_bytes: int = 64 * 1024 * 1024  # bodies of messages under way; likewise
    order_seconds: float = 1.0  # what order is worth: a server slow to accept a notification blocks nobody longer
    stream_head_seconds: float = 0.25  # for the GET stream to be open before what may cause messages on it
    grace_seconds: float = 1.5  # for answers under way when stdin ends: SDK clients send SIGTERM after 2 s


class StdioDownstream:
    """One client on a pair of descriptors, for as long as it stays."""

    def __init__(self, settings: StdioSettings, wiring: Wiring) -> None:
        self._settings = settings
        self._emit = wiring.emit
        self._upstream = settings.http.upstream
        self._client = HttpClient(settings.http, wiring, self._deliver)
        limits = BacklogLimits(settings.concurrent_limit, settings.held_limit_bytes)
        self._backlog = Backlog(limits, lambda: wiring.emit(LimitReached(self._upstream, "messages_under_way")))
        self._tasks: dict[Posting, asyncio.Task[None]] = {}
        self._listening: asyncio.Task[None] | None = None
        self._refused: set[int] = set()
        self._spoke = asyncio.Event()
        self._over = asyncio.Event()
        self.is_upstream_gone = False
        """The client's own server ended by itself, and with it this conversation."""

    async def run(self, stdin: int, stdout: int) -> None:
        """Serve until stdin ends, nobody reads stdout, the upstream is gone for good, or `stop` is called."""
        self._out = Output(stdout)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._serve(Input(stdin))), group.create_task(self._watch_output())]
                await self._over.wait()
                for task in tasks:
                    task.cancel()
        finally:
            await self._leave()

    def stop(self) -> None:
        """Wind down as when stdin has ended, without the grace. Requests under way are answered with the reason."""
        self._client.is_stopped = True
        self._over.set()

    async def _serve(self, source: Input) -> None:
        async with asyncio.TaskGroup() as group:
            self._group = group
            dispatching = group.create_task(self._dispatch_all())
            if self._settings.eager_stream:
                await self._open_stream()
            await self._read_all(source)
            await self._finish(dispatching)

    async def _watch_output(self) -> None:
        await self._out.broken.wait()
        self._over.set()

    async def _finish(self, *before: "asyncio.Task[None]") -> None:
        """No more messages come: answers that arrive within the grace still go out."""
        try:
            async with asyncio.timeout(self._settings.grace_seconds):
                if before:
                    await asyncio.wait(before)
                await self._until_idle()
        except TimeoutError:
            pass
        self._over.set()

    async def _until_idle(self) -> None:
        """Long-lived requests end with their client; nobody waits for them."""
        while passing := [task for posting, task in self._tasks.items() if not _is_long_lived(posting)]:
            await asyncio.wait(passing)

    async def _leave(self) -> None:
        try:
            async with asyncio.timeout(self._settings.grace_seconds):
                await self._out.flush()
        except TimeoutError:
            pass
        self._out.close()
        await self._client.close()

    # stdin

    async def _read_all(self, source: Input) -> None:
        lines = framing.Lines(self._settings.line_limit_bytes)
        while chunk := await source.read():
            await self._take_lines(lines.feed(chunk))
            await self._report_oversized(lines)
        await self._take_lines([lines.flush()])
        self._backlog.end()

    async def _take_lines(self, lines: list[bytes]) -> None:
        for line in lines:
            if line and not line.isspace():
                await self._take(posting_of(line))

    async def _take(self, posting: Posting) -> None:
        if posting.message is not OVERLONG_BATCH:
            await self._backlog.put(posting)
            return
        self._emit(LimitReached(self._upstream, "batch"))
        await self._deliver(error_body(TOO_LONG_BATCH, self._call_of(NOTHING)))

    async def _report_oversized(self, lines: framing.Lines) -> None:
        limit = self._settings.line_limit_bytes
        refused = Refused(RefusalKind.BAD_MESSAGE, f"A message is over weir's limit of {limit} bytes and was not sent.")
        for _ in range(lines.oversized):
            self._emit(LimitReached(self._upstream, "max_body"))
            await self._deliver(error_body(refused, self._call_of(NOTHING)))
        lines.oversized = 0

    # one message

    async def _dispatch_all(self) -> None:
        # in a frame of its own: this one would keep the last message, and its body, until the next one comes
        while await self._dispatch_next():
            pass

    async def _dispatch_next(self) -> bool:
        posting = await self._backlog.take()
        if posting is None:
            return False
        if await self._is_done_by_cancelling(posting):
            self._backlog.free(posting)
        else:
            await self._dispatch(posting)
        return True

    async def _is_done_by_cancelling(self, posting: Posting) -> bool:
        """A stateless request is cancelled by closing its POST (2026-07-28, streamable-http), not by a message."""
        message = posting.message
        if message.method != "notifications/cancelled":
            return False
        target = self._client.in_flight(message.request_id)
        if target is not None:
            target.is_withdrawn = True
        if self._settings.eager_stream:
            return False
        if target is None:
            return self._client.is_modern
        if is_modern(target.message.revision):
            self._tasks[target].cancel()
            return True
        await self._until_sent(target)
        return False

    async def _until_sent(self, target: Posting) -> None:
        try:
            async with asyncio.timeout(self._settings.order_seconds):
                while not target.is_sent:  # noqa: ASYNC110 - nobody is told when an attempt is sent
                    await asyncio.sleep(SENT_POLL_SECONDS)
        except TimeoutError:
            pass

    async def _dispatch(self, posting: Posting) -> None:
        is_handshake = posting.message.method == "initialize" and bool(posting.unanswered)
        self._client.begin(posting)
        task = self._group.create_task(self._post(posting))
        self._tasks[posting] = task
        task.add_done_callback(lambda _: self._ended(posting))
        self._spoke.set()
        if self._settings.eager_stream:
            return
        if is_handshake:
            self._close_stream()
            self._backlog.close_gate(posting)
        elif not posting.unanswered:
            await self._until_taken(posting)
            if posting.is_accepted:
                await self._open_stream_after(posting)

    async def _until_taken(self, posting: Posting) -> None:
        """A message without an answer is done once the server has taken it, however long its reply goes on."""
        taken = asyncio.Event()
        posting.on_settled(taken.set)
        try:
            async with asyncio.timeout(self._settings.order_seconds):
                await taken.wait()
        except TimeoutError:
            pass

    def _ended(self, posting: Posting) -> None:
        self._client.end(posting)
        del self._tasks[posting]
        self._backlog.free(posting)

    async def _post(self, posting: Posting) -> None:
        try:
            await self._client.post(posting)
        except asyncio.CancelledError:
            if self._client.is_stopped:
                await self._tell_stopped(posting)
            raise
        except Exception as error:  # noqa: BLE001 - a bug costs this message its answer, and no other client's message
            self._emit(Notice("error", "a bug in weir", {"error": repr(error), "upstream": self._upstream}))
            posting.outcome = bug_in(posting.call)
        is_accepted = isinstance(posting.outcome, Replied) and 200 <= posting.outcome.status < 300
        if posting.unanswered:
            await self._answer_instead(posting)
        elif not is_accepted and posting.message.kind in (Kind.NOTIFICATION, Kind.RESPONSE):
            self._note_refused(posting.outcome)
        if is_accepted and not self._settings.eager_stream:
            # also where the server took longer than its place in the order is waited for
            await self._open_stream_after(posting)

    async def _tell_stopped(self, posting: Posting) -> None:
        posting.outcome = STOPPED
        try:
            async with asyncio.timeout(self._settings.grace_seconds):
                await self._answer_instead(posting)
        except TimeoutError:
            pass

    async def _answer_instead(self, posting: Posting) -> None:
        """Nobody answered: each request that the client did not withdraw gets one error under its own id."""
        failure = failure_of(posting)
        for message in list(posting.unanswered.values()):
            if not posting.is_withdrawn:
                await self._deliver(error_body(failure, self._call_of(message)))
        posting.unanswered.clear()

    # the stream of what the server says unasked

    async def _open_stream_after(self, posting: Posting) -> None:
        if posting.message.method == "notifications/initialized" and self._listening is None:
            await self._open_stream()

    async def _open_stream(self) -> None:
        self._listening = self._group.create_task(self._listen())
        try:
            async with asyncio.timeout(self._settings.stream_head_seconds):
                await self._client.is_listening.wait()
        except TimeoutError:
            pass

    def _close_stream(self) -> None:
        """It belongs to the session before."""
        if self._listening is not None:
            self._listening.cancel()
            self._listening = None

    async def _listen(self) -> None:
        if not self._settings.eager_stream:
            await self._client.listen()
            return
        outcome = await self._client.listen(reopens=False)
        while isinstance(outcome, Refused) and not self._client.has_listened:
            # a child that is started by the first message cannot be listened to before
            self._spoke.clear()
            await self._spoke.wait()
            outcome = await self._client.listen(reopens=False)
        if self._client.has_listened or isinstance(outcome, Failed):
            # the child is gone, and with it the other end of the client's pipe
            self.is_upstream_gone = True
            # a client that has asked nothing yet is told why by the answer to its first request
            await self._spoke.wait()
            await self._finish()

    # stdout and the rest

    async def _deliver(self, message: bytes) -> None:
        await self._out.write(framing.encode(message))

    def _call_of(self, message: Message) -> Call:
        """What an error is made from; it is never asked anywhere."""
        return Call(
            upstream=self._upstream,
            peer=Peer(Transport.STDIO),
            sink=Unwrap(lambda status, headers: None, self._deliver, 0),
            received_at=0.0,
            message=message,
        )

    def _note_refused(self, outcome: Outcome | None) -> None:
        """Told once for each status: a server that takes no progress would fill the log."""
        status = outcome.status if isinstance(outcome, Replied) else 0
        if status not in self._refused:
            self._refused.add(status)
            fields: dict[str, str | int | float | bool] = {"upstream": self._upstream, "status": status}
            self._emit(Notice("warning", "the server did not accept a notification or response", fields))


def _is_long_lived(posting: Posting) -> bool:
    return facts(posting.message.method).is_long_lived
