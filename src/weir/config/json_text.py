"""JSON as nodes, with the comments and trailing commas that editors allow (JSONC)."""

import json
import re
from bisect import bisect_right

from weir.config.nodes import MAX_DEPTH, Leaf, Mapping, Node, Sequence, plain
from weir.config.problems import ConfigError, Place, Problem

_BLANK = re.compile(r"(?:[ \t\r\n\ufeff]+|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_PLAIN = re.compile(r"-?[0-9][0-9.eE+-]*|true|false|null")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?|true|false|null")
_STRINGS = json.JSONDecoder()
_SURROGATE = re.compile("[\ud800-\udfff]")


def looks_like_json(text: str) -> bool:
    """Braces or a comment of JSON at the beginning."""
    return text.lstrip("\ufeff \t\r\n").startswith(("{", "//", "/*"))


def nodes(text: str, name: str) -> Node:
    """The root of a JSON text. Raises ConfigError when it is no JSON."""
    return _Parser(text, name).root()


class _Parser:
    """Recursive descent; `_at` is where reading goes on."""

    def __init__(self, text: str, name: str) -> None:
        self._text = text
        self._name = name
        self._at = 0
        self._line_starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def root(self) -> Node:
        """The only value."""
        node = self._node(0)
        self._skip()
        if self._at < len(self._text):
            raise self._error("something follows the end")
        return node

    def _node(self, depth: int) -> Node:
        self._skip()
        if depth > MAX_DEPTH:
            raise self._error(f"nested deeper than {MAX_DEPTH}")
        line = self._line()
        match self._text[self._at : self._at + 1]:
            case "{":
                return self._mapping(Mapping(line), depth)
            case "[":
                return self._list(Sequence(line), depth)
            case '"':
                text = self._string()
                return Leaf(line, text, text)
        return self._plain(line)

    def _mapping(self, node: Mapping, depth: int) -> Node:
        while self._more("}", is_first=not node.members):
            line = self._line()
            if self._text[self._at] != '"':
                raise self._error("a key in double quotes belongs here")
            name = self._string()
            self._skip()
            if not self._text.startswith(":", self._at):
                raise self._error("':' belongs here")
            self._at += 1
            node.members.append((Leaf(line, name, name), self._node(depth + 1)))
        return node

    def _list(self, node: Sequence, depth: int) -> Node:
        while self._more("]", is_first=not node.items):
            node.items.append(self._node(depth + 1))
        return node

    def _more(self, end: str, *, is_first: bool) -> bool:
        """Step over a bracket or a comma; False, past the end, when the list or mapping ends here."""
        if is_first:
            self._at += 1
        self._skip()
        if not is_first and self._text.startswith(",", self._at):
            self._at += 1
            self._skip()
        elif not is_first and not self._text.startswith(end, self._at):
            raise self._error(f"',' or '{end}' belongs here")
        if self._at >= len(self._text):
            raise self._error(f"'{end}' is missing")
        if self._text[self._at] == end:
            self._at += 1
            return False
        return True

    def _plain(self, line: int) -> Leaf:
        match = _PLAIN.match(self._text, self._at)
        if match is None or not _NUMBER.fullmatch(match[0]):
            raise self._error("a value belongs here")
        self._at = match.end()
        return Leaf(line, plain(match[0]), match[0])

    def _string(self) -> str:
        try:
            text, self._at = _STRINGS.raw_decode(self._text, self._at)
        except json.JSONDecodeError as error:
            self._at = error.pos
            raise self._error(error.msg) from None
        # half of a character cannot be sent anywhere
        return str(_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text))

    def _skip(self) -> None:
        match = _BLANK.match(self._text, self._at)
        self._at = match.end() if match else self._at

    def _line(self) -> int:
        return bisect_right(self._line_starts, self._at)

    def _error(self, text: str) -> ConfigError:
        line = self._line()
        place = Place(self._name, line, self._at - self._line_starts[line - 1] + 1)
        return ConfigError([Problem(place, (), f"not valid JSON: {text}")])
