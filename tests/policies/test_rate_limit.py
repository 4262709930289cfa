"""Rate limits: what is counted apart, that a refusal costs nothing, and that memory is bounded."""

import asyncio
import math
import sys
import time
import tracemalloc
from dataclasses import replace
from typing import Any

import psutil
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from support.policed import (
    LOST,
    OK,
    REFUSED,
    Gate,
    PlayedUpstream,
    Told,
    attempt_of,
    batch_of,
    body_of,
    call_of,
    call_with,
    clock_of_loop,
    tool_call,
)
from support.virtual_loop import VIRTUAL, turns
from weir.core.call import Call, Peer, Transport
from weir.core.events import Decided, LimitReached
from weir.core.outcome import Mode, Outcome, RefusalKind, Refused
from weir.policies.rate_limit import Ledger, RateLimiter, RateLimitSettings, Standing, known_as, words
from weir.policies.rate_limit_ledger import BYTES_LIMIT, ENTRY_BYTES, KEYS_LIMIT, Table, entry_bytes

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return VIRTUAL


def limit(per: str, limit: int = 2, seconds: float = 10.0, mode: Mode = Mode.ENFORCE) -> RateLimitSettings:
    return RateLimitSettings(tuple(per.split()), limit, seconds, mode)


def client_of(call: Call) -> str:
    return call.peer.address


def by(client: str, call: Call) -> Call:
    """The call, from another address."""
    call.peer = Peer(Transport.HTTP, client)
    return call


class Stand:
    """Limits before a played handler, in virtual time."""

    def __init__(self, *limits: RateLimitSettings, outcomes: Any = (OK,), ledger: Ledger | None = None) -> None:
        self.told = Told()
        self.inner = PlayedUpstream(*outcomes)
        self.clock = clock_of_loop()
        self.ledger = ledger or Ledger()
        self.limiter = RateLimiter("demo", limits, self.ledger, client_of, self.told.append, self.clock)

    async def call(self, call: Call | None = None, inner: Any = None) -> Outcome:
        """One call."""
        return await self.limiter(call or tool_call(), inner or self.inner)

    async def passes(self, *calls: Call) -> list[bool]:
        """Which of them pass."""
        return [not isinstance(await self.call(call), Refused) for call in calls]

    def remaining(self, call: Call | None = None) -> list[int]:
        """What each limit still allows this caller."""
        return [standing.remaining for standing in self.limiter.standings(call or tool_call())]


# refusals


async def test_so_many_pass_in_any_window() -> None:
    """And when the first has left the window, one more."""
    stand = Stand(limit("client", 2, 10.0))
    assert [True] == await stand.passes(tool_call())
    await asyncio.sleep(4.0)
    assert [True, False] == await stand.passes(tool_call(), tool_call())
    await asyncio.sleep(5.999)
    assert [False] == await stand.passes(tool_call())
    await asyncio.sleep(0.0011)
    assert [True, False] == await stand.passes(tool_call(), tool_call())


async def test_a_refusal_names_the_limit_and_says_when_it_will_pass() -> None:
    """To the instant; the upstream is not asked."""
    stand = Stand(limit("client tool", 1, 10.0))
    await stand.call()
    await asyncio.sleep(2.5)
    call = tool_call()
    refused = await stand.call(call)
    assert isinstance(refused, Refused)
    assert "Rate limit of MCP server 'demo' reached: 1 call per 10 s per client and tool." == refused.detail
    assert (RefusalKind.RATE_LIMITED, "client+tool") == (refused.kind, refused.scope)
    assert pytest.approx(7.5) == refused.retry_after_seconds
    assert 1 == len(stand.inner.attempts)
    assert [Decided("rate_limit", "refused", call, detail="1 call per 10 s per client and tool")] == stand.told


async def test_the_wait_is_the_longest_of_the_limits_that_refuse() -> None:
    """Before it is over, one of them would refuse again."""
    stand = Stand(limit("client", 2, 10.0), limit("upstream", 2, 60.0))
    await stand.passes(tool_call(), tool_call())
    refused = await stand.call()
    assert isinstance(refused, Refused)
    assert (60.0, "upstream") == (refused.retry_after_seconds, refused.scope)
    assert ["refused", "refused"] == stand.told.actions()


@pytest.mark.parametrize(
    ("expected", "settings"),
    [
        ("60 calls per 10 s per client and tool", limit("client tool", 60)),
        ("1 call per 0.5 s per client", limit("client", 1, 0.5)),
        ("600 calls per 60 s per server", limit("upstream", 600, 60.0)),
        ("600 calls per 60 s over all servers", limit("global", 600, 60.0)),
        ("600 calls per 60 s per client over all servers", limit("client global", 600, 60.0)),
        ("5 calls per 10 s per kind of method and tool", limit("method_class tool", 5)),
        (
            "5 calls of tool 'costly' per 10 s per client over all servers",
            replace(limit("client tool global", 5), tool="costly"),
        ),
    ],
)
def test_a_limit_in_words(expected: str, settings: RateLimitSettings) -> None:
    """As the refusal has it."""
    assert expected == words(settings)


# what is counted apart


async def test_clients_are_counted_apart() -> None:
    """By whatever names them."""
    stand = Stand(limit("client", 1))
    calls = [by("1.1.1.1", tool_call()), by("2.2.2.2", tool_call("sub")), by("1.1.1.1", tool_call("sub"))]
    assert [True, True, False] == await stand.passes(*calls)


async def test_tools_are_counted_apart_and_nothing_else_is() -> None:
    """Lists and prompts are no tools, even of the same name."""
    stand = Stand(limit("tool", 1))
    prompt = call_with(body_of("prompts/get", {"name": "add"}))
    calls = [tool_call("add"), tool_call("sub"), call_of("tools/list"), call_of("tools/list"), prompt, tool_call("add")]
    assert [True, True, True, True, True, False] == await stand.passes(*calls)


async def test_a_limit_of_one_tool_is_about_its_calls_alone() -> None:
    """Beside the limits on all calls: each call needs both. What cannot be read may be a call of it."""
    costly = RateLimitSettings(("tool",), 1, 10.0, tool="costly")
    stand = Stand(limit("upstream", 4), costly)
    assert [True, False, True, True] == await stand.passes(
        tool_call("costly"), tool_call("costly"), tool_call("other"), call_of("tools/list")
    )
    assert ([1, 0], [1]) == (stand.remaining(tool_call("costly")), stand.remaining(tool_call("other")))
    await asyncio.sleep(10.0)
    assert [True, False] == await stand.passes(call_with(b"\xef\xbb\xbf{}"), tool_call("costly"))
    (refused,) = {each.detail for each in stand.told.of(Decided)}
    assert "1 call of tool 'costly' per 10 s" == refused


async def test_what_another_reader_may_take_for_the_call_of_a_tool_counts_as_one() -> None:
    """Alone and in a batch: a name in another case, a second name."""
    hidden = b'{"jsonrpc":"2.0","id":1,"method":"tools/list","Method":"tools/call","params":{"name":"costly"}}'
    renamed = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"costly","name":"cheap"}}'
    for body in (hidden, renamed, batch_of(hidden).body):
        stand = Stand(RateLimitSettings(("tool",), 1, 10.0, tool="costly"), limit("tool", 5))
        assert [True, False] == await stand.passes(call_with(body), tool_call("costly"))


async def test_a_limit_of_one_tool_may_count_clients_apart() -> None:
    """In a batch each call of it counts, and no other."""
    stand = Stand(RateLimitSettings(("client",), 2, 10.0, tool="costly"))
    batch = batch_of(*(body_of("tools/call", {"name": name}, number) for number, name in enumerate("ab")))
    costly = batch_of(*(body_of("tools/call", {"name": "costly"}, number) for number in range(2)))
    assert [True, True, False, True] == await stand.passes(
        batch, by("a", costly), by("a", tool_call("costly")), by("b", tool_call("costly"))
    )


async def test_limits_of_tools_have_modes_of_their_own() -> None:
    """One watches, one is off, one holds."""
    limits = [RateLimitSettings(("tool",), 1, 10.0, mode, mode.value) for mode in Mode]
    stand = Stand(*limits)
    calls = [tool_call(mode.value) for mode in Mode for _ in range(2)]
    assert [True, False, True, True, True, True] == await stand.passes(*calls)
    assert ["refused", "would_refuse"] == stand.told.actions()


async def test_an_upstream_counts_everybody() -> None:
    """Here."""
    stand = Stand(limit("upstream", 2))
    calls = [by("1.1.1.1", tool_call()), by("2.2.2.2", call_of("tools/list")), by("3.3.3.3", tool_call("sub"))]
    assert [True, True, False] == await stand.passes(*calls)


async def test_kinds_of_methods_are_counted_apart() -> None:
    """Lists do not use up what calls may have."""
    stand = Stand(limit("method_class", 1))
    calls = [call_of("tools/list"), call_of("prompts/list"), tool_call(), call_of("prompts/get")]
    assert [True, False, True, False] == await stand.passes(*calls)


async def test_combinations_are_counted_apart() -> None:
    """Each pair by itself; names do not run into one another."""
    stand = Stand(limit("client tool method_class", 1))
    pairs = [("a", "b"), ("a", "c"), ("c", "b"), ("a", "interactive\nb"), ("a", "b")]
    assert [True, True, True, True, False] == await stand.passes(*[by(c, tool_call(t)) for c, t in pairs])


async def test_global_counts_over_all_upstreams() -> None:
    """And other limits do not, even if they are the same."""
    ledger = Ledger()
    one, two = (Stand(limit("global", 3), limit("client", 2), ledger=ledger) for _ in range(2))
    assert [True, True, False] == await one.passes(*[tool_call() for _ in range(3)])
    assert [True, False] == await two.passes(tool_call(), tool_call())
    assert "2 calls per 10 s per client" == one.told.of(Decided)[0].detail
    assert "3 calls per 10 s over all servers" == two.told.of(Decided)[0].detail


async def test_the_order_of_what_is_named_does_not_matter() -> None:
    """For what is shared."""
    ledger = Ledger()
    one, two = Stand(limit("global client", 1), ledger=ledger), Stand(limit("client global", 1), ledger=ledger)
    assert [[True], [False]] == [await stand.passes(tool_call()) for stand in (one, two)]


async def test_the_same_global_limit_twice_counts_once() -> None:
    """However it came to be configured."""
    stand = Stand(limit("global", 2), limit("global", 2))
    assert [True, True, False] == await stand.passes(tool_call(), tool_call(), tool_call())


async def test_two_global_limits_count_apart() -> None:
    """They differ in something."""
    stand = Stand(limit("global", 2), limit("global", 4, 60.0))
    assert [True, True, False] == await stand.passes(tool_call(), tool_call(), tool_call())
    assert [0, 2] == stand.remaining()


async def test_sessions_are_no_clients() -> None:
    """Some clients open one for each call."""
    stand = Stand(limit("client", 1))
    assert [True, False] == await stand.passes(tool_call(session="one"), tool_call(session="two"))


async def test_what_is_off_does_not_count() -> None:
    """As if left out."""
    stand = Stand(limit("client", 1, mode=Mode.OFF))
    assert [True, True] == await stand.passes(tool_call(), tool_call())


# who is exempt, and who is not


@pytest.mark.parametrize(
    "call",
    [
        call_with(body_of("notifications/cancelled", request_id=None)),
        call_with(b'{"jsonrpc":"2.0","id":9,"result":{}}'),
        call_of("initialize"),
        call_of("ping"),
        call_of("subscriptions/listen"),
        call_with(verb=b"GET"),
        call_with(verb=b"DELETE"),
    ],
)
async def test_exempt_calls_are_neither_refused_nor_counted(call: Call) -> None:
    """An error there makes clients downgrade silently."""
    stand = Stand(limit("client", 1), limit("upstream", 1))
    assert [True] * 5 == await stand.passes(*[call] * 5)
    assert [True, False] == await stand.passes(tool_call(), tool_call())
    assert [True] == await stand.passes(call)


async def test_what_cannot_be_read_counts() -> None:
    """Otherwise a byte order mark would be a way around every limit."""
    stand = Stand(limit("client", 3), limit("tool", 1))
    unreadable = call_with(b"\xef\xbb\xbf" + body_of("tools/call"))
    assert [True, False] == await stand.passes(unreadable, unreadable)


async def test_a_batch_counts_each_request_in_it() -> None:
    """And passes or is refused whole."""
    stand = Stand(limit("client", 4), limit("tool", 2))
    add, sub = (body_of("tools/call", {"name": name}) for name in ("add", "sub"))
    notification = body_of("notifications/progress", request_id=None)
    assert [True] == await stand.passes(batch_of(add, notification, sub, body_of("tools/list")))
    assert [1, 1] == stand.remaining()
    assert [False] == await stand.passes(batch_of(add, sub))
    assert [1, 1] == stand.remaining()
    assert [True] == await stand.passes(tool_call("add"))


async def test_a_call_without_an_id_counts_as_one() -> None:
    """A lenient server may carry it out; alone and in a batch."""
    bare = body_of("tools/call", {"name": "add"}, None)
    stand = Stand(RateLimitSettings(("tool",), 2, 60.0))
    assert [True, True, False] == await stand.passes(call_with(bare), batch_of(bare), call_with(bare))


async def test_a_batch_that_can_never_pass_is_told_so() -> None:
    """Without a time to come again; and it leaves nothing behind."""
    stand = Stand(limit("client", 2))
    refused = await stand.call(batch_of(*[body_of("tools/call", {"name": "add"})] * 3))
    why = "2 calls per 10 s per client. This batch has more calls than that."
    assert Refused(RefusalKind.RATE_LIMITED, f"Rate limit of MCP server 'demo' reached: {why}", "client") == refused
    assert 0 == stand.ledger.keys


# a refusal takes nothing


async def test_a_refusal_by_one_limit_takes_nothing_from_the_others() -> None:
    """Whichever comes first."""
    for limits in ([limit("client", 5), limit("tool", 1)], [limit("tool", 1), limit("client", 5)]):
        stand = Stand(*limits)
        await stand.call()
        before = stand.remaining()
        assert [False] * 3 == await stand.passes(*[tool_call()] * 3)
        assert before == stand.remaining()


async def test_a_refusal_further_in_gives_everything_back() -> None:
    """Exactly: the calls before and after keep their instants."""
    stand = Stand(limit("client", 3, 10.0), limit("upstream", 2000, 10.0), outcomes=[OK, REFUSED, OK])
    await stand.call()
    await asyncio.sleep(1.0)
    assert REFUSED is await stand.call()
    await asyncio.sleep(1.0)
    await stand.call()
    assert [1, 1998] == stand.remaining()
    await asyncio.sleep(8.5)
    assert [2] == stand.remaining()[:1]


async def test_a_batch_that_is_refused_further_in_gives_back_all_of_it() -> None:
    """Each request that was counted."""
    stand = Stand(limit("client", 5), outcomes=[REFUSED])
    await stand.call(batch_of(*[body_of("tools/call", {"name": "add"})] * 3))
    assert [5] == stand.remaining()


async def test_a_call_that_counts_in_a_shared_window_is_told_of() -> None:
    """There was no room for its client."""
    stand = Stand(limit("client", 5), ledger=Ledger(keys_limit=1))
    await stand.call(by("1.1.1.1", tool_call()))
    assert [] == stand.told
    await stand.call(by("2.2.2.2", tool_call()))
    assert [LimitReached("demo", "rate_limit_keys")] == stand.told


async def test_what_the_upstream_did_is_not_given_back() -> None:
    """A failure was an attempt."""
    stand = Stand(limit("client", 1), outcomes=[LOST])
    await stand.call()
    assert [0] == stand.remaining()


async def test_what_was_taken_meanwhile_stays() -> None:
    """When a refusal comes after a wait in a queue."""
    stand, gate = Stand(limit("client", 3)), Gate()
    async with asyncio.TaskGroup() as group:
        group.create_task(stand.call(inner=gate))
        await turns()
        await asyncio.sleep(1.0)
        await stand.call()
        gate.answer(0, REFUSED)
    assert [2] == stand.remaining()
    assert pytest.approx(10.0) == stand.limiter.standings(tool_call())[0].reset_seconds


@pytest.mark.parametrize(("tried", "expected"), [(False, 1), (True, 0)])
async def test_who_goes_while_waiting_gives_back_unless_the_upstream_was_tried(tried: bool, expected: int) -> None:
    """Cancelled in the queue, or mid-call."""
    stand, gate = Stand(limit("client", 1)), Gate()
    call = tool_call()
    if tried:
        attempt_of(call)
    task = asyncio.get_running_loop().create_task(stand.call(call, gate))
    await turns()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [expected] == stand.remaining()


async def test_a_refused_newcomer_leaves_no_key() -> None:
    """By another limit, or further in."""
    stand = Stand(limit("upstream", 1), limit("client", 5), outcomes=[REFUSED])
    await stand.call(by("1.1.1.1", tool_call()))
    assert (0, 0) == (stand.ledger.keys, len(stand.told))
    stand.inner.outcomes = [OK]
    await stand.call(by("1.1.1.1", tool_call()))
    await stand.call(by("2.2.2.2", tool_call()))
    assert 2 == stand.ledger.keys


# shadow


async def test_shadow_refuses_nothing_and_counts_what_it_would_have() -> None:
    """As if its refusals had been refused: they are not in its window."""
    stand = Stand(limit("client", 1, 10.0, Mode.SHADOW))
    assert [True] * 3 == await stand.passes(*[tool_call()] * 3)
    assert ["would_refuse"] * 2 == stand.told.actions()
    assert all(decided.is_shadow for decided in stand.told.of(Decided))
    await asyncio.sleep(10.0)
    await stand.call()
    assert 2 == len(stand.told)


async def test_what_is_really_refused_takes_nothing_in_shadow_either() -> None:
    """It did not pass."""
    stand = Stand(limit("client", 1), limit("upstream", 5, mode=Mode.SHADOW))
    await stand.passes(*[tool_call()] * 4)
    assert [0, 4] == stand.remaining()


# standing


async def test_what_remains_and_when_all_is_back_can_be_asked() -> None:
    """Without changing anything."""
    stand = Stand(limit("client", 3, 10.0), limit("tool", 5, 60.0), limit("upstream", 5000, 10.0))
    assert [
        Standing("3 calls per 10 s per client", 3, 0.0),
        Standing("5 calls per 60 s per tool", 5, 0.0),
        Standing("5000 calls per 10 s per server", 5000, 0.0),
    ] == stand.limiter.standings(tool_call())
    assert 0 == stand.ledger.keys
    await stand.call()
    await asyncio.sleep(4.0)
    await stand.call()
    await asyncio.sleep(1.0)
    client, tool, upstream = stand.limiter.standings(tool_call())
    assert (1, 3) == (client.remaining, tool.remaining)
    assert pytest.approx(9.0) == client.reset_seconds
    assert pytest.approx(59.0) == tool.reset_seconds
    assert 4998 == upstream.remaining
    assert 9.0 < upstream.reset_seconds <= 11.0
    await asyncio.sleep(10.0)
    assert (3, 0.0) == stand.limiter.standings(tool_call())[0][1:]


# memory


def table(ledger: Ledger, limit_calls: int = 2, seconds: float = 10.0) -> tuple[Table, list[int]]:
    overflows: list[int] = []
    return ledger.table(limit("client", limit_calls, seconds), lambda: overflows.append(1)), overflows


def take(of: Table, key: str, now: float, address: str | None = None) -> bool:
    """One call of a key, which is an address of its own unless one is given. Whether it passes."""
    of._ledger.in_hand.clear()
    window = of.place(key, now, 1, key if address is None else address)
    if window.wait(now, 1):
        of.drop_unused(key)
        return False
    window.take(now, 1)
    of.touch(key)
    return True


def test_empty_windows_make_room_for_new_keys() -> None:
    """Those used longest ago first; what is not empty stays."""
    ledger = Ledger(keys_limit=3)
    clients, overflows = table(ledger)
    for now, key in ((0.0, "a"), (1.0, "b"), (2.0, "c"), (5.0, "a"), (11.5, "d")):
        assert take(clients, key, now)
    assert ([], 3) == (overflows, ledger.keys)
    assert [True, False, True, True] == [clients.remaining(key, 11.5) < 2 for key in "abcd"]


def test_the_shared_window_has_the_same_limit() -> None:
    """For all who share it together."""
    ledger = Ledger(keys_limit=1)
    clients, overflows = table(ledger)
    assert [True, True, True, False] == [take(clients, key, 0.0) for key in "abcd"]
    assert ([1, 1, 1], 3) == (overflows, clients.overflows)
    assert take(clients, "a", 0.0)
    assert [False, True] == [take(clients, "e", now) for now in (9.9, 10.0)]


def test_a_key_gets_its_own_window_when_there_is_room_again() -> None:
    """What was in the shared one may have been its own, and counts as such."""
    ledger = Ledger(keys_limit=1)
    clients, overflows = table(ledger)
    take(clients, "a", 0.0)
    take(clients, "b", 5.0)
    assert [True, False] == [take(clients, "b", 12.0) for _ in range(2)]
    assert ([1], 1) == (overflows, ledger.keys)
    assert [True, False] == [take(clients, "b", 15.0) for _ in range(2)]


def test_full_tables_of_other_limits_make_room_too() -> None:
    """The bound is one for all."""
    ledger = Ledger(keys_limit=2)
    (one, _), (two, overflows) = table(ledger), table(ledger, seconds=60.0)
    take(one, "a", 0.0)
    take(one, "b", 0.0)
    assert take(two, "c", 10.0)
    assert (0, 1, 1, []) == (len(one), len(two), ledger.keys, overflows)


def test_bytes_are_bounded_when_rings_grow() -> None:
    """What does not fit into its own window any more counts in the shared one, and no more than the limit in both."""
    bound = 8 * 100 + ENTRY_BYTES + sys.getsizeof("a") + 8 * 40
    ledger = Ledger(bytes_limit=bound)
    clients, overflows = table(ledger, limit_calls=100)
    passed = [take(clients, "a", 0.0) for _ in range(150)]
    assert (100, [True] * 100) == (sum(passed), passed[:100])
    assert 150 - 32 == len(overflows)
    assert bound - 8 * 8 == ledger.bytes
    assert [False, True] == [take(clients, "a", now) for now in (9.9, 10.0)]


async def test_what_one_call_was_given_is_not_let_go_of_for_the_same_call() -> None:
    """It is empty until the call is counted, or still from long ago; and it is the oldest of its table."""
    stand = Stand(limit("client", 2), limit("tool", 2), ledger=Ledger(keys_limit=2, free_times=0))
    for _ in range(2):
        await stand.call(by("1.1.1.1", tool_call("add")))
        await asyncio.sleep(11.0)
        await stand.call(by("1.1.1.1", tool_call("sub")))
        assert 1 == stand.remaining(by("1.1.1.1", tool_call("sub")))[0]
        await stand.call(by("2.2.2.2", tool_call("sub")))
        assert 0 == stand.remaining(by("3.3.3.3", tool_call("sub")))[1]
        await asyncio.sleep(11.0)


def test_a_window_that_could_not_grow_gets_no_more_when_it_can() -> None:
    """What it had in the shared one counts in its own from then on, and is paid for."""
    size = ENTRY_BYTES + sys.getsizeof("a")
    ledger = Ledger(bytes_limit=8 * 100 + 2 * size + 8 * 8)
    clients, overflows = table(ledger, limit_calls=100)
    take(clients, "b", 0.0)
    assert [True] * 40 == [take(clients, "a", 5.0) for _ in range(40)]
    assert 36 == len(overflows)
    ledger._bytes_limit *= 10
    assert [True] * 60 == [take(clients, "a", 12.0) for _ in range(60)]
    assert [False, True] == [take(clients, "a", now) for now in (14.9, 15.0)]
    assert 36 == len(overflows)
    assert 8 * 100 + 2 * size + 8 * (4 + 100) == ledger.bytes


def test_what_just_fits_is_taken() -> None:
    """To the last byte and key."""
    ledger = Ledger(keys_limit=1, bytes_limit=1000)
    assert ledger.reserve(1000, 1, 0.0)
    ledger.pay(ledger.own, 1000, 1)
    assert [False, False] == [ledger.reserve(*what, now=0.0) for what in ((1, 0), (0, 1))]
    ledger.pay(ledger.own, -1000, -1)
    assert (0, 0) == (ledger.keys, ledger.bytes)
    assert (100_000, 64_000_000) == (KEYS_LIMIT, BYTES_LIMIT)


def test_the_ledger_adds_up() -> None:
    """After growth, eviction and refusals: nothing is left of what is gone."""
    ledger = Ledger()
    clients, _ = table(ledger, limit_calls=50)
    empty = ledger.bytes
    for number in range(500):
        take(clients, f"client-{number % 20}", number / 10)
    assert ledger.bytes > empty
    ledger.in_hand.clear()
    assert 20 == clients.evict(1000.0) == 20 - len(clients)
    assert (empty, 0) == (ledger.bytes, ledger.keys)


def test_long_names_are_hashed() -> None:
    """A megabyte of name takes 33 characters, and two of them stay two."""
    assert ["short", "x" * 64] == [known_as("short"), known_as("x" * 64)]
    assert 33 == len(known_as("x" * 65))
    one, two = known_as("x" * 1_000_000), known_as("x" * 999_999 + "y")
    assert (33, 33) == (len(one), len(two))
    assert one != two


@pytest.mark.parametrize(("calls", "flood"), [(60, 1_000_000), (10_000, 200_000)])
def test_a_flood_of_keys_is_bounded(calls: int, flood: int) -> None:
    """A million in one window: in keys, in bytes as they are reckoned, and in what the process really takes."""
    ledger, overflows = Ledger(), [0]

    def overflowed() -> None:
        overflows[0] += 1

    process = psutil.Process()
    before, began = process.memory_info().rss, time.perf_counter()
    clients = ledger.table(limit("client", calls, 3600.0), overflowed)
    for number in range(flood):
        take(clients, str(number), number / 1000)
    each = (time.perf_counter() - began) / flood * 1e6
    taken = process.memory_info().rss - before
    print(f"{flood:,} keys: {each:.1f} µs a call, {ledger.bytes:,} bytes reckoned, {taken:,} taken")
    assert KEYS_LIMIT == ledger.keys == len(clients)
    assert flood - KEYS_LIMIT == overflows[0]
    assert ledger.bytes <= BYTES_LIMIT
    assert taken <= BYTES_LIMIT


def test_what_a_key_takes_is_reckoned_on_the_safe_side() -> None:
    """Rings of all sizes."""
    ledger = Ledger()
    tracemalloc.start()
    try:
        clients, _ = table(ledger, limit_calls=200, seconds=1e9)
        for number in range(5000):
            for _ in range(number % 100):
                take(clients, f"client-{number}", float(number))
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used <= ledger.bytes
    assert ledger.bytes <= 2 * used


# shares of one address


def test_one_address_holds_at_most_a_tenth_of_the_keys() -> None:
    """Its further keys count together; others do not notice."""
    ledger = Ledger(keys_limit=1000)
    clients, overflows = table(ledger)
    passed = [take(clients, f"invented {number}", 0.0, "10.0.0.1") for number in range(5000)]
    assert [True] * 101 + [False] * 4899 == passed
    assert (99, 4901) == (ledger.keys, len(overflows))
    assert all(take(clients, f"honest {number}", 0.0, f"10.0.1.{number}") for number in range(250))
    assert 4901 == len(overflows)


def test_the_addresses_of_one_ipv6_network_are_one() -> None:
    """A host has a whole /64 to itself. The next network is another host's."""
    ledger = Ledger(keys_limit=1000)
    clients, overflows = table(ledger)
    passed = [take(clients, str(number), 0.0, f"2001:db8:0:1::{number:x}") for number in range(5000)]
    assert 101 == sum(passed)
    before = len(overflows)
    assert take(clients, "honest", 0.0, "2001:db8:0:2::1")
    assert before == len(overflows)


@pytest.mark.parametrize("addresses", [2, 11, 100, 400])
def test_room_for_newcomers_is_left_however_many_addresses_invent_keys(addresses: int) -> None:
    """Each has less, and all together never have all."""
    ledger = Ledger(keys_limit=1000)
    clients, _ = table(ledger)
    for key in range(120):
        for number in range(addresses):
            take(clients, f"{number} {key}", 0.0, f"attacker {number}")
    overflows = clients.overflows
    assert [True, True, False] == [take(clients, "honest", 0.0, "10.0.0.9") for _ in range(3)]
    assert overflows == clients.overflows


def test_an_address_that_used_up_its_share_gets_room_again() -> None:
    """Once its windows are empty. What counted together may have been the key's own, and counts as such."""
    ledger = Ledger(keys_limit=100)
    clients, _ = table(ledger)
    for number in range(50):
        take(clients, str(number), 0.0, "10.0.0.1")
    assert not take(clients, "late", 9.0, "10.0.0.1")
    assert take(clients, "late", 10.0, "10.0.0.1")
    for number in range(200):
        assert take(clients, f"next {number}", 1000.0 + number * 11.0, "10.0.0.1")


def test_bytes_are_shared_out_too() -> None:
    """Few keys with long rings are as much as many keys."""
    ledger = Ledger(bytes_limit=1_000_000)
    clients, _ = table(ledger, limit_calls=1000)
    for number in range(60):
        for _ in range(1000):
            take(clients, str(number), 0.0, "10.0.0.1")
    assert ledger.bytes <= 100_000 + 3 * 8 * 1000
    assert all(take(clients, "honest", 0.0, "10.0.0.2") for _ in range(1000))
    assert not take(clients, "honest", 0.0, "10.0.0.2")


def test_what_no_caller_can_invent_has_no_share() -> None:
    """One window for all calls stays one, whoever calls."""
    ledger = Ledger(keys_limit=100)
    (clients, _), (server, overflows) = table(ledger), table(ledger)
    for number in range(50):
        take(clients, str(number), 0.0, "10.0.0.1")
    ledger.in_hand.clear()
    for _ in range(2):
        server.place("", 0.0, 1, None).take(0.0, 1)
    assert 0 == server.remaining("", 0.0)
    assert [] == overflows


# all of it against a model


class TableMachine(RuleBasedStateMachine):
    """Keys in a memory that is too small for their rings, against lists of instants."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.bound = 8 * 9 + 2 * (ENTRY_BYTES + sys.getsizeof("a")) + 8 * 14
        self.ledger = Ledger(bytes_limit=self.bound)
        self.table, self.overflows = table(self.ledger, limit_calls=9, seconds=8.0)
        self.passed: list[tuple[float, str]] = []

    @rule(quarters=st.integers(0, 20))
    def time_passes(self, quarters: int) -> None:
        self.now += quarters / 4

    @rule(key=st.sampled_from("aaab"), count=st.integers(1, 9))
    def calls_come(self, key: str, count: int) -> None:
        for _ in range(count):
            live = sum(who == key and at + 8.0 > self.now for at, who in self.passed)
            if take(self.table, key, self.now):
                assert live < 9
                self.passed.append((self.now, key))
            else:
                assert live == 9 or self.overflows

    @invariant()
    def the_bound_holds_and_adds_up(self) -> None:
        used = sum(entry_bytes(key, window) for key, window in self.table._windows.items())
        assert 8 * 9 + used == self.ledger.bytes <= self.bound
        assert len(self.table) == self.ledger.keys


TableMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=50)
TestTable = TableMachine.TestCase


class LimiterMachine(RuleBasedStateMachine):
    """Three clients, two tools, two limits and too few keys for them, against lists of instants."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.told = Told()
        self.passed: list[tuple[float, str, str]] = []
        self.begin(3)

    @initialize(keys_limit=st.sampled_from([2, 3, 4, 5]))
    def begin(self, keys_limit: int) -> None:
        self.keys_limit = keys_limit
        self.ledger = Ledger(keys_limit=keys_limit, free_times=0)
        limits = [limit("client", 3, 8.0), limit("tool", 2, 4.0)]
        self.limiter = RateLimiter("demo", limits, self.ledger, client_of, self.told.append, lambda: self.now)

    @rule(quarters=st.integers(0, 20))
    def time_passes(self, quarters: int) -> None:
        self.now += quarters / 4

    @rule(client=st.sampled_from("abc"), tool=st.sampled_from(["add", "sub"]), refused_inside=st.booleans())
    def a_call_comes(self, client: str, tool: str, refused_inside: bool) -> None:
        seen: list[Call] = []

        async def inner(call: Call) -> Outcome:
            seen.append(call)
            return REFUSED if refused_inside else OK

        mine = [at for at, who, _ in self.passed if who == client and at + 8.0 > self.now]
        its = [at for at, _, what in self.passed if what == tool and at + 4.0 > self.now]
        work = self.limiter(by(client, tool_call(tool)), inner)
        with pytest.raises(StopIteration):
            work.send(None)
        if not self.told.of(LimitReached):
            assert (len(mine) < 3 and len(its) < 2) == bool(seen)
        elif seen:
            # who shares a window may be refused for others' calls, and never gets more than its own limit
            assert len(mine) < 3
            assert len(its) < 2
        if seen and not refused_inside:
            self.passed.append((self.now, client, tool))

    @invariant()
    def the_bounds_hold(self) -> None:
        assert self.ledger.keys <= self.keys_limit
        assert self.ledger.bytes >= 0

    @invariant()
    def what_remains_is_what_is_left(self) -> None:
        for client in "abc":
            standing = self.limiter.standings(by(client, tool_call("add")))[0]
            used = sum(who == client and at + 8.0 > self.now for at, who, _ in self.passed)
            assert standing.remaining <= 3 - used
            assert standing.remaining == 3 - used or self.told.of(LimitReached)


LimiterMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=50)
TestLimiter = LimiterMachine.TestCase


def test_entries_are_reckoned_with_their_keys() -> None:
    """Text and ring."""
    clients, _ = table(Ledger())
    clients.place("abc", 0.0)
    window = clients._windows["abc"]
    assert ENTRY_BYTES + sys.getsizeof("abc") + 16 == entry_bytes("abc", window)
    assert math.inf == table(Ledger())[0].empty_at
