"""Sessions are seen in the calls that pass: when they began, were last used, and ended."""

from dataclasses import replace
from typing import Any

import pytest

from support.watched import CHILD, OK, Upstream, Watch, call_of, giving, tool_call
from weir.core.call import Attempt, Peer, Transport
from weir.core.events import SessionClosed, SessionOpened
from weir.core.outcome import NO_ANSWER, Outcome, RefusalKind, Refused, Replied, Verdict
from weir.telemetry import sessions
from weir.telemetry.reading import Reading
from weir.telemetry.settings import TelemetrySettings, TracesSettings

pytestmark = pytest.mark.anyio

INITIALIZE = b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}'
INITIALIZED = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
REVISION = "2025-06-18"
OPENED = replace(OK, headers=[(b"mcp-session-id", b"s-1")])
DELETED = Replied(200, [], b"", NO_ANSWER)
GONE = Replied(404, [], b"", NO_ANSWER)
PIPE = Peer(Transport.STDIO)
IDLE_SECONDS = 100.0


class Seen(Watch):
    """A Watch that keeps what is told of sessions."""

    def __init__(self) -> None:
        self.told: list[SessionOpened | SessionClosed] = []
        super().__init__(TelemetrySettings(TracesSettings(exporter="none"), session_idle_seconds=IDLE_SECONDS))
        emit = self.telemetry.emit

        def keep(event: Any) -> None:
            if isinstance(event, SessionOpened | SessionClosed):
                self.told.append(event)
            emit(event)

        self.telemetry.emit = keep

    async def pass_(self, server: Upstream, body: bytes = b"", session: str = "s-1", **facts: Any) -> None:
        """One exchange; it takes a second."""
        call = call_of(body, session=session, revision=REVISION if session else "", received_at=self.now, **facts)
        await self.serve(call, server, seconds=1.0)

    async def open(self, outcome: Outcome = OPENED, **facts: Any) -> None:
        """`initialize`."""
        await self.pass_(giving(outcome), INITIALIZE, "", **facts)

    def closed(self) -> list[tuple[str, str, float, str]]:
        """Side, revision, seconds and reason of each end."""
        self.telemetry.flush()
        return [
            (one.side, one.revision, one.seconds, one.reason) for one in self.told if isinstance(one, SessionClosed)
        ]

    def opened(self) -> list[str]:
        """The sides that were opened."""
        self.telemetry.flush()
        return [one.side for one in self.told if isinstance(one, SessionOpened)]


async def test_a_session_is_measured_on_both_sides_until_it_is_deleted() -> None:
    """Before an HTTP server weir is the server of the one side and the client of the other."""
    watch = Seen()
    await watch.open()
    await watch.pass_(giving(replace(OK)), tool_call())
    await watch.pass_(giving(DELETED), verb=b"DELETE")
    assert ["client", "server"] == watch.opened()
    assert [("client", REVISION, 3.0, "deleted"), ("server", REVISION, 3.0, "deleted")] == watch.closed()
    for name in ("server", "client"):
        assert 3.0 == await watch.value(f"mcp_{name}_session_duration_seconds_sum", mcp_protocol_version=REVISION)
    assert 0 == await watch.value("weir_sessions_open", side="client")


async def test_the_revision_is_the_one_that_was_agreed_on() -> None:
    """It is in the answer, and where that was streamed in the requests behind it."""
    body = b'{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-03-26"}}'
    watch = Seen()
    await watch.open(replace(OPENED, body=body))
    await watch.pass_(giving(replace(OPENED, body=None)), INITIALIZE, "", peer=PIPE)
    watch.telemetry.flush()
    assert ["2025-03-26", "2025-03-26", "", ""] == [
        one.revision for one in watch.told if isinstance(one, SessionOpened)
    ]


async def test_a_refused_end_is_none() -> None:
    """405: the server does not let clients end sessions."""
    watch = Seen()
    await watch.open()
    await watch.pass_(giving(Replied(405, [], b"", NO_ANSWER)), verb=b"DELETE")
    assert [] == watch.closed()


async def test_the_servers_side_of_a_command_is_told_by_who_runs_it() -> None:
    """Only the client's side is seen here; it has the session's id already."""
    watch = Seen()

    async def minting(attempt: Attempt) -> Outcome:
        attempt.peer = CHILD
        attempt.call.session = "s-1"
        return replace(OK)

    await watch.pass_(minting, INITIALIZE, "")
    assert ["client"] == watch.opened()


@pytest.mark.parametrize(
    "outcome",
    [replace(OK), replace(OPENED, status=500, verdict=NO_ANSWER), replace(OPENED, verdict=Verdict(-32602, ""))],
)
async def test_what_opens_no_session_is_none(outcome: Outcome) -> None:
    """A server without sessions, one that fails, one that refuses."""
    watch = Seen()
    await watch.open(outcome)
    assert [] == watch.opened()


@pytest.mark.parametrize("body", [tool_call(), INITIALIZED])
@pytest.mark.parametrize("outcome", [GONE, Refused(RefusalKind.UNKNOWN_SESSION, "gone")])
async def test_a_session_that_the_server_knows_no_more_has_ended(body: bytes, outcome: Outcome) -> None:
    """404 to a POST under its id, whatever it said."""
    watch = Seen()
    await watch.open()
    await watch.pass_(giving(outcome), body)
    assert [("client", REVISION, 2.0, "gone"), ("server", REVISION, 2.0, "gone")] == watch.closed()


@pytest.mark.parametrize("verb", [b"GET", b"DELETE"])
@pytest.mark.parametrize("status", [404, 405, 501])
async def test_a_server_without_a_stream_or_an_end_of_sessions_has_sessions_all_the_same(
    verb: bytes, status: int
) -> None:
    watch = Seen()
    await watch.open()
    await watch.pass_(giving(replace(GONE, status=status)), verb=verb)
    assert [] == watch.closed()


async def test_other_sessions_and_servers_are_left_alone() -> None:
    """An unknown id, and the same id at another server."""
    watch = Seen()
    await watch.open()
    await watch.pass_(giving(GONE), tool_call(), "s-2")
    await watch.pass_(giving(DELETED), verb=b"DELETE", upstream="files")
    assert [] == watch.closed()


async def test_a_session_that_nobody_uses_counts_as_ended_when_it_was_last_used() -> None:
    """Clients vanish without a word; each use puts that off."""
    watch = Seen()
    await watch.open()
    watch.now += IDLE_SECONDS - 2
    await watch.pass_(giving(replace(OK)), tool_call())
    watch.now += IDLE_SECONDS - 1
    assert [] == watch.closed()
    watch.now += sessions.SWEEP_SECONDS + 1
    assert [("client", REVISION, IDLE_SECONDS, "idle"), ("server", REVISION, IDLE_SECONDS, "idle")] == watch.closed()


async def test_an_open_stream_is_use() -> None:
    """However long nothing is asked meanwhile."""
    watch = Seen()
    await watch.open()

    async def standing(attempt: Attempt) -> Outcome:
        watch.now += 10 * IDLE_SECONDS
        assert [] == watch.closed()
        return replace(OK)

    await watch.pass_(standing)
    watch.now += IDLE_SECONDS - 1
    assert [] == watch.closed()
    watch.now += sessions.SWEEP_SECONDS + 1
    assert ["idle", "idle"] == [reason for *_, reason in watch.closed()]


async def test_a_client_on_weirs_pipe_stays_until_weir_stops() -> None:
    """Also where the server gives no session id; however long it is silent."""
    for outcome in (OPENED, replace(OK)):
        watch = Seen()
        await watch.open(outcome, peer=PIPE)
        watch.now += 10 * IDLE_SECONDS
        assert [] == watch.closed()
        await watch.telemetry.aclose()
        lasted = 1.0 + 10 * IDLE_SECONDS
        assert [("client", "", lasted, "shutdown"), ("server", "", lasted, "shutdown")] == watch.closed()


async def test_a_client_that_begins_anew_has_ended_what_it_had() -> None:
    """On the pipe there may be no id to tell them apart."""
    watch = Seen()
    await watch.open(replace(OK), peer=PIPE)
    await watch.open(replace(OK), peer=PIPE)
    assert (4, ["deleted", "deleted"]) == (len(watch.opened()), [reason for *_, reason in watch.closed()])
    assert 1 == await watch.value("weir_sessions_open", side="client")


async def test_a_session_over_http_outlives_weir() -> None:
    """Its end is not known."""
    watch = Seen()
    await watch.open()
    await watch.telemetry.aclose()
    assert [] == watch.closed()


def test_there_are_never_more_than_can_be_watched() -> None:
    """Whoever opens sessions for ever pushes out the oldest."""
    told: list[Any] = []
    watched = sessions.Sessions(told.append, lambda: 0.0, IDLE_SECONDS, set, limit=3)
    for number in range(5):
        opened = replace(OK, headers=[(b"mcp-session-id", b"s-%d" % number)])
        watched.read(Reading(call_of(INITIALIZE), opened))
    assert 5 == len([one for one in told if isinstance(one, SessionOpened)])
    assert ["evicted"] * 2 == [one.reason for one in told if isinstance(one, SessionClosed)]
