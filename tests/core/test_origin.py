"""Where a caller sits."""

import pytest

from weir.core.origin import network_of


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("", ""),
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("no:address", "no:address"),
    ],
)
def test_an_address_stands_for_itself_and_an_ipv6_address_for_its_network(address: str, expected: str) -> None:
    """The lower 64 bits are the caller's own choice."""
    assert expected == network_of(address)
