"""What is there now, folded from events."""

from weir.app import census
from weir.app.census import Census
from weir.core.events import ChildExited, ChildStarted, LimitReached, SessionClosed, SessionOpened


def emit(fold: Census, *events: object) -> None:
    handlers = fold.handlers()
    for event in events:
        handlers[type(event)](event)


def test_sessions_are_counted_by_side() -> None:
    """Towards clients and towards servers."""
    fold = Census()
    opened = SessionOpened("a", "client", "2025-11-25")
    emit(fold, opened, opened, SessionOpened("a", "server", ""), SessionClosed("a", "client", "", 1.0, "idle"))
    assert {"client": 1, "server": 1} == fold.sessions("a")
    assert {"client": 0, "server": 0} == fold.sessions("b")


def test_processes_are_known_while_they_run() -> None:
    """By their ids."""
    fold = Census()
    emit(fold, ChildStarted("a", 7), ChildStarted("a", 3), ChildExited("a", 7, 0, True, ""))
    emit(fold, ChildExited("b", 1, 0, True, ""))
    assert ([3], []) == (fold.children("a"), fold.children("b"))


def test_limits_are_counted_and_their_number_is_bounded() -> None:
    """Even if somebody made words up."""
    fold = Census()
    emit(fold, LimitReached("", "header_size"), LimitReached("a", "max_body"), LimitReached("a", "max_body"))
    assert {"": {"header_size": 1}, "a": {"max_body": 2}} == fold.limits()
    emit(fold, *(LimitReached("a", f"word-{number}") for number in range(2 * census.MAX_KEYS)))
    assert census.MAX_KEYS == sum(map(len, fold.limits().values()))
