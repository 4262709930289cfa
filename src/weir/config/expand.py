"""References in values: `${VAR}`, `${VAR:-default}`, `${env:VAR}` as client files write it, and `${file:PATH}`.

The default holds when the variable is unset or empty, as in a shell; it is literal text. What a variable or a file
holds is not expanded again. `$${` stands for a literal `${`; any other `$` is itself. A file's final line break is
dropped, as editors and `echo` add one; a relative path begins at the configuration's folder.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from weir.config.document import Document
from weir.config.files import FileError, read_text
from weir.config.problems import Path, Problem

FILE_LIMIT_BYTES = 64 * 1024
"""A file of one value: keys and tokens are far smaller, and nothing larger fits into a header."""

_REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)\}?")
_VARIABLE = re.compile(r"^(?:env:)?([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?$", re.DOTALL)
_FILE = "file:"

Foreign = Callable[[str], str | None]
"""Resolves what is between the braces when it is no variable; None: not known. Raises ValueError with the mend."""


@dataclass(frozen=True)
class Expansion:
    """The document with variables in place, and the paths of its file whose value is not to be believed."""

    document: Document
    failed: frozenset[Path] = frozenset()


def nothing_foreign(_inner: str) -> str | None:
    """No references but variables and files."""
    return None


@dataclass(frozen=True)
class Sources:
    """Where references lead."""

    environ: Mapping[str, str]
    folder: str = ""
    """Relative paths begin here."""
    foreign: Foreign = field(default=nothing_foreign)

    def value_of(self, inner: str) -> str:
        """What stands for a reference. Raises ValueError with the mend, and never with a value."""
        if inner.startswith(_FILE):
            return self._of_file(inner.removeprefix(_FILE))
        found = self.foreign(inner)
        return found if found is not None else self._of_variable(inner)

    def _of_variable(self, inner: str) -> str:
        variable = _VARIABLE.match(inner)
        if variable is None:
            raise ValueError(
                "not a variable; write '${NAME}', '${NAME:-default}' or '${file:PATH}', or '$${' for a literal '${'"
            )
        name, default = variable[1], variable[2]
        value = self.environ.get(name)
        if value or (value is not None and default is None):
            return value
        if default is None:
            raise ValueError(f"the variable {name} is not set; set it, or write '${{{name}:-default}}'")
        return str(default)

    def _of_file(self, inner: str) -> str:
        name, has_default, default = inner.partition(":-")
        if not name or "${" in name:
            raise ValueError("'${file:PATH}' needs a path, and nothing expands within it; write the whole path")
        try:
            text = read_text(os.path.join(self.folder, name), FILE_LIMIT_BYTES)
        except FileError as error:
            if error.is_missing and has_default:
                return default
            mend = f"; make it, or write '${{file:{name}:-default}}'" if error.is_missing else ""
            raise ValueError(f"the file '{name}' {error}{mend}") from None
        if "\0" in text:
            raise ValueError(f"the file '{name}' holds a NUL character; save it as UTF-8 text")
        text = text.removesuffix("\n").removesuffix("\r")
        return text or default


def expand(document: Document, sources: Sources) -> Expansion:
    """Every string value of a document, expanded. Keys are left alone. Problems join those of the document."""
    problems: list[Problem] = []

    def walk(value: object, path: Path) -> object:
        if isinstance(value, dict):
            return {key: walk(member, (*path, key)) for key, member in value.items()}
        if isinstance(value, list):
            return [walk(member, (*path, index)) for index, member in enumerate(value)]
        if isinstance(value, str) and "${" in value:
            return expanded(value, path)
        return value

    def expanded(text: str, path: Path) -> str:
        try:
            return _REFERENCE.sub(lambda match: _resolved(match, sources), text)
        except ValueError as error:
            problems.append(document.problem(path, str(error)))
            return text

    value = walk(document.value, ())
    failed = frozenset(problem.path for problem in problems)
    return Expansion(replace(document, value=value, problems=(*document.problems, *problems)), failed)


def _resolved(match: re.Match[str], sources: Sources) -> str:
    if match[0] == "$${":
        return "${"
    if not match[0].endswith("}"):
        raise ValueError("'${' without '}'; write '$${' for a literal '${'")
    return sources.value_of(match[1])
