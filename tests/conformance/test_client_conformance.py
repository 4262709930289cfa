"""The suite's client scenarios: a mock server judges the Python SDK's client, with weir between the two or not.

This shows that what a client sends arrives (envelope, `Mcp-*` headers) and that what a server does to a client (SSE
polling with `retry`, elicitation defaults, header annotations) arrives too. On stdio the headers are weir's own work.
"""

import functools
import sys

import pytest

from conformance.suite import HERE, Check, lost, run_client
from support.installs import require_installed

pytestmark = [pytest.mark.e2e, pytest.mark.node]

SCENARIOS = [
    ("2025-06-18", "initialize"),
    ("2025-06-18", "tools_call"),
    ("2025-11-25", "initialize"),
    ("2025-11-25", "tools_call"),
    ("2025-11-25", "elicitation-sep1034-client-defaults"),
    ("2025-11-25", "sse-retry"),
    ("2025-11-25", "json-schema-2020-12-preservation"),
    ("2026-07-28", "tools_call"),
    ("2026-07-28", "request-metadata"),
    ("2026-07-28", "sep-2322-client-request-state"),
    ("2026-07-28", "http-standard-headers"),
    ("2026-07-28", "http-custom-headers"),
    ("2026-07-28", "http-invalid-tool-headers"),
    ("2026-07-28", "json-schema-ref-no-deref"),
    ("2026-07-28", "json-schema-2020-12-preservation"),
]
"""Every client scenario but authorization: there a client compares the resource's origin with the one it dialled."""


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    require_installed(HERE / "setup.sh")


def run(pairing: str, wire: str, scenario: str) -> list[Check]:
    """One scenario with the SDK's client on that pairing."""
    return run_client(f"{sys.executable} {HERE / 'client_through.py'} {pairing}", wire, scenario)


@functools.cache
def direct(wire: str, scenario: str) -> list[Check]:
    """The baseline, run once a scenario."""
    return run("direct", wire, scenario)


@pytest.mark.parametrize(("wire", "scenario"), SCENARIOS)
@pytest.mark.parametrize("pairing", ["http", "stdio"])
def test_a_client_behind_weir_is_judged_as_without_it(pairing: str, wire: str, scenario: str) -> None:
    """Every check that succeeds for the client by itself succeeds with weir in the middle."""
    gone = lost({scenario: direct(wire, scenario)}, {scenario: run(pairing, wire, scenario)})
    assert [] == gone, "\n".join(map(str, gone))
