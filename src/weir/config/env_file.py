"""Files of `NAME=value` lines, as editors' `envFile` names them.

python-dotenv reads them: it knows quotes, escapes, values over several lines and comments as the tools do that write
such files. References (`${NAME}`) stay literal: the editors that have `envFile` do not expand them either.
"""

import io
import re
from typing import NamedTuple

from dotenv.parser import parse_stream

from weir.config.files import FileError, read_text

MAX_BYTES = 1024 * 1024
"""Anything larger is no list of variables."""

MAX_BLANKS = 256
"""In a row. python-dotenv looks for a comment from each blank on, so the time grows with the square of a row."""

_BLANKS = re.compile(r"[^\S\r\n]+")


class EnvFile(NamedTuple):
    """The variables of a file, and the numbers of the lines that set none."""

    variables: dict[str, str]
    skipped_lines: tuple[int, ...]


def read(path: str) -> EnvFile:
    """The variables of the file at a path. Raises FileError, whose text holds nothing of the file."""
    return parse(read_text(path, MAX_BYTES))


def parse(text: str) -> EnvFile:
    """The variables of a text; of a name that is there twice the last value holds. Raises FileError."""
    if "\0" in text:
        raise FileError("holds a NUL character; save it as UTF-8 text")
    if any(match.end() - match.start() > MAX_BLANKS for match in _BLANKS.finditer(text)):
        raise FileError(f"has more than {MAX_BLANKS} blanks in a row; this is no list of variables")
    variables: dict[str, str] = {}
    skipped = []
    for binding in parse_stream(io.StringIO(text, newline="")):
        if binding.key is not None and binding.value is not None:
            variables[binding.key] = binding.value
        elif binding.error or binding.key is not None:
            # a statement begins with the blank lines before it
            written = binding.original.string
            blank = written[: len(written) - len(written.lstrip())]
            skipped.append(binding.original.line + len(blank.splitlines()))
    return EnvFile(variables, tuple(skipped))
