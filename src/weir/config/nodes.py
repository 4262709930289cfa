"""What a file is made of before it means anything: values that know their line."""

import math
import re
from dataclasses import dataclass, field

MAX_DEPTH = 64
"""No configuration nests deeper; a parser that does may run out of stack."""

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]*)\.[0-9]+")
_WORDS = {"null": None, "true": True, "false": False}


@dataclass(slots=True)
class Leaf:
    """A scalar: its value and its own text."""

    line: int
    value: object
    text: str


@dataclass(slots=True)
class Sequence:
    """A list."""

    line: int
    items: "list[Node]" = field(default_factory=list)


@dataclass(slots=True)
class Mapping:
    """Keys and values, in the order of the file, twice the same key included."""

    line: int
    members: "list[tuple[Leaf, Node]]" = field(default_factory=list)


Node = Leaf | Sequence | Mapping


def plain(text: str) -> object:
    """What an unquoted scalar stands for: the core types of YAML 1.2, as far as writing them back gives the same.

    Only `true` and `false` are booleans (`off` is a word), and `012`, `1e3` or `0x1F` stay text.
    """
    word = text.lower()
    if word in _WORDS and text in (word, word.title(), word.upper()):
        return _WORDS[word]
    if text in ("", "~"):
        return None
    if _INTEGER.fullmatch(text):
        return int(text)
    if _DECIMAL.fullmatch(text):
        number = float(text)
        return number if math.isfinite(number) else text
    return text
