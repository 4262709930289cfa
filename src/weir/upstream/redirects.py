"""Where one server sends HTTP clients by `Location` and `Content-Location`.

Where weir is the client, a redirect that keeps method and body (307, 308) is followed on the same origin. Where weir
relays, the client follows it, and addresses of the server become the paths at which weir serves them.
"""

from collections.abc import Callable
from typing import Final, NamedTuple
from urllib.parse import urljoin

from weir.core.call import Attempt, Headers, header
from weir.core.events import Emit, Notice
from weir.protocol.paths import is_document, is_unsafe
from weir.upstream.dialing import Origin, origin_of

HOPS_LIMIT: Final = 5
"""Redirects followed for one request: a slash, a name, a version. More is a circle."""
PLACES_LIMIT: Final = 16
"""Places that the log has named; a server that names a new one each time must not fill it."""

KEEPS_METHOD: Final = frozenset((307, 308))
REDIRECTS: Final = frozenset((301, 302, 303)) | KEEPS_METHOD
_NAMED: Final = (b"location", b"content-location")

_FOLLOWED: Final = "the server redirects, and weir follows"
_NOT_FOLLOWED: Final = "the server redirects, and weir does not follow"
_CLIENTS_STAY: Final = "the server redirects its clients to another path"
_CLIENTS_LEAVE: Final = "the server redirects its clients past weir"

PublicTarget = Callable[[str, bytes, bytes], bytes]
"""The target at which weir serves a target of an upstream, for a client that asked a path; b"" for none."""


def serves_nothing(name: str, asked: bytes, target: bytes) -> bytes:
    """The public targets of an edge that nobody reaches by HTTP."""
    return b""


class _Place(NamedTuple):
    origin: Origin
    target: bytes


class Redirects:
    """What becomes of the places that one server names."""

    def __init__(self, name: str, origin: Origin, public_target: PublicTarget, emit: Emit) -> None:
        self._name = name
        self._origin = origin
        self._base = f"{origin.scheme}://{origin.authority}"
        self._public_target = public_target
        self._emit = emit
        self._named: set[tuple[int, str]] = set()

    def followed(self, attempt: Attempt, status: int, headers: Headers, *, is_client: bool) -> bytes:
        """Returns the target to ask next, b"" when the redirect is left to the client or is none.

        A redirect that only undoes what weir has made of the client's path would lead the client to where it is.
        """
        if status not in REDIRECTS:
            return b""
        place = self._place(attempt.target, header(headers, b"location"))
        target = self._own_target(place)
        is_followed = target != b"" and _keeps_method(attempt.call.verb, status) and not is_unsafe(_path(target))
        if is_client:
            self._tell(status, place, _FOLLOWED if is_followed else _NOT_FOLLOWED)
        else:
            self._tell(status, place, _CLIENTS_STAY if target else _CLIENTS_LEAVE)
            is_followed = is_followed and self._is_weirs_own(attempt, target)
        return target if is_followed else b""

    def mapped(self, attempt: Attempt, headers: Headers) -> Headers:
        """Returns the headers of a relayed reply; addresses of the server are paths that weir serves.

        Documents below `/.well-known/` keep theirs: clients compare them with where a document was found.
        """
        asked = attempt.call.asked_path
        if not asked or is_document(asked):
            return headers
        return [(name, self._mapped(attempt, value)) if name in _NAMED else (name, value) for name, value in headers]

    def _mapped(self, attempt: Attempt, value: bytes) -> bytes:
        place, asked = self._place(attempt.target, value), attempt.call.asked_path
        if place is None or place.origin != self._origin or is_unsafe(_path(place.target)):
            return value
        target = self._public_target(self._name, asked, place.target)
        if not target:
            return value
        if value[:1] == b"/" and self._place(asked, value) == _Place(self._origin, target):
            # these bytes lead the client there already
            return value
        _, mark, fragment = value.partition(b"#")
        return target + mark + fragment

    def _is_weirs_own(self, attempt: Attempt, target: bytes) -> bool:
        asked = attempt.call.asked_path
        if not asked or _path(target) == _path(attempt.target):
            return False
        return _path(self._public_target(self._name, asked, target)) == asked

    def _place(self, base: bytes, reference: bytes) -> _Place | None:
        """The place that a reference names, seen from a target of the server; None when it cannot be read."""
        text = reference.decode("latin-1")
        if not text.isascii() or not text.isprintable() or " " in text or not text:
            return None
        try:
            url = urljoin(self._base + base.decode("latin-1"), text).partition("#")[0]
            origin = origin_of(url)
        except ValueError:
            return None
        rest = url.partition("://")[2]
        begin = min((at for at in map(rest.find, "/?") if at >= 0), default=len(rest))
        if "@" in rest[:begin]:
            return None
        target = rest[begin:]
        return _Place(origin, (target if target.startswith("/") else "/" + target).encode())

    def _own_target(self, place: _Place | None) -> bytes:
        """The target of a place on the server's own origin; b"" for any other place."""
        return place.target if place is not None and place.origin == self._origin else b""

    def _tell(self, status: int, place: _Place | None, what: str) -> None:
        """Name scheme and host of the place once; paths and queries may hold secrets."""
        where = "a place that cannot be read"
        if place is not None:
            where = f"{place.origin.scheme}://{place.origin.authority}"
        if (status, where) in self._named or len(self._named) >= PLACES_LIMIT:
            return
        self._named.add((status, where))
        level = "info" if what in (_FOLLOWED, _CLIENTS_STAY) else "warning"
        self._emit(Notice(level, what, {"upstream": self._name, "status": status, "to": where}))


def _keeps_method(verb: bytes, status: int) -> bool:
    """Whether a client asks again with the method it had: 301 and 302 make a GET of a POST, and 303 of everything."""
    return status in KEEPS_METHOD or (status in (301, 302) and verb in (b"GET", b"HEAD"))


def _path(target: bytes) -> bytes:
    return target.partition(b"?")[0]
