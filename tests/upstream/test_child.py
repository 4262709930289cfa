"""A stdio server's process: what it says, how it is told, and that nothing of it is left."""

import asyncio
import json
import os
import signal
import socket
from typing import Any

import psutil
import pytest

from support.bridges import request, tool
from support.limits import HANG_SECONDS
from support.stdio_children import LOOPS, Heard, child, launching, members, script
from weir.core.events import ChildExited, ChildStarted, LineSkipped
from weir.core.outcome import Failed, FailureKind, Sent
from weir.protocol.envelope import Kind
from weir.upstream.child import Child, ChildSettings
from weir.upstream.child_environment import INHERITED

pytestmark = pytest.mark.anyio


@pytest.fixture(params=LOOPS, ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Both event loops."""
    return request.param


def only(events: list[Any], kind: type) -> Any:
    """The one event of this type."""
    found = [event for event in events if isinstance(event, kind)]
    assert 1 == len(found), events
    return found[0]


def text(body: bytes) -> str:
    """What a tool said."""
    return str(json.loads(body)["result"]["content"][0]["text"])


async def test_what_it_says_arrives_as_it_was_written() -> None:
    """Every line is one message, bytes unchanged, in order."""
    lines = ['{"jsonrpc":"2.0","method":"notifications/x","params":{"n":1.0, "é":"\\u00e9"}}', '{"id":$ID,"result":{}}']
    async with child(script()) as one:
        assert await one.child.send(tool("say", 7, lines=lines)) is None
        heard = await one.heard.count(2)
    assert lines[0].encode() == heard[0]
    assert b'{"id":7,"result":{}}' == heard[1]
    assert [Kind.NOTIFICATION, Kind.RESPONSE] == [message.kind for message in one.heard.messages]


async def test_a_body_with_line_ends_is_one_line() -> None:
    """JSON may be spread over lines; a pipe has one line a message."""
    body = b'{\n"jsonrpc":"2.0",\r\n"id":1,"method":"echo","params":{}}'
    async with child(script()) as one:
        await one.child.send(body)
        [heard] = await one.heard.count(1)
    assert b'"method": "echo"' in heard


async def test_lines_that_are_no_json_are_skipped_and_counted() -> None:
    """A banner on stdout harms nobody."""
    lines = ["Starting server...", "", "{broken", '{"id":$ID,"result":{}}']
    async with child(script()) as one:
        await one.child.send(tool("say", lines=lines))
        assert 1 == len(await one.heard.count(1))
    assert [18, 7] == [event.size for event in one.events if isinstance(event, LineSkipped)]


async def test_json_that_only_some_decoders_read_still_has_an_id() -> None:
    """NaN and lone surrogates: the answer finds its request, its bytes untouched."""
    lines = ['{"id":$ID,"result":{"n":NaN}}', '{"id":"b","result":{"s":"\\ud800"}}']
    async with child(script()) as one:
        await one.child.send(tool("say", 7, lines=lines))
        heard = await one.heard.count(2)
    assert b'{"id":7,"result":{"n":NaN}}' == heard[0]
    assert [b"7", b'"b"'] == [message.id for message in one.heard.messages]


async def test_the_last_line_needs_no_end() -> None:
    """A server that exits without a final newline has said it all the same."""
    command = ("/bin/sh", "-c", """read line; printf '{"id":1,"result":{}}'""")
    async with child(script(command=command)) as one:
        await one.child.send(request("any", {}))
        assert [b'{"id":1,"result":{}}'] == await one.heard.count(1)
        await one.heard.until(lambda heard: bool(heard.why))


async def test_a_line_over_the_limit_is_lost_and_told() -> None:
    """It is neither kept in memory nor passed in pieces."""
    async with child(script(line_limit_bytes=1000)) as one:
        await one.child.send(tool("big", size=300_000))
        await one.heard.until(lambda heard: heard.overflows == 1)
        await one.child.send(tool("echo", 2))
        [heard] = await one.heard.count(1)
    assert b'"id": 2' in heard
    assert 1000 == only(one.events, LineSkipped).size


async def test_it_gets_little_of_the_environment() -> None:
    """weir's own secrets stay with weir; what is configured is added."""
    os.environ["WEIR_TEST_SECRET"] = "s"
    try:
        async with child(script(env={"EXTRA": "1"})) as one:
            await one.child.send(tool("env"))
            [heard] = await one.heard.count(1)
    finally:
        del os.environ["WEIR_TEST_SECRET"]
    # an interpreter may set its own locale
    seen = set(json.loads(text(heard))) - {"LC_CTYPE"}
    assert {name for name in INHERITED if name in os.environ} | {"EXTRA"} == seen


async def test_it_gets_nothing_of_the_open_files() -> None:
    """Three pipes, once each: not weir's listening socket, not another child's pipe."""
    with socket.socket() as kept:
        kept.set_inheritable(True)
        async with child(script()) as one:
            await one.child.send(tool("files"))
            [heard] = await one.heard.count(1)
    # the fourth is the directory that is being listed
    assert [0, 1, 2, 3] == json.loads(text(heard))


async def test_stderr_is_always_drained_and_its_end_is_kept() -> None:
    """A server that complains much does not block, and its last words are known."""
    heard_on_stderr = bytearray()
    async with child(script(), heard_on_stderr.extend) as one:
        await one.child.send(tool("stderr", size=1_000_000))
        await one.heard.count(1)
        await one.child.send(tool("exit", why="disk full", code=9))
        await one.heard.until(lambda heard: bool(heard.why))
    assert b"disk full" in heard_on_stderr
    exited = only(one.events, ChildExited)
    assert (9, False) == (exited.code, exited.expected)
    assert 4096 == len(exited.stderr_tail)
    assert exited.stderr_tail.endswith("disk full\n")


async def test_an_exit_is_told_once_with_its_code_and_without_the_servers_words() -> None:
    """Callers read the detail; stderr may hold what is not for them."""
    async with child(script()) as one:
        await one.child.send(tool("exit", why="cannot open /data: " + "x" * 500, code=3))
        await one.heard.until(lambda heard: bool(heard.why))
        again = await one.child.send(tool("echo"))
    [why] = one.heard.why
    assert (FailureKind.EXITED, Sent.YES) == (why.kind, why.sent)
    assert "exited with code 3; weir's log has its last stderr lines" == why.detail
    assert again is not None
    assert (FailureKind.EXITED, Sent.NO) == (again.kind, again.sent)


async def test_a_signal_that_ended_it_is_named() -> None:
    """`exited with code -9` says less."""
    async with child(script()) as one:
        os.kill(one.child.pid, signal.SIGKILL)
        await one.heard.until(lambda heard: bool(heard.why))
    assert "was ended by SIGKILL" == one.heard.why[0].detail


async def test_a_server_that_closes_its_stdout_and_runs_on_has_ended() -> None:
    """It can say nothing more: whoever waits is told at once, and the ladder ends it."""
    command = ("/bin/sh", "-c", "exec >&-; trap '' TERM; sleep 100 & wait; sleep 100")
    async with child(script(command=command, eof_seconds=2, term_seconds=2)) as one:
        began = asyncio.get_running_loop().time()
        await one.heard.until(lambda heard: bool(heard.why))
        assert asyncio.get_running_loop().time() - began < 1.9
    assert "closed its stdout and ran on" == one.heard.why[0].detail


async def test_stdin_end_is_enough_for_a_polite_server() -> None:
    """The ladder stops at its first step."""
    async with child(script(eof_seconds=10)) as one:
        await one.child.send(tool("echo"))
        await one.heard.count(1)
    assert isinstance(one.events[0], ChildStarted)
    exited = only(one.events, ChildExited)
    assert (0, True, one.events[0].pid) == (exited.code, exited.expected, exited.pid)


@pytest.mark.parametrize(("flags", "code"), [(("ignore-eof",), -15), (("ignore-eof", "ignore-sigterm"), -9)])
async def test_a_stubborn_server_is_signalled(flags: tuple[str, ...], code: int) -> None:
    """SIGTERM after the end of stdin, SIGKILL after that."""
    async with child(script(*flags)) as one:
        await one.child.send(tool("echo"))
        await one.heard.count(1)
    assert code == only(one.events, ChildExited).code


async def test_a_server_that_writes_on_while_it_is_stopped_can_end() -> None:
    """Its stdout is read all the while: a blocked writer could not see that stdin has ended."""
    async with child(script(eof_seconds=10)) as one:
        await one.child.send(tool("flood", 1, {"progressToken": 1}, count=50, size=100_000))
        await one.heard.count(1)
        one.child.pause()
    assert 0 == only(one.events, ChildExited).code


async def test_grandchildren_end_with_it() -> None:
    """npx and uv are wrappers: the whole group is ended, although the leader went quietly."""
    async with child(script()) as one:
        await one.child.send(tool("fork"))
        grandchild = int(text((await one.heard.count(1))[0]))
        assert psutil.pid_exists(grandchild)
    assert 0 == only(one.events, ChildExited).code
    assert not psutil.pid_exists(grandchild) or psutil.Process(grandchild).status() == psutil.STATUS_ZOMBIE


async def test_a_grandchild_that_holds_stdout_does_not_hide_an_exit() -> None:
    """The pipe stays open in other hands; the caller is told all the same."""
    async with child(script()) as one:
        await one.child.send(tool("fork"))
        await one.heard.count(1)
        await one.child.send(tool("exit", 2))
        await one.heard.until(lambda heard: bool(heard.why))


async def test_cancelling_its_owner_kills_all_of_it() -> None:
    """No ladder when weir has no time left."""
    heard = Heard()
    settings = script("ignore-eof", "ignore-sigterm", eof_seconds=60)
    async with launching() as launcher, asyncio.TaskGroup() as tasks:
        one = Child("script", settings, launcher, lambda event: None)
        task = tasks.create_task(one.run(heard))
        await one.started()
        pid = one.pid
        await one.send(tool("fork"))
        await heard.count(1)
        task.cancel()
    psutil.wait_procs(members(pid), timeout=HANG_SECONDS)
    assert [] == members(pid)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (ChildSettings(("no-such-command-here",)), "'no-such-command-here': there is no such command; install it"),
        (ChildSettings(("/no/such/path",)), "'path': there is no such command"),
        (ChildSettings(("/etc/passwd",)), "'passwd': it is not executable"),
        (ChildSettings(("sleep", "1"), cwd="/no/such/dir"), "'sleep': its working directory does not exist"),
    ],
)
async def test_a_command_that_cannot_start_says_why_and_the_mend(settings: ChildSettings, words: str) -> None:
    """One line with the command in it; nothing was sent."""
    events: list[Any] = []
    heard = Heard()
    async with launching() as launcher:
        one = Child("script", settings, launcher, events.append)
        await one.run(heard)
    failed = await one.started()
    assert isinstance(failed, Failed)
    assert (FailureKind.CONNECT, Sent.NO) == (failed.kind, failed.sent)
    assert words in failed.detail
    assert "\n" not in failed.detail
    assert [] == events
    assert [] == heard.why
    sent = await one.send(b"{}")
    assert sent is not None
    assert Sent.NO is sent.sent


async def test_writing_waits_for_a_server_that_does_not_read() -> None:
    """What is on its way stays bounded, and ends with the server."""
    async with child(script("deaf")) as one:
        body = tool("echo", value="x" * 2_000_000)
        assert await one.child.send(body) is None
        async with asyncio.TaskGroup() as tasks:
            waiting = [tasks.create_task(one.child.send(body)) for _ in range(3)]
            await asyncio.sleep(0.05)
            assert not any(task.done() for task in waiting)
            one.child.stop()
    failures = [task.result() for task in waiting]
    assert [Sent.NO] * 3 == [failed.sent for failed in failures if failed is not None]


async def test_messages_are_written_whole_and_in_turn() -> None:
    """Many writers, a pipe that is often full: the server reads each line complete, in the order sent."""
    async with child(script()) as one:
        async with asyncio.TaskGroup() as tasks:
            for number in range(40):
                tasks.create_task(one.child.send(tool("echo", number, value="x" * 50_000)))
        await one.heard.count(40)
    assert list(range(40)) == [int(message.id) for message in one.heard.messages]


async def test_a_paused_child_is_not_read() -> None:
    """Backpressure reaches the server: it blocks on its own pipe."""
    async with child(script()) as one:
        await one.child.send(tool("flood", 1, {"progressToken": 1}, count=100, size=100_000))
        await one.heard.count(1)
        one.child.pause()
        one.child.pause()
        await asyncio.sleep(0.1)
        held = len(one.heard.bodies)
        await asyncio.sleep(0.1)
        assert held == len(one.heard.bodies) < 100
        one.child.resume()
        one.child.resume()
        await one.heard.count(101)
