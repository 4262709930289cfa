"""The host that an authority names."""

import pytest

from weir.downstream.authority import host_of


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        ("LocalHost:8931", "localhost"),
        ("localhost:", "localhost"),
        ("my_host-1.example", "my_host-1.example"),
        ("[::1]:80", "::1"),
        ("[0:0:0:0:0:0:0:1]", "::1"),
        ("[::ffff:127.0.0.1]", "::ffff:7f00:1"),
    ],
)
def test_a_host_is_read_without_its_port(authority: str, host: str) -> None:
    """In one spelling."""
    assert host == host_of(authority)


@pytest.mark.parametrize(
    "authority",
    [
        "",
        ":80",
        "[::1",
        "[::1].evil",
        "[::1]:x",
        "a:b",
        "a:65536",
        "a@b",
        "a/b",
        "a b",
        "[a]",
        "[::1%25x]",
        "a:1:2",
        "é",
    ],
)
def test_what_is_no_authority_names_no_host(authority: str) -> None:
    """The gate and the head's rules refuse it."""
    assert None is host_of(authority)
