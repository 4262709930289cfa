"""What stdio servers write to stderr becomes lines of weir's log: bounded in length and number, without secrets."""

import tracemalloc

import pytest

from support.watched import Watch
from weir.core.events import LimitReached
from weir.telemetry.server_stderr import KEY_LINES, LINE_LIMIT_BYTES, LINES_A_SECOND, ServerStderr
from weir.telemetry.settings import LogsSettings, TelemetrySettings, TracesSettings

pytestmark = pytest.mark.anyio


def watch_with(logs: LogsSettings) -> Watch:
    """Telemetry that only logs."""
    return Watch(TelemetrySettings(TracesSettings(exporter="none"), logs=logs))


async def told(watch: Watch) -> list[str]:
    """The lines of the server's."""
    return [line["line"] for line in await watch.lines() if line["msg"] == "server stderr"]


async def test_a_line_is_told_with_the_name_of_its_server() -> None:
    """Whole lines, however the bytes come; blank ones are not."""
    watch = watch_with(LogsSettings("json"))
    take = watch.telemetry.stderr_of("files")
    assert take is not None
    for piece in (b"one\r\ntw", b"o\n\n  \nthr", b"ee \xff\nfour"):
        take(piece)
    lines = await watch.lines()
    assert [("info", "files", "one"), ("info", "files", "two"), ("info", "files", "three \ufffd")] == [
        (line["level"], line["upstream"], line["line"]) for line in lines
    ]


async def test_processes_of_one_server_do_not_mix_their_lines() -> None:
    """Each has its own beginnings of lines."""
    watch = watch_with(LogsSettings("json"))
    one, other = watch.telemetry.stderr_of("files"), watch.telemetry.stderr_of("files")
    assert one is not None
    assert other is not None
    one(b"fir")
    other(b"second\n")
    one(b"st\n")
    assert ["second", "first"] == await told(watch)


async def test_what_looks_like_a_credential_is_left_out() -> None:
    """As in every other line."""
    watch = watch_with(LogsSettings("json"))
    take = watch.telemetry.stderr_of("files")
    assert take is not None
    take(b"started with API_KEY=MARKER and Authorization: Bearer MARKER for https://me:MARKER@h/x?k=MARKER\n")
    [line] = await told(watch)
    assert line.startswith("started with API_KEY=")
    assert "MARKER" not in line


async def test_a_line_without_end_is_kept_within_bounds() -> None:
    """The rest of it is dropped, and the next one is whole again."""
    watch = watch_with(LogsSettings("json"))
    take = watch.telemetry.stderr_of("files")
    assert take is not None
    piece = b"x" * 65_536
    tracemalloc.start()
    for _ in range(500):
        take(piece)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 * len(piece)
    take(b"\nnext\n")
    long, after = await told(watch)
    assert (True, "next") == (len(long) <= LINE_LIMIT_BYTES, after)


async def test_a_flood_is_cut_and_counted_once_a_second() -> None:
    """For all processes of the server together."""
    watch = watch_with(LogsSettings("json"))
    events: list[object] = []
    stderr = ServerStderr("files", watch.telemetry._log, events.append, lambda: watch.now)
    for reader in (stderr.reader(), stderr.reader()):
        reader(b"line\n" * LINES_A_SECOND)
    assert LINES_A_SECOND == len(await told(watch))
    watch.now += 1.0
    stderr.reader()(b"again\n")
    assert [*["line"] * LINES_A_SECOND, "again"] == await told(watch)
    assert [LimitReached("files", "stderr_lines")] == events


@pytest.mark.parametrize("logs", [LogsSettings("json", "warning"), LogsSettings("json", stderr=False)])
async def test_nobody_reads_what_nobody_asked_for(logs: LogsSettings) -> None:
    """The level is above info, or it was switched off."""
    assert watch_with(logs).telemetry.stderr_of("files") is None


async def test_a_private_key_over_several_lines_is_left_out() -> None:
    """Only its first line says what it is; what comes behind its end is told again."""
    watch = watch_with(LogsSettings("json"))
    take = watch.telemetry.stderr_of("files")
    assert take is not None
    take(b"before -----BEGIN RSA PRIVATE KEY-----\nMARKER\nMARKER\n-----END RSA PRIVATE KEY----- behind\nnext\n")
    assert ["before [redacted]", "behind", "next"] == await told(watch)


async def test_a_private_key_that_never_ends_hides_the_server_for_a_while_only() -> None:
    """Else one line would silence its server for ever."""
    watch = watch_with(LogsSettings("json"))
    take = watch.telemetry.stderr_of("files")
    assert take is not None
    take(b"-----BEGIN PRIVATE KEY-----\n" + b"x\n" * KEY_LINES + b"seen\n")
    assert ["[redacted]", "seen"] == await told(watch)
