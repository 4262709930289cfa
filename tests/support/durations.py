"""How long the tests of each folder took, and which folder is over its budget."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

BUDGETS = {"hostile": 360}
"""Seconds of all tests of a folder, one after the other. Folders that are not named have no budget of their own."""


def by_folder(durations: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Sums the seconds of setup, call and teardown by the first folder below `tests`.

    `durations` has a test's node id and seconds.
    """
    found: defaultdict[str, float] = defaultdict(float)
    for node_id, seconds in durations:
        parts = node_id.split("/")
        found[parts[1] if len(parts) > 2 else "."] += seconds
    return dict(found)


def table(seconds: Mapping[str, float]) -> list[str]:
    """Returns one line a folder, the slowest first, with its budget."""
    lines = []
    for folder, spent in sorted(seconds.items(), key=lambda row: -row[1]):
        budget = BUDGETS.get(folder)
        told = "" if budget is None else f" of {budget} s" + ("  OVER BUDGET" if spent > budget else "")
        lines.append(f"{spent:7.0f} s  tests/{folder}{told}")
    return lines
