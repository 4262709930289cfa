"""Questions of one server that its client has not answered, and where each was asked.

A server may repeat an id while its question is open, or after weir has stopped waiting. The client then gets the
question under a fresh id, and its answer goes to the server under the server's own.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from weir.protocol.correlation import is_same, key_of
from weir.relay.stdio_mailbox import Mailbox

ASKS_LIMIT: Final = 1024
"""A question waits for a person at worst."""


class _Ask(NamedTuple):
    box: Mailbox
    asked_at: float
    own: bytes
    """The server's id of the question."""


class Asks:
    """Bounded: over the limit the oldest question is forgotten, and `on_limit` is called."""

    def __init__(self, on_limit: Callable[[], None]) -> None:
        self._on_limit = on_limit
        self._open: dict[bytes, _Ask] = {}
        self._forgotten: dict[bytes, bytes] = {}
        """Questions that are not waited for, and may still be answered: the client's key → the server's id."""
        self._renamed = 0

    def __len__(self) -> int:
        return len(self._open)

    def note(self, raw: bytes, box: Mailbox, now: float) -> bytes:
        """Remembers where a question was asked. Returns the id under which the client gets it."""
        key, told = key_of(raw), raw
        while key in self._open or key in self._forgotten:
            self._renamed += 1
            key = b"weir-ask-%d" % self._renamed
            told = b'"%b"' % key
        if len(self._open) >= ASKS_LIMIT:
            self._forget(next(iter(self._open)))
            self._on_limit()
        self._open[key] = _Ask(box, now, raw)
        return told

    def answered(self, raw: bytes) -> tuple[Mailbox | None, bytes]:
        """Forgets the question that the client answers. Returns where it was asked, if it is open, and its own id."""
        key = key_of(raw)
        ask = self._open.pop(key, None)
        if ask is not None:
            return ask.box, raw if is_same(raw, ask.own) else ask.own
        own = self._forgotten.pop(key, raw)
        return None, raw if is_same(raw, own) else own

    def withdrawn(self, raw: bytes) -> tuple[Mailbox | None, bytes]:
        """Forgets the newest question that the server knows by this id. Returns where, and the client's id of it."""
        for key, ask in reversed(self._open.items()):
            if is_same(ask.own, raw):
                del self._open[key]
                return ask.box, raw if key == key_of(raw) else b'"%b"' % key
        return None, raw

    def forget(self, before: float) -> bool:
        """Stops waiting for what was asked up to an instant; returns whether there was any such question."""
        late = [key for key, ask in self._open.items() if ask.asked_at <= before]
        for key in late:
            self._forget(key)
        return bool(late)

    def _forget(self, key: bytes) -> None:
        self._forgotten[key] = self._open.pop(key).own
        if len(self._forgotten) > ASKS_LIMIT:
            del self._forgotten[next(iter(self._forgotten))]
