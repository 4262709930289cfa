"""The second port's pages."""

from collections.abc import Sequence

import pytest

from support.pages import Answer, ask
from weir.app.census import Census
from weir.app.diagnostics import Clocks, Diagnostics, Subject
from weir.app.health import Health
from weir.app.version import installed_version
from weir.config.model import Config
from weir.core.call import Attempt, Call, Headers, Peer, Transport
from weir.core.events import AttemptFinished, CallStarted, ChildStarted, LimitReached, SessionOpened
from weir.core.outcome import Failed, FailureKind, Outcome, Replied

pytestmark = pytest.mark.anyio

CONFIG = Config.model_validate(
    {
        "upstreams": [
            {
                "name": "search",
                "url": "https://search.example/s/SECRET/mcp?key=SECRET",
                "headers": {"Authorization": "SECRET"},
            },
            {"name": "files", "command": ["/opt/bin/files", "--token", "SECRET"], "env": {"TOKEN": "SECRET"}},
        ]
    }
)
OK = Replied(200, [], b"{}")
DOWN = Failed(FailureKind.CONNECT, "connection refused")


class NoSink:
    """Nobody reads."""

    async def open(self, status: int, headers: Headers) -> None:
        """Nothing."""

    async def write(self, chunk: bytes) -> None:
        """Nothing."""


class Bench:
    """The application, its folds, and clocks that stand until moved."""

    def __init__(self) -> None:
        self.now = 500.0
        self.health = Health([upstream.name for upstream in CONFIG.upstreams], lambda: self.now)
        self.census = Census()
        self.accepted: list[str] = []
        clocks = Clocks(lambda: self.now, lambda: 1_790_000_000.0 + self.now)
        self.subject = Subject(CONFIG.upstreams, self.health, self.census, self.render, clocks, 4711, self.now)
        self.app = Diagnostics(self.subject)

    async def render(self, accept: str) -> tuple[str, bytes]:
        self.accepted.append(accept)
        return "text/metrics", b"metric 1\n"

    def emit(self, *events: object) -> None:
        handlers = {**self.health.handlers(), **self.census.handlers()}
        for event in events:
            handlers[type(event)](event)

    def attempt(self, upstream: str, outcome: Outcome) -> None:
        self.emit(AttemptFinished(Attempt(self.call(upstream), 1, self.now), outcome))

    def call(self, upstream: str, verb: bytes = b"POST") -> Call:
        return Call(upstream=upstream, peer=Peer(Transport.STDIO), sink=NoSink(), received_at=0.0, verb=verb)

    async def ask(self, path: str, method: str = "GET", headers: Sequence[tuple[bytes, bytes]] = ()) -> Answer:
        return await ask(self.app, method, path, headers)


@pytest.fixture
def bench() -> Bench:
    """Nothing has happened yet."""
    return Bench()


async def test_healthz_says_that_the_process_is_alive(bench: Bench) -> None:
    """Whatever the upstreams do."""
    bench.attempt("search", DOWN)
    answer = await bench.ask("/healthz")
    assert (200, b"ok\n", "3") == (answer.status, answer.body, answer.headers["content-length"])


async def test_weir_is_ready_before_the_first_call(bench: Bench) -> None:
    """Unknown is ready: else no call would ever come."""
    answer = await bench.ask("/readyz")
    assert (200, True) == (answer.status, answer.json["ready"])
    expected = {"state": "unknown", "reason": "not asked yet", "since": "2026-09-21T14:21:40Z"}
    assert {"search": expected, "files": expected} == answer.json["upstreams"]


async def test_weir_is_not_ready_while_an_upstream_is_unhealthy(bench: Bench) -> None:
    """And says which, why and since when; degraded is ready."""
    bench.now += 10
    bench.attempt("search", DOWN)
    bench.attempt("files", OK)
    answer = await bench.ask("/readyz")
    assert (503, False) == (answer.status, answer.json["ready"])
    assert {
        "state": "unhealthy",
        "reason": "1 failed of the last 1 attempts, the last 0 s ago: upstream_connect_error: connection refused",
        "since": "2026-09-21T14:21:50Z",
    } == answer.json["upstreams"]["search"]
    assert "healthy" == answer.json["upstreams"]["files"]["state"]
    bench.attempt("search", OK)
    answer = await bench.ask("/readyz")
    assert (200, "degraded") == (answer.status, answer.json["upstreams"]["search"]["state"])


async def test_weir_is_not_ready_while_it_drains(bench: Bench) -> None:
    """So that balancers send no more."""
    bench.subject.is_draining = True
    answer = await bench.ask("/readyz")
    assert (503, True) == (answer.status, answer.json["draining"])


async def test_status_tells_what_is_there(bench: Bench) -> None:
    """One look, for people and scripts."""
    bench.subject.addresses["mcp"] = "http://127.0.0.1:8931"
    bench.emit(CallStarted(bench.call("search")), CallStarted(bench.call("files", b"GET")))
    bench.emit(ChildStarted("files", 99), SessionOpened("files", "client", "2025-11-25"), LimitReached("", "max_body"))
    bench.attempt("search", OK)
    bench.now += 90.04
    since = {"reason": "", "since": "2026-09-21T14:21:40Z"}
    assert {
        "version": installed_version(),
        "pid": 4711,
        "started": "2026-09-21T14:21:40Z",
        "uptime_seconds": 90.0,
        "draining": False,
        "listening": {"mcp": "http://127.0.0.1:8931"},
        "in_flight": 1,
        "streams": 1,
        "upstreams": {
            "search": {
                "kind": "http",
                "url": "https://search.example",
                "state": "healthy",
                **since,
                "in_flight": 1,
                "streams": 0,
                "sessions": {"client": 0, "server": 0},
            },
            "files": {
                "kind": "stdio",
                "program": "files",
                "children": [99],
                "state": "unknown",
                **since,
                "reason": "not asked yet",
                "in_flight": 0,
                "streams": 1,
                "sessions": {"client": 1, "server": 0},
            },
        },
        "limits_reached": {"": {"max_body": 1}},
    } == (await bench.ask("/status")).json


@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz", "/readyz", "/status"])
async def test_no_page_holds_a_secret_and_none_is_cached(bench: Bench, path: str) -> None:
    """Neither arguments, query, headers nor variables."""
    answer = await bench.ask(path)
    assert b"SECRET" not in answer.body
    assert "no-store" == answer.headers["cache-control"]


async def test_metrics_come_in_the_format_that_is_asked_for(bench: Bench) -> None:
    """Accept goes to the renderer, all its lines together."""
    answer = await bench.ask("/metrics", headers=[(b"accept", b"a/b"), (b"host", b"x"), (b"accept", b"c/d;q=0.5")])
    assert (200, "text/metrics", b"metric 1\n") == (answer.status, answer.headers["content-type"], answer.body)
    assert ["a/b, c/d;q=0.5"] == bench.accepted


async def test_the_index_names_the_pages(bench: Bench) -> None:
    """For who forgot."""
    assert b"/metrics\n/healthz\n/readyz\n/status\n" in (await bench.ask("/")).body


@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz", "/readyz", "/status"])
async def test_head_is_get_without_the_body(bench: Bench, path: str) -> None:
    """Headers are the same."""
    got, head = await bench.ask(path), await bench.ask(path, "HEAD")
    assert (got.status, got.headers, b"") == (head.status, head.headers, head.body)


async def test_other_paths_and_methods_are_refused(bench: Bench) -> None:
    """There is nothing to change here."""
    assert [404, 404, 404] == [(await bench.ask(path)).status for path in ("/mcp", "/metrics/", "/status.json")]
    answer = await bench.ask("/status", "POST")
    assert (405, "GET, HEAD") == (answer.status, answer.headers["allow"])
