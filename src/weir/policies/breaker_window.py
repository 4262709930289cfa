"""What the breaker counts: how an outcome is read, and the counts of the last while. For the breaker alone."""

import enum
from collections import Counter, deque
from typing import Final, NamedTuple

from weir.core.call import Attempt, Call
from weir.core.outcome import Blame, Failed, FailureKind, Outcome, Refused, Replied, Sent
from weir.protocol.error_codes import INTERNAL_ERRORS

TRACES_KEPT: Final = 5
"""Of the calls that trip a circuit the last few are named: enough to look at, few enough for a log line."""

CLIENTS_KEPT: Final = 8
"""Clients whose trouble is counted apart, in a row and in each slice of the window: with more, no few are to blame."""

SLICES: Final = 10
"""A window is counted in so many slices, and forgets one at a time."""


class Sign(enum.Enum):
    """What an outcome says of the upstream. A tool's own error is a success of the upstream, counted besides."""

    NOTHING = "nothing"
    SUCCESS = "success"
    TOOL_ERROR = "tool_error"
    FAILURE = "failure"


_UNREACHED: Final = frozenset({FailureKind.CONNECT, FailureKind.TLS})
_SERVER_FAULTS: Final = frozenset({500, 502, 503, 504})
_ABOUT_THE_CALLER: Final = frozenset({401, 403, 404, 429})
"""Its credential, its session or its rate: what one caller's do says nothing about the server."""


def sign_of(attempt: Attempt, outcome: Outcome) -> Sign:
    """How the outcome of an attempt counts."""
    if isinstance(outcome, Replied):
        return _sign_of_reply(attempt.call, outcome)
    if isinstance(outcome, Refused) or outcome.blame is not Blame.UPSTREAM or outcome.kind is FailureKind.CANCELLED:
        return Sign.NOTHING
    if attempt.call.is_stream and attempt.first_byte_at:
        # a stream that had begun ends when a server restarts or a middlebox tires: many at once are one event
        return Sign.NOTHING
    if outcome.kind is FailureKind.EXITED and outcome.sent is Sent.NO:
        # it had ended before this call, by which another one is begun: whether that can be, the next call shows
        return Sign.NOTHING
    if outcome.timer == "total" and outcome.sent is Sent.NO and not attempt.connect_seconds:
        # the time had gone elsewhere: nobody tried to reach the server
        return Sign.NOTHING
    return Sign.FAILURE


def _sign_of_reply(call: Call, reply: Replied) -> Sign:
    verdict = reply.verdict
    if reply.status in _ABOUT_THE_CALLER:
        return Sign.NOTHING
    if not verdict.answered:
        return _sign_of_status(call, reply.status)
    if verdict.error_code is not None:
        return Sign.FAILURE if verdict.error_code in INTERNAL_ERRORS else Sign.NOTHING
    return Sign.TOOL_ERROR if verdict.is_tool_error else Sign.SUCCESS


def _sign_of_status(call: Call, status: int) -> Sign:
    if status in _SERVER_FAULTS:
        return Sign.FAILURE
    # a request's stream that is to be polled; that anything else was taken (202) does not say that it was done
    return Sign.SUCCESS if call.is_request and 200 <= status < 300 else Sign.NOTHING


def is_unreached(outcome: Outcome) -> bool:
    """The server was not even connected to: no tool's fault."""
    return isinstance(outcome, Failed) and outcome.kind in _UNREACHED


def is_certain(attempt: Attempt, outcome: Outcome) -> bool:
    """No client can have caused this failure: nothing of its call had reached the server."""
    if not isinstance(outcome, Failed) or outcome.sent is not Sent.NO:
        return False
    is_connecting = outcome.timer == "connect" or (outcome.timer == "total" and attempt.connect_seconds > 0)
    return outcome.kind in _UNREACHED or is_connecting


class Reading(NamedTuple):
    """One attempt, as a circuit sees it. `trace_id` is "" for none; `is_certain`: no client can have caused it."""

    sign: Sign
    is_slow: bool = False
    trace_id: str = ""
    is_certain: bool = False


class Streak:
    """Failures in a row: how many, how many of them no client can have caused, and which clients had the others."""

    __slots__ = ("certain", "clients", "failures")

    def __init__(self) -> None:
        self.failures = self.certain = 0
        self.clients: set[str] = set()

    def clear(self) -> None:
        """The row is over."""
        if self.failures:
            self.failures = self.certain = 0
            self.clients.clear()

    def add(self, reading: Reading, client: str) -> None:
        """Count one attempt. A failure of nobody's in particular is certain: no client is to blame for it."""
        if reading.sign is not Sign.FAILURE:
            self.clear()
            return
        self.failures += 1
        if reading.is_certain or not client:
            self.certain += 1
        elif len(self.clients) < CLIENTS_KEPT:
            self.clients.add(client)


class Window:
    """Counts of the last `seconds`, and the last traces of each kind of trouble: failure, slow, tool_error.

    It forgets slice by slice, so it covers between nine tenths and the whole of the window, in memory that
    does not grow. With `clients` over 1 it also knows whose the trouble was, and who succeeded last.
    """

    __slots__ = (
        "_at",
        "_clients",
        "_seconds",
        "_slice_seconds",
        "_slices",
        "_succeeded",
        "_traces",
        "_troubled",
        "calls",
        "failures",
        "slow",
        "tool_errors",
    )

    def __init__(self, seconds: float, clients: int = 1) -> None:
        self._seconds = seconds
        self._slice_seconds = seconds / SLICES
        self._clients = clients
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.calls = self.failures = self.slow = self.tool_errors = 0
        self._at = 0
        self._slices = [[0, 0, 0, 0] for _ in range(SLICES)]
        self._traces: dict[str, deque[str]] = {}
        self._troubled: list[dict[tuple[str, str], int]] = [{} for _ in range(SLICES)]
        # the clients that succeeded last, newest first: as many as can be left when those in trouble are taken out
        self._succeeded: list[tuple[str, float]] = []

    def add(self, reading: Reading, now: float, client: str = "") -> None:
        """Count one attempt that ended now; `client` "": nobody's in particular."""
        at = int(now / self._slice_seconds)
        if at > self._at:
            self._advance(at)
        current = self._slices[self._at % SLICES]
        self.calls += 1
        current[0] += 1
        sign = reading.sign
        if sign is Sign.FAILURE:
            self.failures += 1
            current[1] += 1
            self._remember("failure", reading, client)
        elif sign is Sign.TOOL_ERROR:
            self.tool_errors += 1
            current[2] += 1
            self._remember("tool_error", reading, client)
        if reading.is_slow:
            self.slow += 1
            current[3] += 1
            self._remember("slow", reading, client)
        elif sign is Sign.SUCCESS and client and self._clients > 1:
            self._note_success(client, now)

    def traces(self, trouble: str) -> tuple[str, ...]:
        """The ids of the last traces that had it, newest last."""
        return tuple(self._traces.get(trouble, ()))

    def has_success_beside(self, clients: set[str], now: float) -> bool:
        """A call of another client has succeeded within the window."""
        return any(client not in clients and at + self._seconds > now for client, at in self._succeeded)

    def heaviest(self, trouble: str, count: int) -> dict[str, int]:
        """So many clients that have had most of a trouble, and how often each; certain failures are nobody's."""
        total: Counter[str] = Counter()
        for held in self._troubled:
            for (client, kind), times in held.items():
                if kind == trouble:
                    total[client] += times
        return dict(total.most_common(count))

    def _note_success(self, client: str, now: float) -> None:
        held = self._succeeded
        if held and held[0][0] == client:
            held[0] = (client, now)
            return
        self._succeeded = [(client, now), *(each for each in held if each[0] != client)][: self._clients]

    def _remember(self, trouble: str, reading: Reading, client: str) -> None:
        if reading.trace_id:
            self._traces.setdefault(trouble, deque(maxlen=TRACES_KEPT)).append(reading.trace_id)
        if client and self._clients > 1 and not reading.is_certain:
            held, key = self._troubled[self._at % SLICES], (client, trouble)
            if key in held or len(held) < CLIENTS_KEPT * 3:
                held[key] = held.get(key, 0) + 1

    def _advance(self, at: int) -> None:
        for number in range(max(self._at, at - SLICES) + 1, at + 1):
            old = self._slices[number % SLICES]
            self.calls -= old[0]
            self.failures -= old[1]
            self.tool_errors -= old[2]
            self.slow -= old[3]
            old[:] = (0, 0, 0, 0)
            self._troubled[number % SLICES].clear()
        self._at = at
