"""Prints tables and targets as text, and keeps the same as JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Goal:
    """A target of the issue beside the figure it is about."""

    name: str
    limit: float
    figure: float
    unit: str
    doubt: str = ""
    """Why the figure is not of what the goal is about."""

    @property
    def met(self) -> bool:
        """Lower is better, always; a figure of something else meets nothing."""
        return self.figure <= self.limit and not self.doubt

    def __str__(self) -> str:
        mark = "✓" if self.met else "✗"
        doubt = f" (void: {self.doubt})" if self.doubt else ""
        return f"{self.name}: target ≤ {self.limit:g}{self.unit}: {self.figure:.2f}{self.unit} {mark}{doubt}"


@dataclass
class Table:
    """One table: a heading, rows of text, goals, and what could not be measured with its reason."""

    name: str
    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def text(self) -> str:
        """As it is printed: first column left, the others right."""
        lines = [self.columns, *self.rows]
        widths = [max(len(line[at]) for line in lines) for at in range(len(self.columns))]
        out = ["", self.title]
        for line in lines:
            cells = [line[0].ljust(widths[0])]
            cells += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
            out.append("  " + "  ".join(cells).rstrip())
        out.insert(3, "  " + "─" * (sum(widths) + 2 * (len(widths) - 1)))
        out += self._missing()
        out += [f"  {note}" for note in self.notes]
        out += [f"  → {goal}" for goal in self.goals]
        return "\n".join(out)

    def _missing(self) -> list[str]:
        together: dict[str, list[str]] = {}
        for name, reason in self.missing.items():
            together.setdefault(reason, []).append(name)
        return [f"  not measured: {'; '.join(names)}: {reason}" for reason, names in together.items()]


def keep(tables: Sequence[Table], about: dict[str, str], path: Path) -> None:
    """Write everything as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {"about": about, "tables": [_plain(table) for table in tables]}
    path.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")


def _plain(table: Table) -> dict[str, object]:
    plain = asdict(table)
    plain["goals"] = [asdict(goal) | {"met": goal.met} for goal in table.goals]
    return plain
