"""Whom a message of a shared server can be meant for when it names no request.

A message reaches a caller only when no other caller can be meant. Callers that left count for as long as the
server owes them an answer: it may not have read the cancellation, or may ignore it, and still work for them.
"""

import re
from collections.abc import Collection

from weir.protocol.envelope import Message, has_escaped_letters
from weir.relay.stdio_mailbox import Exchange

DEPARTED_LIMIT = 1024
"""Requests of callers that left and are remembered one by one; beyond that the doubt stays for good."""

# 2026-07-28: each names a request, a token or a subscription; without the name, or with a stale one, it is nobody's
_ADDRESSED = frozenset(
    {
        "notifications/cancelled",
        "notifications/progress",
        "notifications/prompts/list_changed",
        "notifications/resources/list_changed",
        "notifications/resources/updated",
        "notifications/subscriptions/acknowledged",
        "notifications/tasks",
        "notifications/tools/list_changed",
    }
)
# servers in Go read names of members without regard to case
_LOG_LEVEL = re.compile(rb"io\.modelcontextprotocol/loglevel", re.IGNORECASE)


class Audience:
    """The callers of one shared server, and those that left before they were answered."""

    def __init__(self, waiting: Collection[Exchange]) -> None:
        self._open = waiting
        self._departed: dict[bytes, None] = {}
        self._is_doubtful = False

    @property
    def has_departed(self) -> bool:
        """The server may still say something that was meant for a caller who is gone."""
        return self._is_doubtful or bool(self._departed)

    def left(self, exchange: Exchange) -> None:
        """A caller left before its answer. A subscription ends in this way, and is owed nothing."""
        if not exchange.is_sent or exchange.call.message.method == "subscriptions/listen":
            return
        self._departed[exchange.renamed] = None
        if len(self._departed) > DEPARTED_LIMIT:
            del self._departed[next(iter(self._departed))]
            self._is_doubtful = True

    def answered(self, key: bytes) -> None:
        """The server has answered a caller that left, and owes it nothing more."""
        self._departed.pop(key, None)

    def meant(self, message: Message) -> Exchange | None:
        """The one caller that a notification without a name can be meant for; None when that is not certain."""
        if self.has_departed or message.method in _ADDRESSED or message.subscription_id:
            return None
        candidates = list(self._open)
        if message.method == "notifications/message":
            candidates = [each for each in candidates if _asks_logs(each)]
        return candidates[0] if len(candidates) == 1 else None


def _asks_logs(exchange: Exchange) -> bool:
    if exchange.asks_logs is None:
        body = exchange.call.body
        exchange.asks_logs = has_escaped_letters(body) or _LOG_LEVEL.search(body) is not None
    return exchange.asks_logs
