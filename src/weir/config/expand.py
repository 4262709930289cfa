"""Variables in values: `${VAR}`, `${VAR:-default}`, and `${env:VAR}` as client files write it.

The default holds when the variable is unset or empty, as in a shell; it is literal text. What a
variable holds is not expanded again. `$${` stands for a literal `${`; any other `$` is itself.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from weir.config.document import Document
from weir.config.problems import Path, Problem

_REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)\}?")
_VARIABLE = re.compile(r"^(?:env:)?([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?$", re.DOTALL)

Foreign = Callable[[str], str | None]
"""Resolves what is between the braces when it is no variable; None: not known. Raises ValueError with the mend."""


@dataclass(frozen=True)
class Expansion:
    """The document with variables in place, and the paths of its file whose value is not to be believed."""

    document: Document
    failed: frozenset[Path] = frozenset()


def nothing_foreign(_inner: str) -> str | None:
    """No references but variables."""
    return None


def expand(document: Document, environ: Mapping[str, str], foreign: Foreign = nothing_foreign) -> Expansion:
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
            return _REFERENCE.sub(lambda match: _resolved(match, environ, foreign), text)
        except ValueError as error:
            problems.append(document.problem(path, str(error)))
            return text

    value = walk(document.value, ())
    failed = frozenset(problem.path for problem in problems)
    return Expansion(replace(document, value=value, problems=(*document.problems, *problems)), failed)


def _resolved(match: re.Match[str], environ: Mapping[str, str], foreign: Foreign) -> str:
    if match[0] == "$${":
        return "${"
    if not match[0].endswith("}"):
        raise ValueError("'${' without '}'; write '$${' for a literal '${'")
    found = foreign(match[1])
    if found is not None:
        return found
    variable = _VARIABLE.match(match[1])
    if variable is None:
        raise ValueError("not a variable; write '${NAME}' or '${NAME:-default}', or '$${' for a literal '${'")
    name, default = variable[1], variable[2]
    value = environ.get(name)
    if value or (value is not None and default is None):
        return value
    if default is None:
        raise ValueError(f"the variable {name} is not set; set it, or write '${{{name}:-default}}'")
    return str(default)
