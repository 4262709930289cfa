"""What the model objects to, said so that an operator knows the place, the reason and the mend."""

import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from weir.config.document import Document
from weir.config.fields import Section
from weir.config.problems import Path, Problem

SECRET = frozenset(["headers", "env", "command", "url", "args", "public_url", "diagnostics_token"])
"""Below these keys a value is never shown: it may be a credential, whoever wrote it."""

MAX_SHOWN = 60
"""A longer text is no help in one line."""

_TEXTS = {
    "missing": "is required",
    "int_parsing": "{written} is not a whole number",
    "float_parsing": "{written} is not a number",
    "finite_number": "{written} is not a number",
    "bool_parsing": "{written} is neither true nor false",
    "string_type": "must be text",
    "tuple_type": "must be a list: [...]",
    "list_type": "must be a list: [...]",
    "dict_type": "must be a mapping: {{key: value}}",
    "model_type": "must be a mapping: {{key: value}}",
    "model_attributes_type": "must be a mapping: {{key: value}}",
    "too_short": "must not be empty",
    "greater_than_equal": "{written} is too small; at least {ge}",
    "greater_than": "{written} is too small; it must be more than {gt:g}",
    "less_than_equal": "{written} is too large; at most {le:g}",
    "string_pattern_mismatch": "{written} has another form than it must have: {pattern}",
}


def problems(error: ValidationError, document: Document, root: type[Section], failed: frozenset[Path]) -> list[Problem]:
    """One problem for each objection; what follows from a failed expansion is left out."""
    result = []
    for detail in error.errors(include_url=False, include_input=False):
        path = _as_written(tuple(part for part in detail["loc"] if part != "[key]"), document)
        source = document.origin(path)
        if not any(source[: len(bad)] == bad for bad in failed):
            result.append(document.problem(path, _text(detail, path, document, root)))
    return result


def _as_written(path: Path, document: Document) -> Path:
    """Where a single value may stand for a list of one, the value itself."""
    is_inside_a_scalar = path and document.text_of(path) is None and document.text_of(path[:-1]) is not None
    return path[:-1] if is_inside_a_scalar else path


def _text(detail: ErrorDetails, path: Path, document: Document, root: type[Section]) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(path, root)
    written = _written(path, document)
    if kind == "value_error":
        return str(context["error"]).replace("{written}", written)
    if kind == "literal_error":
        return _not_among(written, document.text_of(path) or "", str(context["expected"]))
    template = _TEXTS.get(kind)
    return detail["msg"] if template is None else template.format(written=written, **context)


def _written(path: Path, document: Document) -> str:
    text = document.text_of(path)
    if text is None or len(text) > MAX_SHOWN or not SECRET.isdisjoint((*path, *document.origin(path))):
        return "this"
    return f"'{text}'"


def _not_among(written: str, text: str, expected: str) -> str:
    words = [part.strip("'") for part in expected.replace(" or ", ", ").split(", ")]
    listed = ", ".join(words[:-1]) + f" or {words[-1]}" if len(words) > 1 else words[0]
    near = difflib.get_close_matches(text, words, n=1)
    mend = f"; did you mean '{near[0]}'?" if near else ""
    return f"{written} is not {listed}{mend}"


def _unknown_key(path: Path, root: type[Section]) -> str:
    key = str(path[-1])
    if key == "<<":
        return "merge keys are not part of YAML 1.2; name the value where it is used: key: *alias"
    section = section_at(root, path[:-1])
    keys = keys_of(section) if section is not None else []
    near = difflib.get_close_matches(key.lower(), keys, n=1, cutoff=0.5)
    if near:
        return f"unknown key; did you mean '{near[0]}'?"
    return f"unknown key; known here: {', '.join(keys)}"


def keys_of(section: type[Section]) -> list[str]:
    """The keys as the operator writes them."""
    return [field.alias or name for name, field in section.model_fields.items()]


def section_at(root: type[Section], path: Path) -> type[Section] | None:
    """The section that a path leads to, None when there is none."""
    here: Any = root
    for part in path:
        here = _below(_bare(here), part)
    here = _bare(here)
    return here if isinstance(here, type) and issubclass(here, Section) else None


def _below(kind: Any, part: str | int) -> Any:
    if isinstance(kind, type) and issubclass(kind, Section):
        for name, field in kind.model_fields.items():
            if part in (field.alias, name):
                return field.annotation
        return None
    arguments = get_args(kind)
    if not arguments:
        return None
    return arguments[1] if get_origin(kind) in (dict, Mapping) else arguments[0]


def _bare(kind: Any) -> Any:
    """A type without `Annotated` and without `| None`."""
    while get_origin(kind) is typing.Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) in (typing.Union, types.UnionType):
        return _bare(next(option for option in get_args(kind) if option is not type(None)))
    return kind
