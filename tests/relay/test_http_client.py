"""The client's half of Streamable HTTP: session, headers, the GET stream, resumption."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from support.pipes import PATIENCE_SECONDS
from support.played import (
    EVENTS,
    INITIALIZE,
    PlayedServer,
    Told,
    accepted,
    call_of,
    event,
    handshake,
    json_reply,
    modern_call_of,
    result,
    sent,
    stream,
    when,
)
from weir.core.call import Call
from weir.core.outcome import NO_ANSWER, Failed, FailureKind, Outcome, RefusalKind, Refused, Replied
from weir.relay.http_client import HttpClient, HttpClientSettings, Wiring
from weir.relay.posting import Posting, posting_of
from weir.relay.reconnect import ReconnectSettings

pytestmark = pytest.mark.anyio

SETTINGS = HttpClientSettings("demo", b"/mcp?x=1", reconnect=ReconnectSettings(0.001, 0.002))
NOT_ALLOWED = Replied(405, [(b"allow", b"POST")], b"", NO_ANSWER)


class Client:
    """An HttpClient and what it delivered."""

    def __init__(
        self,
        server: PlayedServer,
        settings: HttpClientSettings = SETTINGS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.told = Told()
        self.lines: asyncio.Queue[bytes] = asyncio.Queue()
        wiring = Wiring(server, self.told.finish, self.told.events.append, clock, draw=lambda: 0.5)
        self.http = HttpClient(settings, wiring, self.lines.put)

    async def post(self, body: bytes) -> Posting:
        """Send one message and wait until nothing more comes for it."""
        posting = posting_of(body)
        self.http.begin(posting)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.http.post(posting)
        self.http.end(posting)
        return posting

    async def heard(self) -> Any:
        """The next message that was delivered, decoded."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return json.loads(await self.lines.get())

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """With its GET stream kept open."""
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.http.listen())
            yield
            task.cancel()


class Gets:
    """Answers each GET with the next of its outcomes: a list of events, or an outcome; then holds the line."""

    def __init__(self, *outcomes: Outcome | list[bytes]) -> None:
        self._outcomes = list(outcomes)

    async def __call__(self, call: Call) -> Outcome | None:
        """Answer a GET."""
        if call.verb != b"GET":
            return None
        if not self._outcomes:
            await asyncio.Event().wait()
        outcome = self._outcomes.pop(0)
        return await stream(call, *outcome) if isinstance(outcome, list) else outcome


def gets(server: PlayedServer) -> list[bytes]:
    """What each GET so far gave as its Last-Event-ID."""
    return [sent(call, b"last-event-id") for call in server.calls if call.verb == b"GET"]


NOTE = b'{"jsonrpc":"2.0","method":"notifications/message"}'
ANSWER = b'{"jsonrpc":"2.0","id":1,"result":{}}'

# exchanges


async def test_a_byte_order_mark_does_not_hide_an_answer() -> None:
    """Some servers begin a body with one; a line must not."""

    async def marked(call: Call) -> Outcome:
        return json_reply(b"\xef\xbb\xbf" + (result(call).body or b""))

    client = Client(PlayedServer(when("tools/call", marked)))
    posting = await client.post(call_of(b"7"))
    assert 7 == (await client.heard())["id"]
    assert not posting.unanswered


async def test_a_post_says_what_a_client_must() -> None:
    """Both kinds of reply are welcome, the body is JSON, the target is the endpoint; nothing else is known yet."""
    server = PlayedServer()
    await Client(server).post(call_of(b"1"))
    call = server.calls[0]
    assert (call.verb, call.target) == (b"POST", b"/mcp?x=1")
    assert call.headers == [(b"accept", b"application/json, text/event-stream"), (b"content-type", b"application/json")]


async def test_a_session_is_only_given_by_initialize() -> None:
    """A header on another reply is none of the session's."""

    async def generous(call: Call) -> Outcome | None:
        return result(call, b"{}", (b"mcp-session-id", b"other")) if call.message.method == "tools/call" else None

    server = PlayedServer(handshake, generous)
    client = Client(server)
    for body in (INITIALIZE, call_of(b"2"), call_of(b"3")):
        await client.post(body)
    assert [b"", b"s-1", b"s-1"] == [sent(call, b"mcp-session-id") for call in server.calls]


async def test_a_second_handshake_begins_without_the_first_session() -> None:
    """A client that initializes again, after a 404 for instance, starts from nothing."""
    server = PlayedServer(handshake)
    client = Client(server)
    await client.post(INITIALIZE)
    await client.post(INITIALIZE)
    again = server.calls[1]
    assert (b"", b"") == (sent(again, b"mcp-session-id"), sent(again, b"mcp-protocol-version"))


async def test_a_modern_request_has_its_own_headers_and_no_session() -> None:
    """Revision, method and name are mirrored from the body; a session would be ignored at best."""
    server = PlayedServer(handshake)
    client = Client(server)
    await client.post(INITIALIZE)
    await client.post(modern_call_of(b"2", "größe".encode()))
    call = server.calls[1]
    assert (b"", "") == (sent(call, b"mcp-session-id"), call.session)
    assert (b"2026-07-28", b"tools/call", b"=?base64?Z3LDtsOfZQ==?=") == (
        sent(call, b"mcp-protocol-version"),
        sent(call, b"mcp-method"),
        sent(call, b"mcp-name"),
    )
    assert 1 == len([name for name, _ in call.headers if name == b"mcp-protocol-version"])


@pytest.mark.parametrize("raw", [b'"id":null,', b'"id":"server-error",', b""])
async def test_an_error_that_names_no_request_gets_the_id_of_the_one_it_answers(raw: bytes) -> None:
    """Over HTTP the exchange says whose it is; on a pipe only the id does. Every other byte stays."""
    error = b'"jsonrpc": "2.0", "error":{"code":-32600,"message":"Bad Request","data":1.0}}'

    async def refuse(call: Call) -> Outcome:
        return json_reply(b"{" + raw + error, 400)

    client = Client(PlayedServer(refuse))
    await client.post(call_of(b'"x"'))
    assert await client.lines.get() == b'{"id":"x",' + error


async def test_an_answer_that_differs_in_type_is_the_answer() -> None:
    """Some servers answer "7" to 7; SDK clients take it, and so it passes as it is."""

    async def stringly(call: Call) -> Outcome:
        return json_reply(b'{"jsonrpc":"2.0","id":"7","result":{}}')

    client = Client(PlayedServer(stringly))
    posting = await client.post(call_of(b"7"))
    assert not posting.unanswered
    assert await client.lines.get() == b'{"jsonrpc":"2.0","id":"7","result":{}}'


async def test_a_stream_that_is_left_open_after_the_answer_is_cut() -> None:
    """The server should close it; a client that has its answer does not wait for that."""

    async def forgetful(call: Call) -> Outcome:
        await stream(call, event(ANSWER))
        await asyncio.Event().wait()
        raise AssertionError

    client = Client(PlayedServer(forgetful), replace(SETTINGS, linger_seconds=0.01))
    posting = await client.post(call_of(b"1"))
    assert isinstance(posting.outcome, Replied)


async def test_a_session_that_is_gone_is_told_once_and_not_ended_again() -> None:
    """404 to a POST: whoever asks gets the answer, the operator one line, and DELETE would be pointless."""

    async def forgetful(call: Call) -> Outcome | None:
        return Replied(404, [], b"", NO_ANSWER) if call.message.method != "initialize" else None

    server = PlayedServer(handshake, forgetful)
    client = Client(server)
    await client.post(INITIALIZE)
    first, second = await client.post(call_of(b"2")), await client.post(call_of(b"3"))
    await client.http.close()
    assert first.unanswered
    assert second.unanswered
    assert ["the server has ended the session (HTTP 404): the client has to initialize again"] == client.told.notices()
    assert b"DELETE" not in [call.verb for call in server.calls]


async def test_without_a_session_there_is_nothing_to_end() -> None:
    """A stateless server gets no DELETE."""
    server = PlayedServer()
    client = Client(server)
    await client.post(call_of(b"1"))
    await client.http.close()
    assert [b"POST"] == [call.verb for call in server.calls]


# the GET stream


async def test_a_server_without_a_stream_is_asked_once() -> None:
    """405 is an answer for good, and nothing to report."""
    server = PlayedServer()
    client = Client(server)
    outcome = await client.http.listen()
    assert isinstance(outcome, Replied)
    assert client.http.is_listening.is_set()
    assert [b""] == gets(server)
    assert [] == client.told.notices()


async def test_a_stream_that_ended_is_opened_again_where_it_was() -> None:
    """With the last event id, which outlives a stream that brought none."""
    server = PlayedServer(Gets([event(NOTE, b"e-1"), event(NOTE, b"e-2")], [], [event(NOTE)]))
    client = Client(server)
    async with client.listening():
        await server.received(4)
    assert [b"", b"e-2", b"e-2", b"e-2"] == gets(server)
    assert 3 == client.lines.qsize()


@pytest.mark.parametrize(
    "trouble",
    [
        Failed(FailureKind.RESET, "closed half-way"),
        Failed(FailureKind.CONNECT, "is down"),
        Replied(503, [], b"", NO_ANSWER),
        Replied(409, [], b"", NO_ANSWER),
        Refused(RefusalKind.OVERLOADED, "full"),
    ],
)
async def test_trouble_that_may_pass_is_waited_out(trouble: Outcome) -> None:
    """The stream comes back when the server does."""
    server = PlayedServer(Gets(trouble, trouble, [event(NOTE)]))
    client = Client(server)
    async with client.listening():
        assert "notifications/message" == (await client.heard())["method"]


@pytest.mark.parametrize("status", [400, 401, 403, 406, 414])
async def test_a_refusal_that_will_not_pass_is_told(status: int) -> None:
    """The client would never know that it hears nothing."""
    client = Client(PlayedServer(Gets(Replied(status, [], b"", NO_ANSWER))))
    await client.http.listen()
    assert 1 == len(client.told.notices())


async def test_something_else_than_a_stream_is_none() -> None:
    """Some servers answer a GET with a web page."""
    server = PlayedServer(Gets(Replied(200, [(b"content-type", b"text/html")], b"<html>", NO_ANSWER)))
    await Client(server).http.listen()
    assert 1 == len(server.calls)


async def test_the_servers_own_time_is_honoured() -> None:
    """`retry` is in milliseconds and outlives the stream that said it."""
    settings = replace(SETTINGS, reconnect=ReconnectSettings(initial_seconds=60.0, max_seconds=60.0))
    server = PlayedServer(Gets([b"retry: 1\n\n", event(NOTE)], [], [event(NOTE)]))
    client = Client(server, settings)
    async with client.listening():
        await server.received(3)


async def test_a_quiet_stream_that_stood_for_long_does_not_lengthen_the_waits() -> None:
    """weir's own idle timer ends streams on which nothing is said; the client must not grow deaf over that."""
    now = 0.0
    opened: list[float] = []

    async def quiet(call: Call) -> Outcome:
        nonlocal now
        opened.append(time.monotonic())
        await call.sink.open(200, EVENTS)
        now += 300.0
        return Failed(FailureKind.TIMEOUT, "said nothing", timer="idle")

    server = PlayedServer(quiet)
    settings = replace(SETTINGS, reconnect=ReconnectSettings(initial_seconds=0.002, max_seconds=60.0))
    client = Client(server, settings, lambda: now)
    async with client.listening():
        await server.received(20)
    assert opened[-1] - opened[0] < 2.0


async def test_an_answer_on_the_wrong_stream_is_still_the_answer() -> None:
    """A server that answers on its GET stream is not made to hang its client."""

    async def elsewhere(call: Call) -> Outcome:
        if call.verb == b"GET":
            await call.sink.open(200, EVENTS)
            await server.receives(lambda each: each.verb == b"POST")
            await call.sink.write(event(ANSWER))
            await asyncio.Event().wait()
        return accepted()

    server = PlayedServer(elsewhere)
    client = Client(server)
    posting = posting_of(call_of(b"1"))
    client.http.begin(posting)
    async with client.listening():
        await server.received(1)
        await client.http.post(posting)
        assert 1 == (await client.heard())["id"]
    assert posting.is_settled


# resumption


class Polling:
    """A tools/call that is polled: the POST ends after a priming event, the answer comes on a later GET."""

    def __init__(self, *gets: Outcome | list[bytes], first: list[bytes] | None = None) -> None:
        self._gets = Gets(*gets)
        self._first = [b"retry: 1\nid: p-1\ndata:\n\n"] if first is None else first

    async def __call__(self, call: Call) -> Outcome | None:
        """Answer POST and GETs."""
        if call.message.method == "tools/call":
            return await stream(call, *self._first)
        return await self._gets(call)


async def test_a_call_that_is_polled_gets_its_answer() -> None:
    """2025-11-25: the stream ends after an event id, the client comes back with it until the response is there."""
    server = PlayedServer(Polling([b"id: p-2\ndata:\n\n"], [event(NOTE, b"p-3")], [], [event(ANSWER, b"p-4")]))
    client = Client(server)
    posting = await client.post(call_of(b"1"))
    assert [b"p-1", b"p-2", b"p-3", b"p-3"] == gets(server)
    assert ["notifications/message", None] == [(await client.heard()).get("method") for _ in range(2)]
    assert posting.is_settled


async def test_a_call_whose_stream_broke_is_resumed_through_trouble() -> None:
    """The connection was lost, and the server is away for a moment: the answer is still there."""

    async def broken(call: Call) -> Outcome | None:
        if call.message.method != "tools/call":
            return None
        await stream(call, event(NOTE, b"x-1"))
        return Failed(FailureKind.RESET, "closed half-way")

    down = Failed(FailureKind.CONNECT, "is down")
    client = Client(PlayedServer(broken, Gets(down, down, [event(ANSWER)])))
    posting = await client.post(call_of(b"1"))
    assert posting.is_settled


async def test_resuming_is_given_up() -> None:
    """A server that stays away has lost the answer; the last failure says so."""
    down = Failed(FailureKind.CONNECT, "is down")
    server = PlayedServer(Polling(*[down] * 9))
    posting = await Client(server).post(call_of(b"1"))
    assert 5 == len(gets(server))
    assert posting.unanswered
    assert posting.outcome is down


async def test_a_server_that_knows_no_resumption_is_not_asked_again() -> None:
    """405 to the GET: what was lost is lost."""
    server = PlayedServer(Polling(NOT_ALLOWED))
    posting = await Client(server).post(call_of(b"1"))
    assert 1 == len(gets(server))
    assert posting.outcome is NOT_ALLOWED


async def test_a_modern_stream_is_never_resumed() -> None:
    """2026-07-28 has no resumption, whatever ids its events have."""
    server = PlayedServer(Polling([event(ANSWER)]))
    posting = await Client(server).post(modern_call_of(b"1"))
    assert [] == gets(server)
    assert posting.unanswered


async def test_a_stream_without_an_event_id_is_not_resumed() -> None:
    """There is nothing to resume from."""
    server = PlayedServer(Polling(first=[event(NOTE)]))
    assert (await Client(server).post(call_of(b"1"))).unanswered
    assert [] == gets(server)


# headers that mirror arguments

SCHEMA = b'{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"}}}'
MISMATCH = b'{"jsonrpc":"2.0","id":%b,"error":{"code":-32020,"message":"Header mismatch"}}'
CALL = (
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"query","arguments":{"region":"eu","n":1.0},'
    b'"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":'
    b'{"x":1.0},"progressToken":5,"traceparent":"00-x","io.modelcontextprotocol/logLevel":"debug"}}}'
)


class Mirrored:
    """A server whose tool `query` wants its region in a header. Lists its tools in pages of one."""

    def __init__(self, tools: list[bytes], *, as_stream: bool = False) -> None:
        self._tools = tools
        self._as_stream = as_stream
        self.listed = 0

    async def __call__(self, call: Call) -> Outcome | None:
        """List, or check the call."""
        if call.message.method == "tools/list":
            return self._page(call)
        if call.message.method == "tools/call" and sent(call, b"mcp-param-region") != b"eu":
            error = MISMATCH % call.message.id
            return await stream(call, event(error)) if self._as_stream else json_reply(error, 400)
        return result(call, b'"done"') if call.is_request else None

    def _page(self, call: Call) -> Outcome:
        cursor = json.loads(call.body)["params"].get("cursor")
        page = int(cursor or 0)
        self.listed += 1
        more = b',"nextCursor":"%d"' % (page + 1) if page + 1 < len(self._tools) else b""
        return result(call, b'{"tools":[' + self._tools[page] + b"]" + more + b"}")


def tool(name: bytes, schema: bytes = SCHEMA) -> bytes:
    """A tool as it is listed."""
    return b'{"name":"%b","inputSchema":%b}' % (name, schema)


@pytest.mark.parametrize("as_stream", [False, True])
async def test_a_call_refused_for_its_headers_is_mended_once(as_stream: bool) -> None:
    """The client never listed the tools: weir does, under the client's envelope, and only the answer is seen."""
    server = PlayedServer(Mirrored([tool(b"other", b"{}"), tool(b"query")], as_stream=as_stream))
    client = Client(server)
    await client.post(CALL)
    assert ["tools/call", "tools/list", "tools/list", "tools/call"] == server.methods()
    assert {"jsonrpc": "2.0", "id": 1, "result": "done"} == await client.heard()
    assert client.lines.empty()
    first, second = json.loads(server.calls[1].body), json.loads(server.calls[2].body)
    assert first["id"] != second["id"]
    assert {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {"x": 1.0},
        "traceparent": "00-x",
    } == first["params"]["_meta"]
    assert (b"2026-07-28", b"tools/list") == (
        sent(server.calls[1], b"mcp-protocol-version"),
        sent(server.calls[1], b"mcp-method"),
    )
    assert server.calls[3].body == CALL


async def test_a_tool_that_was_listed_needs_no_mending() -> None:
    """The client listed the tools itself: weir read along."""
    server = PlayedServer(Mirrored([tool(b"query")]))
    client = Client(server)
    await client.post(CALL.replace(b"tools/call", b"tools/list"))
    await client.post(CALL)
    assert ["tools/list", "tools/call"] == server.methods()


async def test_an_error_that_listing_does_not_explain_is_the_clients() -> None:
    """The tool has no annotation: the same call would get the same error."""
    server = PlayedServer(Mirrored([tool(b"query", b"{}")]))
    client = Client(server)
    await client.post(CALL)
    assert ["tools/call", "tools/list"] == server.methods()
    assert -32020 == (await client.heard())["error"]["code"]


async def test_a_second_mismatch_is_the_answer() -> None:
    """Mended once, whatever comes then."""

    async def never_content(call: Call) -> Outcome | None:
        return json_reply(MISMATCH % call.message.id, 400) if call.message.method == "tools/call" else None

    server = PlayedServer(never_content, Mirrored([tool(b"query")]))
    client = Client(server)
    await client.post(CALL)
    assert ["tools/call", "tools/list", "tools/call"] == server.methods()
    assert -32020 == (await client.heard())["error"]["code"]


async def test_calls_refused_together_list_the_tools_once() -> None:
    """The second one finds what the first one learnt."""
    mirrored = Mirrored([tool(b"query")])
    server = PlayedServer(mirrored)
    client = Client(server)
    async with asyncio.TaskGroup() as group:
        for number in (b"1", b"2", b"3"):
            group.create_task(client.post(CALL.replace(b'"id":1,', b'"id":' + number + b",")))
    assert 1 == mirrored.listed
    assert 3 == client.lines.qsize()


async def test_a_server_that_does_not_list_in_time_leaves_the_error() -> None:
    """Mending has its seconds; then the error goes out as it came."""

    async def hang(call: Call) -> Outcome:
        await asyncio.Event().wait()
        raise AssertionError

    server = PlayedServer(when("tools/list", hang), Mirrored([]))
    client = Client(server, replace(SETTINGS, list_seconds=0.01))
    await client.post(CALL)
    assert -32020 == (await client.heard())["error"]["code"]
    assert ["the server did not list its tools in time"] == client.told.notices()


async def test_a_legacy_call_with_that_code_is_left_alone() -> None:
    """The code meant other things before 2026-07-28, and no header of weir's mirrors anything there."""

    async def refuse(call: Call) -> Outcome:
        return json_reply(MISMATCH % call.message.id)

    server = PlayedServer(refuse)
    client = Client(server)
    await client.post(call_of(b"1"))
    assert ["tools/call"] == server.methods()
    assert -32020 == (await client.heard())["error"]["code"]
