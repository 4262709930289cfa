"""How weir reads a reply where it is the HTTP client itself, because its own client is on a pipe.

A pipe carries UTF-8 and nothing that says how a message is encoded. So content codings are undone, and what cannot be
read is an error that says why.
"""

import asyncio
from collections.abc import Iterator
from typing import Final

from weir.core.call import Headers, header
from weir.core.outcome import FailureKind, Sent
from weir.protocol import media_types
from weir.upstream.codings import CodingError, Inflater, is_readable
from weir.upstream.exchange import Exchange, Unanswered

_SHOWN_CHARACTERS: Final = 40
"""Of a name that the server has written."""


def unreadable(headers: Headers, text: bytes | None) -> str:
    """Returns why a complete reply cannot be read, "" when it can. `text` is the body decoded, None: it cannot be."""
    if text is None:
        return unreadable_coding(header(headers, b"content-encoding"))
    return _foreign_charset(headers) if _is_json(text) and _has_other_characters(headers, text) else ""


def unreadable_coding(coding: bytes) -> str:
    """Returns what to say of a body in this content coding that could not be decoded."""
    named = _shown(coding)
    if is_readable(coding):
        return f"answered in the content coding '{named}', which is broken or too large"
    return f"answered in the content coding '{named}', which weir cannot read and did not ask for"


class ClientReader:
    """Reads a reply that still arrives: decoded, and in UTF-8. Has what an Exchange has for its reader.

    `is_encoded`: it is an error in a content coding that cannot be undone.

    Raises (when made):
        Unanswered: the content coding cannot be read.
    """

    __slots__ = ("_exchange", "_inflater", "_is_foreign", "_waiting", "is_encoded")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        # an error says by its status what it is, also where nobody can read it
        is_success = 200 <= exchange.status < 300
        self._inflater: Inflater | None = None
        if exchange.coding and is_readable(exchange.coding):
            self._inflater = Inflater(exchange.coding)
        elif exchange.coding and is_success:
            raise Unanswered(FailureKind.PROTOCOL, unreadable_coding(exchange.coding), Sent.ANSWERED)
        self.is_encoded = bool(exchange.coding) and self._inflater is None
        is_read = is_success or exchange.is_events
        self._is_foreign = is_read and media_types.foreign_charset(exchange.headers) != b""
        self._waiting: Iterator[bytes] = iter(())

    @property
    def is_read(self) -> bool:
        """The reply has ended, and all of it was read."""
        return self._inflater is None and self._exchange.is_read

    async def read(self) -> bytes:
        """Returns the text that has arrived since the last read; b"" at its end.

        Raises:
            Unanswered: the stream broke off, was silent for too long, or cannot be read.
        """
        data = await self._exchange.read() if self._inflater is None else await self._inflated(self._inflater)
        if self._is_foreign and _has_other_characters(self._exchange.headers, data):
            raise Unanswered(FailureKind.PROTOCOL, _foreign_charset(self._exchange.headers), Sent.ANSWERED)
        return data

    async def _inflated(self, inflater: Inflater) -> bytes:
        try:
            while True:
                for text in self._waiting:
                    # a few bytes can stand for many: others have their turn in between
                    await asyncio.sleep(0)
                    return text
                data = await self._exchange.read()
                if not data:
                    return b""
                self._waiting = inflater.feed(data)
        except CodingError:
            detail = unreadable_coding(self._exchange.coding)
            raise Unanswered(FailureKind.PROTOCOL, detail, Sent.ANSWERED) from None


def _is_json(text: bytes) -> bool:
    """Whether it begins like JSON in any character set; a page of a proxy's says what it is by its type or status."""
    return text[:8].strip(b"\0\xff\xfe\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[")


def _has_other_characters(headers: Headers, text: bytes) -> bool:
    """Whether bytes of a foreign character set mean something else than in UTF-8.

    Some servers name ISO-8859-1 for everything, and most of their text is ASCII, which is the same in both. UTF-16 and
    UTF-32 have a NUL in every ASCII character.
    """
    return media_types.foreign_charset(headers) != b"" and not (text.isascii() and b"\0" not in text)


def _foreign_charset(headers: Headers) -> str:
    return f"answered in the character set '{_shown(media_types.foreign_charset(headers))}'; JSON-RPC is in UTF-8"


def _shown(name: bytes) -> str:
    return name.strip().decode("latin-1")[:_SHOWN_CHARACTERS]
