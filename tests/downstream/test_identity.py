"""Who a client is, with and without proxies in front."""

import ipaddress

import pytest

from weir.core.call import NOWHERE, Call, Headers, Peer, Transport
from weir.downstream.identity import ClientKey, Forwarded

PROXIES = [ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8")]


def chain(*values: bytes) -> Headers:
    return [(b"x-forwarded-for", value) for value in values]


def test_nobody_is_believed_unless_trusted() -> None:
    """A client can write any header it likes."""
    assert "203.0.113.9" == Forwarded(PROXIES).client("203.0.113.9", chain(b"198.51.100.1"))
    assert "10.0.0.1" == Forwarded([]).client("10.0.0.1", chain(b"198.51.100.1"))


@pytest.mark.parametrize(
    ("values", "client"),
    [
        ([b"198.51.100.1"], "198.51.100.1"),
        ([b"198.51.100.1, 10.1.1.1"], "198.51.100.1"),
        ([b"6.6.6.6, 198.51.100.1, 10.1.1.1"], "198.51.100.1"),
        ([b"198.51.100.1", b"10.1.1.1"], "198.51.100.1"),
        ([b"198.51.100.1:4711"], "198.51.100.1"),
        ([b"[2001:db8::1]:4711, fd00::2"], "2001:db8::1"),
        ([b"nonsense, 10.1.1.1"], "10.1.1.1"),
        ([], "10.0.0.1"),
        ([b"10.2.2.2, 10.1.1.1"], "10.2.2.2"),
    ],
)
def test_the_client_is_the_last_that_is_no_trusted_proxy(values: list[bytes], client: str) -> None:
    """What stands before it was claimed by that client."""
    assert client == Forwarded(PROXIES).client("10.0.0.1", chain(*values))


def call(*headers: tuple[bytes, bytes], address: str = "203.0.113.9") -> Call:
    return Call(upstream="u", peer=Peer(Transport.HTTP, address), sink=NOWHERE, received_at=0.0, headers=list(headers))


def test_a_configured_header_names_the_client_by_its_hash() -> None:
    """The credential itself is never kept."""
    key = ClientKey(b"Authorization")
    one = key(call((b"authorization", b"Bearer secret")))
    assert one == key(call((b"authorization", b"Bearer secret"), address="198.51.100.1"))
    assert one != key(call((b"authorization", b"Bearer other")))
    assert "secret" not in one


def test_without_the_header_it_is_the_address_and_on_a_pipe_there_is_one_client() -> None:
    """Never the session."""
    assert "203.0.113.9" == ClientKey(b"authorization")(call((b"mcp-session-id", b"s")))
    assert "203.0.113.9" == ClientKey(b"")(call((b"authorization", b"Bearer secret")))
    assert "stdio" == ClientKey(b"")(call(address=""))
