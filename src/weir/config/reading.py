"""A file's text as a document: YAML, JSON, or JSON with comments and trailing commas."""

from weir.config import json_text, yaml_text
from weir.config.document import Document
from weir.config.nodes import MAX_DEPTH, Leaf, Mapping, Node
from weir.config.problems import ConfigError, Path, Place, Problem

MAX_VALUES = 1_000_000
"""Aliases can make a small file huge."""


def parse(text: str, name: str) -> Document:
    """A file's text as a document. Raises ConfigError when it is no YAML or JSON at all."""
    if json_text.looks_like_json(text):
        return parse_json(text, name)
    return _Reader(name).read(yaml_text.nodes(text, name))


def parse_json(text: str, name: str) -> Document:
    """A text that must be JSON. Raises ConfigError when it is none.

    What strangers send is read by this: JSON has no aliases, so its tree is not larger than its text.
    """
    return _Reader(name).read(json_text.nodes(text, name))


class _Reader:
    """Turns nodes into values, and notes places."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._places: dict[Path, Place] = {}
        self._written: dict[Path, str] = {}
        self._problems: list[Problem] = []
        self._count = 0

    def read(self, root: Node | None) -> Document:
        """The document below the root; an empty file is an empty mapping."""
        value = self._value(root, ()) if root is not None else {}
        return Document(value, self._name, self._places, self._written, tuple(self._problems))

    def _value(self, node: Node, path: Path) -> object:
        self._places.setdefault(path, Place(self._name, node.line))
        self._count += 1
        if self._count > MAX_VALUES or len(path) > MAX_DEPTH:
            # an alias may stand for what holds it
            text = f"more than {MAX_VALUES} values or deeper than {MAX_DEPTH}; this is no configuration"
            raise ConfigError([Problem(Place(self._name, node.line), (), text)])
        if isinstance(node, Leaf):
            self._written[path] = node.text
            return node.value
        if isinstance(node, Mapping):
            return self._mapping(node, path)
        return [self._value(item, (*path, index)) for index, item in enumerate(node.items)]

    def _mapping(self, node: Mapping, path: Path) -> dict[str, object]:
        members: dict[str, object] = {}
        for key, value in node.members:
            at = (*path, key.text)
            if key.text in members:
                text = f"is there twice, first in line {self._places[at].line}; keep one"
                self._problems.append(Problem(Place(self._name, key.line), at, text))
                continue
            self._places[at] = Place(self._name, key.line)
            members[key.text] = self._value(value, at)
        return members
