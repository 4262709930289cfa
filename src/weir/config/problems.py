"""What is wrong with a configuration: every problem names its place, its path, the reason and the mend."""

from collections.abc import Iterable
from dataclasses import dataclass

Path = tuple[str | int, ...]
"""Where a value is: keys and indexes from the root."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `place` is a file and line, or a flag; `path` may be the root."""

    place: str
    path: Path
    text: str

    def __str__(self) -> str:
        where = shown(self.path)
        return f"{self.place}: {where}: {self.text}" if where else f"{self.place}: {self.text}"


class ConfigError(Exception):
    """A configuration that cannot be used. Its text has one line a problem and no secret."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def shown(path: Path) -> str:
    """A path as one writes it: `upstreams[0].headers.X-Team`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")
