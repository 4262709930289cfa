"""The one reading of an answer: what it says about its call."""

from dataclasses import dataclass
from typing import Final

from weir.protocol.envelope import Kind, Message


@dataclass(slots=True, frozen=True)
class Verdict:
    """What the answer says about the call: taken from the reply's own bytes."""

    error_code: int | None = None
    error_message: str = ""
    is_tool_error: bool = False
    answered: bool = True
    """False: the exchange ended with no JSON-RPC answer (202, a 401 page, a stream to be polled)."""


PLAIN: Final = Verdict()
TOOL_ERROR: Final = Verdict(is_tool_error=True)
NO_ANSWER: Final = Verdict(answered=False)


def verdict_of(message: Message | None) -> Verdict:
    """Returns what an answer says; NO_ANSWER for a message that is none. A batch with an answer in it is PLAIN."""
    if message is None:
        return NO_ANSWER
    if message.kind is not Kind.RESPONSE:
        return PLAIN if any(each.kind is Kind.RESPONSE for each in message.members) else NO_ANSWER
    error, result = message.error, message.result
    if error is not None:
        return Verdict(error.code, error.message)
    return TOOL_ERROR if result is not None and result.is_error else PLAIN
