"""The cookies that one server has set."""

from http.cookies import SimpleCookie

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.protocol.cookies import COOKIE_BYTES_LIMIT, COOKIES_LIMIT, Jar

DATE = (b"date", b"Wed, 09 Jun 2021 10:18:14 GMT")
NAMES = st.text("abcXYZ019_-", min_size=1, max_size=6)
VALUES = st.text("abcXYZ019=/+.%", max_size=8)


def jar(*lines: bytes, is_secure: bool = False, target: bytes = b"/mcp") -> Jar:
    made = Jar("server.example", is_secure=is_secure)
    made.take([DATE, *((b"set-cookie", line) for line in lines)], target, 0.0)
    return made


@pytest.mark.parametrize(
    ("line", "sent"),
    [
        (b"lb=node7; Path=/; HttpOnly", b"lb=node7"),
        (b"lb=node7", b"lb=node7"),
        (b'a="b c"; SameSite=Lax', b'a="b c"'),
        (b"a=b=c;PATH=/mcp", b"a=b=c"),
        (b"a=; path=/", b"a="),
        (b"a=b; path=relative", b"a=b"),
        (b"a=b; Domain=server.example", b"a=b"),
        (b"a=b; Domain=.EXAMPLE", b"a=b"),
        (b"a=b; Domain=", b"a=b"),
        (b"a=b; Max-Age=10", b"a=b"),
        (b"a=b; Max-Age=nonsense", b"a=b"),
        (b"a=b; Expires=Wed, 09 Jun 2021 10:18:24 GMT", b"a=b"),
        (b"a=b; Expires=nonsense", b"a=b"),
        (b"a=b; Path=/other", b""),
        (b"a=b; Path=/mc", b""),
        (b"a=b; Path=/mcp/", b""),
        (b"a=b; Domain=other.example", b""),
        (b"a=b; Domain=evil-server.example", b""),
        (b"a=b; Secure", b""),
        (b"a=b; Max-Age=0", b""),
        (b"a=b; Max-Age=-1", b""),
        (b"a=b; Max-Age=0; Expires=Wed, 09 Jun 2031 10:18:24 GMT", b""),
        (b"a=b; Expires=Wed, 09 Jun 2021 10:18:13 GMT", b""),
        (b"a=b; expires=Thu, 01-Jan-1970 00:00:00 GMT", b""),
        (b"=b", b""),
        (b"a", b""),
        (b"a=b\x01", b""),
        (b"a\r\nx=b", b""),
    ],
)
def test_a_cookie_is_sent_back_where_it_belongs(line: bytes, sent: bytes) -> None:
    assert sent == jar(line).header(b"/mcp?query", 1.0)


def test_a_secure_cookie_goes_over_tls_only() -> None:
    assert b"a=b" == jar(b"a=b; Secure", is_secure=True).header(b"/mcp", 0.0)


def test_a_cookie_ends_in_time_and_can_be_deleted() -> None:
    kept = jar(b"a=1; Max-Age=10", b"b=2; Expires=Wed, 09 Jun 2021 10:18:34 GMT", b"c=3")
    assert [b"a=1; b=2; c=3", b"b=2; c=3", b"c=3"] == [kept.header(b"/mcp", now) for now in (9.0, 10.0, 20.0)]
    kept.take([(b"set-cookie", b"c=; Expires=Thu, 01 Jan 1970 00:00:00 GMT")], b"/mcp", 21.0)
    assert b"" == kept.header(b"/mcp", 21.0)


def test_a_cookie_replaces_the_one_of_its_name_and_path() -> None:
    kept = jar(b"lb=node1; Path=/", b"lb=node2; Path=/", b"lb=node3; Path=/mcp")
    assert b"lb=node3; lb=node2" == kept.header(b"/mcp", 0.0)
    assert b"lb=node2" == kept.header(b"/other", 0.0)


def test_no_more_and_no_larger_cookies_are_kept_than_the_limits_say() -> None:
    kept = jar(*(b"n%d=x" % number for number in range(COOKIES_LIMIT)))
    assert not kept.has_overflowed
    kept.take([(b"set-cookie", b"last=x")], b"/mcp", 0.0)
    names = [each.partition(b"=")[0] for each in kept.header(b"/mcp", 0.0).split(b"; ")]
    assert (True, COOKIES_LIMIT, b"n1", b"last") == (kept.has_overflowed, len(names), names[0], names[-1])
    large = jar(b"a=" + b"x" * COOKIE_BYTES_LIMIT)
    assert (True, b"") == (large.has_overflowed, large.header(b"/mcp", 0.0))


def test_nothing_shows_what_a_jar_holds() -> None:
    assert "Jar(1 cookies)" == repr(jar(b"a=secret"))


@given(st.lists(st.tuples(NAMES, VALUES), max_size=8))
def test_what_was_set_comes_back_as_other_readers_read_it(pairs: list[tuple[str, str]]) -> None:
    kept = jar(*(f"{name}={value}; Path=/".encode() for name, value in pairs))
    sent = kept.header(b"/mcp", 0.0).decode()
    read = {name: morsel.value for name, morsel in SimpleCookie(sent).items()}
    assert dict(pairs) == (read if sent else {})


@given(st.lists(st.binary(max_size=40), max_size=6), st.binary(max_size=20))
def test_nothing_that_a_server_sets_breaks_a_request(lines: list[bytes], target: bytes) -> None:
    kept = jar(*lines, target=target)
    sent = kept.header(target, 0.0)
    assert not set(b"\r\n\0").intersection(sent)
