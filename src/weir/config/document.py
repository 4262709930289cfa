"""A configuration as a tree of values that remember where they were written."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from weir.config.problems import Path, Place, Problem


@dataclass(frozen=True)
class Document:
    """What a file (or a flag) says.

    value: the tree. places, written: by path in the file, where a value stands and a scalar's own text.
    problems: what was wrong while reading. remarks: what works, and yet
    not as one might think. origins: for a tree that was made out of another one, which path came from
    which. flags: paths that a flag has set.
    """

    value: object
    name: str
    places: Mapping[Path, Place] = field(default_factory=dict)
    written: Mapping[Path, str] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    remarks: tuple[Problem, ...] = ()
    origins: Mapping[Path, Path] = field(default_factory=dict)
    flags: Mapping[Path, str] = field(default_factory=dict)

    def origin(self, path: Path) -> Path:
        """Where in the file a path of the tree came from."""
        for depth in range(len(path), 0, -1):
            source = self.origins.get(path[:depth])
            if source is not None:
                return source + path[depth:]
        return path

    def has(self, path: Path) -> bool:
        """Whether the file, or a flag, names this path."""
        return path in self.flags or self.origin(path) in self.places

    def place(self, path: Path) -> Place:
        """The place of a path, or of the nearest one above it that has a place."""
        source = self.origin(path)
        while source and source not in self.places:
            source = source[:-1]
        return self.places.get(source, Place(self.name))

    def text_of(self, path: Path) -> str | None:
        """A scalar as it was written, before variables were put in."""
        return self.written.get(self.origin(path))

    def problem(self, path: Path, text: str) -> Problem:
        """Something wrong with the value at a path, in the words of who wrote it."""
        flag = self.flags.get(path)
        if flag is not None:
            return Problem(Place(flag), (), text)
        return Problem(self.place(path), self.origin(path), text)

    def with_flag(self, path: Path, value: str, flag: str) -> "Document":
        """The same with one value set by a flag; mappings missing above it are made."""
        return replace(
            self,
            value=_set(self.value, path, value),
            flags={**self.flags, path: flag},
            written={**self.written, self.origin(path): value},
        )


def _set(tree: object, path: Path, value: object) -> object:
    if not path:
        return value
    if isinstance(tree, list) and isinstance(path[0], int):
        return [_set(item, path[1:], value) if index == path[0] else item for index, item in enumerate(tree)]
    members = tree if isinstance(tree, dict) else {}
    return {**members, path[0]: _set(members.get(path[0]), path[1:], value)}
