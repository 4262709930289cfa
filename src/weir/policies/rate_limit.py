"""Rate limits: at most so many calls in any window of so many seconds, counted apart for each client, tool, ....

All limits of an upstream are one layer: all must pass, and a refusal takes nothing from any of them. That is so too
when somebody further in refuses: what was taken is given back, exactly. A limit `per` several things counts each
combination of them apart, at this upstream; one that names `global` counts over all upstreams. One that names `tool`
is about calls of tools only. A batch counts as many as it has requests, and passes or is refused whole.

Memory is bounded for the whole process by `Ledger`, and for each address in it: keys whose window is empty make room
for new ones; where none is, further keys of the same address share one window a limit.

Actions told in `Decided`: refused, would_refuse; `detail` is the limit. `LimitReached` rate_limit_keys: a call was
counted in a shared window.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from weir.core.call import Call, is_exempt
from weir.core.events import Decided, Emit, LimitReached
from weir.core.layer import CallHandler
from weir.core.outcome import Mode, Outcome, RefusalKind, Refused
from weir.policies.rate_limit_ledger import Ledger as Ledger
from weir.policies.rate_limit_ledger import RateLimitSettings as RateLimitSettings
from weir.policies.rate_limit_ledger import Table
from weir.policies.rate_limit_window import Counts
from weir.protocol.envelope import Kind, Message
from weir.protocol.methods import traffic_class

NAME_LENGTH: Final = 64
"""A longer name of a tool is known by its hash: a client may write a megabyte there."""


# the pure part


_WORDS: Final = {"upstream": "server", "method_class": "kind of method"}


def words(settings: RateLimitSettings) -> str:
    """The limit as a sentence has it: 60 calls per 10 s per client and tool."""
    of = f" of tool '{settings.tool}'" if settings.tool else ""
    rate = f"{settings.limit} call{'s' * (settings.limit != 1)}{of} per {settings.window_seconds:g} s"
    itself = ("global", "tool") if settings.tool else ("global",)
    named = [_WORDS.get(each, each) for each in settings.per if each not in itself]
    over = " over all servers" if "global" in settings.per else ""
    return f"{rate} per {' and '.join(named)}{over}" if named else rate + over


class Standing(NamedTuple):
    """How a caller stands with one limit: calls that would pass now, and seconds until all of it is there again."""

    limit: str
    remaining: int
    reset_seconds: float


class Rule:
    """One limit of one upstream: what it counts, and where."""

    __slots__ = (
        "by_class",
        "by_client",
        "by_tool",
        "has_invented_keys",
        "is_shadow",
        "scope",
        "settings",
        "table",
        "text",
    )

    def __init__(self, settings: RateLimitSettings, table: Table) -> None:
        self.settings = settings
        self.table = table
        self.is_shadow = settings.mode is Mode.SHADOW
        self.by_client = "client" in settings.per
        self.by_tool = "tool" in settings.per and not settings.tool
        self.by_class = "method_class" in settings.per
        self.has_invented_keys = self.by_client or self.by_tool
        """Callers can make up any number of keys."""
        self.text = words(settings)
        self.scope = "+".join(settings.per)

    def key(self, message: Message, client: str, is_ambiguous: bool) -> str | None:
        """What a request counts as; None: it is not what this limit is about.

        A message that another reader may take for a call of a tool counts as one.
        A tool's name stands last: it may hold any sign, and the others hold no line break.
        """
        method = message.method
        if self.by_tool and method != "tools/call" and message.kind is Kind.REQUEST and not is_ambiguous:
            return None
        key = client if self.by_client else ""
        if self.by_class:
            key = f"{key}\n{traffic_class(method).value}"
        return f"{key}\n{known_as(message.name)}" if self.by_tool else key

    def place(self, key: str, now: float, count: int, call: Call) -> Counts:
        """Where calls of a key count."""
        return self.table.place(key, now, count, call.peer.address if self.has_invented_keys else None)

    def standing(self, key: str, now: float, call: Call | None = None) -> Standing:
        """How the calls stand that count as `key`."""
        address = call.peer.address if call is not None and self.has_invented_keys else None
        return Standing(self.text, self.table.remaining(key, now, address), self.table.reset(key, now, address))

    @property
    def is_one_window(self) -> bool:
        """All that it is about counts together, under the key ""."""
        return not (self.by_client or self.by_tool or self.by_class)


def _counts(message: Message) -> bool:
    """What cannot be read may be a request, and so may a request's method that came without an id."""
    if message.kind is Kind.NOTIFICATION:
        return not is_exempt(message)
    return message.kind is not Kind.RESPONSE


def known_as(name: str) -> str:
    """A name, or the hash of a long one."""
    if len(name) <= NAME_LENGTH:
        return name
    return "#" + hashlib.blake2b(name.encode(), digest_size=16).hexdigest()


# the doing


Taken = tuple[Table, str, Counts, int]
"""Calls that were counted: in which table, under which key, where, how many."""


class RateLimiter:
    """The layer of one upstream. `client_of` names a call's client, without line breaks and secrets."""

    def __init__(
        self,
        upstream: str,
        limits: Sequence[RateLimitSettings],
        ledger: Ledger,
        client_of: Callable[[Call], str],
        emit: Emit,
        clock: Callable[[], float],
    ) -> None:
        self._upstream = upstream
        self._client_of = client_of
        self._emit = emit
        self._clock = clock
        tables = {ledger.table(one, self._overflowed): one for one in limits if one.mode is not Mode.OFF}
        self._ledger = ledger
        self.rules = [Rule(one, table) for table, one in tables.items()]
        self._general = [rule for rule in self.rules if not rule.settings.tool]
        tools = {rule.settings.tool for rule in self.rules} - {""}
        self._of_tool = {name: [rule for rule in self.rules if rule.settings.tool in ("", name)] for name in tools}
        self._by_client = any(rule.by_client for rule in self.rules)
        self._by_tool = bool(tools) or any(rule.by_tool for rule in self.rules)

    async def __call__(self, call: Call, inner: CallHandler) -> Outcome:
        """Count the call, or refuse it."""
        if call.is_exempt:
            return await inner(call)
        now = self._clock()
        taken = self._take(call, now)
        if isinstance(taken, Refused):
            return taken
        try:
            outcome = await inner(call)
        except BaseException:
            if not call.attempts:
                # it went while it waited for its turn
                _give_back(taken, now)
            raise
        if isinstance(outcome, Refused):
            _give_back(taken, now)
        return outcome

    def standings(self, call: Call) -> list[Standing]:
        """How the caller stands, with each limit that this call is about."""
        now = self._clock()
        return [rule.standing(key, now, call) for rule, key, _ in self._wanted(call)]

    def _wanted(self, call: Call) -> list[tuple[Rule, str, int]]:
        """What the call counts as with each limit, and how often: a batch once for each request in it."""
        client = self._client_of(call) if self._by_client else ""
        message = call.message
        is_ambiguous = (self._by_tool or message.kind is Kind.BATCH) and call.is_ambiguous
        if message.kind is not Kind.BATCH:
            return [(rule, key, 1) for rule, key in self._keys(message, client, is_ambiguous)]
        counts = Counter(
            counted
            for member in message.members
            if is_ambiguous or _counts(member)
            for counted in self._keys(member, client, is_ambiguous)
        )
        return [(rule, key, count) for (rule, key), count in counts.items()]

    def _keys(self, message: Message, client: str, is_ambiguous: bool) -> list[tuple[Rule, str]]:
        """The limits that a message counts under, and as what."""
        keys = [(rule, rule.key(message, client, is_ambiguous)) for rule in self._about(message, is_ambiguous)]
        return [(rule, key) for rule, key in keys if key is not None]

    def _about(self, message: Message, is_ambiguous: bool) -> Sequence[Rule]:
        """The limits that may be about a message. One that cannot be read for certain may be a call of any tool."""
        if not self._of_tool:
            return self._general
        if message.kind is Kind.OPAQUE or is_ambiguous:
            return self.rules
        return self._of_tool.get(message.name, self._general) if message.method == "tools/call" else self._general

    def _take(self, call: Call, now: float) -> list[Taken] | Refused:
        """Ask all limits, then take from all: nobody else runs in between."""
        wanted = self._wanted(call)
        self._ledger.in_hand.clear()
        taken: list[Taken] = []
        missed: list[tuple[float, Rule]] = []
        for rule, key, count in wanted:
            window = rule.place(key, now, count, call)
            seconds = window.wait(now, count)
            if seconds:
                missed.append((seconds, rule))
            else:
                taken.append((rule.table, key, window, count))
        refused = self._refuse(call, missed) if missed else None
        if refused is None:
            for table, key, window, count in taken:
                window.take(now, count)
                table.touch(key)
        if missed:
            for rule, key, _ in wanted:
                rule.table.drop_unused(key)
        return taken if refused is None else refused

    def _refuse(self, call: Call, missed: list[tuple[float, Rule]]) -> Refused | None:
        """The refusal of the limit that takes longest; None: those that were missed only watch."""
        for _, rule in missed:
            action = "would_refuse" if rule.is_shadow else "refused"
            self._emit(Decided("rate_limit", action, call, rule.is_shadow, detail=rule.text))
        enforced = [each for each in missed if not each[1].is_shadow]
        if not enforced:
            return None
        seconds, rule = max(enforced, key=lambda each: each[0])
        text = f"Rate limit of MCP server '{self._upstream}' reached: {rule.text}."
        if seconds < math.inf:
            return Refused(RefusalKind.RATE_LIMITED, text, rule.scope, seconds)
        return Refused(RefusalKind.RATE_LIMITED, f"{text} This batch has more calls than that.", rule.scope)

    def _overflowed(self) -> None:
        self._emit(LimitReached(self._upstream, "rate_limit_keys"))


def _give_back(taken: list[Taken], taken_at: float) -> None:
    for table, key, window, count in taken:
        window.give_back(taken_at, count)
        table.drop_unused(key)
