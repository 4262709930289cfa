"""weir built in this process, not bound to any port."""

import pytest

from weir.app.build import Weir
from weir.app.version import installed_version
from weir.config.model import Config

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_metrics_say_which_weir_this_is() -> None:
    """The version of the distribution, as `weir version` says it."""
    weir = Weir(Config.model_validate({"upstreams": [{"name": "demo", "url": "http://127.0.0.1:9/mcp"}]}))
    _, text = await weir.telemetry.metrics.render("")
    assert f'weir_build_info{{version="{installed_version()}",' in text.decode()
    await weir.aclose()


async def test_the_retry_budget_is_up_to_date_at_each_scrape() -> None:
    """Ten seconds of a floor of two a second, in which nothing happened."""
    now = 100.0
    retry = {"budget": {"ratio": 0, "min_per_second": 2}}
    config = Config.model_validate(
        {"upstreams": [{"name": "demo", "url": "http://127.0.0.1:9/mcp"}], "policies": {"retry": retry}}
    )
    weir = Weir(config, lambda: now)
    series = 'weir_policy_level{upstream="demo",policy="retry",scope="budget"} '
    for seconds, expected in ((0.0, 2.0), (3.0, 8.0), (60.0, 20.0)):
        now = 100.0 + seconds
        _, text = await weir.telemetry.metrics.render("")
        assert f"{series}{expected}" in text.decode().splitlines()
    await weir.aclose()
