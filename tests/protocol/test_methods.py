"""The facts of each method, against the SDK's tables and the specification's."""

import pytest
from mcp.shared.inbound import NAME_BEARING_METHODS
from mcp_types import methods as sdk
from mcp_types.version import KNOWN_PROTOCOL_VERSIONS

from weir.protocol.methods import (
    MODERN,
    REVISIONS,
    WELL_KNOWN_METHODS,
    Facts,
    Named,
    Repeat,
    Traffic,
    facts,
    is_modern,
    traffic_class,
)

SDK_METHODS = {*sdk.CLIENT_REQUESTS, *sdk.CLIENT_NOTIFICATIONS, *sdk.SERVER_REQUESTS, *sdk.SERVER_NOTIFICATIONS}
READS = sdk.CACHEABLE_METHODS | {
    "prompts/get",
    "completion/complete",
    "ping",
    "roots/list",
    "tasks/get",
    "tasks/list",
    "tasks/result",
}


def test_the_revisions_are_those_of_the_sdk() -> None:
    """In order."""
    assert tuple(KNOWN_PROTOCOL_VERSIONS) == REVISIONS


def test_every_method_of_the_sdk_is_known_in_its_revisions() -> None:
    """The SDK leaves the tasks of 2025-11-25 out, so weir's table has more."""
    assert [] == [pair for pair in SDK_METHODS if pair[1] not in facts(pair[0]).revisions]


def test_methods_of_the_sdk_exist_in_no_other_revision_here() -> None:
    """A method that was removed is not said to be there."""
    for method in {method for method, _ in SDK_METHODS if not method.startswith("tasks/")}:
        assert {revision for name, revision in SDK_METHODS if name == method} == set(facts(method).revisions), method


def test_the_header_names_what_the_sdk_names() -> None:
    """The tasks extension adds its three methods."""
    named = {method: facts(method).header_param for method in WELL_KNOWN_METHODS if facts(method).header_param}
    tasks = {f"tasks/{verb}": "taskId" for verb in ("get", "update", "cancel")}
    assert {**NAME_BEARING_METHODS, **tasks} == named


def test_reads_and_settings_may_be_repeated_and_nothing_else() -> None:
    """What opens a session, asks a human or runs a tool may not."""
    by_repeat = {kind: {method for method in WELL_KNOWN_METHODS if facts(method).repeat is kind} for kind in Repeat}
    assert READS == by_repeat[Repeat.READ]
    assert {
        "resources/subscribe",
        "resources/unsubscribe",
        "logging/setLevel",
        "tasks/cancel",
    } == by_repeat[Repeat.SET]
    assert {"tools/call"} == by_repeat[Repeat.ASK]
    repeatable = {method for method in WELL_KNOWN_METHODS if facts(method).is_repeatable}
    assert (by_repeat[Repeat.READ] | by_repeat[Repeat.SET]) - {"server/discover"} == repeatable


def test_a_refusal_that_would_downgrade_or_block_is_never_made() -> None:
    """Handshakes, pings, cancellations and every notification pass."""
    requests = {method for method in WELL_KNOWN_METHODS if not method.startswith("notifications/")}
    exempt = {method for method in requests if facts(method).is_exempt}
    assert {"initialize", "server/discover", "ping", "tasks/cancel"} == exempt
    assert all(facts(method).is_exempt for method in WELL_KNOWN_METHODS - requests)
    assert {"initialize", "server/discover"} == {method for method in requests if facts(method).is_handshake}


def test_what_lasts_is_known_to_last() -> None:
    """No call limit may end these."""
    assert {"subscriptions/listen", "tasks/result"} == {
        method for method in WELL_KNOWN_METHODS if facts(method).is_long_lived
    }


def test_what_may_be_cached_is_what_carries_hints() -> None:
    """And nothing else."""
    assert sdk.CACHEABLE_METHODS == {method for method in WELL_KNOWN_METHODS if facts(method).is_cacheable}


def test_notifications_are_told_by_their_name() -> None:
    """Those that nobody knows, too."""
    assert facts("notifications/acme/changed").is_exempt


@pytest.mark.parametrize("method", ["acme/run", "", "tools/Call", "TOOLS/LIST"])
def test_of_an_unknown_method_nothing_is_assumed(method: str) -> None:
    """It may do anything, so it is never repeated."""
    assert Facts() == facts(method)
    assert (Repeat.NEVER, Named.NOTHING, (), False) == (
        facts(method).repeat,
        facts(method).named,
        facts(method).revisions,
        facts(method).is_exempt,
    )


@pytest.mark.parametrize(
    ("revision", "expected"),
    [
        *((revision, revision == MODERN) for revision in REVISIONS),
        ("2026-07-29", True),
        ("2027-01-01", True),
        ("2026-07-27", False),
        ("", False),
        ("draft", False),
        ("DRAFT-2026-v1", False),
        ("9999", False),
        ("2026-07-28 ", False),
        ("2026-07-28\n", False),
        ("\u0662026-07-28", False),
        ("3026-7-28", False),
    ],
)
def test_modern_is_a_date_from_2026_07_28_on(revision: str, expected: bool) -> None:
    """What is no date is not modern."""
    assert expected == is_modern(revision)


@pytest.mark.parametrize(
    ("expected", "methods"),
    [
        (Traffic.CONTROL, ["initialize", "ping", "tasks/cancel", "notifications/cancelled", "notifications/new"]),
        (Traffic.LIST, ["tools/list", "resources/templates/list", "tasks/list", "server/discover", "new/list"]),
        (Traffic.INTERACTIVE, ["tools/call", "prompts/get", "tasks/get", "completion/complete", "new/thing", ""]),
    ],
)
def test_traffic_is_control_interactive_or_list(expected: Traffic, methods: list[str]) -> None:
    """A method of the future is told by its name, and is otherwise somebody's call."""
    assert [expected] * len(methods) == [traffic_class(method) for method in methods]
