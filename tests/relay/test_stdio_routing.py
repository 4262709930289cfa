"""Who gets each message of a stdio server: the routers alone, with the pipe played."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.bridges import modern, notification, request
from support.routed import Stage, bodies, call_of, shared
from weir.core.budget import Budget
from weir.core.call import Attempt
from weir.core.events import LimitReached, LineSkipped
from weir.core.outcome import Blame, Failed, FailureKind
from weir.protocol.envelope import peek
from weir.relay.stdio_asks import ASKS_LIMIT
from weir.relay.stdio_audience import DEPARTED_LIMIT
from weir.relay.stdio_exchanges import ABANDONED_LIMIT
from weir.relay.stdio_mailbox import Bounds, Exchange, Letter, Mailbox
from weir.relay.stdio_routing import Router

Ids = st.one_of(st.integers(-(2**53), 2**53), st.text(max_size=8))
EXITED = Failed(FailureKind.EXITED, "exited with code 1")


def renamed(sent: bytes | None) -> str:
    """The id the server knows, as JSON text."""
    assert sent is not None
    return json.dumps(json.loads(sent)["id"])


@pytest.fixture(autouse=True)
def loop() -> Any:
    """RecordingSink has events, which want a loop on some versions."""
    with asyncio.Runner() as runner:
        yield runner.get_loop()


@given(
    st.lists(st.tuples(Ids, st.one_of(st.none(), Ids), st.booleans()), min_size=1, max_size=12),
    st.randoms(use_true_random=False),
)
def test_shared_callers_never_meet(callers: list[tuple[Any, Any, bool]], order: Any) -> None:
    """Whatever ids and tokens they use, everybody gets what is their own, in their own spelling, else unchanged."""
    stage = Stage(shared)
    waiting = []
    for number, (raw_id, token, is_escaped) in enumerate(callers):
        meta = None if token is None else {"progressToken": token}
        body = modern("echo", raw_id, meta, n=number)
        if not is_escaped:
            body = json.dumps(json.loads(body), ensure_ascii=False).encode()
        exchange, sent = stage.post(body)
        waiting.append((exchange, sent, body))
    order.shuffle(waiting)
    for exchange, sent, body in waiting:
        own = peek(body)
        assert sent is not None
        assert {**json.loads(sent), "id": 0, "params": 0} == {**json.loads(body), "id": 0, "params": 0}
        name = renamed(sent).encode()
        expected = []
        if own.progress_token:
            stage.say(b'{"method":"notifications/progress","params":{"x":1.0,"progressToken":%b}}' % name)
            expected.append(
                b'{"method":"notifications/progress","params":{"x":1.0,"progressToken":%b}}' % own.progress_token
            )
        stage.say(b'{"result":{"x":1.0,"e":"\\u00e9"} , "id":%b}' % name)
        expected.append(b'{"result":{"x":1.0,"e":"\\u00e9"} , "id":%b}' % own.id)
        assert expected == bodies(exchange)
        assert not exchange.pending
    assert {} == stage.router.open
    assert [] == list(stage.events)


@given(st.lists(Ids, min_size=1, max_size=12, unique_by=str), st.randoms(use_true_random=False))
def test_requests_with_ids_of_their_own_pass_byte_for_byte(ids: list[Any], order: Any) -> None:
    """Nothing is renamed, and every answer finds its request."""
    stage = Stage()
    waiting = []
    for raw_id in ids:
        body = request("x", {}, raw_id)
        exchange, sent = stage.post(body)
        assert body == sent
        waiting.append((exchange, json.dumps(raw_id).encode()))
    answers = [b'{"id":%b,"result":{"x":1.0}}' % raw for _, raw in waiting]
    order.shuffle(answers)
    for answer in answers:
        stage.say(answer)
    for exchange, raw in waiting:
        assert [b'{"id":%b,"result":{"x":1.0}}' % raw] == bodies(exchange)
    assert {} == stage.router.open


@given(st.lists(st.binary(max_size=60), max_size=20))
def test_it_takes_whatever_a_server_says(lines: list[bytes]) -> None:
    """Nothing raises, and nothing but the answer ends a request."""
    for kind in (Router, shared):
        stage = Stage(kind)
        exchange, _ = stage.post(modern("never"))
        for line in lines:
            stage.say(line)
        assert [exchange] == list(stage.router.open)


def test_a_full_reply_pauses_the_server_until_it_has_room() -> None:
    """By messages or by bytes; the answer itself always gets in."""
    for bounds, size in ((Bounds(2, 10_000), 1), (Bounds(100, 1000), 600)):
        stage = Stage(bounds=bounds)
        exchange, _ = stage.post(request("x", {"_meta": {"progressToken": 1}}))
        progress = notification("notifications/progress", {"progressToken": 1, "m": "x" * size})
        states = []
        for _ in range(2):
            stage.say(progress)
            states.append((stage.pipe.is_paused, stage.router.is_held))
        exchange.leftovers()
        stage.router.taken(exchange)
        states.append((stage.pipe.is_paused, stage.router.is_held))
        assert [(False, False), (True, True), (False, False)] == states


def test_a_full_reply_that_ends_holds_nobody_up() -> None:
    """The client left while its reply was full."""
    stage = Stage(bounds=Bounds(1, 1000))
    exchange, _ = stage.post(request("x", {"_meta": {"progressToken": 1}}))
    stage.say(notification("notifications/progress", {"progressToken": 1}))
    stage.say(b'{"id":1,"result":{}}')
    paused = [stage.pipe.is_paused]
    stage.router.forget(exchange)
    assert [True, False] == [*paused, stage.pipe.is_paused]


def test_a_batch_for_several_replies_is_taken_apart() -> None:
    """Each gets its own answer; a notification among them is nobody's."""
    stage = Stage()
    one, _ = stage.post(request("x", {}, 1))
    two, _ = stage.post(request("x", {}, 2))
    log = b'{"method":"notifications/message","params":{}}'
    stage.say(b'[{"id":1,"result":{}}, ' + log + b', {"id":2,"result":{}}]')
    assert [b'{"id":1,"result":{}}'] == bodies(one)
    assert [log, b'{"id":2,"result":{}}'] == bodies(two)


def test_a_withdrawn_question_goes_where_it_was_asked() -> None:
    """The server cancels its own request: its ids are not the client's."""
    stage = Stage()
    first, _ = stage.post(request("x", {}, 1))
    stage.say(request("roots/list", {}, 2))
    second, _ = stage.post(request("x", {}, 2))
    cancel = notification("notifications/cancelled", {"requestId": 2})
    stage.say(cancel)
    assert [request("roots/list", {}, 2), cancel] == bodies(first)
    assert [] == bodies(second)
    assert not stage.router.is_held


def test_what_is_remembered_of_clients_that_left_is_bounded() -> None:
    """A server that never answers them cannot grow it."""
    stage = Stage()
    for number in range(ABANDONED_LIMIT + 10):
        exchange, _ = stage.post(request("x", {"_meta": {"progressToken": number}}, number))
        stage.router.forget(exchange)
    stage.say(b'{"id":5,"result":{}}')
    assert 1 == len(stage.events.of(LineSkipped))
    stage.say(b'{"id":500,"result":{}}')
    assert 1 == len(stage.events.of(LineSkipped))


def test_open_questions_are_bounded() -> None:
    """Reaching the limit is told."""
    stage = Stage(bounds=Bounds(10_000, 10_000_000))
    stage.post(request("x", {}))
    for number in range(ASKS_LIMIT + 1):
        stage.say(request("roots/list", {}, number))
    assert ["open_asks"] == [event.limit for event in stage.events.of(LimitReached)]


def test_orphans_are_bounded_in_bytes_too() -> None:
    """One message over the limit is not kept at all."""
    stage = Stage(bounds=Bounds(100, 1000))
    stage.say(notification("notifications/message", {"data": "x" * 2000}))
    assert ["orphans"] == [event.limit for event in stage.events.of(LimitReached)]
    small = notification("notifications/message", {"data": "x"})
    stage.say(small)
    box = Mailbox(Attempt(call_of(b""), 1, 0.0), Bounds(100, 1000), 1.0)
    stage.router.listen(box)
    assert [small] == bodies(box)


def test_the_end_of_a_server_is_told_once_to_everybody() -> None:
    """What it had said before comes first."""
    stage = Stage()
    exchange, _ = stage.post(request("x", {"_meta": {"progressToken": 1}}))
    box = Mailbox(Attempt(call_of(b""), 1, 0.0), Bounds(100, 1000), 1.0)
    stage.router.listen(box)
    stage.say(notification("notifications/progress", {"progressToken": 1}))
    stage.router.ended(EXITED)
    stage.router.ended(Failed(FailureKind.EXITED, "again"))
    assert EXITED == stage.router.ended_by == exchange.over
    assert (True, None) == (box.is_over, box.over)
    assert 1 == len(bodies(exchange))


def test_an_oversized_line_ends_only_what_waits_alone() -> None:
    """Of several nobody knows whose answer it was."""
    stage = Stage()
    one, _ = stage.post(request("x", {}, 1))
    two, _ = stage.post(request("x", {}, 2))
    stage.router.overflowed()
    assert (False, False) == (one.is_over, two.is_over)
    stage.say(b'{"id":2,"result":{}}')
    stage.router.overflowed()
    assert one.over is not None
    assert FailureKind.TOO_LARGE is one.over.kind


def test_an_answer_with_two_ids_is_a_fault_of_the_shared_server() -> None:
    """Which of them to rename would be a guess."""
    stage = Stage(shared)
    exchange, sent = stage.post(modern("echo", 1))
    name = renamed(sent).encode()
    stage.say(b'{"id":%b,"result":{},"id":%b}' % (name, name))
    assert exchange.over is not None
    assert FailureKind.PROTOCOL is exchange.over.kind


def test_letters_know_whether_they_are_the_last() -> None:
    """A batch ends with its last answer."""
    stage = Stage()
    exchange, _ = stage.post(b'[{"id":1,"method":"a"},{"id":2,"method":"b"}]')
    stage.say(b'{"id":2,"result":{}}')
    stage.say(b'{"id":1,"result":{}}')
    letters: list[Letter] = exchange.leftovers()
    assert [False, True] == [letter.is_last for letter in letters]


def test_a_later_attempt_is_known_by_its_own_id_and_answered_by_the_callers() -> None:
    """A client's own server must not get an id twice; the client must not see any but its own."""
    stage = Stage()
    attempt = Attempt(call_of(b'{"jsonrpc":"2.0","id":7,"method":"tools/list"}'), 2, 0.0)
    attempt.wire_id = b'"weir-2"'
    exchange = Exchange(attempt, stage.router.bounds, 1.0)
    stage.router.expect(exchange, b'{"jsonrpc":"2.0","id":"weir-2","method":"tools/list"}')
    stage.say(b'{"jsonrpc":"2.0","id":"weir-2","result":{"tools":[]}}')
    assert [b'{"jsonrpc":"2.0","id":7,"result":{"tools":[]}}'] == bodies(exchange)


LOG = b'{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}'
LOG_LEVEL = {"io.modelcontextprotocol/logLevel": "info"}


def test_what_a_shared_server_says_for_a_caller_that_left_reaches_nobody() -> None:
    """Until the server has answered the request of that caller, its messages may be meant for it."""
    stage = Stage(shared)
    one, sent = stage.post(modern("x", 1, {**LOG_LEVEL, "progressToken": 1}))
    two, _ = stage.post(modern("x", 1, LOG_LEVEL))
    stage.router.forget(one)
    token = renamed(sent).encode()
    progress = b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%b,"progress":1}}' % token
    nameless = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32603,"message":"secret"}}'
    for line in (LOG, progress, nameless, notification("notifications/vendor", {"for": "one"})):
        stage.say(line)
    stage.router.overflowed()
    assert ([], False) == (bodies(two), two.is_over)
    stage.say(b'{"jsonrpc":"2.0","id":%b,"result":{}}' % token)
    stage.say(LOG)
    assert [LOG] == bodies(two)


def test_changes_without_a_subscription_reach_no_caller_of_a_shared_server() -> None:
    """2026-07-28 requires the id of the subscription on each."""
    stage = Stage(shared)
    waiting, _ = stage.post(modern("x", 1, LOG_LEVEL))
    for method in ("tools/list_changed", "prompts/list_changed", "resources/list_changed", "resources/updated"):
        stage.say(notification(f"notifications/{method}", {}))
        stage.say(notification(f"notifications/{method}", {"_meta": {"io.modelcontextprotocol/subscriptionId": 9}}))
    assert [] == bodies(waiting)
    assert ["orphans"] * 8 == [event.limit for event in stage.events.of(LimitReached)]


def test_a_question_of_a_shared_server_is_refused_at_once() -> None:
    """No caller of 2026-07-28 can answer it over HTTP."""
    stage, answers = Stage(shared), list[bytes]()
    stage.router.answer = answers.append
    waiting, _ = stage.post(modern("x", 1))
    stage.say(request("elicitation/create", {"message": "password?"}, "q"))
    assert [] == bodies(waiting)
    assert [("q", -32601)] == [(each["id"], each["error"]["code"]) for each in map(json.loads, answers)]


def test_a_question_that_no_stream_had_room_for_is_refused() -> None:
    """Its server must not wait for an answer that cannot come."""
    stage, answers = Stage(bounds=Bounds(1, 1000)), list[bytes]()
    stage.router.answer = answers.append
    for number in range(2):
        stage.say(request("roots/list", {}, number))
    assert [0] == [json.loads(each)["id"] for each in answers]


def test_doubt_about_callers_that_left_is_bounded_in_memory_and_stays() -> None:
    """A server that never answers them cannot grow it."""
    stage = Stage(shared)
    for number in range(DEPARTED_LIMIT + 1):
        exchange, sent = stage.post(modern("x", number))
        stage.router.forget(exchange)
        stage.say(b'{"jsonrpc":"2.0","id":%b,"result":{}}' % renamed(sent).encode())
    waiting, _ = stage.post(modern("x", 1, LOG_LEVEL))
    stage.say(LOG)
    assert [LOG] == bodies(waiting)
    for number in range(DEPARTED_LIMIT + 1):
        stage.router.forget(stage.post(modern("x", number))[0])
    stage.say(LOG)
    assert [] == bodies(waiting)


@pytest.mark.parametrize(
    "raw_id",
    [b"9" * 5000, b'"%b"' % (b"9" * 5000), b"1e400", b"1e308", b"[[]]", b"{}", b"true", b"-0", b'"\\ud800"'],
    ids=["digits", "digits-text", "infinite", "large", "array", "object", "true", "minus-zero", "surrogate"],
)
def test_ids_of_any_kind_cost_one_line(raw_id: bytes) -> None:
    """The caller that waits is not touched."""
    for kind in (Router, shared):
        stage = Stage(kind)
        exchange, _ = stage.post(modern("x", 1))
        for line in (
            b'{"jsonrpc":"2.0","id":%b,"result":{}}',
            b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%b}}',
            b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%b}}',
        ):
            stage.say(line % raw_id)
        assert [exchange] == list(stage.router.open)


def test_a_line_that_a_bug_costs_ends_the_call_that_waited_for_it() -> None:
    """And no other."""
    stage = Stage()
    one, _ = stage.post(request("x", {}, 1))
    two, _ = stage.post(request("x", {}, 2))
    stage.router.spoiled(peek(b'{"id":1,"result":{}}'))
    assert (True, False) == (one.is_over, two.is_over)
    assert one.over is not None
    assert Blame.WEIR is one.over.blame


def test_a_slow_reader_of_a_shared_server_does_not_hold_up_others() -> None:
    """Alone it does; beside others its reply is held up to a bound, and then ended."""
    stage = Stage(shared, Bounds(2, 10_000))
    slow, sent = stage.post(modern("x", 1, {"progressToken": 1}))
    progress = b'{"method":"notifications/progress","params":{"progressToken":%b}}' % renamed(sent).encode()
    for _ in range(2):
        stage.say(progress)
    assert stage.pipe.is_paused
    other, name = stage.post(modern("x", 1))
    assert (False, False) == (stage.pipe.is_paused, stage.router.is_held)
    while slow.over is None:
        stage.say(progress)
        assert not stage.pipe.is_paused
    assert isinstance(slow.over, Failed)
    assert ("client_read", Blame.DOWNSTREAM) == (slow.over.timer, slow.over.blame)
    stage.say(b'{"id":%b,"result":{}}' % renamed(name).encode())
    assert [b'{"id":1,"result":{}}'] == bodies(other)


@pytest.mark.parametrize("kind", [Router, shared], ids=["alone", "shared"])
def test_what_waits_for_a_client_counts_under_the_budget_until_it_is_written_or_dropped(
    kind: Callable[..., Router],
) -> None:
    """Small replies are not worth counting."""
    stage, budget = Stage(kind), Budget(10_000_000)
    exchange, note = flooded(stage, budget)
    stage.say(note)
    held = [budget.held_bytes]
    stage.say(note)
    held.append(budget.held_bytes)
    stage.router.forget(exchange)
    assert [0, True, 0] == [held[0], held[1] > 80_000, budget.held_bytes]


def test_a_reply_that_finds_no_room_pauses_its_own_server() -> None:
    """Until its client has read it."""
    stage = Stage()
    exchange, note = flooded(stage, Budget(100_000))
    for _ in range(2):
        stage.say(note)
    was_paused = stage.pipe.is_paused
    for _ in range(2):
        with asyncio.Runner() as runner:
            runner.run(exchange.take())
    stage.router.taken(exchange)
    assert (True, False) == (was_paused, stage.pipe.is_paused)


@pytest.mark.parametrize(
    ("limit_bytes", "others_bytes", "blame"),
    [(100_000, 0, Blame.DOWNSTREAM), (1_000_000, 950_000, Blame.WEIR)],
    ids=["of its client", "of weir"],
)
def test_a_reply_that_finds_no_room_beside_others_on_a_shared_server_is_ended(
    limit_bytes: int, others_bytes: int, blame: Blame
) -> None:
    """The server must not wait for it; the blame says who holds the room."""
    stage, budget = Stage(shared), Budget(limit_bytes)
    budget.account("192.0.2.9").hold(others_bytes)
    exchange, note = flooded(stage, budget)
    stage.post(modern("x", 1))
    for _ in range(2):
        stage.say(note)
    assert exchange.over is not None
    assert (blame, False, others_bytes) == (exchange.over.blame, stage.pipe.is_paused, budget.held_bytes)


def flooded(stage: Stage, budget: Budget) -> tuple[Exchange, bytes]:
    """A POST of a client with an account, and a note of progress of 40 kB for it."""
    call = call_of(modern("x", 1, {"progressToken": 1}))
    call.account = budget.account("192.0.2.1")
    exchange = Exchange(Attempt(call, 1, 0.0), stage.router.bounds, 1.0)
    sent = stage.router.expect(exchange, call.body)
    assert sent is not None
    token = json.dumps(json.loads(sent)["params"]["_meta"]["progressToken"]).encode()
    params = b'{"progressToken":%b,"message":"%b"}' % (token, b"x" * 40_000)
    return exchange, b'{"jsonrpc":"2.0","method":"notifications/progress","params":%b}' % params


def test_a_client_that_reads_by_drips_stays_a_slow_one() -> None:
    """Until half of what waited is read, its total time runs."""
    stage = Stage(shared, Bounds(4, 10_000))
    slow, sent = stage.post(modern("x", 1, {"progressToken": 1}))
    stage.post(modern("x", 1))
    progress = b'{"method":"notifications/progress","params":{"progressToken":%b}}' % renamed(sent).encode()
    for _ in range(5):
        stage.say(progress)
    since = []
    for _ in range(4):
        with asyncio.Runner() as runner:
            runner.run(slow.take())
        stage.router.taken(slow)
        since.append(stage.router.unread_since(slow))
    assert [1.0, 1.0, 1.0, float("inf")] == since
