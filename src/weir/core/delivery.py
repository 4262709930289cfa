"""Tells the holder of a call's place whether the reply waits for its client."""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from weir.core.call import Call


class Delivery(Protocol):
    """Told while the client does not read on: then nobody works on the reply, and its place may be another call's."""

    def held_up(self, call: "Call", seconds: float) -> None:
        """The client holds up the reply from now on; it has done so for this many seconds before."""

    def goes_on(self) -> None:
        """The client reads on."""
