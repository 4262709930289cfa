"""What a byte costs does not grow with what came before it: every reader of foreign text, at one size and at twice it.

CPU time of this thread, the least of five: a busy machine changes nothing about it.
"""

import gc
import time
from collections.abc import Callable
from typing import Any

import pytest

from weir.config.problems import ConfigError
from weir.config.reading import parse
from weir.core.call import Call, Peer, Transport
from weir.core.events import Listed
from weir.protocol import edit, framing, listing, question, scan, sse
from weir.protocol.envelope import is_ambiguous, peek
from weir.protocol.headers import decode_value, named_by, param_headers
from weir.protocol.http_dates import retry_after
from weir.protocol.salvage import salvage
from weir.protocol.tracecontext import parse as parse_trace
from weir.relay.catalog import Catalog
from weir.relay.tool_headers import ToolHeaders
from weir.telemetry import redact
from weir.upstream.judging import StreamJudge

MOST_TIMES = 2.5
LONGEST_SECONDS = 0.3
MEASUREMENTS = 4
"""A neighbour that takes the caches for a moment spoils one of them; what is quadratic fails them all."""
LEAST_SECONDS = 0.004
"""Below it the clock and the allocator are what is measured."""

Read = Callable[[bytes], Any]


def seconds(read: Read, data: bytes, times: int = 5) -> float:
    """The CPU time of one reading, the least of some. A collection of garbage costs by the heap, not by the byte."""
    found = []
    gc.disable()
    try:
        for _ in range(times):
            began = time.thread_time()
            read(data)
            found.append(time.thread_time() - began)
    finally:
        gc.enable()
    return min(found)


def request(inner: bytes, params: bytes = b'"name":"x","arguments":') -> bytes:
    return b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{%b%b}}' % (params, inner)


def response(inner: bytes) -> bytes:
    return b'{"jsonrpc":"2.0","id":1,"result":{"tools":%b}}' % inner


def array(member: bytes) -> Callable[[int], bytes]:
    return lambda size: b"[%b0]" % (member * (size // len(member)))


def members(form: bytes) -> Callable[[int], bytes]:
    return lambda size: b"{%b}" % b",".join([form % number for number in range(size // (len(form) + 6))])


def repeated(piece: bytes) -> Callable[[int], bytes]:
    return lambda size: piece * (size // len(piece))


SHAPES: dict[str, Callable[[int], bytes]] = {
    "array of numbers": array(b"0,"),
    "array of arrays": array(b"[],"),
    "array of objects": array(b"{},"),
    "array of texts": array(b'"",'),
    "array of NaN": array(b"NaN,"),
    "members": members(b'"%d":0'),
    "twins": array(b"{},"),
    "depth": lambda size: b"[" * (size // 2) + b"]" * (size // 2),
    "escapes": lambda size: b'"%b"' % (b"\\u0041" * (size // 6)),
    "quotes": lambda size: b'"%b' % (b'\\"' * (size // 2)),
    "digits": lambda size: b"9" * size,
    "bad UTF-8": lambda size: b'"%b"' % (b"\xff" * size),
    "spaces": lambda size: b" " * size + b"1",
    "names": members(b'"Name%d":0'),
}


def judged(data: bytes) -> None:
    call = Call(upstream="u", peer=Peer(Transport.HTTP), sink=_Nowhere(), received_at=0.0, message=peek(request(b"1")))
    judge = StreamJudge(_attempt(call))
    for at in range(0, len(data), 65536):
        judge.feed(data[at : at + 65536])


class _Nowhere:
    async def open(self, status: int, headers: Any) -> None: ...
    async def write(self, chunk: bytes) -> None: ...


def _attempt(call: Call) -> Any:
    from weir.core.call import Attempt

    return Attempt(call, 1, 0.0)


def caught(read: Read) -> Read:
    """A reading whose refusal is a ValueError."""

    def run(data: bytes) -> None:
        try:
            read(data)
        except ValueError:
            pass

    return run


def set_trace(body: bytes) -> None:
    edit.set_meta(body, peek(body), {b"traceparent": b'"00-a"'})


def learn_headers(body: bytes) -> None:
    ToolHeaders().learn(body)


def catalogue(body: bytes) -> None:
    Catalog(lambda event: None).handlers()[Listed](Listed("u", "tools/list", body))


READERS: dict[str, Read] = {
    "peek": peek,
    "is_ambiguous": is_ambiguous,
    "set_meta": set_trace,
    "set_id": caught(lambda body: edit.set_id(body, b"7")),
    "question": question.question,
    "asks_for_task": question.asks_for_task,
    "is_conclusive": question.is_conclusive,
    "salvage": salvage,
    "request": caught(scan.request),
    "listing": lambda body: listing.page(body, "tools/list"),
    "catalog": catalogue,
    "tool headers": learn_headers,
}
WRAPS: dict[str, Callable[[bytes], bytes]] = {
    "alone": lambda inner: inner,
    "arguments": request,
    "params": lambda inner: b'{"id":1,"method":"x","params":%b}' % inner,
    "name": lambda inner: request(inner, b'"name":'),
    "twin": lambda inner: b'{"id":1,"method":"x","params":{"a":%b,"a":1}}' % inner,
    "result": response,
    "id": lambda inner: b'{"id":%b,"method":"x"}' % inner,
}
MIB = 1024 * 1024


@pytest.mark.parametrize("reader", READERS)
def test_a_message_costs_by_the_byte(reader: str) -> None:
    """Of every shape, in every place."""
    read = READERS[reader]
    for wrap in WRAPS.values():
        for name, shape in SHAPES.items():
            check_linear(read, lambda size, wrap=wrap, shape=shape: wrap(shape(size)), 96 * 1024, name)  # type: ignore[misc]


@pytest.mark.parametrize("reader", READERS)
def test_no_message_of_16_mib_keeps_the_thread_for_long(reader: str) -> None:
    """Of the nastiest shapes, in the place where they are nastiest."""
    read = READERS[reader]
    for wrap in ("alone", "arguments", "twin", "result"):
        for name in ("array of numbers", "array of arrays", "array of NaN", "quotes"):
            assert seconds(read, WRAPS[wrap](SHAPES[name](16 * MIB - 200)), 1) < LONGEST_SECONDS, (wrap, name)


def check_linear(read: Read, make: Callable[[int], bytes], size: int, name: str) -> None:
    one = two = 0.0
    for _ in range(MEASUREMENTS):
        one, two = seconds(read, make(size)), seconds(read, make(2 * size))
        if two < max(LEAST_SECONDS, one) * MOST_TIMES:
            return
    raise AssertionError(f"{name}: {one:.4f} s, then {two:.4f} s")


def pieces(take: Callable[[], Callable[[bytes], Any]], size: int) -> Read:
    """A reader that is given its bytes in pieces of one size."""

    def run(data: bytes) -> None:
        feed = take()
        for at in range(0, len(data), size):
            feed(data[at : at + size])

    return run


STREAMS: dict[str, Callable[[int], bytes]] = {
    "CR events": repeated(b":\r\r"),
    "LF events": repeated(b"data: x\n\n"),
    "CR LF events": repeated(b"data: x\r\n\r\n"),
    "data lines": repeated(b"data\n"),
    "CR lines": repeated(b"data\r"),
    "comments": repeated(b":\n"),
    "blank lines": repeated(b"\n"),
    "one line": repeated(b"x"),
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_costs_by_the_byte(name: str) -> None:
    """Events and lines, whole and in small pieces, and the judge of replies."""
    shape = STREAMS[name]
    for read in (
        pieces(lambda: sse.Splitter().feed, 65536),
        pieces(lambda: sse.Splitter().feed, 16),
        pieces(lambda: framing.Lines(4 * MIB).feed, 65536),
        pieces(lambda: framing.Lines(4 * MIB).feed, 16),
        judged,
    ):
        check_linear(read, shape, 48 * 1024, name)


@pytest.mark.parametrize("name", ["data lines", "CR lines", "comments", "one line"])
def test_an_event_of_4_mib_does_not_keep_the_thread_for_long(name: str) -> None:
    """However many lines it has. It comes in pieces of at most 256 KiB (asyncio's largest read)."""
    data = STREAMS[name](4 * MIB - 10) + b"\r\n\r\n"
    splitter, longest = sse.Splitter(), 0.0
    for at in range(0, len(data), 256 * 1024):
        longest = max(longest, seconds(splitter.feed, data[at : at + 256 * 1024], 1))
    assert longest < LONGEST_SECONDS


TEXTS: dict[str, Callable[[int], str]] = {
    piece: lambda size, piece=piece: piece * (size // len(piece))  # type: ignore[misc]
    for piece in (
        "token",
        "token-",
        "a",
        "a.",
        "a://",
        "a:",
        "://",
        "bearer ",
        "token=",
        "token='",
        "key ",
        "eyJ",
        "\\",
    )
}
EXPRESSIONS = [
    redact._USERINFO,
    redact._QUERY,
    redact._SCHEME,
    redact._COOKIE,
    redact._NAMED,
    redact._SPOKEN,
    redact._KEY,
]


@pytest.mark.parametrize("name", TEXTS)
def test_redaction_costs_by_the_character(name: str) -> None:
    """Each of its expressions, on lines longer than any that is read."""
    for expression in EXPRESSIONS:
        for end in ("", " " * 20_000, "@"):
            make = TEXTS[name]

            def run(data: bytes, expression: Any = expression) -> None:
                expression.sub("", data.decode())

            check_linear(run, lambda size, make=make, end=end: (make(size) + end).encode(), 20_000, name)  # type: ignore[misc]


def text_reader(read: Callable[[str], Any]) -> Read:
    return lambda data: read(data.decode("latin-1"))


def header_reader(name: bytes) -> Read:
    return lambda data: retry_after([(name, data), (b"date", data)])


def configured(suffix: str) -> Read:
    def run(data: bytes) -> None:
        try:
            parse(data.decode("latin-1"), f"weir.{suffix}")
        except ConfigError:
            pass

    return run


HEADERS: dict[str, Read] = {
    "base64": decode_value,
    "connection": named_by,
    "retry-after": header_reader(b"retry-after"),
    "traceparent": text_reader(parse_trace),
    "schema": caught(param_headers),
    "json": configured("json"),
    "yaml": configured("yaml"),
}
VALUES: dict[str, Callable[[int], bytes]] = {
    piece.decode("latin-1"): repeated(piece)
    for piece in (b"9", b",", b"a,", b" ", b"=?base64?", b"-", b"[", b"/*", b"//\n", b"${", b'"', b"a: ", b"&a ", b"- ")
}


@pytest.mark.parametrize("reader", HEADERS)
def test_a_header_and_a_setting_cost_by_the_byte(reader: str) -> None:
    """And end, whatever they hold."""
    for name, shape in VALUES.items():
        check_linear(HEADERS[reader], shape, 8 * 1024, name)
