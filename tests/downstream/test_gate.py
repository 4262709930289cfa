"""Host and Origin: what a rebound page carries is refused, what belongs to us passes."""

import pytest

from weir.downstream.gate import Gate, GateSettings


def status(gate: Gate, host: bytes, origin: bytes) -> int:
    """The status of the refusal, 0 for none."""
    refusal = gate.refusal(host, origin)
    return refusal.status if refusal is not None else 0


@pytest.mark.parametrize(
    "host", [b"localhost", b"localhost:8931", b"127.0.0.1:8931", b"[::1]:8931", b"LOCALHOST:1", b""]
)
def test_loopback_hosts_pass(host: bytes) -> None:
    """Clients on this machine need no configuration."""
    assert None is Gate(GateSettings()).refusal(host, b"")


@pytest.mark.parametrize("host", [b"evil.example", b"evil.example:8931", b"localhost.evil.example", b"127.0.0.1.evil"])
def test_a_foreign_host_is_refused(host: bytes) -> None:
    """A name that was rebound to loopback is still the attacker's name."""
    assert 421 == status(Gate(GateSettings()), host, b"")


def test_allowed_hosts_and_the_public_url_pass() -> None:
    """The operator's own names."""
    gate = Gate(GateSettings(allowed_hosts=frozenset({"mcp.example"}), public_url_host="public.example"))
    assert [None, None] == [gate.refusal(b"mcp.example:443", b""), gate.refusal(b"Public.Example", b"")]


def test_a_star_allows_any_host_but_no_foreign_origin() -> None:
    """The two checks are separate decisions."""
    gate = Gate(GateSettings(allowed_hosts=frozenset({"*"})))
    assert None is gate.refusal(b"anything", b"")
    assert 403 == status(gate, b"anything", b"https://evil.example")


@pytest.mark.parametrize("origin", [b"https://evil.example", b"null", b"http://localhost.evil.example", b"file://"])
def test_a_foreign_origin_is_refused(origin: bytes) -> None:
    """MCP 2025-11-25, basic/transports: servers MUST validate Origin."""
    assert 403 == status(Gate(GateSettings()), b"localhost:8931", origin)


@pytest.mark.parametrize("origin", [b"http://localhost:6274", b"http://127.0.0.1:8931", b"https://app.example"])
def test_own_and_configured_origins_pass(origin: bytes) -> None:
    """A local inspector and a listed web application."""
    gate = Gate(GateSettings(allowed_origins=frozenset({"https://app.example/"})))
    assert None is gate.refusal(b"localhost:8931", origin)


def test_what_is_remembered_is_bounded_by_what_passes() -> None:
    """A flood of invented hosts is refused each time and never stored."""
    gate = Gate(GateSettings())
    assert all(gate.refusal(b"h%d.example" % number, b"") for number in range(5000))
    assert None is gate.refusal(b"localhost", b"")
