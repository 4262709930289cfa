"""The cookies that one server has set, as an HTTP client keeps them (RFC 6265). Pure; bounded.

Load balancers tell by a cookie which of their servers has a session. All cookies of a jar are of one origin.
"""

from collections.abc import Sequence
from typing import Final

from weir.protocol.http_dates import instant
from weir.protocol.numbers import integer

COOKIES_LIMIT: Final = 50
"""Cookies kept; as many as RFC 6265, section 6.1, asks of a client for one domain."""
COOKIE_BYTES_LIMIT: Final = 4096
"""Bytes of one cookie's name and value together (RFC 6265, section 6.1)."""
_LONGEST_SECONDS: Final = 400 * 24 * 3600
"""A cookie lives no longer than this (RFC 6265bis, section 5.5)."""

_YEAR_SECONDS: Final = 365 * 24 * 3600

_Headers = Sequence[tuple[bytes, bytes]]


class _Cookie:
    __slots__ = ("ends_at", "is_secure", "name", "path", "value")

    def __init__(self, name: bytes, value: bytes) -> None:
        self.name = name
        self.value = value
        self.path = b"/"
        self.is_secure = False
        self.ends_at: float | None = None
        """None: the cookie lives as long as the conversation."""


class Jar:
    """Keeps the cookies of one server for one conversation."""

    __slots__ = ("_cookies", "_host", "_is_secure", "has_overflowed")

    def __init__(self, host: str, *, is_secure: bool) -> None:
        self._host = host.lower().encode()
        self._is_secure = is_secure
        self._cookies: dict[tuple[bytes, bytes], _Cookie] = {}
        self.has_overflowed = False
        """The server has set more cookies, or larger ones, than are kept."""

    def __repr__(self) -> str:
        return f"Jar({len(self._cookies)} cookies)"

    def take(self, headers: _Headers, target: bytes, now: float) -> None:
        """Keeps what the reply to a request for `target` sets; a cookie that has ended is forgotten."""
        date = instant(next((value for name, value in headers if name == b"date"), b""))
        for name, value in headers:
            if name == b"set-cookie":
                self._set(value, target, now, date)

    def header(self, target: bytes, now: float) -> bytes:
        """Returns the value of `Cookie` for a request, b"" for none: cookies of longer paths first."""
        if not self._cookies:
            return b""
        self._drop_ended(now)
        path = target.partition(b"?")[0]
        fitting = [
            each
            for each in self._cookies.values()
            if (self._is_secure or not each.is_secure) and _is_below(path, each.path)
        ]
        fitting.sort(key=lambda each: -len(each.path))
        return b"; ".join([each.name + b"=" + each.value for each in fitting])

    def _set(self, line: bytes, target: bytes, now: float, date: float | None) -> None:
        pair, *attributes = line.split(b";")
        name, sign, value = pair.partition(b"=")
        name, value = name.strip(), value.strip()
        if not sign or not name or any(byte < 0x20 or byte == 0x7F for byte in line if byte != 0x09):
            return
        if len(name) + len(value) > COOKIE_BYTES_LIMIT:
            self.has_overflowed = True
            return
        cookie = _Cookie(name, value)
        cookie.path = _folder(target.partition(b"?")[0])
        if not self._describe(cookie, attributes, now, date):
            return
        key = (cookie.name, cookie.path)
        if cookie.ends_at is not None and cookie.ends_at <= now:
            self._cookies.pop(key, None)
            return
        self._make_room(key, now)
        self._cookies[key] = cookie

    def _make_room(self, key: tuple[bytes, bytes], now: float) -> None:
        if key in self._cookies or len(self._cookies) < COOKIES_LIMIT:
            return
        self._drop_ended(now)
        if len(self._cookies) >= COOKIES_LIMIT:
            self.has_overflowed = True
            del self._cookies[next(iter(self._cookies))]

    def _describe(self, cookie: _Cookie, attributes: list[bytes], now: float, date: float | None) -> bool:
        """Reads the attributes into the cookie. Returns False for a cookie that is not for this server."""
        seconds = until = None
        for attribute in attributes:
            name, _, value = attribute.partition(b"=")
            name, value = name.strip().lower(), value.strip()
            if name == b"path":
                cookie.path = value if value.startswith(b"/") else cookie.path
            elif name == b"secure":
                cookie.is_secure = True
            elif name == b"max-age":
                seconds = _seconds(value, seconds)
            elif name == b"expires":
                until = _seconds_from(date, value)
            elif name == b"domain" and not self._is_within(value):
                return False
        lifetime = seconds if seconds is not None else until
        if lifetime is not None:
            cookie.ends_at = now + min(lifetime, _LONGEST_SECONDS)
        return True

    def _is_within(self, domain: bytes) -> bool:
        domain = domain.lower().removeprefix(b".")
        return not domain or self._host == domain or self._host.endswith(b"." + domain)

    def _drop_ended(self, now: float) -> None:
        for key in [key for key, each in self._cookies.items() if each.ends_at is not None and each.ends_at <= now]:
            del self._cookies[key]


def _seconds(text: bytes, otherwise: float | None) -> float | None:
    """Returns what `Max-Age` says; the attribute is ignored when it is no number."""
    number = integer(text.decode("latin-1"))
    return max(0, number) if number is not None else otherwise


def _seconds_from(date: float | None, text: bytes) -> float | None:
    """Returns how long after the reply's own `Date` a cookie ends; no clock of weir's is compared with the server's.

    Without `Date` only an end in 1970 is believed: servers delete a cookie so.
    """
    # `09-Jun-2021`, as the first servers wrote it
    end = instant(text.replace(b"-", b" "))
    if end is None:
        return None
    if date is None:
        return 0.0 if end < _YEAR_SECONDS else None
    return max(0.0, end - date)


def _folder(path: bytes) -> bytes:
    """Returns the default path of a cookie (RFC 6265, section 5.1.4)."""
    return path[: path.rfind(b"/")] or b"/" if path.startswith(b"/") else b"/"


def _is_below(path: bytes, folder: bytes) -> bool:
    """Returns whether a cookie's path covers a request's (RFC 6265, section 5.1.4)."""
    return path == folder or (path.startswith(folder) and (folder.endswith(b"/") or path[len(folder)] == 0x2F))
