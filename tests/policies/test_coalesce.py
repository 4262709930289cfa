"""Coalesce: which calls may share, and that each caller gets what it would have got by itself."""

import asyncio
from typing import Any

import pytest

from support.coalescing import ENFORCE, JSON, SHADOW, Upstream, coalescing, read, reply_of, result, spawn
from support.policed import CLIENT_GONE, LOST, REFUSED, Told, body_of, call_with, clock_of_loop, tool_call
from support.virtual_loop import VIRTUAL, turns
from weir.core.call import Call
from weir.core.events import Decided, LimitReached
from weir.core.outcome import NO_ANSWER, PLAIN, Blame, Failed, FailureKind, Mode, Outcome, Refused, Replied, Verdict
from weir.policies.coalesce import Coalesce, CoalesceSettings, Joinable, is_shareable, key_of, may_change
from weir.protocol.scan import MEMBERS_LIMIT

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return VIRTUAL


# which calls


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("tools/list", True),
        ("resources/read", True),
        ("prompts/get", True),
        ("completion/complete", True),
        ("tasks/get", True),
        ("tools/call", False),
        ("resources/subscribe", False),
        ("ping", False),
        ("initialize", False),
        ("server/discover", False),
        ("tasks/result", False),
        ("subscriptions/listen", False),
        ("unknown/read", False),
    ],
)
def test_only_reads_that_end_are_shared(method: str, expected: bool) -> None:
    """What is exempt, long-lived, unknown or may change something goes by itself."""
    assert expected == is_shareable(call_with(body_of(method, {})))


@pytest.mark.parametrize(
    "body",
    [
        body_of("resources/read", {"uri": "a", "inputResponses": {}}),
        body_of("resources/read", {"uri": "a", "requestState": "x"}),
        b'{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"a","uri":"b"}}',
        b'{"jsonrpc":"2.0","id":1,"id":2,"method":"tools/list"}',
        b"[" + body_of("tools/list") + b"]",
        body_of("tools/list", request_id=None),
        b"nonsense",
        b"",
    ],
)
def test_legs_of_a_dialogue_and_what_can_be_read_in_two_ways_are_not_shared(body: bytes) -> None:
    """Nor batches, notifications, and what is no message."""
    assert not is_shareable(call_with(body))


def test_a_listening_stream_changes_nothing() -> None:
    """It stays open for hours; a tool, a batch and nonsense may change what others read."""
    assert not may_change(call_with(body_of("subscriptions/listen")))
    assert not may_change(call_with(body_of("tools/list")))
    assert not may_change(call_with(body_of("notifications/initialized", request_id=None)))
    assert [True] * 3 == [may_change(call) for call in (tool_call(), call_with(b"?"), call_with(body_of("x/y")))]


@pytest.mark.parametrize(
    "facts",
    [
        {"session": "other"},
        {"revision": "2025-06-18"},
        {"target": b"/elsewhere"},
        {"headers": [(b"authorization", b"Bearer other")]},
        {"headers": [(b"authorization", b"Bearer me"), (b"x-api-key", b"1")]},
        {"headers": [(b"authorization", b"Bearer me"), (b"cookie", b"a=b")]},
        {"headers": [(b"authorization", b"Bearer me"), (b"x-user", b"bob")]},
        {"headers": []},
    ],
)
def test_nobody_shares_with_another_caller(facts: dict[str, Any]) -> None:
    """Session, revision, path, credentials, and by default whatever header may tell callers apart."""
    mine: dict[str, Any] = {"session": "s", "target": b"/mcp", "headers": [(b"authorization", b"Bearer me")]}
    assert key_of(read(**mine), None) != key_of(read(**{**mine, **facts}), None)


def test_ids_traces_and_lengths_make_no_difference() -> None:
    """Everything that belongs to one exchange only."""
    one = read(1, headers=[(b"traceparent", b"00-a"), (b"content-length", b"70"), (b"accept", b"*/*")])
    other = read("x-2", headers=[(b"content-length", b"75"), (b"accept", b"*/*"), (b"x-request-id", b"9")])
    assert key_of(one, None) == key_of(other, None)


def test_named_headers_are_the_only_ones_compared() -> None:
    """Authorization and Accept always are."""
    names = frozenset((b"authorization", b"accept", b"x-team"))

    def key(*headers: tuple[bytes, bytes]) -> bytes | None:
        return key_of(read(headers=list(headers)), names)

    assert key((b"user-agent", b"a")) == key((b"user-agent", b"b"))
    assert key((b"x-team", b"a")) != key((b"x-team", b"b"))
    assert key((b"authorization", b"a")) != key((b"authorization", b"b"))
    policy = Coalesce("demo", CoalesceSettings(Mode.ENFORCE, ("x-team",)), Told().append, lambda: 0.0)
    assert policy._general is not None
    assert names == policy._general.headers


def test_a_header_that_does_not_go_upstream_tells_no_callers_apart() -> None:
    """`Connection` names it, so the server would answer as to a caller without it; or weir sends its own."""
    secret = (b"authorization", b"Bearer a")
    named = read(headers=[(b"connection", b"Authorization"), secret])
    assert key_of(named, None) == key_of(read(), None) != key_of(read(headers=[secret]), None)
    two = read(headers=[(b"connection", b"close"), secret, (b"connection", b"x, authorization")])
    assert key_of(two, None) == key_of(read(), None)
    own = frozenset((b"authorization",))
    assert key_of(read(headers=[secret]), None, own) == key_of(read(), None, own)


def test_values_cannot_move_between_parts() -> None:
    """A header that holds another's text is another header."""
    one = read(headers=[(b"a", b"bc"), (b"d", b"")])
    other = read(headers=[(b"a", b"b"), (b"cd", b"")])
    assert key_of(one, None) != key_of(other, None)


def test_what_may_be_joined_is_bounded_and_forgotten() -> None:
    """By key; only who offered it takes it back."""
    table: Joinable[str] = Joinable(limit=2)
    table.offer(b"1", "a")
    table.offer(b"2", "b")
    assert table.is_full
    table.close(b"1", "z")
    assert "a" == table.find(b"1")
    table.close(b"1", "a")
    assert (None, "b", False) == (table.find(b"1"), table.find(b"2"), table.is_full)
    table.outdate()
    assert table.find(b"2") is None


def test_while_a_change_may_have_been_answered_nobody_joins() -> None:
    """Its stream has begun, and its answer may be in it."""
    table: Joinable[str] = Joinable()
    change = tool_call()
    table.change_began(change)
    table.offer(b"1", "a")
    assert "a" == table.find(b"1")
    change.committed = True
    assert table.find(b"1") is None
    table.change_ended(change)
    assert table.find(b"1") is None
    table.offer(b"1", "b")
    assert "b" == table.find(b"1")


# the layer


def test_a_change_that_was_answered_outdates_what_is_under_way() -> None:
    """Also when its answer was seen before it was relayed."""
    table: Joinable[str] = Joinable()
    change = tool_call()
    table.offer(b"1", "a")
    table.change_began(change)
    change.answered(b"1", PLAIN)
    assert table.find(b"1") is None


async def test_equal_reads_share_one_call_and_each_gets_its_own_id() -> None:
    """Whatever its JSON type."""
    async with coalescing() as bench:
        tasks = await bench.calls(read(1), read("two"), read(3))
        await bench.upstream.ends(0)
        bodies = [(await reply_of(task)).body for task in tasks]
        assert [result(b"1"), result(b'"two"'), result(b"3")] == bodies
        assert (1, ["joined", "joined"]) == (len(bench.upstream.calls), bench.told.actions())


async def test_only_the_headers_that_are_named_tell_callers_apart() -> None:
    """Where some are; the call that is under way is forgotten when it ends."""
    async with coalescing(CoalesceSettings(Mode.ENFORCE, ("x-team",))) as bench:
        callers = [(b"a", b"red"), (b"b", b"red"), (b"a", b"blue")]
        await bench.calls(
            *(read(1, headers=[(b"user-agent", agent), (b"x-team", team)]) for agent, team in callers),
        )
        assert 2 == len(bench.upstream.calls)
        for number in range(2):
            await bench.upstream.ends(number)
        assert set() == bench.policy._flights


async def test_a_question_that_cannot_be_read_for_certain_is_asked_by_each() -> None:
    """It has more members than are looked at."""
    async with coalescing() as bench:
        many = {"uri": "a", **{f"m{number}": 1 for number in range(MEMBERS_LIMIT)}}
        calls = [call_with(body_of("resources/read", many, number)) for number in range(2)]
        await bench.calls(*calls)
        assert calls == bench.upstream.calls
        for number in range(2):
            await bench.upstream.ends(number)


async def test_a_length_header_does_not_outlive_the_id() -> None:
    """A longer id is a longer body."""
    async with coalescing() as bench:
        tasks = await bench.calls(read(1), read("a-long-id"))
        await bench.upstream.ends(0, Replied(200, [*JSON, (b"content-length", b"50")], result(b"1"), PLAIN))
        assert [[*JSON, (b"content-length", b"50")], JSON] == [(await reply_of(task)).headers for task in tasks]


async def test_what_comes_later_has_a_call_of_its_own() -> None:
    """Only what is in flight is shared; it is no cache."""
    async with coalescing() as bench:
        await bench.call(read(1))
        await bench.upstream.ends(0)
        await bench.call(read(2))
        await bench.upstream.ends(1)
        assert (2, []) == (len(bench.upstream.calls), bench.told)


async def test_other_questions_are_other_calls() -> None:
    """And tools are never shared."""
    async with coalescing() as bench:
        await bench.calls(read(1, "a"), read(2, "b"), tool_call(request_id=3), tool_call(request_id=4))
        for number in range(4):
            await bench.upstream.ends(number)
        assert 4 == len(bench.upstream.calls)


@pytest.mark.parametrize("outcome", [LOST, REFUSED])
async def test_failures_and_refusals_are_shared_too(outcome: Failed | Refused) -> None:
    """A failing upstream is not asked once for each caller."""
    async with coalescing() as bench:
        tasks = await bench.calls(read(1), read(2))
        await bench.upstream.ends(0, outcome)
        assert [outcome, outcome] == [await task for task in tasks]


@pytest.mark.parametrize(
    "reply",
    [
        Replied(401, [(b"www-authenticate", b"Bearer")], b"<html>", NO_ANSWER),
        Replied(400, JSON, b'{"jsonrpc":"2.0","id":null,"error":{"code":-1,"message":"x"}}', Verdict(-1, "x")),
    ],
)
async def test_a_reply_that_names_no_request_is_shared_as_it_is(reply: Replied) -> None:
    """An error page, an error without an id."""
    async with coalescing() as bench:
        tasks = await bench.calls(read(1), read(2))
        await bench.upstream.ends(0, reply)
        assert [reply, reply] == [await task for task in tasks]


@pytest.mark.parametrize(
    "reply",
    [
        Replied(200, [*JSON, (b"set-cookie", b"a=b")], result(b"1"), PLAIN),
        Replied(200, [(b"content-encoding", b"gzip")], b"\x1f\x8b", PLAIN),
        Replied(200, JSON, b'{"id":1,"id":1,"result":{}}', PLAIN),
        Replied(200, JSON, b"[" + result(b"1") + b"]", PLAIN),
    ],
)
async def test_what_cannot_be_shared_leaves_each_its_own_call(reply: Replied) -> None:
    """A cookie is one caller's, and an id must be known to be replaced."""
    async with coalescing() as bench:
        follower = read(2)
        tasks = await bench.calls(read(1), follower)
        await bench.upstream.ends(0, reply)
        await bench.upstream.ends(1)
        assert reply is await tasks[0]
        assert result(b"2") == (await reply_of(tasks[1])).body
        assert [Decided("coalesce", action, follower) for action in ("joined", "alone")] == bench.told


# the rest


async def test_shadow_counts_and_shares_nothing() -> None:
    """Each has its own call, in its own task."""
    async with coalescing(SHADOW) as bench:
        calls = [read(1), read(2), read(3)]
        await bench.calls(*calls)
        assert calls == bench.upstream.calls
        assert [Decided("coalesce", "would_join", call, True) for call in calls[1:]] == bench.told
        for number in range(3):
            await bench.upstream.ends(number)
        await bench.call(read(4))
        assert 2 == len(bench.told)
        await bench.upstream.ends(3)


async def test_shadow_forgets_a_caller_that_goes() -> None:
    """It would have been nobody's leader any more."""
    async with coalescing(SHADOW) as bench:
        (await bench.call(read(1))).cancel()
        await turns()
        await bench.call(read(2))
        await bench.upstream.ends(1)
        assert [] == bench.told


async def test_beyond_the_bound_calls_go_by_themselves() -> None:
    """And that is counted."""
    async with coalescing() as bench:
        bench.policy._joinable = Joinable(limit=1)
        await bench.calls(read(1, "a"), read(2, "b"), read(3, "b"))
        assert [LimitReached("demo", "coalesced_calls")] * 2 == bench.told
        for number in range(3):
            await bench.upstream.ends(number)


async def test_a_bug_below_is_every_callers_and_nobody_elses() -> None:
    """The edges make a clear answer of it; the policy goes on."""

    async def broken(call: Call) -> Outcome:
        await turns()
        raise RuntimeError("a bug")

    async with coalescing() as bench:
        tasks = [spawn(bench.policy(read(number), broken)) for number in (1, 2)]
        done, _ = await asyncio.wait(tasks)
        assert ["a bug", "a bug"] == [str(task.exception()) for task in done]
        again = await bench.call(read(3))
        await bench.upstream.ends(0)
        assert isinstance(await again, Replied)


async def test_without_its_tasks_nothing_is_shared() -> None:
    """Before `run`, and after it; what was shared when it ended has an outcome all the same."""
    told, upstream = Told(), Upstream()
    policy = Coalesce("demo", ENFORCE, told.append, clock_of_loop())
    running = asyncio.get_running_loop().create_task(policy.run())
    await turns()
    shared = spawn(policy(read(1), upstream))
    await turns()
    running.cancel()
    await turns()
    assert Failed(FailureKind.CANCELLED, "weir is stopping", Blame.WEIR) == await shared
    own = [spawn(policy(read(number), upstream)) for number in (2, 3)]
    await turns()
    assert 3 == len(upstream.calls)
    await upstream.ends(1, CLIENT_GONE)
    await upstream.ends(2, CLIENT_GONE)
    assert [CLIENT_GONE, CLIENT_GONE] == [await task for task in own]
