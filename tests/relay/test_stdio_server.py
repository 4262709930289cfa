"""A stdio server behind HTTP sessions (up to 2025-11-25), with real processes."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from support.bridges import Client, Clock, Events, RecordingSink, bridge, notification, request, result_text, tool
from support.limits import HANG_SECONDS
from support.stdio_children import LOOPS, script
from weir.core.call import Call, header
from weir.core.events import ChildExited, Decided, LimitReached, LineSkipped, SessionClosed, SessionOpened
from weir.core.outcome import Blame, Failed, FailureKind, Outcome, RefusalKind, Refused, Replied, Sent
from weir.protocol.envelope import Message
from weir.relay.stdio_mailbox import Bounds
from weir.relay.stdio_routing import RoutingSettings
from weir.relay.stdio_server import StdioSettings, StdioUpstream
from weir.relay.stdio_sweep import WaitSettings
from weir.upstream.child import ChildSettings

pytestmark = pytest.mark.anyio

ASK = '{"jsonrpc":"2.0","id":"q1","method":"sampling/createMessage","params":{"n":1.0}}'
LOG = '{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"hello"}}'
PROGRESS = '{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":$TOKEN,"progress":0.50}}'
DONE = '{"jsonrpc":"2.0","id":$ID,"result":{"content":[],"x":1.0}}'


@pytest.fixture(params=LOOPS, ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Both event loops."""
    return request.param


def reply(outcome: Outcome) -> Replied:
    """The reply that an outcome is."""
    assert isinstance(outcome, Replied), outcome
    return outcome


def refused(outcome: Outcome) -> RefusalKind:
    """Why weir said no."""
    assert isinstance(outcome, Refused), outcome
    return outcome.kind


def failed(outcome: Outcome) -> Failed:
    """The failure that an outcome is."""
    assert isinstance(outcome, Failed), outcome
    return outcome


# looked at often, by the clock that stands still until a test moves it; a keepalive is due at every look
WATCHFUL = StdioSettings("script", waits=WaitSettings(keepalive_seconds=0.04))


async def looked(upstream: StdioUpstream) -> None:
    """Give the sweeper the time to look twice."""
    await asyncio.sleep(2.5 * WATCHFUL.waits.pause_seconds)


class Asked:
    """An asker that marks what it is asked."""

    def __init__(self) -> None:
        self.questions: list[tuple[bytes, str]] = []
        self.news: list[str] = []

    def asked(self, call: Call, message: Message, body: bytes) -> bytes:
        """Mark the question."""
        self.questions.append((call.verb, message.method))
        return body.replace(b'"n":1.0', b'"n":1.0,"traced":true')

    def told(self, call: Call, message: Message) -> None:
        """Note the news."""
        self.news.append(message.method)


async def test_a_session_opens_calls_and_ends() -> None:
    """initialize mints a session id, a call's answer comes as JSON, DELETE ends the session."""
    events = Events()
    async with bridge(emit=events) as upstream:
        client = Client(upstream)
        opened = await client.initialize()
        assert (200, "session-1") == (opened.status, client.session)
        assert "{}" == result_text(await client.tool("echo"))
        assert 200 == reply(await client.delete()).status
        assert RefusalKind.UNKNOWN_SESSION is refused(await client.tool("echo"))
        assert 0 == upstream.sessions
    assert [("server", "2025-11-25")] == [(e.side, e.revision) for e in events.of(SessionOpened)]
    assert ["deleted"] == [event.reason for event in events.of(SessionClosed)]


async def test_a_client_that_ends_its_session_ends_its_own_calls() -> None:
    """That is not the server's failure, and opens no circuit."""
    async with bridge() as upstream, asyncio.TaskGroup() as tasks:
        client = Client(upstream)
        await client.initialize()
        waiting = tasks.create_task(client.tool("never"))
        await client.tool("echo")
        assert 200 == reply(await client.delete()).status
        end = failed(await waiting)
    assert (FailureKind.CANCELLED, Blame.DOWNSTREAM) == (end.kind, end.blame)


async def test_bytes_pass_unchanged_both_ways() -> None:
    """The server reads the body as it was sent, the client what the server wrote, with the session's header."""
    body = b'{"jsonrpc":"2.0", "id":"\\u0037","method":"x/y","params":{"n":1.0,"big":1152921504606846976}}'
    async with bridge() as upstream:
        client = Client(upstream)
        await client.initialize()
        answer = reply(await client.post(body))
        assert body.decode() == json.loads(answer.body or b"")["result"]["line"]
        assert b"session-1" == header(answer.headers, b"mcp-session-id")
        assert b"application/json" == header(answer.headers, b"content-type")
        call = client.call(tool("say", 1, lines=['{"result" : {"a":1.0, "a":2} ,"id":$ID}']))
        assert b'{"result" : {"a":1.0, "a":2} ,"id":1}' == reply(await client.send(call)).body
        assert call.attempts[0].sent_at <= call.attempts[0].first_byte_at
        assert "2025-11-25" == call.revision


async def test_every_session_has_its_own_process() -> None:
    """Nothing of one client's session reaches another's: ids are the clients' own, and equal."""
    async with bridge() as upstream:
        one, other = Client(upstream), Client(upstream)
        await one.initialize()
        await other.initialize()
        assert one.session != other.session
        pids = await asyncio.gather(one.tool("pid"), other.tool("pid"))
        assert 2 == len({result_text(pid) for pid in pids})


async def test_messages_without_a_session_are_refused_as_a_server_would() -> None:
    """400 without a session id, 404 with one that is unknown, on every verb."""
    async with bridge() as upstream:
        client = Client(upstream)
        assert RefusalKind.BAD_MESSAGE is refused(await client.tool("echo"))
        assert RefusalKind.BAD_MESSAGE is refused(await client.get(RecordingSink()))
        assert RefusalKind.BAD_MESSAGE is refused(await client.post(b'{"n":NaN'))
        client.session = "nobody"
        assert RefusalKind.UNKNOWN_SESSION is refused(await client.tool("echo"))
        assert RefusalKind.UNKNOWN_SESSION is refused(await client.get(RecordingSink()))
        assert RefusalKind.UNKNOWN_SESSION is refused(await client.delete())
        assert RefusalKind.UNKNOWN_SESSION is refused(await client.post(request("initialize", {})))
        put = reply(await client.send(client.call(verb=b"PUT")))
        assert (405, b"GET, POST, DELETE") == (put.status, header(put.headers, b"allow"))


async def test_an_initialize_that_the_server_refuses_opens_nothing() -> None:
    """Its error passes; there is no session, and no process is left."""
    async with bridge() as upstream:
        outcome = reply(await Client(upstream).post(request("initialize", {"protocolVersion": "refuse me"})))
        assert -32602 == outcome.verdict.error_code
        assert b"" == header(outcome.headers, b"mcp-session-id")
        assert 0 == upstream.sessions


async def test_a_server_that_cannot_start_says_why() -> None:
    """Nothing was sent, and no session is left."""
    async with bridge(child=ChildSettings(("no-such-command-here",))) as upstream:
        failure = failed(await Client(upstream).post(request("initialize", {})))
        assert (FailureKind.CONNECT, Sent.NO) == (failure.kind, failure.sent)
        assert "install it" in failure.detail
        assert 0 == upstream.sessions


async def test_a_server_that_exits_at_once_says_why() -> None:
    """The last line of its stderr is in the answer."""
    async with bridge(child=script("exit-at-once")) as upstream:
        failure = failed(await Client(upstream).post(request("initialize", {})))
        assert FailureKind.EXITED is failure.kind
        assert "exited with code 7; weir's log has its last stderr lines" == failure.detail


async def test_more_sessions_than_allowed_are_refused() -> None:
    """A bound on processes; an ended session makes room."""
    events = Events()
    async with bridge(StdioSettings("script", sessions_max=1), emit=events) as upstream:
        one, other = Client(upstream), Client(upstream)
        await one.initialize()
        assert RefusalKind.SESSIONS_FULL is refused(await other.post(request("initialize", {})))
        await one.delete()
        await other.initialize()
    assert ["sessions"] == [event.limit for event in events.of(LimitReached)]


async def test_progress_makes_the_reply_a_stream() -> None:
    """What comes before the answer goes down at once, byte for byte; the answer ends the stream."""
    sink, asker = RecordingSink(), Asked()
    async with bridge() as upstream:
        client = Client(upstream)
        await client.initialize()
        call = client.call(tool("say", 5, {"progressToken": "t"}, lines=[PROGRESS, PROGRESS, DONE]), sink=sink)
        call.asker = asker
        outcome = reply(await client.send(call))
    progress = PROGRESS.replace("$TOKEN", '"t"').encode()
    assert [progress, progress, DONE.replace("$ID", "5").encode()] == sink.data()
    assert (200, None, True) == (outcome.status, outcome.body, outcome.verdict.answered)
    assert b"text/event-stream" == header(sink.headers, b"content-type")
    assert b"session-1" == header(sink.headers, b"mcp-session-id")
    assert call.committed
    assert ["notifications/progress"] * 2 == asker.news


async def test_a_question_goes_down_the_call_and_its_answer_back() -> None:
    """Sampling while a tool runs: asked on the POST's stream, answered by a POST of its own."""
    sink, asker = RecordingSink(), Asked()
    async with bridge() as upstream, asyncio.TaskGroup() as tasks:
        client = Client(upstream)
        await client.initialize()
        call = client.call(tool("say", 5, lines=[ASK]), sink=sink)
        call.asker = asker
        running = tasks.create_task(client.send(call))
        [question] = await sink.messages(1)
        assert ASK.replace('"n":1.0', '"n":1.0,"traced":true').encode() == question
        assert [(b"POST", "sampling/createMessage")] == asker.questions
        answered = reply(await client.post(b'{"jsonrpc":"2.0","id":"q1","result":{"model":"m"}}'))
        assert (202, b"", False) == (answered.status, answered.body, answered.verdict.answered)
        # the scripted server says what it was answered
        heard = (await sink.messages(2))[1]
        assert '{"jsonrpc":"2.0","id":"q1","result":{"model":"m"}}' == json.loads(heard)["params"]["data"]
        await client.tool("say", lines=['{"id":5,"result":{}}', '{"id":1,"result":{}}'])
        assert reply(await running).verdict.answered


async def test_what_has_no_owner_goes_to_the_get_stream() -> None:
    """Questions, log lines and changes: with a GET stream open, a POST's answer stays JSON."""
    stream, asker = RecordingSink(), Asked()
    async with bridge() as upstream, asyncio.TaskGroup() as tasks:
        client = Client(upstream)
        await client.initialize()
        call = client.call(verb=b"GET", sink=stream)
        call.asker = asker
        listening = tasks.create_task(client.send(call))
        await stream.opened()
        assert reply(await client.tool("say", lines=[LOG, ASK, DONE])).body is not None
        assert [LOG.encode(), ASK.replace('"n":1.0', '"n":1.0,"traced":true').encode()] == await stream.messages(2)
        assert [(b"GET", "sampling/createMessage")] == asker.questions
        second = reply(await client.get(RecordingSink()))
        assert 409 == second.status
        await client.delete()
        assert not reply(await listening).verdict.answered


async def test_what_has_no_owner_goes_to_the_newest_post() -> None:
    """Without a GET stream it makes that reply a stream."""
    older, newer = RecordingSink(), RecordingSink()
    async with bridge() as upstream, asyncio.TaskGroup() as tasks:
        client = Client(upstream)
        await client.initialize()
        waiting = tasks.create_task(client.tool("never", older))
        await asyncio.sleep(0)
        await client.tool("say", newer, lines=[LOG, '{"id":1,"result":{}}', DONE])
        assert LOG.encode() == newer.data()[0]
        assert [] == older.data()
        assert b'{"id":1,"result":{}}' == reply(await waiting).body


async def test_what_nobody_takes_waits_for_the_next_stream() -> None:
    """A bounded buffer; the oldest are lost first, and that is told."""
    events = Events()
    settings = StdioSettings("script", routing=RoutingSettings(orphans=Bounds(2, 1000)))
    logs = [LOG.replace("hello", str(number)) for number in range(4)]
    async with bridge(settings, emit=events) as upstream, asyncio.TaskGroup() as tasks:
        client = Client(upstream)
        await client.initialize()
        await client.tool("say", lines=[DONE, *logs])
        await events.until(LimitReached, 2)
        sink = RecordingSink()
        await client.tool("echo", sink)
        assert logs[-2:] == [line.decode() for line in sink.data()[:-1]]
        await client.tool("say", lines=[DONE, LOG])
        stream = RecordingSink()
        listening = tasks.create_task(client.get(stream))
        assert [LOG.encode()] == await stream.messages(1)
        listening.cancel()
    assert ["orphans", "orphans"] == [event.limit for event in events.of(LimitReached)]


async def test_a_get_stream_that_breaks_loses_nothing_it_had_not_written() -> None:
    """The next one gets it."""
    async with bridge() as upstream, asyncio.TaskGroup() as tasks:
        client = Client(upstream)
        await client.initialize()
        stuck, good = RecordingSink(), RecordingSink()
        stuck.reads.clear()
        first = tasks.create_task(client.get(stuck))
        await stuck.opened()
        await client.tool("say", lines=[LOG, ASK, DONE])
        first.cancel()
        await asyncio.wait([first])
        second = tasks.create_task(client.get(good))
        # the first message was being written when the stream broke
        assert [ASK.encode()] == await good.messages(1)
        second.cancel()


async def test_an_id_of_another_type_is_still_the_answer() -> None:
    """Some servers answer "7" to 7; with both in flight each gets its own."""
    async with bridge() as upstream, asyncio.TaskGroup() as tasks:
        client = Client(upstream)
        await client.initialize()
        assert (
            b'{"id":"7","result":{}}' == reply(await client.post(tool("say", 7, lines=['{"id":"7","result":{}}']))).body
        )
        number = tasks.create_task(client.post(tool("never", 8)))
        await asyncio.sleep(0)
        text = await client.post(tool("say", "8", lines=['{"id":$ID,"result":{"s":1}}', '{"id":"8","result":{}}']))
        assert b'{"id":"8","result":{"s":1}}' == reply(text).body
        assert b'{"id":"8","result":{}}' == reply(await number).body


async def test_an_error_with_a_null_id_answers_what_waits_alone() -> None:
    """A server that cannot read a request cannot name it."""
    lines = ['{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"what?"}}']
    async with bridge() as upstream:
        client = Client(upstream)
        await client.initialize()
        assert -32700 == reply(await client.tool("say", lines=lines)).verdict.error_code


async def test_foreign_answers_are_counted_and_dropped() -> None:
    """An answer to nothing, JSON that is no message: neither reaches a client."""
    events = Events()
    async with bridge(emit=events) as upstream:
        client = Client(upstream)
        await client.initialize()
        outcome = await client.tool("say", lines=['{"id":99,"result":{}}', "[]", '"text"', "text", DONE])
        assert reply(outcome).body is not None
    assert [21, 2, 6, 4] == [event.size for event in events.of(LineSkipped)]


async def test_a_tool_error_and_an_error_are_answers() -> None:
    """The verdict says which; the bytes pass."""
    async with bridge() as upstream:
        client = Client(upstream)
        await client.initialize()
        wrong = reply(await client.tool("say", lines=['{"id":$ID,"result":{"isError":true}}']))
        assert wrong.verdict.is_tool_error
        error = reply(await client.tool("say", lines=['{"id":$ID,"error":{"code":-32601,"message":"m"}}']))
        assert (200, -32601, "m") == (error.status, error.verdict.error_code, error.verdict.error_message)


async def test_a_batch_is_one_line_and_its_answers_one_reply() -> None:
    """An array that answers all at once is JSON; without a request in it there is nothing to answer."""
    async with bridge() as upstream:
        client = Client(upstream)
        await client.initialize("2025-03-26")
        batch = b"[" + b",".join([request("a", {}, 1), notification("n", {}), request("b", {}, 2)]) + b"]"
        whole = reply(await client.post(batch))
        assert [1, 2] == [each["id"] for each in json.loads(whole.body or b"")]
        only_told = reply(await client.post(b"[" + notification("n", {}) + b"]"))
        assert (202, b"") == (only_told.status, only_told.body)


async def test_a_batch_that_is_answered_one_by_one_is_a_stream() -> None:
    """It ends when no answer is missing."""
    sink = RecordingSink()
    lines = ['{"id":11,"result":{}}', LOG, '[{"id":12,"result":{}},{"id":$ID,"result":{}}]']
    async with bridge(child=script("silent-batches")) as upstream, asyncio.TaskGroup() as tasks:
        client = Client(upstream)
        await client.initialize("2025-03-26")
        waiting = tasks.create_task(client.post(b'[{"id":11,"method":"a"},{"id":12,"method":"b"}]', sink))
        await asyncio.sleep(0)
        speaking = reply(await client.post(tool("say", 99, lines=lines), RecordingSink()))
        assert reply(await waiting).body is None
    assert [lines[0].encode(), b'{"id":12,"result":{}}'] == sink.data()
    assert speaking.verdict.answered


async def test_a_request_the_client_leaves_runs_on_and_its_answer_is_dropped() -> None:
    """Up to 2025-11-25 a disconnect is no cancel: the server is told nothing."""
    events = Events()
    async with bridge(emit=events) as upstream, asyncio.TaskGroup() as tasks:
        client = Client(upstream)
        await client.initialize()
        left = tasks.create_task(client.post(tool("never", 50)))
        await asyncio.sleep(0)
        left.cancel()
        await asyncio.wait([left])
        again = await client.post(tool("say", 51, lines=['{"id":50,"result":{"late":1}}', DONE]))
        assert b'"x":1.0' in (reply(again).body or b"")
        # the same id again gets its own answer, not the first one's
        left = tasks.create_task(client.post(tool("never", 60)))
        await asyncio.sleep(0)
        left.cancel()
        await asyncio.wait([left])
        again = await client.post(tool("say", 60, lines=['{"id":60,"result":{"late":1}}', DONE]))
        assert b'"x":1.0' in (reply(again).body or b"")
        # nor does its progress reach anybody
        left = tasks.create_task(client.post(tool("never", 61, {"progressToken": "p"})))
        await asyncio.sleep(0)
        left.cancel()
        await asyncio.wait([left])
        again = await client.post(tool("say", 62, lines=[PROGRESS.replace("$TOKEN", '"p"'), DONE]))
        assert b'"x":1.0' in (reply(again).body or b"")
    assert [] == events.of(LineSkipped)


async def test_a_cancelled_request_ends_although_the_server_need_not_answer() -> None:
    """The cancel passes; the POST that waits is ended, as SDK servers do."""
    async with bridge() as upstream, asyncio.TaskGroup() as tasks:
        client = Client(upstream)
        await client.initialize()
        waiting = tasks.create_task(client.post(tool("never", "c")))
        await asyncio.sleep(0)
        cancel = notification("notifications/cancelled", {"requestId": "c"})
        assert 202 == reply(await client.post(cancel)).status
        failure = failed(await waiting)
        assert (FailureKind.CANCELLED, Blame.DOWNSTREAM) == (failure.kind, failure.blame)


async def test_an_exit_fails_every_request_at_once_and_ends_the_session() -> None:
    """One clear line each; then 404, so that the client begins anew."""
    events = Events()
    async with bridge(emit=events) as upstream, asyncio.TaskGroup() as tasks:
        client = Client(upstream)
        await client.initialize()
        stream, sink = RecordingSink(), RecordingSink()
        listening = tasks.create_task(client.get(stream))
        await stream.opened()
        waiting = tasks.create_task(client.tool("never"))
        streaming = tasks.create_task(
            client.send(client.call(tool("say", 70, {"progressToken": 1}, lines=[PROGRESS]), sink=sink))
        )
        await sink.messages(1)
        exiting = await client.tool("exit", why="out of memory", code=3)
        for outcome in (exiting, await waiting, await streaming):
            assert FailureKind.EXITED is failed(outcome).kind
            assert "exited with code 3; weir's log has its last stderr lines" == failed(outcome).detail
        assert reply(await listening).body is None
        assert RefusalKind.UNKNOWN_SESSION is refused(await client.tool("echo"))
        client.session = ""
        await client.initialize()
        assert "{}" == result_text(await client.tool("echo"))
    assert ["exited", "shutdown"] == [event.reason for event in events.of(SessionClosed)]


async def test_silence_is_a_failure_with_its_timer() -> None:
    """A server that never answers: 300 s after it was last heard."""
    clock, sink = Clock(), RecordingSink()
    async with bridge(WATCHFUL, clock=clock) as upstream, asyncio.TaskGroup() as tasks:
        client = Client(upstream)
        await client.initialize()
        call = client.call(tool("say", 99, {"progressToken": 1}, lines=[PROGRESS]), sink=sink)
        waiting = tasks.create_task(client.send(call))
        clock.now += 299
        await sink.messages(1)
        clock.now += 299
        await looked(upstream)
        assert not waiting.done()
        clock.now += 2
        failure = failed(await waiting)
        assert (FailureKind.TIMEOUT, "idle", 300) == (failure.kind, failure.timer, failure.after_seconds)
        assert "{}" == result_text(await client.tool("echo"))


async def test_a_call_may_have_a_silence_of_its_own() -> None:
    """Shorter than the server's, or longer."""
    clock = Clock()
    async with bridge(WATCHFUL, clock=clock) as upstream, asyncio.TaskGroup() as tasks:
        client = Client(upstream)
        await client.initialize()
        calls = [client.call(tool("never", 90 + number)) for number in range(2)]
        calls[0].idle_seconds, calls[1].idle_seconds = 5.0, 400.0
        short, long = [tasks.create_task(client.send(call)) for call in calls]
        await looked(upstream)
        clock.now += 6
        assert ("idle", 5.0) == (failed(await short).timer, failed(await short).after_seconds)
        clock.now += 390
        await looked(upstream)
        assert not long.done()
        clock.now += 5
        assert ("idle", 400.0) == (failed(await long).timer, failed(await long).after_seconds)


async def test_a_silence_that_is_watched_only_is_told_of_once() -> None:
    """Each silence once; the call goes on, and its answer comes."""
    clock, events, sink = Clock(), Events(), RecordingSink()
    settings = StdioSettings("script", waits=WaitSettings(keepalive_seconds=0.04, watched_silence_seconds=50.0))
    async with bridge(settings, emit=events, clock=clock) as upstream, asyncio.TaskGroup() as tasks:
        client = Client(upstream)
        await client.initialize()
        call = client.call(tool("never", 90), sink=sink)
        waiting = tasks.create_task(client.send(call))
        await looked(upstream)
        clock.now += 51
        await looked(upstream)
        clock.now += 51
        await looked(upstream)
        assert [Decided("deadline", "would_time_out", call, True, 50.0, "idle")] == events.of(Decided)
        assert not waiting.done()
        clock.now += 300
        assert 300.0 == failed(await waiting).after_seconds


async def test_a_server_that_does_not_read_is_silent_too() -> None:
    """The request is still on its way when the time is up."""
    clock = Clock()
    async with bridge(WATCHFUL, clock=clock) as upstream, asyncio.TaskGroup() as tasks:
        client = Client(upstream)
        await client.initialize()
        await client.tool("deaf")
        stuck = [tasks.create_task(client.tool("echo", value="x" * 2_000_000)) for _ in range(2)]
        await looked(upstream)
        assert [False, False] == [task.done() for task in stuck]
        clock.now += 301
        assert ["idle", "idle"] == [failed(await task).timer for task in stuck]


async def test_a_question_that_waits_for_the_client_is_no_silence() -> None:
    """A person may think for longer than a server may be silent."""
    clock, sink = Clock(), RecordingSink()
    async with bridge(WATCHFUL, clock=clock) as upstream, asyncio.TaskGroup() as tasks:
        client = Client(upstream)
        await client.initialize()
        running = tasks.create_task(client.post(tool("say", 5, lines=[ASK]), sink))
        await sink.messages(1)
        clock.now += 599
        await looked(upstream)
        assert not running.done()
        await client.post(b'{"jsonrpc":"2.0","id":"q1","result":{}}')
        await sink.messages(2)
        clock.now += 299
        await looked(upstream)
        assert not running.done()
        clock.now += 2
        assert "idle" == failed(await running).timer


async def test_a_question_on_the_get_stream_is_no_silence_either_but_not_for_ever() -> None:
    """Whose call it belongs to is not known: none of the session's is silent, up to the limit for a client."""
    clock, stream = Clock(), RecordingSink()
    async with bridge(WATCHFUL, clock=clock) as upstream, asyncio.TaskGroup() as tasks:
        client = Client(upstream)
        await client.initialize()
        listening = tasks.create_task(client.get(stream))
        await stream.opened()
        running = tasks.create_task(client.tool("say", lines=[ASK]))
        await stream.messages(1)
        clock.now += 599
        await looked(upstream)
        clock.now += 2
        await looked(upstream)
        assert not running.done()
        clock.now += 301
        assert "idle" == failed(await running).timer
        listening.cancel()


async def test_a_silent_stream_is_kept_alive_by_comments() -> None:
    """For intermediaries; a comment is no event and commits nothing."""
    clock, stream = Clock(), RecordingSink()
    async with bridge(WATCHFUL, clock=clock) as upstream, asyncio.TaskGroup() as tasks:
        client = Client(upstream)
        await client.initialize()
        call = client.call(verb=b"GET", sink=stream)
        listening = tasks.create_task(client.send(call))
        await stream.opened()
        for count in (1, 2):
            clock.now += 1
            await stream.until(lambda sink: len(sink.chunks) >= count)  # noqa: B023 - awaited at once
        assert all(chunk.startswith(b":") for chunk in stream.chunks)
        assert not call.committed
        listening.cancel()


async def test_an_idle_session_ends_and_its_process_with_it() -> None:
    """An open GET stream is use; nothing open and nothing sent is not."""
    events = Events()
    clock, stream = Clock(), RecordingSink()
    async with bridge(WATCHFUL, emit=events, clock=clock) as upstream, asyncio.TaskGroup() as tasks:
        client, listener = Client(upstream), Client(upstream)
        await listener.initialize()
        listening = tasks.create_task(listener.get(stream))
        await stream.opened()
        await client.initialize()
        clock.now += 1801
        [closed] = await events.until(SessionClosed)
        assert ("idle", 1801) == (closed.reason, closed.seconds)
        assert 1 == upstream.sessions
        assert RefusalKind.UNKNOWN_SESSION is refused(await client.tool("echo"))
        assert "{}" == result_text(await listener.tool("echo"))
        listening.cancel()


async def test_a_slow_reader_slows_its_server() -> None:
    """Backpressure: what waits stays bounded, and all of it arrives in the end."""
    settings = StdioSettings("script", routing=RoutingSettings(reply=Bounds(8, 1_000_000)))
    async with bridge(settings) as upstream, asyncio.TaskGroup() as tasks:
        client = Client(upstream)
        await client.initialize()
        sink = RecordingSink()
        sink.reads.clear()
        call = client.call(tool("flood", 1, {"progressToken": 1}, count=200, size=10_000), sink=sink)
        running = tasks.create_task(client.send(call))
        await sink.opened()
        await asyncio.sleep(0.2)
        assert not running.done()
        sink.reads.set()
        assert reply(await running).verdict.answered
        assert list(range(200)) == [json.loads(body)["params"]["progress"] for body in sink.data()[:-1]]


async def test_a_slow_reader_gets_all_that_a_server_said_before_it_ended() -> None:
    """The answer was written, the process is gone, the client has yet to read."""
    settings = StdioSettings("script", routing=RoutingSettings(reply=Bounds(2, 1_000_000)))
    events = Events()
    async with bridge(settings, emit=events) as upstream, asyncio.TaskGroup() as tasks:
        client = Client(upstream)
        await client.initialize()
        sink = RecordingSink()
        sink.reads.clear()
        lines = [*[PROGRESS] * 50, DONE]
        call = client.call(tool("say", 1, {"progressToken": 1}, lines=lines, exit=True), sink=sink)
        running = tasks.create_task(client.send(call))
        await events.until(ChildExited)
        sink.reads.set()
        assert reply(await running).verdict.answered
    assert 51 == len(sink.data())


async def test_a_client_that_never_reads_is_given_up() -> None:
    """Its reply ends; the session goes on."""
    clock, sink = Clock(), RecordingSink()
    settings = replace(WATCHFUL, routing=RoutingSettings(reply=Bounds(4, 1_000_000)))
    async with bridge(settings, clock=clock) as upstream, asyncio.TaskGroup() as tasks:
        client = Client(upstream)
        await client.initialize()
        sink.reads.clear()
        call = client.call(tool("flood", 99, {"progressToken": 1}, count=500, size=10_000), sink=sink)
        running = tasks.create_task(client.send(call))
        await sink.opened()
        async with asyncio.timeout(HANG_SECONDS):
            while not running.done():
                clock.now += 31
                await looked(upstream)
        failure = failed(await running)
        assert ("client_read", Blame.DOWNSTREAM) == (failure.timer, failure.blame)
        assert "{}" == result_text(await client.tool("echo"))


async def test_a_line_over_the_limit_fails_the_call_that_waits_alone() -> None:
    """It would wait for ever otherwise."""
    async with bridge(child=script(line_limit_bytes=1000)) as upstream:
        client = Client(upstream)
        await client.initialize()
        assert FailureKind.TOO_LARGE is failed(await client.tool("big", size=10_000)).kind


async def test_a_client_that_leaves_while_its_session_opens_leaves_no_process() -> None:
    """Nobody knows the session's id."""
    async with bridge(child=script("deaf")) as upstream, asyncio.TaskGroup() as tasks:
        opening = tasks.create_task(Client(upstream).post(request("initialize", {})))
        await asyncio.sleep(0.05)
        opening.cancel()
        await asyncio.wait([opening])
        assert 0 == upstream.sessions


async def test_closing_ends_what_waits_and_refuses_what_comes() -> None:
    """All children in parallel, however stubborn."""
    async with asyncio.TaskGroup() as tasks, bridge(child=script("ignore-eof", "ignore-sigterm")) as upstream:
        clients = [Client(upstream) for _ in range(4)]
        for client in clients:
            await client.initialize()
        waiting = [tasks.create_task(client.tool("never")) for client in clients]
        await asyncio.sleep(0)
        async with asyncio.timeout(HANG_SECONDS):
            await upstream.aclose()
        ends = [failed(await task) for task in waiting]
        assert {(FailureKind.CANCELLED, Blame.WEIR)} == {(end.kind, end.blame) for end in ends}
        assert RefusalKind.DRAINING is refused(await clients[0].tool("echo"))
