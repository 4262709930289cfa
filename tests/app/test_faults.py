"""`/faults` on the diagnostics port, and `weir fault`, which asks it."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from typer.testing import CliRunner, Result

from support.pages import Answer, ask
from support.ports import serving
from weir import cli
from weir.app.census import Census
from weir.app.diagnostics import Clocks, Diagnostics, Subject
from weir.app.fault_client import FaultError, Port, show
from weir.app.faults import FAULT_LIMIT_BYTES, FaultPages, fault_of
from weir.app.health import Health
from weir.config import faults, model
from weir.downstream.asgi import asgi
from weir.policies.faults import FAULTS_LIMIT, Fault, Instead, Registry

pytestmark = pytest.mark.anyio

CONFIG = model.Config.model_validate(
    {"upstreams": [{"name": "files", "command": ["x"]}, {"name": "search", "url": "http://127.0.0.1:1/mcp"}]}
)
JSON = (b"content-type", b"application/json")
HOST = (b"host", b"127.0.0.1:8932")
LATE = {"upstream": "files", "tool": "read_file", "latency": "2s", "percent": 10, "expires": "10m"}


class Bench:
    """The diagnostics application with a registry, and a clock that stands until moved."""

    def __init__(self, *, are_allowed: bool = True) -> None:
        self.now = 500.0
        self.registry = Registry()
        names = [one.name for one in CONFIG.upstreams]
        pages = FaultPages(self.registry, names, lambda: self.now)
        clocks = Clocks(lambda: self.now, lambda: self.now)
        subject = Subject(CONFIG.upstreams, Health(names, lambda: self.now), Census(), self.render, clocks, 1, self.now)
        self.app = Diagnostics(subject, pages if are_allowed else None)

    async def render(self, accept: str) -> tuple[str, bytes]:
        return "text/plain", b""

    async def ask(
        self,
        method: str,
        path: str = "/faults",
        body: object = b"",
        headers: Sequence[tuple[bytes, bytes]] = (HOST, JSON),
    ) -> Answer:
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await ask(self.app, method, path, headers, sent)


@pytest.fixture
def bench() -> Bench:
    """Faults are allowed, and there are none."""
    return Bench()


# the page


@pytest.mark.parametrize(("method", "path"), [("GET", "/faults"), ("POST", "/faults"), ("DELETE", "/faults/f1")])
async def test_without_leave_the_page_says_how_to_give_it(method: str, path: str) -> None:
    """Whatever is asked; nothing is injected."""
    answer = await Bench(are_allowed=False).ask(method, path, LATE)
    expected = "faults are not allowed here; set 'faults: {allow: true}' in weir's configuration and restart it\n"
    assert (403, expected) == (answer.status, answer.body.decode())


async def test_the_index_names_the_page_where_it_is_allowed(bench: Bench) -> None:
    """The pages that there are, and no other."""
    assert b"\n/status\n/faults\n" in (await bench.ask("GET", "/")).body
    assert b"/faults" not in (await Bench(are_allowed=False).ask("GET", "/")).body


async def test_a_fault_is_added_listed_and_cleared(bench: Bench) -> None:
    """Written as in the configuration."""
    answer = await bench.ask("POST", body=LATE)
    listed = {"id": "f1", "upstream": "files", "tool": "read_file", "percent": 10.0, "latency_seconds": 2.0}
    assert (201, {**listed, "remaining_seconds": 600.0}) == (answer.status, answer.json)
    bench.now += 60.06
    assert {"faults": [{**listed, "remaining_seconds": 539.9}]} == (await bench.ask("GET")).json
    assert [Fault("files", "read_file", latency_seconds=2.0, percent=10.0)] == [
        each.fault for each in bench.registry.active(bench.now)
    ]
    assert {"cleared": 1} == (await bench.ask("DELETE", "/faults/f1")).json
    assert ({"faults": []}, 404) == ((await bench.ask("GET")).json, (await bench.ask("DELETE", "/faults/f1")).status)


async def test_all_faults_are_cleared_at_once(bench: Bench) -> None:
    """When it has been enough."""
    for _ in range(3):
        await bench.ask("POST", body=LATE)
    assert {"cleared": 3} == (await bench.ask("DELETE")).json
    assert {"cleared": 0} == (await bench.ask("DELETE")).json


async def test_an_expired_fault_is_not_listed(bench: Bench) -> None:
    """It is over."""
    await bench.ask("POST", body=LATE)
    bench.now += 600
    assert {"faults": []} == (await bench.ask("GET")).json


@pytest.mark.parametrize(
    ("body", "problems"),
    [
        (b"{", ["fault: "]),
        (b"[]", ["must be a mapping"]),
        ({"upstream": "files"}, ["injects nothing; add one of latency"]),
        ({"latency": "2s"}, ["upstream: is required"]),
        (
            {"upstream": "nope", "reset": True},
            ["upstream: 'nope' is the name of no upstream; known here: files, search"],
        ),
        ({"upstream": "files", "latency": 2}, ["latency: '2' has no unit; write for example '5s'"]),
        (
            {"upstream": "files", "reset": True, "timeout": True},
            ["reset: comes instead of the answer, and so does timeout"],
        ),
        ({"upstream": "files", "lattency": "2s", "percent": 0}, ["percent: '0' is too small", "lattency: unknown key"]),
    ],
)
async def test_a_mistake_is_told_with_its_mend(bench: Bench, body: object, problems: list[str]) -> None:
    """In the words of `weir check`."""
    answer = await bench.ask("POST", body=body)
    assert 400 == answer.status
    for problem in problems:
        assert any(told.startswith(problem) or problem == "fault: " for told in answer.json["problems"]), answer.json
    assert bench.registry.is_empty


async def test_a_key_that_is_there_twice_is_a_mistake(bench: Bench) -> None:
    """Which of them was meant?"""
    answer = await bench.ask("POST", body=b'{"upstream":"files","reset":true,"reset":false}')
    assert ["reset: is there twice, first in line 1; keep one"] == answer.json["problems"]


async def test_there_is_a_bound(bench: Bench) -> None:
    """And it says what to do."""
    for _ in range(FAULTS_LIMIT):
        assert 201 == (await bench.ask("POST", body=LATE)).status
    answer = await bench.ask("POST", body=LATE)
    assert (409, ["there are 100 faults already; clear one first"]) == (answer.status, answer.json["problems"])
    assert 413 == (await bench.ask("POST", body=b" " * (FAULT_LIMIT_BYTES + 1))).status
    assert faults.MAX_FAULTS == FAULTS_LIMIT


@pytest.mark.parametrize(
    "headers",
    [
        [(b"host", b"evil.example:8932"), JSON],
        [(b"host", b"10.0.0.7:8932"), JSON],
        [HOST, JSON, (b"origin", b"https://evil.example")],
        [HOST, JSON, (b"origin", b"null")],
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_no_web_page_may_inject_faults(bench: Bench, method: str, headers: list[tuple[bytes, bytes]]) -> None:
    """Neither one of another site nor one that rebinds its name to this machine."""
    await bench.ask("POST", body=LATE)
    answer = await bench.ask(method, body=LATE, headers=headers)
    assert answer.status in (403, 421)
    assert 1 == len(bench.registry.active(bench.now))


async def test_what_is_sent_must_be_called_json(bench: Bench) -> None:
    """A page may send anything else to any site without being asked."""
    for headers in ([HOST], [HOST, (b"content-type", b"text/plain")]):
        assert 415 == (await bench.ask("POST", body=LATE, headers=headers)).status
    headers = [(b"host", b"localhost:8932"), (b"content-type", b"Application/JSON; charset=utf-8")]
    assert 201 == (await bench.ask("POST", body=LATE, headers=headers)).status


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/faults", "GET, HEAD, POST, DELETE"),
        ("GET", "/faults/f1", "DELETE"),
        ("POST", "/faults/f1", "DELETE"),
    ],
)
async def test_other_methods_are_refused(bench: Bench, method: str, path: str, allow: str) -> None:
    """With those that there are."""
    answer = await bench.ask(method, path, LATE)
    assert (405, allow) == (answer.status, answer.headers["allow"])


async def test_other_pages_are_as_before(bench: Bench) -> None:
    """Scrapers ask by any name."""
    answer = await bench.ask("GET", "/healthz", headers=[(b"host", b"weir.example")])
    assert (200, b"ok\n") == (answer.status, answer.body)
    assert (404, 405) == ((await bench.ask("GET", "/faultsx")).status, (await bench.ask("POST", "/healthz")).status)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ({"timeout": True}, Fault("files", instead=Instead.TIMEOUT)),
        ({"reset": "true", "timeout": "false"}, Fault("files", instead=Instead.RESET)),
        ({"status": 503}, Fault("files", instead=Instead.STATUS, code=503)),
        ({"error": -32603}, Fault("files", instead=Instead.ERROR, code=-32603)),
        ({"error": 0}, Fault("files", instead=Instead.ERROR, code=0)),
        ({"is_error": True}, Fault("files", instead=Instead.TOOL_ERROR)),
        ({"garbage": True}, Fault("files", instead=Instead.GARBAGE)),
        (
            {"latency": "1s", "jitter": "500ms", "slow_stream": "100ms", "drop_stream": 0, "duplicate": True},
            Fault(
                "files",
                latency_seconds=1.0,
                jitter_seconds=0.5,
                slow_stream_seconds=0.1,
                drop_stream_events=0,
                duplicate=True,
            ),
        ),
        (
            {"reset": True, "tool": "t", "percent": 5, "expires": "1m"},
            Fault("files", "t", instead=Instead.RESET, percent=5.0, expires_seconds=60.0),
        ),
    ],
)
def test_every_kind_can_be_written(written: dict[str, object], expected: Fault) -> None:
    """In the configuration as on the page."""
    assert expected == fault_of(faults.Fault.model_validate({"upstream": "files", **written}))


# the command


@asynccontextmanager
async def served(bench: Bench) -> AsyncIterator[str]:
    """The application on a port; its address."""
    async with serving(asgi(bench.app), drain_seconds=0.1) as port:
        yield f"127.0.0.1:{port.port}"


async def weir(*arguments: str) -> Result:
    """Run `weir fault` while the server goes on."""
    return await asyncio.to_thread(CliRunner().invoke, cli.commands, ["fault", *arguments])


async def test_the_command_adds_lists_and_clears(bench: Bench) -> None:
    """As the issue writes it."""
    async with served(bench) as address:
        to = ("--diagnostics", address)
        options = (
            "--upstream",
            "files",
            "--tool",
            "read_file",
            "--latency",
            "2s",
            "--percent",
            "10",
            "--expires",
            "10m",
        )
        line = "f1  files read_file  10 %  latency_seconds=2  (600 s left)\n"
        assert (0, line) == outcome(await weir("add", *options, *to))
        assert (0, line) == outcome(await weir("list", *to))
        assert (0, "1 cleared\n") == outcome(await weir("clear", "f1", *to))
        assert (0, "") == outcome(await weir("list", *to))
        assert (0, "0 cleared\n") == outcome(await weir("clear", *to))


def outcome(result: Result) -> tuple[int, str]:
    """Exit code, and what was written."""
    return result.exit_code, result.output


async def test_every_kind_has_its_option(bench: Bench) -> None:
    """One instead of an answer at a time."""
    async with served(bench) as address:

        async def add(*options: str) -> str:
            return outcome(await weir("add", "--upstream", "files", "--diagnostics", address, *options))[1]

        hurt = ("--jitter", "1s", "--slow-stream", "100ms", "--drop-stream", "3", "--duplicate", "--is-error")
        for option in (("--timeout",), ("--reset",), ("--status", "503"), ("--error", "-32603"), ("--garbage",), hurt):
            await add(*option)
        kinds = [
            line.split("%  ")[1].partition("  (")[0]
            for line in outcome(await weir("list", "--diagnostics", address))[1].splitlines()
        ]
        assert ["timeout", "reset", "error_status=503", "jsonrpc_error=-32603", "garbage"] == kinds[:5]
        assert "jitter_seconds=1, slow_stream_seconds=0.1, duplicate, drop_stream_events=3, is_error" == kinds[5]


async def test_what_cannot_be_added_is_told(bench: Bench) -> None:
    """Exit code 2 for a mistake, 1 for what is no mistake of the command line."""
    async with served(bench) as address:
        to = ("--diagnostics", address)
        assert (2, "upstream: 'x' is the name of no upstream; known here: files, search\n") == outcome(
            await weir("add", "--upstream", "x", "--reset", *to)
        )
        assert (2, "there is no fault f9; it may have expired\n") == outcome(await weir("clear", "f9", *to))
    async with served(Bench(are_allowed=False)) as address:
        code, text = outcome(await weir("list", "--diagnostics", address))
        assert (1, True) == (code, text.startswith("faults are not allowed here; set 'faults: {allow: true}'"))


async def test_a_weir_that_is_not_there_is_told() -> None:
    """With what to do."""
    code, text = outcome(await weir("list", "--diagnostics", "127.0.0.1:1"))
    assert (1, True) == (
        code,
        text.startswith("no weir answers at 127.0.0.1:1 (Connection refused); start weir, or say"),
    )
    code, text = outcome(await weir("clear", "--diagnostics", "8932"))
    assert (2, True) == (code, text.startswith("--diagnostics: '8932' names no host"))


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "HTTP 200, and no page of weir's diagnostics"),
        (b"HTTP/1.1 404 X\r\n\r\nno such page", "HTTP 404, and no page of weir's diagnostics"),
        (b"HTTP/1.1 500 X\r\n\r\n{}", "HTTP 500"),
        (b"SSH-2.0\r\n", "what answers there is no whole HTTP reply"),
    ],
)
async def test_whoever_else_answers_is_no_weir(reply: bytes, reason: str) -> None:
    """Another program has the port."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server:
        with pytest.raises(FaultError) as caught:
            await asyncio.to_thread(show, Port(f"{host}:{port}"))
    assert not caught.value.is_mistake
    assert str(caught.value).startswith(f"no weir answers at {host}:{port} ({reason}); start weir, or say")
