"""The official conformance suite finds behind weir what it finds at the server itself: no check is lost."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.differences import WITHOUT_HTTP
from conformance.suite import HERE, WIRES, Results, lost, report, run_suite, verdict
from support.installs import require_installed
from support.processes import free_port, running
from support.weirs import GENEROUS, UNTRACED, Config, command, weir_http

pytestmark = [pytest.mark.e2e, pytest.mark.node]


@pytest.fixture(scope="module")
def server_port() -> Iterator[int]:
    """The suite's reference server."""
    require_installed(HERE / "setup.sh")
    port = free_port()
    with running(["bash", HERE / "serve.sh", str(port)], port=port):
        yield port


@pytest.fixture(scope="module")
def baseline(server_port: int) -> Results:
    """What the suite says of the reference server itself."""
    return run_suite(f"http://localhost:{server_port}/mcp")


def of_wire(results: Results, wire: str) -> Results:
    """The scenarios of one revision."""
    return {name: checks for name, checks in results.items() if name.startswith(f"{wire}/")}


def through_weir(directory: Path, upstream: Config, wire: str, config: Config = UNTRACED) -> Results:
    """What the suite says of weir before that upstream."""
    with weir_http(directory, upstream, config) as weir:
        return run_suite(f"http://localhost:{weir.port}/mcp", [wire])


def test_the_reference_server_passes_every_scenario_by_itself(baseline: Results) -> None:
    """Without this nothing could be lost."""
    failed = [name for name, checks in baseline.items() if verdict(checks) == "FAIL"]
    assert [] == failed, "\n".join(report(baseline))


@pytest.mark.parametrize("wire", WIRES)
def test_nothing_is_lost_from_http_to_http(wire: str, baseline: Results, server_port: int, tmp_path: Path) -> None:
    """Every check of a revision that succeeds at the server succeeds through weir."""
    results = through_weir(tmp_path, {"url": f"http://localhost:{server_port}/mcp"}, wire)
    gone = lost(of_wire(baseline, wire), results)
    assert [] == gone, "\n".join(map(str, gone))


@pytest.mark.parametrize("wire", WIRES[-2:])
def test_nothing_is_lost_with_every_policy_on(wire: str, baseline: Results, server_port: int, tmp_path: Path) -> None:
    """At settings that nothing reaches, policies change nothing: a handshake revision, and the stateless one."""
    upstream = {"url": f"http://localhost:{server_port}/mcp"}
    gone = lost(of_wire(baseline, wire), through_weir(tmp_path, upstream, wire, {**UNTRACED, **GENEROUS}))
    assert [] == gone, "\n".join(map(str, gone))


@pytest.mark.parametrize("wire", WIRES)
def test_nothing_is_lost_from_http_to_stdio(wire: str, baseline: Results, tmp_path: Path) -> None:
    """The same server as weir's child gives the same results, but for the listed differences."""
    results = through_weir(tmp_path, command(["bash", HERE / "serve.sh", "stdio"]), wire)
    gone = [one for one in lost(of_wire(baseline, wire), results) if (one.scenario, one.check) not in WITHOUT_HTTP]
    assert [] == gone, "\n".join(map(str, gone))
