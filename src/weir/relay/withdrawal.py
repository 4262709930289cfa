"""Telling a server that an answer is not wanted any more, where closing the exchange does not say so.

Until 2025-11-25 a dropped HTTP stream is no cancellation: the client sends `notifications/cancelled` (basic/utilities/
cancellation). From 2026-07-28 on closing the stream is the cancellation, and the stdio edge tells its server itself.

A server without sessions knows a request by its id alone, and the ids that clients choose repeat: there weir names only
an id that it has minted, or the notification would end another caller's request.
"""

import asyncio
from collections.abc import Callable

from weir.core.call import NOWHERE, Attempt, Call
from weir.core.layer import AttemptHandler
from weir.protocol import edit
from weir.protocol.envelope import peek
from weir.protocol.methods import facts, is_modern

WITHDRAW_SECONDS = 5.0
"""How long a server may take to accept a notification that nobody waits for."""
UNDER_WAY_LIMIT = 1000
"""Beyond so many at once, servers that do not even take notifications are told no more."""


class Withdrawal:
    """The withdrawals of one upstream. `run` owns what is under way; before and after it nothing is sent."""

    def __init__(self, upstream: AttemptHandler, clock: Callable[[], float]) -> None:
        self._upstream = upstream
        self._clock = clock
        self._tasks: asyncio.TaskGroup | None = None
        self._under_way = 0

    async def run(self) -> None:
        """Own the notifications under way."""
        try:
            async with asyncio.TaskGroup() as self._tasks:
                await asyncio.get_running_loop().create_future()
        finally:
            self._tasks = None

    def __call__(self, attempt: Attempt) -> None:
        """Tell the server, without waiting, that this attempt was given up."""
        call = attempt.call
        # initialize must not be cancelled; what was never sent need not be
        is_told_otherwise = is_modern(call.revision) or facts(call.message.method).is_handshake
        if is_told_otherwise or not call.is_request or not attempt.sent_at or self._under_way >= UNDER_WAY_LIMIT:
            return
        if not call.session and not attempt.is_renamed:
            return
        if self._tasks is not None:
            self._tasks.create_task(self._tell(attempt))

    async def _tell(self, attempt: Attempt) -> None:
        self._under_way += 1
        try:
            async with asyncio.timeout(WITHDRAW_SECONDS):
                telling = Attempt(_notification(attempt, self._clock()), 1, self._clock())
                # which request it is, whatever other ones have the same id
                telling.wire_id = attempt.wire_id
                await self._upstream(telling)
        except TimeoutError:
            # the server does not listen; the exchange itself is closed already
            pass
        finally:
            self._under_way -= 1


def _notification(attempt: Attempt, now: float) -> Call:
    call = attempt.call
    reason = edit.quote("weir gave up waiting")
    body = b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%b,"reason":%b}}' % (
        attempt.wire_id,
        reason,
    )
    made = Call(
        upstream=call.upstream,
        peer=call.peer,
        sink=NOWHERE,
        received_at=now,
        target=attempt.target,
        headers=call.headers,
        body=body,
        message=peek(body),
    )
    made.session = call.session
    made.cookies = call.cookies
    made.revision = call.revision
    return made
