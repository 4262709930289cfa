"""Secrets in a configuration that every user of the machine can read."""

from collections.abc import Iterator
from typing import TypeGuard

from weir.config.document import Document
from weir.config.files import is_readable_by_everyone
from weir.config.problems import Path, Place, Problem, shown
from weir.telemetry import redact

_SECTIONS = frozenset(["listen", "upstreams", "mcpServers", "servers", "mcp", "context_servers"])
"""Client files hold far more than servers (histories), and only these sections hold what weir uses."""

_MAX_NAMED = 3


def remarks(document: Document) -> list[Problem]:
    """One remark on a file that everyone may read and that holds what looks like a secret."""
    if not is_readable_by_everyone(document.name):
        return []
    found = list(_secrets(document))
    if not found:
        return []
    listed = ", ".join(shown(path) for path in found[:_MAX_NAMED]) + (", ..." if len(found) > _MAX_NAMED else "")
    text = (
        f"every user of this machine can read this file, and it holds what looks like a secret ({listed}); "
        "chmod 600 it, or take the secret from '${VAR}' or '${file:PATH}'"
    )
    return [Problem(Place(document.name), (), text)]


def _secrets(document: Document) -> Iterator[Path]:
    """The paths of literal secrets: references are none."""
    before = ""
    for path, text in document.written.items():
        if path[:1] and path[0] in _SECTIONS:
            if "${" not in text and _is_secret(path, text, before):
                yield path
            before = text if _is_item(path) else ""


def _is_secret(path: Path, text: str, before: str) -> bool:
    key = path[-1]
    if not text or key in ("name", "cwd", "envFile", "cert", "key", "ca"):
        return False
    if key == "diagnostics_token":
        return True
    # an argument is judged together with the one before it: `--token`, `x`
    written = f"{before} {text}" if _is_item(path) else f"{key}: {text}"
    return redact.text(text) != text or (redact.text(written) != written and redact.text(before) == before)


def _is_item(path: Path) -> TypeGuard[Path]:
    return isinstance(path[-1], int)
