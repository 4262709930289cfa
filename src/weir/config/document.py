"""A file as a tree of values that remember where they stand. YAML 1.2 core types, JSON, JSON with comments.

Only `true` and `false` are booleans (`off` is a word here), and a number that would not be written back
as it stands (`012`, `1e3`) stays text.
"""

import json
import re
from dataclasses import dataclass, field, replace

import yaml

from weir.config.problems import ConfigError, Path, Problem

MAX_FILE_BYTES = 16 * 1024 * 1024
"""Client files hold more than servers (histories); beyond this a file is not a configuration."""

MAX_VALUES = 1_000_000
"""Aliases can make a small file huge."""

_JSON_PIECES = re.compile(
    r'"(?:[^"\\\n]|\\.)*"?|//[^\n]*|/\*.*?(?:\*/|\Z)|,(?=\s*(?:(?://[^\n]*\n|/\*.*?\*/)\s*)*[\]}])', re.DOTALL
)
_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Document:
    """`value` as in the file; `places` and `written` by path: where it stands, and a scalar's own text."""

    value: object
    name: str
    places: dict[Path, str] = field(default_factory=dict)
    written: dict[Path, str] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    def place(self, path: Path) -> str:
        """The place of a path, or of the nearest one above it that has a place."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, self.name)

    def with_value(self, path: Path, value: object, place: str) -> "Document":
        """The same with one value set, as a flag does; what is missing above it is made."""
        return replace(
            self,
            value=_set(self.value, path, value),
            places={**self.places, path: place},
            written={**self.written, path: str(value)},
        )


def _set(tree: object, path: Path, value: object) -> object:
    if not path:
        return value
    if isinstance(tree, list) and isinstance(path[0], int):
        return [_set(item, path[1:], value) if index == path[0] else item for index, item in enumerate(tree)]
    members = tree if isinstance(tree, dict) else {}
    return {**members, path[0]: _set(members.get(path[0]), path[1:], value)}


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
    if looks_like_json(text):
        text = _plain_json(text, name)
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        reason = " ".join(part for part in (error.problem, error.context) if part)
        raise ConfigError([Problem(place, (), f"not valid YAML: {reason}")]) from None
    except yaml.YAMLError as error:
        raise ConfigError([Problem(name, (), f"not valid YAML: {_first_line(error)}")]) from None
    except RecursionError:
        raise ConfigError([Problem(name, (), "nested too deep")]) from None
    return _Reader(name).read(root)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def looks_like_json(text: str) -> bool:
    """Braces or a comment of JSON at the beginning."""
    return text.lstrip("\ufeff \t\r\n").startswith(("{", "//", "/*"))


def _plain_json(text: str, name: str) -> str:
    """JSON without comments, trailing commas and tabs; every line and column stays where it was."""
    plain = _JSON_PIECES.sub(_blank, text.replace("\ufeff", " ", 1) if text.startswith("\ufeff") else text)
    try:
        json.loads(plain)
    except json.JSONDecodeError as error:
        place = f"{name}:{error.lineno}:{error.colno}"
        raise ConfigError([Problem(place, (), f"not valid JSON: {error.msg}")]) from None
    except RecursionError:
        raise ConfigError([Problem(name, (), "nested too deep")]) from None
    return plain.replace("\t", " ")


def _blank(piece: re.Match[str]) -> str:
    found = piece[0]
    return found if found.startswith('"') else re.sub(r"[^\n]", " ", found)


class _Reader:
    """Turns nodes into values, and notes places."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._places: dict[Path, str] = {}
        self._written: dict[Path, str] = {}
        self._problems: list[Problem] = []
        self._open: set[int] = set()
        self._count = 0

    def read(self, root: yaml.Node | None) -> Document:
        value = self._value(root, ()) if root is not None else {}
        return Document(value, self._name, self._places, self._written, tuple(self._problems))

    def _value(self, node: yaml.Node, path: Path) -> object:
        self._count += 1
        if self._count > MAX_VALUES:
            raise ConfigError([Problem(self._name, (), f"more than {MAX_VALUES} values; this is no configuration")])
        self._places.setdefault(path, self._place(node))
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if id(node) in self._open:
            self._problem(node, path, "an alias that holds itself")
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
                first = self._places[at].rpartition(":")[2]
                self._problem(key, at, f"is there twice, first in line {first}; keep one")
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
            case "int" if len(text) < 20:
                return int(text)
            case "float":
                return float(text)
            case "str" | "int":
                return text
        self._problem(node, path, f"the tag {node.tag} is not known here; leave it out")
        return None

    def _place(self, node: yaml.Node) -> str:
        return f"{self._name}:{node.start_mark.line + 1}"

    def _problem(self, node: yaml.Node, path: Path, text: str) -> None:
        self._problems.append(Problem(self._place(node), path, text))


def _whole(text: str) -> str:
    """YAML reads the two halves of an escaped character outside the BMP one by one."""
    if _SURROGATES.search(text):
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
