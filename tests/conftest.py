"""What every test shares: the asyncio backend, `support` on the import path, and repeatable hypothesis runs."""

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

_HERE = str(Path(__file__).parent)
if _HERE not in sys.path:
    sys.path.insert(0, _HERE)

# "ci" always draws the same examples, so that a red run is red again;
# "explore" (pytest --hypothesis-profile explore) looks for new ones
settings.register_profile(
    "ci", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("explore", deadline=None, max_examples=2000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ci")


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """weir runs on uvloop, whose transports are not asyncio's in every detail; so do its tests."""
    return "asyncio", {"use_uvloop": True}
