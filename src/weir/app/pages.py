"""The pages of the diagnostics port as values."""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

_TEXT = "text/plain; charset=utf-8"
_JSON = "application/json"


@dataclass(slots=True)
class Page:
    """One answer."""

    status: int
    content_type: str
    body: bytes
    allow: bytes = b""
    """The methods that there are, for a 405."""
    challenge: bytes = b""
    """How to prove who asks, for a 401."""


Pages = Callable[[Scope, Receive], Awaitable[Page]]


def text_page(status: int, text: str, allow: bytes = b"", challenge: bytes = b"") -> Page:
    """A page of text."""
    return Page(status, _TEXT, text.encode(), allow, challenge)


def json_page(status: int, tree: object) -> Page:
    """A page for programs."""
    return Page(status, _JSON, json.dumps(tree, indent=2).encode() + b"\n")
