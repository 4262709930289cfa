"""One shared call, from its first caller to its end or its last caller; and the copies of its reply."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from weir.core.budget import Account, Held
from weir.core.call import FIELDS, NOWHERE, Attempt, Call, Headers, Slot, header
from weir.core.outcome import Blame, Failed, FailureKind, Outcome, Replied, Verdict
from weir.protocol import edit, sse
from weir.protocol.correlation import NO_ID, answers, is_same
from weir.protocol.envelope import Kind, Message, peek
from weir.protocol.headers import SEALS
from weir.protocol.media_types import is_event_stream
from weir.protocol.question import is_conclusive
from weir.protocol.verdicts import verdict_of

AHEAD_LIMIT_BYTES: Final = 1024 * 1024
"""What a stream may be ahead of its leader: a client that reads slowly keeps no follower waiting before that."""

# an encoded body cannot be given another id, so it is shared only as it is
_OF_THE_BYTES: Final = SEALS - {b"content-encoding"}


def copy_for(reply: Replied, raw_id: bytes) -> Replied | None:
    """A whole reply for a caller with another id; None when it cannot be shared."""
    headers = _shareable(reply.headers)
    if headers is None or reply.body is None:
        return None
    if not reply.verdict.answered:
        return Replied(reply.status, headers, reply.body, reply.verdict)
    body = _with_id(reply.body, peek(reply.body), raw_id)
    return Replied(reply.status, headers, body, reply.verdict) if body is not None else None


def _shareable(headers: Headers) -> Headers | None:
    """A reply's headers for another caller: the bytes differ with the id, a new cookie is for one caller only."""
    if header(headers, b"set-cookie"):
        return None
    return [each for each in headers if each[0] != b"content-length" and each[0] not in _OF_THE_BYTES]


def _with_id(body: bytes, message: Message, raw_id: bytes) -> bytes | None:
    if message.kind is not Kind.RESPONSE or not is_conclusive(body):
        return None
    if message.id in NO_ID:
        return body
    try:
        return edit.set_id(body, raw_id)
    except ValueError:
        return None


def _nothing() -> None: ...


class _Piece(NamedTuple):
    """Some of a stream, on its way to the leader: bytes, or the head. `answer`: what had been seen by then."""

    data: bytes
    head: tuple[int, Headers] | None = None
    answer: Verdict | None = None


class _Ahead:
    """What of a stream its leader has not taken yet; whoever fills it waits when that is too much."""

    def __init__(self, account: Account | None) -> None:
        self._held = Held(account)
        self._pieces: deque[_Piece] = deque()
        self._size = 0
        self._has_room = True
        self._is_over = False
        self._filled, self._taken = asyncio.Event(), asyncio.Event()

    @property
    def is_full(self) -> bool:
        """Whoever fills it has to wait."""
        return (self._size > AHEAD_LIMIT_BYTES or not self._has_room) and not self._is_over

    async def put(self, piece: _Piece) -> None:
        """Add a piece; after the end it is dropped."""
        while self.is_full:
            self._taken.clear()
            await self._taken.wait()
        if not self._is_over:
            self._pieces.append(piece)
            self._resize(self._size + len(piece.data))
            self._filled.set()

    async def take(self) -> _Piece | None:
        """The next piece; None when there will be none."""
        while not self._pieces:
            if self._is_over:
                return None
            self._filled.clear()
            await self._filled.wait()
        piece = self._pieces.popleft()
        self._resize(self._size - len(piece.data))
        self._taken.set()
        return piece

    def _resize(self, size: int) -> None:
        lack = self._held.resize(size)
        self._has_room = lack is None if size > self._size else self._has_room or not self._pieces
        self._size = size

    def end(self) -> None:
        """Nothing more will come, or nobody takes it any more."""
        self._is_over = True
        self._filled.set()
        self._taken.set()

    def let_go(self) -> None:
        """Nobody takes what is left."""
        self._pieces.clear()
        self._resize(0)


class _LentSlot:
    """The place in the queue of the caller that has been there longest: whoever has left, the call holds one."""

    def __init__(self, slot: Slot) -> None:
        self._slot: Slot | None = slot

    def release(self) -> None:
        if self._slot is not None:
            self._slot.release()

    async def acquire(self) -> bool:
        while (slot := self._slot) is not None:
            has_place = await slot.acquire()
            lender = self._slot
            if lender is slot:
                return has_place
            if has_place:
                # its caller left meanwhile, and nobody else would give it back
                slot.release() if lender is None else slot.hand_over(lender)
                return True
        return True

    def hand_over(self, heir: Slot) -> None:
        if self._slot is not None:
            self._slot.hand_over(heir)

    def lender_leaves(self, heir: Slot | None) -> None:
        slot, self._slot = self._slot, heir
        if slot is not None and heir is not None:
            slot.hand_over(heir)


class SharedCall(Call):
    """What goes upstream for all callers: the leader's call in everything but who waits for it."""

    __slots__ = ("callers",)

    def __init__(self, leader: Call) -> None:
        for name in FIELDS:
            setattr(self, name, getattr(leader, name))
        self.callers = [leader]
        # the same list: the leader's span tells of the attempts
        self.attempts = leader.attempts
        self.slot = _LentSlot(leader.slot) if leader.slot is not None else None

    def ask_began(self, now: float, method: str = "") -> None:
        """The clocks of all callers stand still."""
        super().ask_began(now, method)
        for caller in self.callers:
            caller.ask_began(now, method)

    def ask_ended(self, now: float) -> None:
        """And go on."""
        super().ask_ended(now)
        for caller in self.callers:
            caller.ask_ended(now)


class Flight:
    """One shared call, from its first caller to its end or its last caller. It is its call's sink too.

    `close` is called as soon as nobody may join any more.
    """

    def __init__(self, leader: Call, close: Callable[[], None], clock: Callable[[], float]) -> None:
        self.call = SharedCall(leader)
        self.call.sink = self
        self.task: asyncio.Task[None] | None = None
        self.settled = asyncio.Event()
        """There is an answer, or an end: all that a follower waits for."""
        self.outcome: Outcome | None = None
        self.error: Exception | None = None
        self._close = close
        self._clock = clock
        self._leader = self._lender = leader
        self._withdrawn: set[Call] = set()
        self._told_of: list[Attempt] | None = None
        self._ahead = _Ahead(leader.account)
        self._head: tuple[int, Headers] | None = None
        self._answer: tuple[Message, bytes] | None = None
        self._splitter: sse.Splitter | None = None
        self._held = Held(leader.account)

    async def open(self, status: int, headers: Headers) -> None:
        self._head = (status, headers)
        if is_event_stream(headers):
            self._splitter = sse.Splitter()
        await self._ahead.put(_Piece(b"", self._head))

    async def write(self, chunk: bytes) -> None:
        if self._splitter is not None and self._answer is None:
            self._look(self._splitter, chunk)
        if not self._ahead.is_full:
            await self._ahead.put(_Piece(chunk, answer=self.call.answer))
            return
        # the first caller does not read: that is no time of the server's
        self.call.unread_began(self._clock())
        try:
            await self._ahead.put(_Piece(chunk, answer=self.call.answer))
        finally:
            self.call.unread_ended(self._clock())

    def _look(self, splitter: sse.Splitter, chunk: bytes) -> None:
        events = splitter.feed(chunk)
        if self._held.resize(splitter.held_bytes) is not None:
            events.append(splitter.pass_unread())
            self._held.resize(0)
        for event in events:
            if not event.is_message or event.data is None:
                continue
            message = peek(event.data)
            if answers(message, self.call.message.id):
                self._answer = message, event.data
                self.call.answered(message.id, verdict_of(message))
                self.settled.set()
                self._close()
                return

    def join(self, call: Call, now: float) -> None:
        """Another caller waits for it."""
        shared = call.joined = self.call
        shared.callers.append(call)
        shared.deadline_at = max(shared.deadline_at, call.deadline_at)
        for _ in range(shared.pending_asks):
            call.ask_began(now, shared.asked_method)
        if shared.trace is not None:
            call.link = shared.trace

    def leave(self, call: Call, now: float) -> "asyncio.Task[None] | None":
        """A caller has what it waited for, or waits no more. Returns what is being cancelled for want of callers."""
        shared = self.call
        shared.callers.remove(call)
        for _ in range(shared.pending_asks):
            call.ask_ended(now)
        if call is self._leader:
            # also when the shared call has ended: what the leader did not take would count for ever
            self._ahead.end()
            self._ahead.let_go()
        if self.task is None:
            return None
        if call is self._leader:
            shared.attempts = list(call.attempts)
            self._told_of = list(call.attempts)
        if call is self._lender and isinstance(shared.slot, _LentSlot):
            heir = next((each for each in shared.callers if each.slot is not None), None)
            shared.slot.lender_leaves(heir.slot if heir is not None else None)
            shared.delivery = heir.delivery if heir is not None else None
            self._lender = heir or call
        if shared.callers:
            return None
        self._close()
        self.task.cancel()
        return self.task

    def has(self, session: str, raw_id: bytes) -> bool:
        """Whether the request of that session and id waits for it."""
        return self._caller(session, raw_id) is not None

    def withdraw(self, session: str, raw_id: bytes) -> bool:
        """The client that waits with that id wants no answer any more. Whether somebody still does."""
        caller = self._caller(session, raw_id)
        if caller is not None:
            self._withdrawn.add(caller)
        return not self._withdrawn.issuperset(self.call.callers)

    def _caller(self, session: str, raw_id: bytes) -> Call | None:
        return next(
            (each for each in self.call.callers if each.session == session and is_same(each.message.id, raw_id)), None
        )

    async def lead(self, call: Call) -> Outcome:
        """Relay the reply to the first caller as it arrives; returns the outcome."""
        while (piece := await self._ahead.take()) is not None:
            if piece.answer is not None:
                call.answered(call.message.id, piece.answer)
            if piece.head is not None:
                call.head_sent = True
                await call.sink.open(*piece.head)
            else:
                call.committed = self.call.committed
                await call.sink.write(piece.data)
        return self.result()

    def made_since(self) -> list[Attempt]:
        """The attempts that were made after the first caller had left, who tells of all others."""
        told_of = self._told_of
        return [each for each in self.call.attempts if each not in told_of] if told_of is not None else []

    def end(self) -> None:
        """The shared call is over. What refers in a circle is let go: the collector would find it late."""
        self._close()
        self._ahead.end()
        self._held.resize(0)
        self.settled.set()
        self.task, self._close, self.call.sink = None, _nothing, NOWHERE

    def result(self) -> Outcome:
        """How it ended. Raises what the stack raised, which is a bug."""
        if self.error is not None:
            raise self.error
        if self.outcome is None:
            return Failed(FailureKind.CANCELLED, "weir is stopping", Blame.WEIR)
        return self.outcome

    async def copy(self, call: Call) -> Outcome | None:
        """The outcome for a follower; None when the reply cannot be shared."""
        if self._answer is None or self._head is None:
            outcome = self.result()
            return copy_for(outcome, call.message.id) if isinstance(outcome, Replied) else outcome
        (status, received), (message, data) = self._head, self._answer
        headers, body = _shareable(received), _with_id(data, message, call.message.id)
        if headers is None or body is None:
            return None
        verdict = verdict_of(message)
        call.answered(call.message.id, verdict)
        await call.sink.open(status, headers)
        call.head_sent = call.committed = True
        await call.sink.write(sse.encode(body))
        return Replied(status, headers, None, verdict)
