"""The dashboard's queries, each executed by a real Prometheus that scrapes a real weir with all sorts of traffic."""

import asyncio
import json
import math
import time
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator
from contextlib import ExitStack
from http.client import HTTPResponse
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest
import yaml

from support.installs import require_package
from support.limits import HANG_SECONDS
from support.otlp_sink import Sink, http_sink
from support.processes import free_port, running
from support.stdio_script import COMMAND
from support.weirs import command, weir_argv
from weir.app.demo_traffic import Traffic

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

ROOT = Path(__file__).parents[2]
DASHBOARD = json.loads((ROOT / "grafana/dashboards/weir.json").read_text())
PROMETHEUS_YAML = ROOT / "grafana/prometheus/prometheus.yml"
SCRAPE_SECONDS = 1
TRAFFIC_SECONDS = 8
MAX_BODY_BYTES = 64 * 1024
INITIALIZE = (
    b'{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25",'
    b'"capabilities":{},"clientInfo":{"name":"test","version":"0"}}}'
)
EXIT = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"exit","arguments":{}}}'
REPORT = b'{"jsonrpc":"2.0","id":8,"method":"tools/call","params":{"name":"report","arguments":{"pages":9}}}'
# what Grafana puts in place of its variables; a rate needs more than two scrapes
VARIABLES = {"$__rate_interval": "5s", "$job": ".*", "$upstream": ".*"}
TARGETS = [
    pytest.param(target["expr"], target["range"], id=f"{panel['title']} {target['refId']}")
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", [])
]


class Scraped(NamedTuple):
    """A Prometheus that has seen the traffic, and what the other ends counted."""

    url: str
    began: float
    sent: int
    sink: Sink

    def ask(self, path: str, **parameters: str) -> Any:
        """One question to its API."""
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=HANG_SECONDS) as reply:
            return json.load(reply)["data"]

    def values(self, expr: str, *, over_time: bool) -> list[float]:
        """The values of every series, NaN left out."""
        if over_time:
            data = self.ask("query_range", query=expr, start=str(self.began), end=str(time.time()), step="1")
            found = [float(value) for series in data["result"] for _, value in series["values"]]
        else:
            found = [float(series["value"][1]) for series in self.ask("query", query=expr)["result"]]
        return [value for value in found if not math.isnan(value)]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One loop for the module's traffic."""
    return "asyncio"


@pytest.fixture(scope="module")
async def scraped(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scraped]:
    """Prometheus with the shipped configuration, weir before three upstreams, and traffic that touches every panel."""
    require_package("prometheus", "prometheus")
    directory = tmp_path_factory.mktemp("stack")
    mcp, diagnostics, api = free_port(), free_port(), free_port()
    with ExitStack() as stack:
        sink = stack.enter_context(http_sink())
        demo = free_port()
        stack.enter_context(running([*COMMAND[:1], "-m", "weir.app.demo_server", str(demo)], port=demo))
        config = weir_config(directory, f"127.0.0.1:{mcp}", f"127.0.0.1:{diagnostics}", demo)
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint}
        stack.enter_context(running(weir_argv("--config", config), port=mcp, env=env))
        stack.enter_context(running(prometheus_argv(directory, diagnostics, api), port=api))
        began = time.time()
        sent = await traffic(f"http://127.0.0.1:{mcp}")
        yield Scraped(f"http://127.0.0.1:{api}", began, sent, sink)


def weir_config(directory: Path, mcp: str, diagnostics: str, demo: int) -> Path:
    """A server that works, one that is not there, and one on stdin and stdout."""
    path = directory / "weir.yaml"
    tree = {
        "listen": {"http": mcp, "diagnostics": diagnostics, "max_body": f"{MAX_BODY_BYTES}B"},
        "upstreams": [
            {"name": "demo", "url": f"http://127.0.0.1:{demo}/mcp"},
            {"name": "gone", "url": f"http://127.0.0.1:{free_port()}/mcp"},
            {"name": "child", **command(COMMAND)},
        ],
    }
    path.write_text(yaml.safe_dump(tree))
    return path


def prometheus_argv(directory: Path, diagnostics: int, api: int) -> list[str]:
    """The shipped configuration but for addresses and pace."""
    tree = yaml.safe_load(PROMETHEUS_YAML.read_text())
    tree["global"]["scrape_interval"] = f"{SCRAPE_SECONDS}s"
    tree["scrape_configs"] = [job for job in tree["scrape_configs"] if job["job_name"] == "weir"]
    tree["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{diagnostics}"]
    path = directory / "prometheus.yml"
    path.write_text(yaml.safe_dump(tree))
    return [
        "prometheus",
        f"--config.file={path}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{api}",
        "--enable-feature=exemplar-storage",
        "--log.level=error",
    ]


async def traffic(base: str) -> int:
    """Something of everything that a panel shows. Returns the tool calls made to `demo`."""
    demo, enough = Traffic(f"{base}/servers/demo/mcp"), asyncio.Event()
    session = await asyncio.to_thread(post, f"{base}/servers/child/mcp", INITIALIZE)
    with stream(f"{base}/servers/child/mcp", session):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(demo.run(enough))
            for _ in range(TRAFFIC_SECONDS):
                await asyncio.to_thread(odd_traffic, base)
                # real time must pass: Prometheus scrapes by its own clock
                await asyncio.sleep(1)
            enough.set()
        await asyncio.sleep(2 * SCRAPE_SECONDS)
    return demo.sent.total() + TRAFFIC_SECONDS


def odd_traffic(base: str) -> None:
    """A session whose server dies, a server that is not there, a body that is too large, a client that leaves."""
    child, demo = f"{base}/servers/child/mcp", f"{base}/servers/demo/mcp"
    post(child, EXIT, session=post(child, INITIALIZE))
    post(f"{base}/servers/gone/mcp", b'{"jsonrpc":"2.0","id":1,"method":"ping"}')
    post(demo, b" " * (MAX_BODY_BYTES + 1))
    post(demo, REPORT, session=post(demo, INITIALIZE), seconds=0.1)


def stream(url: str, session: str) -> HTTPResponse:
    """A session's GET stream."""
    headers = {"accept": "text/event-stream", "mcp-session-id": session}
    return cast(
        "HTTPResponse", urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=HANG_SECONDS)
    )


def post(url: str, body: bytes, session: str = "", seconds: float = 5) -> str:
    """A POST, whatever its answer; returns the session that it began."""
    headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
    if session:
        headers["mcp-session-id"] = session
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=seconds) as reply:
            return str(reply.headers["mcp-session-id"])
    except OSError:
        return ""


@pytest.mark.parametrize(("expr", "over_time"), TARGETS)
async def test_a_panel_shows_something(scraped: Scraped, expr: str, over_time: bool) -> None:
    """Every query has values, so every metric and label in it is one that weir has."""
    for name, value in VARIABLES.items():
        expr = expr.replace(name, value)
    assert "$" not in expr
    assert [] != scraped.values(expr, over_time=over_time)


async def test_prometheus_counts_what_the_clients_sent(scraped: Scraped) -> None:
    """To the call."""
    which = 'upstream="demo",mcp_method_name="tools/call"'
    assert [scraped.sent] == scraped.values(f"sum(weir_requests_total{{{which}}})", over_time=False)


async def test_failures_are_blamed(scraped: Scraped) -> None:
    """Each reason that occurred has one whose fault it is."""
    panel = next(panel for panel in DASHBOARD["panels"] if panel["title"] == "Failures since weir started")
    expr = panel["targets"][0]["expr"].replace("$job", ".*").replace("$upstream", ".*")
    found = {
        series["metric"]["reason"]: series["metric"]["blame"] for series in scraped.ask("query", query=expr)["result"]
    }
    expected = {
        "tool_error": "upstream",
        "upstream_connect_error": "upstream",
        "upstream_exited": "upstream",
        "cancelled": "caller",
    }
    assert expected == found


async def test_exemplars_lead_to_exported_traces(scraped: Scraped) -> None:
    """Every point in the latency panel is a trace that the collector has."""
    query = "mcp_server_operation_duration_seconds_bucket"
    data = scraped.ask("query_exemplars", query=query, start=str(scraped.began), end=str(time.time()))
    shown = {exemplar["labels"]["trace_id"] for series in data for exemplar in series["exemplars"]}
    assert shown
    assert shown <= {span.trace_id.hex() for span in scraped.sink.spans}
