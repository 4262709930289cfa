"""What weir knows of tools it has seen listed."""

from typing import Any

import msgspec

from weir.core.events import LimitReached, Listed
from weir.relay.catalog import TOOLS_LIMIT, Catalog


def listed(*tools: dict[str, Any], method: str = "tools/list") -> Listed:
    return Listed("u", method, msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "result": {"tools": list(tools)}}))


def catalog_of(*events: Listed) -> tuple[Catalog, list[Any]]:
    told: list[Any] = []
    catalog = Catalog(told.append)
    for event in events:
        catalog.handlers()[Listed](event)
    return catalog, told


def test_a_listed_tool_is_known_at_its_own_upstream_only() -> None:
    """Names are not unique between servers."""
    catalog, _ = catalog_of(listed({"name": "read"}))
    assert [True, False, False] == [
        catalog.is_known("u", "read"),
        catalog.is_known("u", "write"),
        catalog.is_known("other", "read"),
    ]


def test_only_a_hint_makes_a_tool_repeatable() -> None:
    """Absent hints mean: may change things, and again with every call (schema, ToolAnnotations)."""
    catalog, _ = catalog_of(
        listed(
            {"name": "reads", "annotations": {"readOnlyHint": True}},
            {"name": "sets", "annotations": {"idempotentHint": True, "destructiveHint": True}},
            {"name": "says nothing"},
            {"name": "says no", "annotations": {"readOnlyHint": False, "idempotentHint": False}},
        )
    )
    names = ("reads", "sets", "says nothing", "says no", "never listed")
    assert [True, True, False, False, False] == [catalog.is_repeatable("u", name) for name in names]
    assert [True, False, False, False, False] == [catalog.is_read_only("u", name) for name in names]


def test_the_newest_word_counts() -> None:
    """A server may learn that a tool is not as harmless as it said."""
    catalog, _ = catalog_of(
        listed({"name": "t", "annotations": {"readOnlyHint": True}}), listed({"name": "t", "annotations": {}})
    )
    assert not catalog.is_repeatable("u", "t")


def test_of_what_cannot_be_read_nothing_is_believed() -> None:
    """Wrong types, nonsense, other lists."""
    catalog, _ = catalog_of(
        listed({"name": 7}),
        listed({"name": "t", "annotations": {"readOnlyHint": "yes"}}),
        Listed("u", "tools/list", b"nonsense"),
        listed({"name": "t"}, method="prompts/list"),
    )
    assert not catalog.is_known("u", "t")


def test_what_is_remembered_is_bounded() -> None:
    """A flood is told once and forgotten."""
    catalog, told = catalog_of(listed(*({"name": f"t{number}"} for number in range(TOOLS_LIMIT + 10))))
    assert (True, False) == (catalog.is_known("u", "t0"), catalog.is_known("u", f"t{TOOLS_LIMIT}"))
    assert [LimitReached("u", "catalog")] == told
