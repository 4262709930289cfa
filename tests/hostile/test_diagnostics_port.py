"""The diagnostics port of a running weir against web pages, other machines and hostile bodies."""

import asyncio
import base64
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.processes import Running
from support.rawhttp import Headers, Reply, fetch
from support.seen import diagnostics_port
from support.weirs import command, weir_http

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

TOKEN = "correct-horse-battery"
OPEN = ("/healthz", "/readyz", "/metrics")
GUARDED = ("/status", "/faults")
FOREIGN_HOST = (b"Host", b"rebound.example:8932")
FOREIGN_ORIGIN = (b"Origin", b"https://evil.example")
BEARER = (b"Authorization", f"Bearer {TOKEN}".encode())
BASIC = (b"Authorization", b"Basic " + base64.b64encode(f"me:{TOKEN}".encode()))


@contextmanager
def weir(directory: Path, host: str, **listen: str) -> Iterator[Running]:
    """weir with its diagnostics on any port of `host`; nobody calls its server."""
    config: dict[str, Any] = {"listen": {"diagnostics": f"{host}:0", **listen}, "faults": {"allow": True}}
    with weir_http(directory, command(["cat"]), config) as one:
        yield one


async def statuses(port: int, pages: Sequence[str], *headers: tuple[bytes, bytes]) -> list[int]:
    """What each page answers to a GET."""
    return [(await fetch(port, "GET", page, list(headers))).status for page in pages]


async def test_a_rebound_name_reads_no_page_that_shows_calls(tmp_path: Path) -> None:
    """Probes and scrapers send any Host; a foreign Origin is refused everywhere."""
    with weir(tmp_path, "127.0.0.1") as one:
        port = await diagnostics_port(one)
        by_name = [await statuses(port, pages, FOREIGN_HOST) for pages in (OPEN, GUARDED)]
        by_page = await statuses(port, (*OPEN, *GUARDED), FOREIGN_ORIGIN)
        own = await statuses(port, (*OPEN, *GUARDED))
    assert [[200] * 3, [421] * 2] == by_name
    assert ([403] * 5, [200] * 5) == (by_page, own)


async def test_beyond_this_machine_status_and_faults_need_a_token_that_is_set(tmp_path: Path) -> None:
    """The refusal says how to set it; the pages for probes and scrapers stay open."""
    with weir(tmp_path, "0.0.0.0") as one:
        port = await diagnostics_port(one)
        replies = [await fetch(port, "GET", page, [BEARER]) for page in GUARDED]
        replies += [await fetch(port, verb, "/faults") for verb in ("POST", "DELETE")]
        opened = await statuses(port, OPEN)
    assert [403] * 4 == [reply.status for reply in replies]
    assert all(b"set listen.diagnostics_token" in reply.body for reply in replies)
    assert [200] * 3 == opened


async def ask_with(port: int, headers: Headers) -> Reply:
    """The status page."""
    return await fetch(port, "GET", "/status", headers)


async def test_the_token_opens_the_pages_as_bearer_or_as_the_password_of_basic(tmp_path: Path) -> None:
    """Anything else is 401 with a challenge, so that a browser asks for it. The token comes out of a file."""
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    wrong = [b"Bearer wrong", b"Bearer ", b"Basic !!!", b"Basic " + base64.b64encode(TOKEN.encode()), TOKEN.encode()]
    with weir(tmp_path, "0.0.0.0", diagnostics_token=f"${{file:{file}}}") as one:
        port = await diagnostics_port(one)
        right = [(await ask_with(port, [header])).status for header in (BEARER, BASIC)]
        others = [await ask_with(port, [(b"Authorization", value)]) for value in wrong]
        others.append(await ask_with(port, []))
        rebound = await ask_with(port, [BEARER, FOREIGN_HOST])
    assert ([200, 200], 421) == (right, rebound.status)
    assert [401] * 6 == [reply.status for reply in others]
    assert all(reply.get(b"www-authenticate").startswith(b"Basic realm=") for reply in others)


def ran(argv: Sequence[str], env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """A command that has ended."""
    return subprocess.run(argv, check=False, capture_output=True, text=True, env=env)


async def test_a_token_is_asked_for_on_loopback_too_once_it_is_set(tmp_path: Path) -> None:
    """A reverse proxy on this machine makes every caller look local. `weir fault` reads it from its variable."""
    with weir(tmp_path, "127.0.0.1", diagnostics_token=TOKEN) as one:
        port = await diagnostics_port(one)
        assert [401, 401] == await statuses(port, GUARDED)
        argv = [sys.executable, "-m", "weir", "fault", "list", "--diagnostics", f"127.0.0.1:{port}"]
        without = await asyncio.to_thread(ran, argv)
        given = await asyncio.to_thread(ran, argv, {"WEIR_DIAGNOSTICS_TOKEN": TOKEN})
    assert (1, True) == (without.returncode, "WEIR_DIAGNOSTICS_TOKEN" in without.stderr)
    assert (0, "", "") == (given.returncode, given.stdout, given.stderr)


ALIASES = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
    b"%c: &%c [%b]\n" % (97 + depth, 97 + depth, b",".join([b"*%c" % (96 + depth)] * 9)) for depth in range(1, 9)
)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        pytest.param(400, ALIASES, id="aliases"),
        pytest.param(400, b"upstream: one\nreset: true\n", id="yaml"),
        pytest.param(400, b"[" * 16_000, id="depth"),
        pytest.param(400, b'{"upstream":"\xff"}', id="not-utf-8"),
        pytest.param(413, b" " * 20_000, id="large"),
        pytest.param(413, b" " * 2_000_000, id="larger"),
        pytest.param(201, b'{"upstream":"one","reset":true}', id="json"),
    ],
)
async def test_a_fault_is_json_and_small(tmp_path: Path, status: int, body: bytes) -> None:
    """YAML's aliases made six seconds of work out of 390 bytes."""
    headers = [(b"Content-Type", b"application/json")]
    with weir(tmp_path, "127.0.0.1") as one:
        port = await diagnostics_port(one)
        reply = await fetch(port, "POST", "/faults", headers, body)
        listed = json.loads((await fetch(port, "GET", "/faults")).body)["faults"]
    assert (status, int(status == 201)) == (reply.status, len(listed))
