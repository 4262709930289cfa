"""Who watches, and how each event reaches those who want it."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from weir.core.events import Emit


class Observer(Protocol):
    """A fold over events. Handlers are synchronous, never await, and never touch what they are given."""

    def handlers(self) -> dict[type, Callable[[Any], None]]:
        """The event types this observer wants, each with the function that takes it."""


def fan_out(observers: Sequence[Observer], on_failure: Callable[[Exception], None]) -> Emit:
    """One function that hands each event to those who want it. A failing observer harms nobody else."""
    wanted: dict[type, list[Callable[[Any], None]]] = {}
    for observer in observers:
        for kind, handle in observer.handlers().items():
            wanted.setdefault(kind, []).append(handle)
    nobody: list[Callable[[Any], None]] = []

    def emit(event: Any) -> None:
        for handle in wanted.get(type(event), nobody):
            try:
                handle(event)
            except Exception as error:  # noqa: BLE001 - watching must never harm what is watched
                on_failure(error)

    return emit
