"""What each policy costs a call in which nothing happens: `python -m bench.policies` prints microseconds of CPU.

The inner handler answers at once; what it costs by itself is taken off. Each figure is the best of several rounds, so
that a busy machine spoils it least.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

from weir.app.stack import once, paying
from weir.core.call import NOWHERE, Attempt, Call, Peer, Transport
from weir.core.outcome import PLAIN, Mode, Outcome, Replied
from weir.policies.admission import Admission, AdmissionSettings
from weir.policies.admission_queue import Places
from weir.policies.breaker import Breaker, BreakerSettings, Scope
from weir.policies.coalesce import Coalesce, CoalesceSettings
from weir.policies.deadline import Deadline, DeadlineSettings
from weir.policies.faults import Fault, Faults, Registry
from weir.policies.hedge import Hedge, HedgeMeans, HedgeSettings
from weir.policies.rate_limit import Ledger, RateLimiter, RateLimitSettings
from weir.policies.retry import Retry, RetryMeans, RetrySettings
from weir.protocol.envelope import peek
from weir.protocol.tracecontext import TraceContext

ROUNDS, CALLS = 9, 2000
PEER = Peer(Transport.HTTP, "127.0.0.1", 1, "1.1")
HEADERS = [
    (b"host", b"127.0.0.1:8931"),
    (b"authorization", b"Bearer 0123456789abcdef0123456789abcdef"),
    (b"accept", b"application/json, text/event-stream"),
    (b"content-type", b"application/json"),
    (b"mcp-protocol-version", b"2025-11-25"),
    (b"user-agent", b"python-httpx/0.28.1"),
]
TOOL = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add","arguments":{"a":1,"b":2}}}'
READ = b'{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///a/b/c"}}'
OK = Replied(200, [(b"content-type", b"application/json")], b'{"jsonrpc":"2.0","id":1,"result":{}}', PLAIN)

Serve = Callable[[Call], Awaitable[Outcome]]


def call_of(body: bytes) -> Call:
    """A call as the HTTP edge makes it."""
    return Call(upstream="u", peer=PEER, sink=NOWHERE, received_at=0.0, headers=HEADERS, body=body, message=peek(body))


async def answer(_: Any) -> Outcome:
    """The rest of the stack."""
    return OK


def nothing(_: object) -> None:
    """What listens to events."""


async def alone(call: Call) -> Outcome:
    """An attempt without a policy."""
    return await answer(Attempt(call, 1, 0.0))


def coalesce() -> tuple[Serve, Any]:
    """The call layer, at work."""
    policy = Coalesce("u", CoalesceSettings(Mode.ENFORCE), nothing, time.monotonic)
    return (lambda call: policy(call, answer)), policy.run


def hedge() -> tuple[Serve, Any]:
    """The attempt handler, with calls in time."""
    means = HedgeMeans(lambda: True, lambda call: None, lambda: b'"x"')
    policy = Hedge("u", HedgeSettings(Mode.ENFORCE, after_seconds=60.0), means, answer, nothing, time.monotonic)
    return (lambda call: policy(Attempt(call, 1, 0.0))), None


def faults(*injected: Fault) -> tuple[Serve, Any]:
    """The attempt layer, with faults that befall nobody here."""
    registry = Registry()
    for fault in injected:
        registry.add(fault, time.monotonic())
    policy = Faults("u", registry, 300.0, nothing, time.monotonic, lambda: 0.5)
    return (lambda call: policy(Attempt(call, 1, 0.0), answer)), None


def breaker(scope: Scope) -> tuple[Serve, Any]:
    """The attempt layer, closed."""
    policy = Breaker("u", BreakerSettings(scope=scope), lambda tool: True, nothing, time.monotonic)
    return (lambda call: policy(Attempt(call, 1, 0.0), answer)), None


def rate_limits(*limits: RateLimitSettings) -> tuple[Serve, Any]:
    """The call layer, far from its limits, with a client that is known already."""
    policy = RateLimiter("u", limits, Ledger(), lambda call: call.peer.address, nothing, time.monotonic)
    return (lambda call: policy(call, answer)), None


def retry() -> tuple[Serve, Any]:
    """The hinge, where the first attempt succeeds."""
    means = RetryMeans(lambda call: False, nothing, time.monotonic, lambda: 1.0, lambda: b'"x"')
    policy = Retry("u", RetrySettings(), answer, means)
    return paying(policy.budget.deposit, policy), policy.run


TRACE = TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
TRACED_TOOL = TOOL.replace(b'"name"', b'"_meta":{"traceparent":"%b"},"name"' % TRACE.traceparent.encode())


def traced(call: Call) -> Attempt:
    """An attempt whose context is in its body already."""
    attempt = Attempt(call, 1, 0.0)
    attempt.trace, attempt.body = TRACE, TRACED_TOOL
    return attempt


async def alone_traced(call: Call) -> Outcome:
    """Such an attempt without a policy."""
    return await answer(traced(call))


def deadline() -> tuple[Serve, Any]:
    """Both layers; what is left of the total goes into body and headers."""
    policy = Deadline(DeadlineSettings(), nothing, time.monotonic, nothing)
    return (lambda call: policy.total(call, lambda call: policy.attempt(traced(call), answer))), None


def admission(**settings: Any) -> tuple[Serve, Any]:
    """The call layer, with a place free."""
    policy = Admission("u", AdmissionSettings(**settings), nothing, time.monotonic)

    async def inner(call: Call) -> Outcome:
        attempt = Attempt(call, 1, 0.0)
        call.attempts.append(attempt)
        return await answer(attempt)

    return (lambda call: policy(call, inner)), None


async def microseconds(serve: Serve, run: Any, body: bytes) -> float:
    """CPU of one call, at best; the call itself is made outside."""
    async with asyncio.TaskGroup() as group:
        running = group.create_task(run()) if run is not None else None
        await asyncio.sleep(0)
        best = float("inf")
        for _ in range(ROUNDS):
            calls = [call_of(body) for _ in range(CALLS)]
            began = time.process_time()
            for call in calls:
                await serve(call)
            best = min(best, time.process_time() - began)
        if running is not None:
            running.cancel()
    return best / CALLS * 1e6


A_CLIENT, A_TOOL, A_SERVER = (
    RateLimitSettings(("client",), 1000, 0.001),
    RateLimitSettings(("client", "tool"), 1000, 0.001),
    RateLimitSettings(("upstream",), 10_000_000, 1.0),
)
CASES: list[tuple[str, Callable[[], tuple[Serve, Any]], bytes, Serve]] = [
    ("rate limit, one", lambda: rate_limits(A_CLIENT), TOOL, answer),
    ("rate limit, one that is counted", lambda: rate_limits(A_SERVER), TOOL, answer),
    ("rate limit, two", lambda: rate_limits(A_CLIENT, A_TOOL), TOOL, answer),
    ("retry, beside one attempt without", retry, TOOL, once(answer, time.monotonic)),
    ("breaker of the upstream", lambda: breaker(Scope.UPSTREAM), TOOL, alone),
    ("breaker of the tool", lambda: breaker(Scope.TOOL), TOOL, alone),
    ("coalesce, a tool's call", coalesce, TOOL, answer),
    ("coalesce, a read that nobody shares", coalesce, READ, answer),
    ("hedge, a tool's call", hedge, TOOL, alone),
    ("hedge, a read in time", hedge, READ, alone),
    ("deadline, both layers", deadline, TOOL, alone_traced),
    ("admission", admission, TOOL, alone),
    ("admission, adaptive", lambda: admission(places=Places(adaptive=True)), TOOL, alone),
    ("admission, watching a stdio server", lambda: admission(watches_serial=True), TOOL, alone),
    ("faults, none", faults, TOOL, alone),
    ("faults, ten for others", lambda: faults(*[Fault("v")] * 10), TOOL, alone),
]


async def measure() -> None:
    """Print the table."""
    for name, make, body, bare in CASES:
        serve, run = make()
        cost = await microseconds(serve, run, body) - await microseconds(bare, None, body)
        print(f"{name:40} {cost:6.2f} us")


if __name__ == "__main__":
    uvloop.run(measure())
