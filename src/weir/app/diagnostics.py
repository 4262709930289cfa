"""The second port: /metrics, /healthz, /readyz, /status, /faults. Nothing here asks an upstream anything.

See diagnostics_access.py for who may read which page.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from weir.app.census import Census
from weir.app.diagnostics_access import Access, AccessSettings
from weir.app.health import Condition, Health, State
from weir.app.pages import Page, Pages, Receive, Scope, Send, json_page, text_page
from weir.app.version import installed_version
from weir.config.model import Upstream
from weir.core.call import Headers

Render = Callable[[str], Awaitable[tuple[str, bytes]]]
"""Content type and body of the metrics, for the value of an Accept header."""

_INDEX = "weir diagnostics\n\n/metrics\n/healthz\n/readyz\n/status\n"
_NO_FAULTS = "faults are not allowed here; set 'faults: {allow: true}' in weir's configuration and restart it\n"


@dataclass(slots=True)
class Clocks:
    """`monotonic` is the clock of the folds; `wall` is seconds since 1970, for people."""

    monotonic: Callable[[], float]
    wall: Callable[[], float]

    def shown(self, instant: float) -> str:
        """An instant of the monotonic clock as a date and time in UTC."""
        at = datetime.fromtimestamp(self.wall() - (self.monotonic() - instant), UTC)
        return at.isoformat(timespec="seconds").replace("+00:00", "Z")


@dataclass(slots=True)
class Subject:
    """What the pages are about. `addresses` is filled in when the ports are bound."""

    upstreams: tuple[Upstream, ...]
    health: Health
    census: Census
    render: Render
    clocks: Clocks
    pid: int
    started_at: float
    standing: Callable[[str], Mapping[str, object]] = lambda upstream: {}
    """How the protections of an upstream stand, by section; see app/standing.py."""
    addresses: dict[str, str] = field(default_factory=dict)
    is_draining: bool = False
    held: Callable[[], Mapping[str, object]] = dict
    """What clients hold of weir now; see app/capacity.py."""


ONLY_THIS_MACHINE = AccessSettings()
"""No token, as no other machine reaches the port."""


class Diagnostics:
    """The ASGI application. `faults` answers below `/faults`, where they are allowed."""

    def __init__(
        self, subject: Subject, faults: Pages | None = None, access: AccessSettings = ONLY_THIS_MACHINE
    ) -> None:
        self._subject = subject
        self._faults = faults
        self._access = Access(access)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. HEAD is GET without the body."""
        if scope["type"] != "http":
            return
        page = await self._page(scope, receive)
        headers = [
            (b"content-type", page.content_type.encode()),
            (b"content-length", str(len(page.body)).encode()),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
        ]
        if page.status == 405:
            headers.append((b"allow", page.allow))
        if page.challenge:
            headers.append((b"www-authenticate", page.challenge))
        await send({"type": "http.response.start", "status": page.status, "headers": headers})
        body = b"" if scope["method"] == "HEAD" else page.body
        await send({"type": "http.response.body", "body": body})

    async def _page(self, scope: Scope, receive: Receive) -> Page:
        path = scope["path"]
        if refused := self._refused(path, scope["headers"]):
            return refused
        if _is_of_faults(path):
            return await self._faults(scope, receive) if self._faults else text_page(403, _NO_FAULTS)
        return await self._shown(scope, path)

    async def _shown(self, scope: Scope, path: str) -> Page:
        if path not in ("/", "/metrics", "/healthz", "/readyz", "/status"):
            return text_page(404, "not found\n")
        if scope["method"] not in ("GET", "HEAD"):
            return text_page(405, "method not allowed\n", b"GET, HEAD")
        match path:
            case "/metrics":
                return Page(200, *await self._subject.render(_accept(scope)))
            case "/healthz":
                return text_page(200, "ok\n")
            case "/readyz":
                return _ready(self._subject)
            case "/status":
                return json_page(200, _status(self._subject))
        return text_page(200, _INDEX + ("/faults\n" if self._faults is not None else ""))

    def _refused(self, path: str, headers: Headers) -> Page | None:
        is_guarded = path == "/status" or _is_of_faults(path)
        return self._access.guarded_page(headers) if is_guarded else self._access.open_page(headers)


def _is_of_faults(path: str) -> bool:
    return path == "/faults" or path.startswith("/faults/")


def _accept(scope: Scope) -> str:
    return ", ".join(value.decode("latin-1") for name, value in scope["headers"] if name == b"accept")


def _ready(subject: Subject) -> Page:
    conditions = subject.health.conditions()
    is_ready = not subject.is_draining and all(one.state is not State.UNHEALTHY for one in conditions.values())
    upstreams = {name: _condition(one, subject.clocks) for name, one in conditions.items()}
    tree = {"ready": is_ready, "draining": subject.is_draining, "upstreams": upstreams}
    return json_page(200 if is_ready else 503, tree)


def _condition(condition: Condition, clocks: Clocks) -> dict[str, object]:
    return {
        "state": condition.state.value,
        "reason": condition.reason,
        "since": clocks.shown(condition.since),
    }


def _status(subject: Subject) -> dict[str, object]:
    conditions = subject.health.conditions()
    names = [upstream.name for upstream in subject.upstreams]
    return {
        "version": installed_version(),
        "pid": subject.pid,
        "started": subject.clocks.shown(subject.started_at),
        "uptime_seconds": round(subject.clocks.monotonic() - subject.started_at, 1),
        "draining": subject.is_draining,
        "listening": subject.addresses,
        "in_flight": sum(map(subject.health.in_flight, names)),
        "streams": sum(map(subject.health.streams, names)),
        "upstreams": {one.name: _upstream(one, conditions[one.name], subject) for one in subject.upstreams},
        "limits_reached": subject.census.limits(),
        **({"held": held} if (held := subject.held()) else {}),
    }


def _upstream(upstream: Upstream, condition: Condition, subject: Subject) -> dict[str, object]:
    """Neither arguments nor query: they may be secrets."""
    about: dict[str, object] = {"kind": "http", "url": upstream.shown_url}
    if upstream.is_stdio:
        about = {"kind": "stdio", "program": upstream.program, "children": subject.census.children(upstream.name)}
    standing = subject.standing(upstream.name)
    return {
        **about,
        **_condition(condition, subject.clocks),
        "in_flight": subject.health.in_flight(upstream.name),
        "streams": subject.health.streams(upstream.name),
        "sessions": subject.census.sessions(upstream.name),
        **({"protections": standing} if standing else {}),
    }
