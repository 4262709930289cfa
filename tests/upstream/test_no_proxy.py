"""NO_PROXY as operators write it."""

import pytest

from weir.upstream.no_proxy import is_exempt, unreadable


@pytest.mark.parametrize(
    ("host", "entry"),
    [
        pytest.param("example.org", "*", id="all"),
        pytest.param("example.org", "example.org", id="name"),
        pytest.param("a.example.org", "example.org", id="below"),
        pytest.param("a.example.org", ".example.org", id="dot"),
        pytest.param("a.example.org", "*.example.org", id="star"),
        pytest.param("example.org", "Example.ORG", id="case"),
        pytest.param("example.org.", "example.org", id="final-dot-in-the-url"),
        pytest.param("example.org", "example.org.", id="final-dot-in-the-entry"),
        pytest.param("example.org", "example.org.:443", id="final-dot-and-port"),
        pytest.param("example.org", "example.org:443", id="port"),
        pytest.param("xn--bcher-kva.example", "b\u00fccher.example", id="international"),
        pytest.param("10.1.2.3", "10.0.0.0/8", id="range"),
        pytest.param("10.1.2.3", "10.9.9.9/8", id="range-with-host-bits"),
        pytest.param("10.1.2.3", "10.0.0.0/8:443", id="range-and-port"),
        pytest.param("10.1.2.3", "10.1.2.3:443", id="address-and-port"),
        pytest.param("::ffff:10.1.2.3", "10.0.0.0/8", id="mapped-in-the-url"),
        pytest.param("10.1.2.3", "::ffff:10.0.0.0/104", id="mapped-in-the-entry"),
        pytest.param("fd00::1", "fd00::/8", id="range-6"),
        pytest.param("fd00::1", "[fd00::1]", id="brackets"),
        pytest.param("fd00::1", "[fd00::1]:443", id="brackets-and-port"),
        pytest.param("fd00::1", "FD00:0::1", id="another-spelling"),
        pytest.param("example.org", "x , example.org", id="list"),
        pytest.param("example.org", "x example.org", id="blanks"),
        pytest.param("example.org", "h:\u00b2,example.org", id="behind-nonsense"),
    ],
)
def test_an_entry_exempts_what_it_names(host: str, entry: str) -> None:
    """At port 443."""
    assert is_exempt(host, 443, entry)


@pytest.mark.parametrize(
    ("host", "entry"),
    [
        pytest.param("example.org", "", id="nothing"),
        pytest.param("badexample.org", "example.org", id="another-name"),
        pytest.param("example.org", "a.example.org", id="above"),
        pytest.param("example.org", "example.org:80", id="another-port"),
        pytest.param("h", "h:\u00b2", id="superscript-port"),
        pytest.param("h", f"h:{'4' * 5000}", id="digits"),
        pytest.param("h", "h:65536", id="no-port"),
        pytest.param("h", "h:", id="empty-port"),
        pytest.param("10.0.0.1", "0.0.1", id="end-of-an-address"),
        pytest.param("10.0.0.1", "10.0.0.0/33", id="no-range"),
        pytest.param("fd00::1", "[fd00::1", id="open-bracket"),
        pytest.param("a.example", ".", id="dot-alone"),
        pytest.param("a.example", "*.", id="star-dot"),
    ],
)
def test_an_entry_exempts_nothing_else(host: str, entry: str) -> None:
    """Whatever cannot be read exempts nothing, and raises nothing."""
    assert not is_exempt(host, 443, entry)


def test_entries_that_cannot_be_read_are_told() -> None:
    """For `weir check`."""
    assert ["h:\u00b2", "a..b", "10.0.0.0/33"] == unreadable("h:\u00b2, ok.example, a..b 10.0.0.0/33,*,[::1]:80")
