"""Why a request's body was not read to its end."""

from weir.core.outcome import Blame


class BodyTooLargeError(Exception):
    """The request's body is over the limit."""


class OverloadedError(Exception):
    """There is no room for the request's body. `blame`: downstream where its client has used up its own share."""

    def __init__(self, blame: Blame) -> None:
        super().__init__(blame.value)
        self.blame = blame


class MalformedBodyError(Exception):
    """The request's body is not framed as HTTP/1.1 frames bodies."""


class ClientGoneError(Exception):
    """The client left before its request was complete."""
