"""A name for an upstream that was given none."""

import os
import re
from collections.abc import Sequence
from pathlib import PurePath
from urllib.parse import urlsplit

from weir.config.fields import MAX_NAME_LENGTH

UNNAMED = "upstream"

_LAUNCHERS = frozenset(["npx", "bunx", "uvx", "pipx", "uv", "node", "deno", "bun", "pnpm", "python", "python3", "py"])
"""Programs that say nothing about the server they start."""

_LAUNCHER_VERBS = frozenset(["run", "exec", "dlx", "tool", "x"])


def slug(text: str) -> str:
    """A text as a name: lower case, everything but a-z and 0-9 turned into single dashes. May be empty."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower())[:MAX_NAME_LENGTH].strip("-")


def of_url(url: str) -> str:
    """The first label of the host; addresses say nothing."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return UNNAMED
    if ":" in host or host.replace(".", "").isdigit() or host == "localhost":
        return UNNAMED
    return slug(host.split(".")[0]) or UNNAMED


def of_command(argv: Sequence[str]) -> str:
    """The program, or what a launcher (npx, uvx, python -m, ...) starts.

    Of a whole command line in one string the same: it cannot be started, and the name must not show its arguments.
    """
    is_line = len(argv) == 1 and len(argv[0].split()) > 1 and not os.path.exists(argv[0])
    words = [PurePath(word) for word in (argv[0].split() if is_line else argv)]
    if words and _program(words[0]) in _LAUNCHERS:
        started = [word for word in words[1:] if not str(word).startswith("-") and str(word) not in _LAUNCHER_VERBS]
        words = started or words
    return (slug(_program(words[0])) if words else "") or UNNAMED


def _program(word: PurePath) -> str:
    name = word.name.split("@")[0] or word.name.lstrip("@")
    return name.removesuffix(".exe").removesuffix(".py").removesuffix(".js")
