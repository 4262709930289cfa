"""Files of `NAME=value` lines, as editors' `envFile` names them."""

import re

MAX_BYTES = 1024 * 1024
"""Anything larger is no list of variables."""

_LINE = re.compile(r"^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_.-]*)\s*=\s*(.*?)\s*$")


def parse(text: str) -> dict[str, str]:
    """The variables of a file. Quotes around a value and ` # comments` after a bare one fall away; nothing expands."""
    found = (_LINE.match(line) for line in text.splitlines())
    return {match[1]: _value(match[2]) for match in found if match}


def _value(text: str) -> str:
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    return text.split(" #", maxsplit=1)[0].rstrip()
