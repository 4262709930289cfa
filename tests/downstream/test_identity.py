"""Who a client is, with and without proxies in front."""

import ipaddress

import pytest

from weir.core.call import NOWHERE, Call, Headers, Peer, Transport
from weir.downstream.identity import HOPS_LIMIT, ClientKey, Forwarded, peer_address

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


@pytest.mark.parametrize(
    ("hop", "client"),
    [
        (b"::ffff:198.51.100.1", "198.51.100.1"),
        (b"::FFFF:c633:6401", "198.51.100.1"),
        (b"[::ffff:198.51.100.1]:80", "198.51.100.1"),
        (b"[2001:db8::1]", "2001:db8::1"),
        (b"2001:0DB8::0001", "2001:db8::1"),
        (b"198.51.100.1, ::ffff:10.1.1.1", "198.51.100.1"),
        (b"198.51.100.1:garbage", "10.0.0.1"),
        (b"198.51.100.1:80:90", "10.0.0.1"),
        (b"198.51.100.1:65536", "10.0.0.1"),
        (b"198.51.100.1%eth0", "10.0.0.1"),
        (b"fe80::1%eth0", "10.0.0.1"),
        (b"fe80::1%" + b"z" * 3000, "10.0.0.1"),
        (b"[2001:db8::1", "10.0.0.1"),
        (b"[2001:db8::1]garbage", "10.0.0.1"),
        (b"[2001:db8::1]:x", "10.0.0.1"),
        (b"[198.51.100.1]", "10.0.0.1"),
        (b"", "10.0.0.1"),
        (b"\xb2.1.1.1", "10.0.0.1"),
        (b"unknown", "10.0.0.1"),
        (b"_hidden", "10.0.0.1"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_an_address_has_one_spelling_and_nonsense_is_none(hop: bytes, client: str) -> None:
    """Otherwise one client would have several names, or choose its name."""
    assert client == Forwarded(PROXIES).client("10.0.0.1", chain(hop))


def test_proxies_are_trusted_in_either_form_of_their_address() -> None:
    """A listener on [::] sees IPv4 peers in IPv6 form, and operators may write the networks so."""
    mapped = [ipaddress.ip_network("::ffff:10.0.0.0/104")]
    assert "198.51.100.1" == Forwarded(mapped).client("10.0.0.1", chain(b"198.51.100.1"))
    assert "198.51.100.1" == Forwarded(PROXIES).client("::ffff:10.0.0.1", chain(b"198.51.100.1"))
    assert ["10.0.0.1", "fe80::1", "::1"] == [peer_address(text) for text in ("::ffff:10.0.0.1", "fe80::1%eth0", "::1")]


def test_a_chain_of_proxies_is_followed_so_far_and_no_further() -> None:
    """A client that reaches a trusted proxy can put thousands of trusted addresses before its own."""
    claimed = b",".join([b"198.51.100.1", *[b"10.1.1.1"] * (HOPS_LIMIT - 1)])
    assert "198.51.100.1" == Forwarded(PROXIES).client("10.0.0.1", chain(claimed))
    assert "10.1.1.1" == Forwarded(PROXIES).client("10.0.0.1", chain(claimed + b",10.1.1.1"))


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
