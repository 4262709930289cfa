"""What is wrong with a configuration: every problem names its place, its path, the reason and the mend."""

from collections.abc import Iterable
from typing import NamedTuple

Path = tuple[str | int, ...]
"""Where a value is: keys and indexes from the root."""


class Place(NamedTuple):
    """A file, or a flag; line and column count from 1, 0: none."""

    name: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return ":".join([self.name, *(str(number) for number in (self.line, self.column) if number)])


class Problem(NamedTuple):
    """One thing that is wrong. An empty path: the place says it all."""

    place: Place
    path: Path
    text: str

    def __str__(self) -> str:
        where = shown(self.path)
        return f"{self.place}: {where}: {self.text}" if where else f"{self.place}: {self.text}"


class ConfigError(Exception):
    """A configuration that cannot be used. Its text has one line a problem, in the order of the file, and no secret."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.place.line, problem.place.column)))
        super().__init__("\n".join(str(problem) for problem in self.problems))


def shown(path: Path) -> str:
    """A path as one writes it: `upstreams[0].headers.X-Team`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")
