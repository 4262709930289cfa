"""What a stdio server gets of weir's own environment."""

from collections.abc import Mapping

INHERITED = ("HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER")
"""The rest holds secrets that are not its own. The Python SDK's client inherits the same."""


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """Returns the variables of INHERITED that are set. A value that begins with `()` is an exported shell function."""
    return {name: environ[name] for name in INHERITED if name in environ and not environ[name].startswith("()")}
