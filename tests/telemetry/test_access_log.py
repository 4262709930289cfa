"""One line for each finished request."""

import time
from collections.abc import Callable, Iterator

import pytest

from support.watched import Watch, answer, call_of, giving, tool_call, watching
from weir.core.events import RequestRefused
from weir.core.outcome import Failed, FailureKind, Outcome, RefusalKind, Refused, Replied, Verdict
from weir.telemetry.access_log import coloured_line, text_line
from weir.telemetry.build import Telemetry
from weir.telemetry.line import Line
from weir.telemetry.settings import LogsSettings, TelemetrySettings, TracesSettings

pytestmark = pytest.mark.anyio


def logging(level: str = "info", access: bool = True) -> Watch:
    return Watch(TelemetrySettings(TracesSettings(exporter="none"), logs=LogsSettings("json", level, access)))


async def test_a_line_says_who_asked_what_how_it_ended_and_where_the_time_went() -> None:
    """Every field of a plain call; what is empty is left out."""
    async with watching() as watch:
        call = call_of(tool_call("add"), revision="2025-06-18")
        call.body_at = 100.001
        await watch.serve(call, answer)
        (line,) = await watch.lines()
    assert call.trace is not None
    assert {
        "ts": "2023-11-14T22:15:00.250Z",
        "level": "info",
        "msg": "call",
        "upstream": "search",
        "mcp_method": "tools/call",
        "tool": "add",
        "outcome": "replied",
        "reason": "ok",
        "status": 200,
        "duration_ms": 250.0,
        "attempts": 1,
        "phases": {"receive": pytest.approx(1, abs=0.002), "upstream_first_byte": 250.0},
        "bytes_in": len(call.body),
        "bytes_out": 36,
        "client": "127.0.0.7",
        "revision": "2025-06-18",
        "trace_id": call.trace.trace_id,
        "span_id": call.trace.span_id,
    } == line


@pytest.mark.parametrize(
    ("outcome", "level", "wanted"),
    [
        (
            Failed(FailureKind.TIMEOUT, "no answer in 5 s"),
            "error",
            {"outcome": "failed", "reason": "upstream_timeout", "detail": "no answer in 5 s"},
        ),
        (Failed(FailureKind.CANCELLED, "gone"), "info", {"outcome": "failed", "reason": "cancelled"}),
        (Failed(FailureKind.EXITED, "token=SECRET " + "x" * 900), "error", {"detail": "token=[redacted] " + "x" * 383}),
        (
            Refused(RefusalKind.OVERLOADED, "full"),
            "warning",
            {"outcome": "refused", "reason": "overloaded", "blame": "weir", "detail": "full"},
        ),
        (
            Replied(200, [], b"", Verdict(-32603, "SECRET")),
            "warning",
            {"reason": "server_error", "error": "-32603"},
        ),
        (Replied(200, [], b"", Verdict(-32602, "SECRET")), "info", {"reason": "caller_error", "error": "-32602"}),
        (Replied(200, [], b"", Verdict(is_tool_error=True)), "warning", {"reason": "tool_error"}),
    ],
)
async def test_the_level_says_whether_to_look(outcome: Outcome, level: str, wanted: dict[str, str]) -> None:
    """A server's message is not written: it quotes arguments. What weir says of a failure is, cut short."""
    watch = logging()
    await watch.serve(call_of(tool_call()), giving(outcome))
    (line,) = await watch.lines()
    assert level == line["level"]
    assert wanted.items() <= line.items()
    assert b"SECRET" not in b"".join(watch.written)


async def test_notifications_are_written_at_debug_only() -> None:
    """Unless they failed."""
    body = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
    for level, outcome, count in (
        ("debug", Replied(202, [], b""), 1),
        ("info", Replied(202, [], b""), 0),
        ("info", Failed(FailureKind.RESET, ""), 1),
    ):
        watch = logging(level)
        await watch.serve(call_of(body), giving(outcome))
        assert count == len(await watch.lines())


async def test_the_access_log_can_be_switched_off_or_cut_to_what_failed() -> None:
    """By setting and by level."""
    for watch, count in ((logging(access=False), 0), (logging("error"), 0), (logging(), 1)):
        await watch.serve(call_of(tool_call()), answer)
        assert count == len(await watch.lines())


async def test_every_other_exchange_has_a_line_of_its_own() -> None:
    """A GET stream, a body that cannot be read; at the level of details a client's answer, too."""
    for level, verbs in (("info", ["GET", "POST"]), ("debug", ["GET", "POST", "POST"])):
        watch = logging(level)
        await watch.serve(call_of(b""), answer)
        await watch.serve(call_of(b"not JSON"), answer)
        await watch.serve(call_of(b'{"jsonrpc":"2.0","id":1,"result":{}}'), answer)
        lines = await watch.lines()
        assert [("exchange", verb) for verb in verbs] == [(line["msg"], line["verb"]) for line in lines]


async def test_a_request_that_was_refused_before_it_was_a_call_has_a_line() -> None:
    """With the reason and the client; its path and headers are not in it."""
    watch = logging()
    watch.telemetry.emit(RequestRefused("", 431, "header_size", "192.0.2.7"))
    (line,) = await watch.lines()
    del line["ts"]
    assert {
        "level": "warning",
        "msg": "request refused",
        "upstream": "",
        "mcp_method": "",
        "outcome": "refused",
        "duration_ms": 0.0,
        "reason": "header_size",
        "status": 431,
        "client": "192.0.2.7",
    } == line


async def test_every_member_of_a_batch_has_a_line() -> None:
    """With its own outcome."""
    reply = b'[{"jsonrpc":"2.0","id":1,"result":{}},{"jsonrpc":"2.0","id":2,"error":{"code":-32603,"message":""}}]'
    watch = logging()
    await watch.serve(
        call_of(b"[" + tool_call("a", "1") + b"," + tool_call("b", "2") + b"]"), giving(Replied(200, [], reply))
    )
    assert [("a", "ok"), ("b", "server_error")] == [(line["tool"], line["reason"]) for line in await watch.lines()]


LINE = Line(
    "2023-11-14T22:15:00.250Z",
    "warning",
    "call",
    "search",
    "tools/call",
    "replied",
    12.34,
    "add\x1b[2J",
    "server_error",
    "-32603",
    attempts=2,
    phases={"relay": 0.1},
    trace_id="0af7",
    detail="gone\nfor good",
)


@pytest.fixture
def be_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Moves the process into a time zone."""

    def move(zone: str) -> None:
        monkeypatch.setenv("TZ", zone)
        time.tzset()

    yield move
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def utc(be_in: Callable[[str], None]) -> None:
    """Text is for people, in their own time; here that is UTC."""
    be_in("UTC")


def test_text_tells_the_time_of_its_reader(be_in: Callable[[str], None]) -> None:
    """As the other lines of the log do."""
    be_in("Asia/Tokyo")
    assert text_line(LINE).startswith(b"07:15:00 ")


@pytest.mark.usefixtures("utc")
def test_text_is_one_readable_line_that_cannot_move_the_cursor() -> None:
    """What a caller invents is escaped."""
    assert (
        b"22:15:00 WARNING tools/call add\\x1b[2J \xe2\x86\x92 replied server_error 12.3 ms (relay 0.1) search"
        b" error=-32603 attempts=2 trace=0af7 detail=gone\\nfor good\n"
    ) == text_line(LINE)


def test_colours_are_for_terminals() -> None:
    """And are always ended."""
    assert b"\x1b[33m" in coloured_line(LINE)
    assert coloured_line(LINE).endswith(b"\x1b[0m\n")
    assert b"\x1b" not in text_line(LINE)


@pytest.mark.usefixtures("utc")
@pytest.mark.parametrize(
    ("form", "is_terminal", "beginning"),
    [
        ("auto", True, b"\x1b[2m"),
        ("auto", False, b'{"ts":'),
        ("json", True, b'{"ts":'),
        ("text", False, b"22:"),
        ("text", True, b"\x1b[2m"),
    ],
)
async def test_the_form_follows_the_setting_or_the_terminal(form: str, is_terminal: bool, beginning: bytes) -> None:
    """auto: text on a terminal, else JSON."""
    watch = Watch(TelemetrySettings(TracesSettings(exporter="none"), logs=LogsSettings(form)))
    world = type(watch.world)(
        clock=watch.world.clock, wall=watch.world.wall, write=watch.written.append, is_terminal=is_terminal
    )
    watch.telemetry = Telemetry(watch.settings, world)
    await watch.serve(call_of(tool_call()), answer)
    await watch.telemetry.aclose()
    assert watch.written[0].startswith(beginning)
