"""Messages of a server that no open reply owns, kept until a stream opens for them."""

from collections import deque

from weir.protocol.envelope import Kind, Message
from weir.protocol.error_codes import METHOD_NOT_FOUND
from weir.relay.stdio_mailbox import Bounds, Letter

# a longer id is not echoed in an error: the answer would cost as much as the question
ECHOED_ID_BYTES = 1024
# the code of an unknown method: what a client without that capability says itself
_NOBODY = b'{"code":%d,"message":"No client can be asked this: nobody is certain to be meant"}' % METHOD_NOT_FOUND


class Orphans:
    """A bounded queue: over the bound the oldest messages fall out."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._letters: deque[Letter] = deque()
        self._size = 0

    def __len__(self) -> int:
        return len(self._letters)

    def keep(self, letter: Letter) -> list[Letter]:
        """Add one message at the end; returns those that fall out for it."""
        fallen = []
        self._letters.append(letter)
        self._size += len(letter.body)
        while len(self._letters) > self._bounds.messages or self._size > self._bounds.size_bytes:
            oldest = self._letters.popleft()
            self._size -= len(oldest.body)
            fallen.append(oldest)
        return fallen

    def take(self) -> deque[Letter]:
        """Remove all messages and return them, oldest first."""
        letters, self._letters, self._size = self._letters, deque(), 0
        return letters


def refusal(message: Message) -> bytes | None:
    """The answer to a question that reaches nobody, so that its server does not wait for one; None for the rest."""
    if message.kind is not Kind.REQUEST or len(message.id) > ECHOED_ID_BYTES:
        return None
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (message.id, _NOBODY)
