"""What waits too long on a stdio server: one look at everything now and then is cheaper than a timer for each."""

from dataclasses import dataclass

from weir.core.events import Decided, Emit
from weir.core.outcome import Blame, Failed, FailureKind
from weir.relay.stdio_mailbox import Exchange, Mailbox
from weir.relay.stdio_reply import KEEPALIVE
from weir.relay.stdio_session import Session

# often enough for limits of seconds, seldom enough to cost nothing with a thousand sessions
_PAUSE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class WaitSettings:
    """How long things may wait. None: for ever."""

    session_idle_seconds: float | None = 1800.0
    """A session with nothing open and nothing sent for so long is closed."""
    unspoken_seconds: float = 30.0
    """While more than half of the places are taken: a session whose client sent nothing after `initialize` ends."""
    silence_seconds: float = 300.0
    """A request to which the server says nothing for so long has failed. Not a subscription: it may stay silent."""
    shortest_silence_seconds: float | None = None
    """Of the calls that have a limit of their own."""
    watched_silence_seconds: float | None = None
    """A silence that ends nothing: it is only told (`Decided` deadline would_time_out)."""
    client_read_seconds: float | None = 30.0
    """A full reply of which the client reads nothing for so long is given up: it holds up all others of its server."""
    client_input_seconds: float = 600.0
    """While the server waits for the client's answer its silence does not count, but no longer than this."""
    keepalive_seconds: float | None = 15.0
    """Between comments on a silent stream; the SDK's servers do the same."""

    @property
    def pause_seconds(self) -> float:
        """Between two looks: a quarter of the shortest limit at most."""
        silences = (self.silence_seconds, self.shortest_silence_seconds, self.watched_silence_seconds)
        clients = (self.session_idle_seconds, self.unspoken_seconds, self.client_read_seconds, self.keepalive_seconds)
        limits = (*silences, *clients)
        return min(_PAUSE_SECONDS, *(limit / 4 for limit in limits if limit is not None))


def is_idle(session: Session, settings: WaitSettings, now: float) -> bool:
    """Nobody waits or listens, and nobody has for the limit."""
    limit = settings.session_idle_seconds
    if limit is None or session.router.open or session.router.listener is not None:
        return False
    return now - session.used_at >= limit


def is_unspoken(session: Session, settings: WaitSettings, now: float) -> bool:
    """Its client was answered `initialize`, and has sent nothing since for the limit."""
    is_silent = session.client is not None and not session.has_spoken and not session.router.open
    return is_silent and now - session.used_at >= settings.unspoken_seconds


def look_at(session: Session, settings: WaitSettings, now: float, emit: Emit) -> None:
    """End what has waited too long, and keep silent streams alive."""
    router = session.router
    router.forget_asks(now - settings.client_input_seconds)
    # what waits for a client, to answer or to read, is no silence of the server
    silent_since = now if router.is_held else router.resumed_at
    for exchange in list(router.open):
        _watch_exchange(exchange, settings, now, silent_since, emit)
        _look_at_exchange(exchange, settings, now, silent_since, router.unread_since(exchange))
    if router.listener is not None:
        _look_at_stream(router.listener, settings, now, router.unread_since(router.listener))


def _watch_exchange(exchange: Exchange, settings: WaitSettings, now: float, silent_since: float, emit: Emit) -> None:
    limit, since = settings.watched_silence_seconds, max(exchange.active_at, silent_since)
    if limit is None or exchange.call.message.method == "subscriptions/listen":
        return
    # once for each silence
    if now - since >= limit and exchange.told_silent_since != since:
        exchange.told_silent_since = since
        emit(Decided("deadline", "would_time_out", exchange.call, True, limit, "idle"))


def _look_at_exchange(
    exchange: Exchange, settings: WaitSettings, now: float, silent_since: float, unread_since: float
) -> None:
    limit = settings.silence_seconds if exchange.call.idle_seconds is None else exchange.call.idle_seconds
    is_silent = now - max(exchange.active_at, silent_since) >= limit
    if is_silent and exchange.call.message.method != "subscriptions/listen":
        exchange.abort(_silent(limit))
    elif exchange.is_streaming:
        _look_at_stream(exchange, settings, now, unread_since)


def _look_at_stream(box: Mailbox, settings: WaitSettings, now: float, unread_since: float) -> None:
    limit, keepalive = settings.client_read_seconds, settings.keepalive_seconds
    if limit is not None and now - unread_since >= limit:
        box.abort(_unread(limit))
    elif keepalive is not None and box.is_empty and now - box.written_at >= keepalive:
        box.put(KEEPALIVE)


def _silent(seconds: float) -> Failed:
    text = f"said nothing for {seconds:g} s (timer 'idle')"
    return Failed(FailureKind.TIMEOUT, text, timer="idle", after_seconds=seconds)


def _unread(seconds: float) -> Failed:
    text = f"the client read nothing of this reply for {seconds:g} s (timer 'client_read')"
    return Failed(FailureKind.TIMEOUT, text, Blame.DOWNSTREAM, timer="client_read", after_seconds=seconds)
