"""What an HTTP status says of more than its own exchange (MCP, basic/transports, Streamable HTTP)."""

from typing import Final

NO_STREAM: Final = frozenset((404, 405, 501))
"""Answers to a GET that mean "no stream here": the GET is optional, and some servers have no route or verb for it."""

_NOT_FOUND: Final = 404


def ends_session(verb: bytes, status: int) -> bool:
    """Returns whether the session that a request named is gone.

    Only a POST can tell: a server that has no GET or no DELETE answers 404 there and knows its sessions well.
    """
    return status == _NOT_FOUND and verb == b"POST"
