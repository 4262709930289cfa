"""What the operator wrote reaches each room's own settings."""

from pathlib import Path

import pytest

from weir.app import rooms
from weir.config.load import load
from weir.config.model import Config
from weir.core.budget import Budget
from weir.upstream.http import WatchedLimits

BOTH = """
listen: {client_read: 7s}
upstreams:
  - {name: web, url: "http://127.0.0.1:1/mcp"}
  - {name: own, command: [cat]}
"""


@pytest.fixture
def config(tmp_path: Path, request: pytest.FixtureRequest) -> Config:
    """Both kinds of upstream, with what a test adds."""
    file = tmp_path / "weir.yaml"
    file.write_text(BOTH + request.param)
    return load(str(file), {})


def waits(config: Config) -> tuple[float, float | None, float]:
    """Silence, reading, and the answer to a question, before a command."""
    settings = rooms.stdio_upstream(config, config.upstreams[1]).waits
    return settings.silence_seconds, settings.client_read_seconds, settings.client_input_seconds


@pytest.mark.parametrize("config", [""], indirect=True)
def test_a_client_is_waited_for_equally_long_on_both_sides(config: Config) -> None:
    """By its connection, and by what queues for it before a command; the rest is what is always on."""
    assert 7.0 == rooms.server(config, Budget(1), 1, 1).client_read_seconds
    assert (300.0, 7.0, 600.0) == waits(config)


@pytest.mark.parametrize("config", ["policies: {timeout: {idle: 3s, client_input: 4s}}"], indirect=True)
def test_the_limits_of_a_policy_hold_before_a_command(config: Config) -> None:
    """There weir itself counts the silence, and what is asked of the client."""
    assert (3.0, 7.0, 4.0) == waits(config)


@pytest.mark.parametrize("config", ["policies: {timeout: {mode: shadow, idle: 3s, client_input: 4s}}"], indirect=True)
def test_a_policy_in_shadow_changes_nothing(config: Config) -> None:
    """Only what is always on holds."""
    assert (300.0, 7.0, 600.0) == waits(config)


@pytest.mark.parametrize("config", ["policies: {timeout: {connect: 2s, idle: 30s}}"], indirect=True)
def test_a_command_has_the_time_to_connect_to_be_started(config: Config) -> None:
    """It is the same limit."""
    assert 2.0 == rooms.stdio_upstream(config, config.upstreams[1]).connect_seconds


def test_tools_with_limits_of_their_own_are_looked_at_in_time() -> None:
    """The shortest silence decides how often; a question is remembered for as long as any tool may ask."""
    tools = {
        "quick": {"timeout": {"idle": "400ms", "client_input": "1s"}},
        "asking": {"timeout": {"client_input": "20m"}},
    }
    config = Config.model_validate({"upstreams": [{"name": "own", "command": ["cat"], "tools": tools}]})
    settings = rooms.stdio_upstream(config, config.upstreams[0]).waits
    assert (300.0, 0.4, 1200.0) == (
        settings.silence_seconds,
        settings.shortest_silence_seconds,
        settings.client_input_seconds,
    )
    assert 0.1 == settings.pause_seconds


@pytest.mark.parametrize(
    ("config", "seconds"),
    [
        ("", 30.0),
        ("policies: {breaker: {open_for: 4s}}", 4.0),
        ("policies: {breaker: {open_for: 60s}}", 30.0),
        ("policies: {breaker: {mode: shadow, open_for: 4s}}", 30.0),
    ],
    indirect=["config"],
)
def test_a_command_that_does_not_start_is_left_alone_no_longer_than_the_breaker_says(
    config: Config, seconds: float
) -> None:
    """A probe that came while weir still waited would have failed for nothing, and the next one be far."""
    assert seconds == rooms.stdio_upstream(config, config.upstreams[1]).restarts.max_seconds


@pytest.mark.parametrize(
    ("timeout", "watched", "has_own", "silence"),
    [
        ({"mode": "shadow", "connect": "2s", "idle": "7s"}, WatchedLimits(2.0, 7.0), False, 7.0),
        ({"connect": "2s", "idle": "7s"}, None, True, None),
        (None, None, True, None),
    ],
)
def test_in_shadow_the_edges_only_watch(
    timeout: dict[str, str] | None, watched: WatchedLimits | None, has_own: bool, silence: float | None
) -> None:
    """What they would have ended is told; what is always on holds."""
    upstreams = [
        {"name": "web", "url": "http://127.0.0.1:1/mcp", "tools": {"t": {"timeout": {"idle": "1s"}}}},
        {"name": "own", "command": ["cat"]},
    ]
    config = Config.model_validate({"upstreams": upstreams, "policies": {"timeout": timeout} if timeout else None})
    web = rooms.http_upstream(config, config.upstreams[0])
    assert (watched, has_own) == (web.watched, web.has_own_silences)
    assert silence == rooms.stdio_upstream(config, config.upstreams[1]).waits.watched_silence_seconds
