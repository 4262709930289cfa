"""What every test shares: the asyncio backend, `support` on the import path, and repeatable hypothesis runs."""

import functools
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

_HERE = str(Path(__file__).parent)
if _HERE not in sys.path:
    sys.path.insert(0, _HERE)

# a weir that inherits that SIGHUP is ignored (from nohup, or some CI) goes on ignoring it, as it should;
# a handler is not inherited
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)

# "ci" always draws the same examples, so that a red run is red again;
# "explore" (pytest --hypothesis-profile explore) looks for new ones;
# "mutate" (make mutate) wants to know whether a mutant fails, not the smallest example of it
settings.register_profile(
    "ci", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("explore", deadline=None, max_examples=2000, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("mutate", settings.get_profile("ci"), phases=(Phase.explicit, Phase.generate))
settings.load_profile("ci")


@functools.cache
def _seconds_taken() -> dict[str, float]:
    """Of each test, as mutmut found them."""
    noted = Path("mutmut-stats.json")
    found: dict[str, float] = json.loads(noted.read_text())["duration_by_test"] if noted.exists() else {}
    return found


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Before a mutant the quickest tests come first: they notice most."""
    if config.getoption("hypothesis_profile", None) == "mutate":
        items.sort(key=lambda item: _seconds_taken().get(item.nodeid, 0.0))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """After everything else, one line names the commands that would let skipped tests run."""
    yield
    from support.durations import by_folder, table
    from support.installs import needs

    skipped = terminalreporter.getreports("skipped")
    if line := needs([str(report.longrepr[2]).removeprefix("Skipped: ") for report in skipped]):
        terminalreporter.write_line(line, yellow=True)
    if os.environ.get("CI") == "true":
        terminalreporter.section("seconds of each folder, one test after the other")
        for row in table(by_folder(_durations(terminalreporter))):
            terminalreporter.write_line(row)


def _durations(terminalreporter: pytest.TerminalReporter) -> Iterator[tuple[str, float]]:
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                yield report.nodeid, report.duration


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """weir runs on uvloop, whose transports are not asyncio's in every detail; so do its tests."""
    return "asyncio", {"use_uvloop": True}
