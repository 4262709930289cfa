"""Durations, sizes, addresses and networks, as operators write them."""

import math
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.config.quantities import Address, address, duration_seconds, network, size_bytes


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0.05, "50ms"), (5.0, "5s"), (600.0, "10m"), (3600.0, "1h"), (90.0, "1m30s"), (0.5, "0.5s"), (86400.0, "1d")],
)
def test_a_duration_has_a_unit(seconds: float, written: str) -> None:
    """Units may be combined."""
    assert seconds == duration_seconds(written)


@pytest.mark.parametrize("written", [5, 5.0, "5", "", "s", "5 s", "-5s", "5sec", "1h-5m", True, None, "5s\n", "٣s"])
def test_what_is_no_duration_is_an_error_with_a_mend(written: object) -> None:
    """A bare number could mean anything."""
    with pytest.raises(ValueError, match=r"write for example '5"):
        duration_seconds(written)


def test_a_duration_beyond_a_year_is_a_mistake() -> None:
    """Timers overflow somewhere beyond it."""
    with pytest.raises(ValueError, match="more than a year"):
        duration_seconds("9999h")


@given(st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_the_parts_of_a_duration_add_up(minutes: int, seconds: int, milliseconds: int) -> None:
    """Whatever the parts."""
    expected = minutes * 60 + seconds + milliseconds / 1000
    assert math.isclose(expected, duration_seconds(f"{minutes}m{seconds}s{milliseconds}ms"), abs_tol=1e-6)


@given(st.text(max_size=20))
def test_any_text_is_a_quantity_or_a_mistake_and_never_a_crash(written: str) -> None:
    """The only exception is ValueError."""
    for parse in (duration_seconds, size_bytes, address, network):
        with suppress(ValueError):
            parse(written)


@pytest.mark.parametrize(
    ("expected", "written"),
    [(16 * 1024**2, "16MiB"), (4_000_000, "4MB"), (512 * 1024, "512KiB"), (1536, "1.5KiB"), (7, "7B"), (1000, "1kB")],
)
def test_a_size_has_a_unit(expected: int, written: str) -> None:
    """Powers of 1024 and of 1000 are told apart."""
    assert expected == size_bytes(written)


@pytest.mark.parametrize("written", [16, "16", "16M", "16 MiB", "-1B", "MiB", None])
def test_what_is_no_size_is_an_error_with_a_mend(written: object) -> None:
    """`16M` is left to guess nowhere."""
    with pytest.raises(ValueError, match="512KiB"):
        size_bytes(written)


@pytest.mark.parametrize(
    ("expected", "written"),
    [
        (Address("127.0.0.1", 8931), "127.0.0.1:8931"),
        (Address("::1", 8931), "[::1]:8931"),
        (Address("localhost", 0), "localhost:0"),
    ],
)
def test_an_address_is_host_and_port(expected: Address, written: str) -> None:
    """It is shown as it was written."""
    assert expected == address(written)
    assert written == str(expected)


@pytest.mark.parametrize(
    ("mend", "written"),
    [
        ("every interface", "8931"),
        ("every interface", 8931),
        ("every interface", ":8931"),
        (r"\[::1\]:8931", "::1:8931"),
        (r"\[::1\]:8931", "[:::1]:8931"),
        ("127.0.0.1:8931", "localhost"),
        ("above 65535", "localhost:65536"),
        ("127.0.0.1:8931", "http://localhost:80"),
        ("127.0.0.1:8931", None),
    ],
)
def test_what_is_no_address_is_an_error_with_a_mend(mend: str, written: object) -> None:
    """The mend fits the mistake."""
    with pytest.raises(ValueError, match=mend):
        address(written)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost", "app.localhost"])
def test_loopback_is_known_by_name_and_number(host: str) -> None:
    """Only this machine reaches it."""
    assert Address(host, 1).is_loopback


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "weir.example"])
def test_everything_else_is_not_loopback(host: str) -> None:
    """The wildcard least of all."""
    assert not Address(host, 1).is_loopback


def test_a_network_is_a_cidr_or_one_address() -> None:
    """Bits beyond the prefix are a mistake."""
    assert "10.0.0.0/8" == str(network("10.0.0.0/8"))
    assert "::1/128" == str(network("::1"))
    with pytest.raises(ValueError, match="beyond its prefix"):
        network("10.1.0.0/8")
