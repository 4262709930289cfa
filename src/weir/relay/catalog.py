"""Which tools a server has, and what it says of them: read from the list replies that pass.

weir never lists by itself. What it has not seen is unknown, and unknown is unsafe: annotations are hints that
count only where the operator trusts the server (MCP 2026-07-28, server/tools, annotations).
"""

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Raw, Struct

from weir.core.events import Emit, LimitReached, Listed
from weir.protocol import listing
from weir.protocol.decoding import decoded

TOOLS_LIMIT = 2000
"""Tools remembered of one upstream; the largest servers known have some hundreds."""


class _Annotations(Struct, gc=False):
    read_only: bool = msgspec.field(default=False, name="readOnlyHint")
    idempotent: bool = msgspec.field(default=False, name="idempotentHint")


class _Tool(Struct, gc=False):
    name: str
    annotations: _Annotations = msgspec.field(default_factory=_Annotations)


_decode: Callable[[bytes | Raw], _Tool] = msgspec.json.Decoder(_Tool).decode


class Catalog:
    """A fold over list replies: the tools of every upstream, and whether calling one twice does no harm."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._hints: dict[str, dict[str, _Annotations]] = {}

    def handlers(self) -> dict[type, Callable[[Any], None]]:
        """What it folds."""
        return {Listed: self._listed}

    def is_known(self, upstream: str, tool: str) -> bool:
        """The server has named this tool."""
        return tool in self._hints.get(upstream, ())

    def is_repeatable(self, upstream: str, tool: str) -> bool:
        """The server says that the tool only reads, or that calling it again changes nothing more."""
        hints = self._hints.get(upstream, {}).get(tool)
        return hints is not None and (hints.read_only or hints.idempotent)

    def is_read_only(self, upstream: str, tool: str) -> bool:
        """The server says that the tool changes nothing at all: two at once do no harm either."""
        hints = self._hints.get(upstream, {}).get(tool)
        return hints is not None and hints.read_only

    def _listed(self, event: Listed) -> None:
        if event.method != "tools/list":
            return
        known = self._hints.setdefault(event.upstream, {})
        for member in listing.page(event.body, event.method).members:
            # strictly: a tool that cannot be read as the schema has it is not believed to be harmless
            tool = decoded(_decode, member)
            if tool is None:
                continue
            if tool.name not in known and len(known) >= TOOLS_LIMIT:
                self._emit(LimitReached(event.upstream, "catalog"))
                return
            known[tool.name] = tool.annotations
