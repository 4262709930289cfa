"""Questions of one server that its client has not answered, and where each was asked."""

from collections.abc import Callable
from typing import NamedTuple

from weir.relay.stdio_mailbox import Mailbox

ASKS_LIMIT = 1024
"""A question waits for a person at worst."""


class _Ask(NamedTuple):
    box: Mailbox
    asked_at: float


class Asks:
    """Bounded: over the limit the oldest question is forgotten, and `on_limit` is called."""

    def __init__(self, on_limit: Callable[[], None]) -> None:
        self._on_limit = on_limit
        self._open: dict[bytes, _Ask] = {}

    def __len__(self) -> int:
        return len(self._open)

    def note(self, key: bytes, box: Mailbox, now: float) -> None:
        """Remember where a question was asked."""
        if len(self._open) >= ASKS_LIMIT:
            del self._open[next(iter(self._open))]
            self._on_limit()
        self._open[key] = _Ask(box, now)

    def pop(self, key: bytes) -> Mailbox | None:
        """Forget one question; returns where it was asked, None when it is not open."""
        ask = self._open.pop(key, None)
        return ask.box if ask is not None else None

    def forget(self, before: float) -> bool:
        """Forget what was asked up to an instant; returns whether there was any such question."""
        late = [key for key, ask in self._open.items() if ask.asked_at <= before]
        for key in late:
            del self._open[key]
        return bool(late)
