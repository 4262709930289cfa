"""A file's text as a document: YAML with the core types of 1.2, JSON, JSON with comments and trailing commas.

Only `true` and `false` are booleans (`off` is a word here), and a number that would not be written back
as it stands (`012`, `1e3`) stays text.
"""

import json
import re

import yaml

from weir.config.document import Document
from weir.config.problems import ConfigError, Path, Place, Problem

MAX_VALUES = 1_000_000
"""Aliases can make a small file huge."""

_JSON_COMMENT = r"//[^\n]*|/\*.*?(?:\*/|\Z)"
_JSON_PIECES = re.compile(
    rf'"(?:[^"\\\n]|\\.)*"?|{_JSON_COMMENT}|,(?=(?:\s|{_JSON_COMMENT})*[\]}}])',
    re.DOTALL,
)
_SURROGATES = re.compile("[\ud800-\udfff]")
_MAX_DIGITS = 18
"""A longer number is no number of a configuration."""


class _Loader(yaml.CSafeLoader):
    """SafeLoader with the types of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own form


def _resolve(tag: str, pattern: str, first: list[str]) -> None:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), first)


_resolve("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""])
_resolve("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF"))
_resolve("int", r"^-?(?:0|[1-9][0-9]*)$", list("-0123456789"))
_resolve("float", r"^-?(?:0|[1-9][0-9]*)\.[0-9]+$", list("-0123456789"))


def parse(text: str, name: str) -> Document:
    """A file's text as a document. Raises ConfigError when it is no YAML or JSON at all."""
    if _looks_like_json(text):
        text = _plain_json(text, name)
    try:
        return _Reader(name).read(yaml.compose(text, Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(name, mark.line + 1, mark.column + 1) if mark else Place(name)
        reason = " ".join(part for part in (error.problem, error.context) if part)
        raise ConfigError([Problem(place, (), f"not valid YAML: {reason}")]) from None
    except yaml.YAMLError as error:
        reason = (str(error).splitlines() or ["unreadable"])[0]
        raise ConfigError([Problem(Place(name), (), f"not valid YAML: {reason}")]) from None
    except RecursionError:
        raise ConfigError([Problem(Place(name), (), "nested too deep")]) from None


def _looks_like_json(text: str) -> bool:
    return text.lstrip("\ufeff \t\r\n").startswith(("{", "//", "/*"))


def _plain_json(text: str, name: str) -> str:
    """JSON without comments, trailing commas and tabs; every line and column stays where it was."""
    plain = _JSON_PIECES.sub(_blank, text)
    try:
        json.loads(plain)
    except json.JSONDecodeError as error:
        place = Place(name, error.lineno, error.colno)
        raise ConfigError([Problem(place, (), f"not valid JSON: {error.msg}")]) from None
    return plain.replace("\t", " ")


def _blank(piece: re.Match[str]) -> str:
    found = piece[0]
    return found if found.startswith('"') else re.sub(r"[^\n]", " ", found)


class _Reader:
    """Turns nodes into values, and notes places."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._places: dict[Path, Place] = {}
        self._written: dict[Path, str] = {}
        self._problems: list[Problem] = []
        self._open: set[int] = set()
        self._count = 0

    def read(self, root: yaml.Node | None) -> Document:
        """The document below the root; an empty file is an empty mapping."""
        value = self._value(root, ()) if root is not None else {}
        return Document(value, self._name, self._places, self._written, tuple(self._problems))

    def _value(self, node: yaml.Node, path: Path) -> object:
        self._count += 1
        if self._count > MAX_VALUES:
            text = f"more than {MAX_VALUES} values; this is no configuration"
            raise ConfigError([Problem(Place(self._name), (), text)])
        self._places.setdefault(path, self._place(node))
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if id(node) in self._open:
            self._problem(node, path, "an alias that holds itself; write the value out")
            return None
        self._open.add(id(node))
        value = self._mapping(node, path) if isinstance(node, yaml.MappingNode) else self._list(node, path)
        self._open.discard(id(node))
        return value

    def _list(self, node: yaml.Node, path: Path) -> list[object]:
        return [self._value(item, (*path, index)) for index, item in enumerate(node.value)]

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, object]:
        members: dict[str, object] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._problem(key, path, "a key must be a word")
                continue
            name = _whole(key.value)
            at = (*path, name)
            if name in members:
                self._problem(key, at, f"is there twice, first in line {self._places[at].line}; keep one")
                continue
            self._places[at] = self._place(key)
            members[name] = self._value(value, at)
        return members

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> object:
        text = self._written[path] = _whole(node.value)
        match node.tag.rpartition(":")[2]:
            case "null":
                return None
            case "bool":
                return text.lower() == "true"
            case "int" if len(text) <= _MAX_DIGITS:
                return int(text)
            case "float":
                return float(text)
            case "str" | "int":
                return text
        self._problem(node, path, f"the tag {node.tag} is not known here; leave it out")
        return None

    def _place(self, node: yaml.Node) -> Place:
        return Place(self._name, node.start_mark.line + 1)

    def _problem(self, node: yaml.Node, path: Path, text: str) -> None:
        self._problems.append(Problem(self._place(node), path, text))


def _whole(text: str) -> str:
    """YAML reads the two halves of an escaped character outside the BMP one by one."""
    if _SURROGATES.search(text):
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
