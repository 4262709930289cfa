"""One stdio server for all callers of 2026-07-28, with real processes."""

import asyncio
import json
import time
from typing import Any

import pytest

from support.bridges import (
    MODERN,
    Client,
    Clock,
    Events,
    RecordingSink,
    bridge,
    modern,
    notification,
    request,
    result_text,
)
from support.stdio_children import LOOPS, script
from weir.core.budget import Account
from weir.core.call import header
from weir.core.events import ChildExited, ChildStarted, LimitReached, LineSkipped
from weir.core.outcome import Failed, FailureKind, Outcome, Replied, Sent
from weir.relay.stdio_pipe import Receiver
from weir.relay.stdio_restarts import RestartSettings
from weir.relay.stdio_server import StdioSettings, StdioUpstream
from weir.relay.stdio_sweep import WaitSettings

pytestmark = pytest.mark.anyio

ENVELOPE = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}
# looked at often, by the clock that stands still until a test moves it
WATCHFUL = StdioSettings("script", waits=WaitSettings(keepalive_seconds=0.04))
SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"
LOG_LEVEL = {"io.modelcontextprotocol/logLevel": "info"}
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


def listen(raw_id: object) -> bytes:
    """A subscription."""
    meta = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}
    return request("subscriptions/listen", {"notifications": {"toolsListChanged": True}, "_meta": meta}, raw_id)


async def test_all_callers_share_one_process_without_a_session() -> None:
    """Started by the first request; no session id is minted."""
    events = Events()
    async with bridge(emit=events) as upstream:
        one, other = Client(upstream), Client(upstream)
        assert 202 == reply(await one.post(notification("notifications/x", {}), revision=MODERN)).status
        assert [] == events.of(ChildStarted)
        first = reply(await one.post(modern("pid")))
        assert b"" == header(first.headers, b"mcp-session-id")
        assert result_text(first) == result_text(await other.post(modern("pid")))
        assert 0 == upstream.sessions
    assert 1 == len(events.of(ChildStarted))


async def test_ids_that_are_equal_do_not_meet() -> None:
    """Two callers with id 1, and one with "1": each gets its own answer under its own id and type."""
    async with bridge() as upstream, asyncio.TaskGroup() as tasks:
        one, other, third = Client(upstream), Client(upstream), Client(upstream)
        slow = tasks.create_task(one.post(modern("never", 1)))
        await asyncio.sleep(0)
        hasty = json.loads(reply(await other.post(modern("echo", 1, who="other"))).body or b"")
        text = json.loads(reply(await third.post(modern("echo", "1", who="third"))).body or b"")
        assert (1, '{"who": "other"}') == (hasty["id"], hasty["result"]["content"][0]["text"])
        assert ("1", '{"who": "third"}') == (text["id"], text["result"]["content"][0]["text"])
        assert not slow.done()
        slow.cancel()


@pytest.mark.parametrize("raw_id", [b"7", b'"7"', b'"caf\\u00e9"', b"1152921504606846976", b'"1000000001"', b"-1"])
async def test_an_id_comes_back_in_its_own_spelling(raw_id: bytes) -> None:
    """Nothing else of the answer changes."""
    body = modern("say", 0, lines=['{"z":[$ID], "id":$ID,"result":{"a":1.0,"id":"no"}}'])
    body = body.replace(b'"id": 0', b'"id": ' + raw_id)
    async with bridge() as upstream:
        outcome = reply(await Client(upstream).post(body))
    answer = outcome.body or b""
    # a member that weir does not know keeps the text that the server wrote
    assert answer.startswith(b'{"z":[10000')
    assert answer.endswith(b'], "id":' + raw_id + b',"result":{"a":1.0,"id":"no"}}')


async def test_progress_finds_its_caller_under_the_callers_own_token() -> None:
    """Every SDK client counts its tokens from 1."""
    one, other = RecordingSink(), RecordingSink()
    async with bridge() as upstream, asyncio.TaskGroup() as tasks:
        client = Client(upstream)
        slow = tasks.create_task(client.post(modern("flood", 1, {"progressToken": 1}, count=3, size=1), one))
        fast = tasks.create_task(client.post(modern("say", 1, {"progressToken": "1"}, lines=[PROGRESS, DONE]), other))
        assert reply(await slow).body is None
        assert reply(await fast).body is None
    assert [1, 1, 1] == [json.loads(body)["params"]["progressToken"] for body in one.data()[:-1]]
    assert PROGRESS.replace("$TOKEN", '"1"').encode() == other.data()[0]
    assert b'"id":1,' in other.data()[1]


async def test_frames_of_a_subscription_reach_only_its_caller() -> None:
    """Two subscriptions with equal ids, one server."""
    one, other = RecordingSink(), RecordingSink()
    changed = '{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":{"%s":%s},"n":1.0}}'
    async with bridge(child=script("silent-listen")) as upstream, asyncio.TaskGroup() as tasks:
        client = Client(upstream)
        first = tasks.create_task(client.post(listen(7), one))
        second = tasks.create_task(client.post(listen("7"), other))
        await one.opened()
        await other.opened()
        base = int(result_text(await client.post(modern("id", 1)))) - 2
        lines = [
            changed % (SUBSCRIPTION, base),
            changed % (SUBSCRIPTION, f'"{base + 1}"'),
            f'{{"jsonrpc":"2.0","id":{base},"result":{{"_meta":{{"{SUBSCRIPTION}":{base}}},"n":1.0}}}}',
            f'{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{base + 1}}}}}',
            DONE,
        ]
        assert reply(await client.post(modern("say", 1, lines=lines))).body is not None
        assert reply(await first).verdict.answered
        assert not reply(await second).verdict.answered
    end = f'{{"jsonrpc":"2.0","id":7,"result":{{"_meta":{{"{SUBSCRIPTION}":7}},"n":1.0}}}}'
    assert [(changed % (SUBSCRIPTION, 7)).encode(), end.encode()] == one.data()
    withdrawn = '{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"7"}}'
    assert [(changed % (SUBSCRIPTION, '"7"')).encode(), withdrawn.encode()] == other.data()


async def test_a_caller_that_leaves_cancels() -> None:
    """The server is told, under the id that it knows; the late answer reaches nobody."""
    events = Events()
    stderr = bytearray()
    async with bridge(emit=events, on_stderr=stderr.extend) as upstream, asyncio.TaskGroup() as tasks:
        client = Client(upstream)
        left = tasks.create_task(client.post(modern("never", "mine")))
        await asyncio.sleep(0)
        number = int(result_text(await client.post(modern("id", 2)))) - 1
        left.cancel()
        await asyncio.wait([left])
        late = f'{{"jsonrpc":"2.0","id":{number},"result":{{}}}}'
        assert reply(await client.post(modern("say", "mine", lines=[late, DONE]))).body is not None
        assert left.cancelled()
    assert f'"notifications/cancelled","params":{{"requestId":{number}}}'.encode() in stderr
    assert [] == events.of(LineSkipped)


async def test_a_posted_cancel_goes_nowhere() -> None:
    """2026-07-28 cancels over HTTP by leaving. Ids are guessable, and a caller's own id may be another's too."""
    stderr = bytearray()
    async with bridge(on_stderr=stderr.extend) as upstream, asyncio.TaskGroup() as tasks:
        client = Client(upstream)
        waiting = tasks.create_task(client.post(modern("never", 5)))
        await asyncio.sleep(0)
        number = int(result_text(await client.post(modern("id", 2)))) - 1
        for raw in (5, number):
            cancel = notification("notifications/cancelled", {"requestId": raw})
            assert 202 == reply(await client.post(cancel, revision=MODERN)).status
        await client.post(modern("echo", 3))
        assert not waiting.done()
        waiting.cancel()
    assert 1 == stderr.count(b"told: ")


async def test_a_cancel_that_has_an_id_is_refused() -> None:
    """A lenient server would cancel by it."""
    body = request("notifications/cancelled", {"requestId": 1_000_000_001, "_meta": ENVELOPE}, "a")
    async with bridge() as upstream:
        outcome = reply(await Client(upstream).post(body))
    assert (400, -32600) == (outcome.status, outcome.verdict.error_code)
    assert b'"id":"a"' in (outcome.body or b"")


async def test_what_names_nobody_reaches_only_whom_alone_it_can_mean() -> None:
    """A log line while two callers asked for logs is lost, and counted: it might be the other one's."""
    events = Events()
    async with bridge(emit=events) as upstream, asyncio.TaskGroup() as tasks:
        client = Client(upstream)
        alone = RecordingSink()
        quiet = tasks.create_task(client.post(modern("never", 1)))
        await asyncio.sleep(0)
        await client.post(modern("say", 2, LOG_LEVEL, lines=[LOG, DONE]), alone)
        assert LOG.encode() == alone.data()[0]
        waiting = tasks.create_task(client.post(modern("never", 3, LOG_LEVEL)))
        await asyncio.sleep(0)
        crowded = RecordingSink()
        outcome = reply(await client.post(modern("say", 4, LOG_LEVEL, lines=[LOG, DONE]), crowded))
        assert outcome.body is not None
        assert ["orphans"] == [event.limit for event in events.of(LimitReached)]
        quiet.cancel()
        waiting.cancel()


async def test_an_answer_that_nobody_asked_for_does_not_reach_the_server() -> None:
    """Any caller could send one; 2026-07-28 has no questions of the server."""
    stderr = bytearray()
    async with bridge(on_stderr=stderr.extend) as upstream:
        client = Client(upstream)
        await client.post(modern("echo"))
        answer = b'{"jsonrpc":"2.0","id":"q9","result":{}}'
        assert 202 == reply(await client.post(answer, revision=MODERN)).status
        assert reply(await client.post(modern("echo"))).body is not None
    assert b"q9" not in stderr


async def test_a_modern_server_has_neither_get_nor_delete() -> None:
    """405, and POST is what is allowed."""
    async with bridge() as upstream:
        client = Client(upstream)
        for verb in (b"GET", b"DELETE"):
            outcome = reply(await client.send(client.call(verb=verb, revision=MODERN)))
            assert (405, b"POST") == (outcome.status, header(outcome.headers, b"allow"))


@pytest.mark.parametrize(("code", "status"), [(-32601, 404), (-32602, 400), (-32022, 400), (-32603, 200), (7, 200)])
async def test_errors_have_the_statuses_of_2026_07_28(code: int, status: int) -> None:
    """Dual-era clients read them."""
    error = f'{{"jsonrpc":"2.0","id":$ID,"error":{{"code":{code},"message":"m"}}}}'
    async with bridge() as upstream:
        outcome = reply(await Client(upstream).post(modern("say", lines=[error])))
    assert (status, code) == (outcome.status, outcome.verdict.error_code)


async def test_a_request_without_envelope_never_reaches_the_shared_server() -> None:
    """A server that sees no envelope first takes itself for a legacy one, for all callers."""
    events = Events()
    async with bridge(emit=events) as upstream:
        outcome = reply(await Client(upstream).post(request("tools/list", {}, "a"), revision=MODERN))
        batch = reply(await Client(upstream).post(b'[{"id":1,"method":"x"}]', revision=MODERN))
    assert (400, -32602) == (outcome.status, outcome.verdict.error_code)
    assert b'"id":"a"' in (outcome.body or b"")
    assert 400 == batch.status
    assert [] == events.of(ChildStarted)


@pytest.mark.parametrize("name", [b"mcp-method", b"mcp-name", b"mcp-protocol-version"])
async def test_headers_that_differ_from_the_body_are_refused(name: bytes) -> None:
    """weir is the one that reads them: a server on a pipe cannot check."""
    async with bridge() as upstream:
        client = Client(upstream)
        for value in (None, b"other"):
            call = client.call(modern("echo", "i"))
            call.headers = [(key, text) for key, text in call.headers if key != name]
            if value is not None:
                call.headers.append((name, value))
            outcome = reply(await client.send(call))
            assert (400, -32020) == (outcome.status, outcome.verdict.error_code)
            assert b'"id":"i"' in (outcome.body or b"")


async def echoed(client: Client, region: str | None, *given: bytes) -> Replied:
    """A call of the annotated tool with that argument, and that header as often."""
    arguments: dict[str, Any] = {} if region is None else {"region": region}
    call = client.call(modern("echo", "i", **arguments))
    call.headers += [(b"mcp-param-region", value) for value in given]
    return reply(await client.send(call))


async def listed(client: Client) -> None:
    """The tools pass by."""
    body = request("tools/list", {"_meta": {**ENVELOPE}}, 1)
    assert reply(await client.post(body)).verdict.answered


async def test_headers_of_arguments_that_differ_from_the_body_are_refused() -> None:
    """Once a list has told which they are; the error is that of the other headers."""
    async with bridge(child=script("annotated")) as upstream:
        client, other = Client(upstream), Client(upstream)
        assert 200 == (await echoed(client, "north", b"south")).status
        await listed(client)
        for region, given in (("north", [b"south"]), ("north", []), ("north", [b"north"] * 2), (None, [b"north"])):
            outcome = await echoed(other, region, *given)
            assert (400, -32020) == (outcome.status, outcome.verdict.error_code)
            assert b"mcp-param-region" in (outcome.body or b"")
        assert '{"region": "north"}' == result_text(await echoed(other, "north", b"north"))
        assert "{}" == result_text(await echoed(other, None))


async def test_headers_of_other_tools_and_methods_are_nobodys() -> None:
    """A header that no listed tool asks for says nothing, and passes."""
    async with bridge(child=script("annotated")) as upstream:
        client = Client(upstream)
        await listed(client)
        call = client.call(modern("pid", region="north"))
        call.headers.append((b"mcp-param-region", b"south"))
        assert 200 == reply(await client.send(call)).status


async def test_what_was_listed_holds_for_the_next_process() -> None:
    """It is the same command."""
    async with bridge(child=script("annotated")) as upstream:
        client = Client(upstream)
        await listed(client)
        assert isinstance(await client.post(modern("exit")), Failed)
        assert 400 == (await echoed(client, "north", b"south")).status


async def test_eras_have_processes_of_their_own() -> None:
    """Servers decide by the first request they see."""
    events = Events()
    async with bridge(emit=events) as upstream:
        client, legacy = Client(upstream), Client(upstream)
        await client.post(modern("echo"))
        await legacy.initialize()
        assert result_text(await legacy.tool("pid")) != result_text(await client.post(modern("pid")))
    assert 2 == len(events.of(ChildExited))


async def test_an_exit_ends_calls_and_streams_and_the_next_call_starts_anew() -> None:
    """What was in flight fails at once; a subscription's stream just ends, so that its caller listens again."""
    sink = RecordingSink()
    async with bridge(child=script("silent-listen")) as upstream, asyncio.TaskGroup() as tasks:
        client = Client(upstream)
        listening = tasks.create_task(client.post(listen(1), sink))
        await sink.opened()
        waiting = tasks.create_task(client.post(modern("never", 2)))
        await asyncio.sleep(0)
        before = result_text(await client.post(modern("pid", 3)))
        exited = await client.post(modern("exit", 4))
        for outcome in (exited, await waiting):
            assert isinstance(outcome, Failed)
            assert FailureKind.EXITED is outcome.kind
        ended = reply(await listening)
        assert (None, False) == (ended.body, ended.verdict.answered)
        assert before != result_text(await client.post(modern("pid", 5)))


async def test_a_server_that_is_ending_is_asked_nothing_more() -> None:
    """It may take seconds to be gone: the next call has another one at once, and what it was asked before fails."""
    async with bridge() as upstream, asyncio.TaskGroup() as tasks:
        client = Client(upstream)
        await client.post(modern("pid"))
        muted = tasks.create_task(client.post(modern("mute")))
        outcomes = []
        while not muted.done():
            outcomes.append(await client.post(modern("pid", 2)))
        failures = [each for each in outcomes if isinstance(each, Failed)]
        assert [] == [each for each in failures if each.sent is Sent.NO]
        assert len(failures) <= 1, "asked before anybody could know"
        assert isinstance(muted.result(), Failed)


async def test_a_server_that_always_exits_is_not_started_for_every_call() -> None:
    """No storm of processes: the calls in between say why, and were not sent."""
    events = Events()
    settings = StdioSettings("script", restarts=RestartSettings(initial_seconds=30))
    async with bridge(settings, script("exit-at-once"), events) as upstream:
        client = Client(upstream)
        await client.post(modern("echo"))
        outcome = await client.post(modern("echo"))
        assert isinstance(outcome, Failed)
        assert (FailureKind.CONNECT, Sent.NO) == (outcome.kind, outcome.sent)
        assert "exited with code 7; weir's log has its last stderr lines; it will be started again in" in outcome.detail
    assert 1 == len(events.of(ChildStarted))


class Unstarted:
    """A server that never runs."""

    is_ending = False

    async def run(self, receiver: Receiver) -> None:
        """Until it is cancelled."""
        await asyncio.get_running_loop().create_future()

    async def started(self) -> Failed | None:
        """Never."""
        never: asyncio.Future[Failed | None] = asyncio.get_running_loop().create_future()
        return await never

    async def send(self, message: bytes, account: Account | None = None) -> Failed | None:
        """Not asked."""
        raise AssertionError("it does not run")

    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def stop(self) -> None: ...

    def unwanted(self, size: int) -> None:
        """Not counted."""


async def test_starting_a_server_has_the_time_to_connect_which_all_attempts_share() -> None:
    """The second try of the call finds nothing left."""
    settings = StdioSettings("script", connect_seconds=0.2, stop_seconds=0.05)
    upstream = StdioUpstream(settings, Unstarted, lambda event: None, time.monotonic, lambda: "s")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(upstream.run())
        await asyncio.sleep(0)
        client, began = Client(upstream), time.monotonic()
        call = client.call(modern("echo"))
        for _ in range(2):
            outcome = await client.send(call)
            assert isinstance(outcome, Failed)
            assert (FailureKind.TIMEOUT, "connect", Sent.NO) == (outcome.kind, outcome.timer, outcome.sent)
        assert 0.2 <= time.monotonic() - began < 0.5
        assert [pytest.approx(0.2, abs=0.1), pytest.approx(0.0, abs=0.1)] == [
            each.connect_seconds for each in call.attempts
        ]
        await upstream.aclose()


async def test_a_pause_before_a_restart_is_spent_of_the_time_to_connect() -> None:
    """Whoever tries again waits no longer than that."""
    settings = StdioSettings("script", connect_seconds=2.5, restarts=RestartSettings(initial_seconds=30))
    async with bridge(settings, script("exit-at-once")) as upstream:
        client = Client(upstream)
        await client.post(modern("echo"))
        call = client.call(modern("echo"))
        assert isinstance(await client.send(call), Failed)
        assert 2.5 == call.connect_left_seconds


async def test_silence_cancels_at_the_server() -> None:
    """Its work is of no use any more."""
    clock, stderr = Clock(), bytearray()
    async with bridge(WATCHFUL, clock=clock, on_stderr=stderr.extend) as upstream, asyncio.TaskGroup() as tasks:
        client = Client(upstream)
        waiting = tasks.create_task(client.post(modern("never")))
        await client.post(modern("echo"))
        clock.now += 301
        outcome = await waiting
        assert isinstance(outcome, Failed)
        assert ("idle", FailureKind.TIMEOUT) == (outcome.timer, outcome.kind)
        await client.post(modern("echo"))
    assert b"notifications/cancelled" in stderr


async def test_a_subscription_may_stay_silent() -> None:
    """Nothing has changed: that is no failure."""
    clock, sink = Clock(), RecordingSink()
    async with bridge(WATCHFUL, script("silent-listen"), clock=clock) as upstream, asyncio.TaskGroup() as tasks:
        listening = tasks.create_task(Client(upstream).post(listen(1), sink))
        await sink.opened()
        clock.now += 10_000
        await sink.until(lambda sink: len(sink.chunks) >= 1)
        assert [] == sink.data()
        assert not listening.done()
        listening.cancel()


async def test_an_idle_shared_server_is_stopped_and_started_again() -> None:
    """Nobody pays for a server that nobody uses."""
    events, clock = Events(), Clock()
    async with bridge(WATCHFUL, emit=events, clock=clock) as upstream:
        client = Client(upstream)
        await client.post(modern("echo"))
        clock.now += 1801
        await events.until(ChildExited)
        assert "{}" == result_text(await client.post(modern("echo")))
    assert 2 == len(events.of(ChildStarted))


async def test_a_message_that_can_be_read_in_two_ways_is_refused() -> None:
    """Under its exact id, where it has one only."""
    two = modern("echo", 1).replace(b'"id": 1', b'"id": 1, "id": 2')
    names = modern("echo", "a").replace(b'"name": "echo"', b'"name": "echo", "name": "exit"')
    kept = modern("echo", "a", {"progressToken": 1}, text="progressToken, ProgressToken")
    foreign = modern("echo", "a", {"ProgressToken": 1_000_000_001})
    escaped = foreign.replace(b"Progress", b"\\u0050rogress")
    second = modern("echo", "a", {"progressToken": 1, "progresstoken": 1_000_000_001})
    async with bridge() as upstream:
        assert 200 == reply(await Client(upstream).post(kept)).status
        for body, raw_id in ((two, b"null"), *((each, b'"a"') for each in (names, foreign, escaped, second))):
            outcome = reply(await Client(upstream).post(body))
            assert (400, -32600) == (outcome.status, outcome.verdict.error_code)
            assert b'"id":' + raw_id in (outcome.body or b"")
