"""YAML as nodes. Of the parser only its events are used: they need no stack, and know no types."""

from collections.abc import Iterator

import yaml

from weir.config.nodes import MAX_DEPTH, Leaf, Mapping, Node, Sequence, plain
from weir.config.problems import ConfigError, Place, Problem

MAX_REPEATED = 10_000
"""Values that aliases repeat, all together: a page of them can stand for more values than memory holds."""

_CORE_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "seq", "map")}
_TEXT_TAG = "tag:yaml.org,2002:str"


def nodes(text: str, name: str) -> Node | None:
    """The root of a YAML text, None when it holds nothing. Raises ConfigError when it is no YAML."""
    try:
        return _Composer(name, _events(text)).root()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(name, mark.line + 1, mark.column + 1) if mark else Place(name)
        reason = ", ".join(part for part in (error.problem, error.context) if part)
        raise ConfigError([Problem(place, (), f"not valid YAML: {reason}")]) from None
    except yaml.YAMLError as error:
        reason = (str(error).splitlines() or ["unreadable"])[0]
        raise ConfigError([Problem(Place(name), (), f"not valid YAML: {reason}")]) from None


def _events(text: str) -> Iterator[yaml.Event]:
    return iter(yaml.parse(text, Loader=yaml.CSafeLoader))


class _Composer:
    """Puts events together."""

    def __init__(self, name: str, events: Iterator[yaml.Event]) -> None:
        self._name = name
        self._events = events
        self._anchors: dict[str, Node] = {}
        self._sizes: dict[str, int] = {}
        """Values below each anchor that has ended, aliases within it counted as what they stand for."""
        self._count = 0
        self._repeated = 0

    def root(self) -> Node | None:
        """The only document."""
        root: Node | None = None
        documents = 0
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self._error(event, "a second document begins here ('---'); keep one")
            elif isinstance(event, yaml.NodeEvent):
                root = self._node(event, 0)
        return root

    def _node(self, event: yaml.Event, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise self._error(event, f"nested deeper than {MAX_DEPTH}")
        if isinstance(event, yaml.AliasEvent):
            return self._repeat(event)
        before = self._count
        self._count += 1
        if isinstance(event, yaml.ScalarEvent):
            node: Node = self._leaf(event)
            self._note_anchor(event, node)
        else:
            self._check_tag(event)
            is_mapping = isinstance(event, yaml.MappingStartEvent)
            node = self._mapping(event, depth) if is_mapping else self._list(event, depth)
        anchor = getattr(event, "anchor", None)
        if anchor is not None:
            self._sizes[anchor] = self._count - before
        return node

    def _repeat(self, event: yaml.AliasEvent) -> Node:
        """What an alias stands for, counted as if it were written out."""
        if event.anchor not in self._anchors:
            raise self._error(event, f"the alias *{event.anchor} has no anchor before it")
        size = self._sizes.get(event.anchor)
        if size is None:
            raise self._error(event, f"the alias *{event.anchor} stands for what holds it")
        self._count += size
        self._repeated += size
        if self._repeated > MAX_REPEATED:
            raise self._error(event, f"aliases repeat more than {MAX_REPEATED} values; this is no configuration")
        return self._anchors[event.anchor]

    def _list(self, start: yaml.Event, depth: int) -> Node:
        node = Sequence(_line(start))
        self._note_anchor(start, node)
        for event in self._events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            node.items.append(self._node(event, depth + 1))
        return node

    def _mapping(self, start: yaml.Event, depth: int) -> Node:
        node = Mapping(_line(start))
        self._note_anchor(start, node)
        for event in self._events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            key = self._node(event, depth + 1)
            if not isinstance(key, Leaf):
                raise self._error(event, "a key must be a word")
            node.members.append((key, self._node(next(self._events), depth + 1)))
        return node

    def _leaf(self, event: yaml.ScalarEvent) -> Leaf:
        self._check_tag(event)
        is_plain = event.implicit[0] or event.tag in _CORE_TAGS
        return Leaf(_line(event), plain(event.value) if is_plain else event.value, event.value)

    def _check_tag(self, event: yaml.Event) -> None:
        tag = getattr(event, "tag", None)
        if tag not in (None, "!", _TEXT_TAG) and tag not in _CORE_TAGS:
            raise self._error(event, f"the tag {tag} has no meaning here; leave it out")

    def _note_anchor(self, event: yaml.Event, node: Node) -> None:
        anchor = getattr(event, "anchor", None)
        if anchor is not None:
            self._anchors[anchor] = node

    def _error(self, event: yaml.Event, text: str) -> ConfigError:
        column = event.start_mark.column + 1 if event.start_mark else 0
        return ConfigError([Problem(Place(self._name, _line(event), column), (), text)])


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 0
