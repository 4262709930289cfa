"""weir's own log: notices, children, sessions, limits, other libraries."""

import logging

import msgspec
import pytest

from support.watched import Watch
from weir.core.events import (
    BreakerMoved,
    ChildExited,
    ChildStarted,
    LimitReached,
    LineSkipped,
    Notice,
    SessionClosed,
    SessionOpened,
)
from weir.telemetry.log import Log, json_format, text_format
from weir.telemetry.other_loggers import OtherLoggers
from weir.telemetry.settings import LogsSettings, TelemetrySettings, TracesSettings
from weir.telemetry.writer import Writer

pytestmark = pytest.mark.anyio


def watch_at(level: str) -> Watch:
    return Watch(TelemetrySettings(TracesSettings(exporter="none"), logs=LogsSettings("json", level)))


async def test_a_notice_is_a_line_with_its_fields() -> None:
    """JSON for machines."""
    watch = watch_at("info")
    watch.telemetry.emit(Notice("info", "listening", {"mcp": "127.0.0.1:8931", "tls": False}))
    assert [
        {
            "ts": "2023-11-14T22:15:00.000Z",
            "level": "info",
            "msg": "listening",
            "mcp": "127.0.0.1:8931",
            "tls": False,
        }
    ] == await watch.lines()


async def test_events_below_the_level_are_not_written() -> None:
    """Each level includes those above it."""
    events = [
        SessionOpened("s", "client", "2025-06-18"),
        SessionClosed("s", "client", "2025-06-18", 1.0, "idle"),
        ChildStarted("s", 1),
        ChildExited("s", 1, 0, True, ""),
        ChildExited("s", 1, -9, False, "last words"),
        LineSkipped("s", 1),
        LimitReached("s", "max_body"),
        BreakerMoved("s", "upstream", "closed", "open", "failures", ("0af7",)),
        Notice("error", "broken", {}),
    ]
    counts = []
    for level in ("debug", "info", "warning", "error"):
        watch = watch_at(level)
        for event in events:
            watch.telemetry.emit(event)
        counts.append(len(await watch.lines()))
    assert [9, 7, 5, 1] == counts


async def test_a_childs_last_words_are_written_when_it_died_by_itself() -> None:
    """Without what looks like a credential."""
    watch = watch_at("info")
    watch.telemetry.emit(ChildExited("files", 7, 1, False, "boom\nAPI_KEY=SECRET Authorization: Bearer SECRET\n"))
    (line,) = await watch.lines()
    assert ("warning", 1) == (line["level"], line["code"])
    assert line["stderr"].startswith("boom\nAPI_KEY=")
    assert not line["stderr"].endswith("\n")
    assert "SECRET" not in line["stderr"]


async def test_the_same_limit_is_told_once_a_minute() -> None:
    """Of each upstream and kind; the metrics count them all."""
    watch = watch_at("info")
    for upstream in ("a", "b"):
        for _ in range(5):
            watch.telemetry.emit(LimitReached(upstream, "max_body"))
    watch.now += 61
    watch.telemetry.emit(LimitReached("a", "max_body"))
    assert ["a", "b", "a"] == [line["upstream"] for line in await watch.lines()]


def test_text_is_escaped_and_coloured_for_terminals_only() -> None:
    """A notice cannot move the cursor either."""
    plain, coloured = text_format(colours=False), text_format(colours=True)
    assert plain(0.0, "warning", "odd\x1b[2J", {"a": 1}).endswith(b"WARNING odd\\x1b[2J  a=1\n")
    assert b"\x1b[33mWARNING" in coloured(0.0, "warning", "odd", {})


def test_what_other_libraries_log_becomes_a_line() -> None:
    """Warnings and errors, in the same form, once a minute for the same text."""
    written: list[bytes] = []
    writer = Writer(written.append)
    others = OtherLoggers(Log(writer, json_format(), "info", lambda: 0.0))
    others.install()
    try:
        for _ in range(2):
            logging.getLogger("some.library").error("lost %s", "https://user:SECRET@host/x?key=SECRET")
        logging.getLogger("some.library").info("chatter")
    finally:
        others.remove()
    writer.close(5.0)
    (line,) = [msgspec.json.decode(line) for line in b"".join(written).splitlines()]
    assert ("error", "lost https://host/x", "some.library") == (line["level"], line["msg"], line["logger"])
