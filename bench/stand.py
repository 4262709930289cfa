"""What stands between the load and the server: each proxy, how it is started, which version it is."""

import contextlib
import os
import random
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
CACHE = Path(os.environ.get("WEIR_CACHE", Path.home() / ".cache")) / "weir-bench"
PEERS = Path(__file__).parent / "peers"
STDIO_SERVER = [sys.executable, str(Path(__file__).parent / "lines.py")]
START_SECONDS = 30.0
STOP_SECONDS = 10.0
FILES_LIMIT = 16384
# below the range that the kernel gives to outgoing connections, so that nobody takes the port before its owner binds it
_PORTS = range(20000, 26000)
_AVAILABLE = os.sched_getaffinity(0)
_DIAGNOSTICS_ABOVE = 6000  # weir's second port is this much above its first


class MissingError(Exception):
    """A proxy is not installed; the text says why."""


@dataclass
class Ground:
    """What every proxy of one run shares: the server behind it, the sink for spans, a folder for its files."""

    origin_port: int
    origin_pid: int
    sink_port: int
    folder: Path
    apart: bool = True
    """What is measured has a core of its own."""

    @property
    def origin_url(self) -> str:
        """Where the HTTP server is."""
        return f"http://127.0.0.1:{self.origin_port}/mcp"


@dataclass(frozen=True)
class Target:
    """One row of a table."""

    name: str
    command: Callable[[Ground, int], list[str]] | None
    """Of the ground and the port to listen on; raises `MissingError`. None: nothing stands between."""
    version: Callable[[], str] = str
    """Called only when it runs."""
    exact: bool = True
    """The reply's bytes must pass unchanged."""
    sampled: float = 0.0
    """Share of calls whose spans go to the sink, two a call."""
    counts: bool = False
    """It keeps metrics and writes a log line a call: both are looked for."""
    environment: dict[str, str] = field(default_factory=dict)
    note: str = ""
    plan: dict[str, Any] = field(default_factory=dict)
    """What the load does otherwise for this row."""


@dataclass(frozen=True)
class Standing:
    """A target that runs."""

    target: Target
    port: int
    pid: int
    log: Path

    @property
    def metrics_url(self) -> str:
        """weir's own account."""
        return f"http://127.0.0.1:{self.port + _DIAGNOSTICS_ABOVE}/metrics"


def free_port() -> int:
    """A port nobody has now."""
    while True:
        port = random.choice(_PORTS)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def needed(name: str, path: Path) -> str:
    """A file that bench/setup.sh installs, or why it is not there."""
    if path.exists():
        return str(path)
    reason = CACHE / "missing" / name
    raise MissingError(reason.read_text().strip() if reason.exists() else "not installed: run bench/setup.sh")


def cores() -> tuple[set[int], set[int]]:
    """Which cores what stands between has, and which the load, the server and the sink have.

    Left to the scheduler, nginx took 5.6 to 12.2 µs a call from round to round on two cores (whether a wake-up finds
    the other core idle decides it); apart, 11.4 to 11.9.
    """
    available = sorted(_AVAILABLE)
    return (set(available[-1:]), set(available[:-1])) if len(available) > 1 else (set(available), set(available))


@contextlib.contextmanager
def cores_shared(land: Ground) -> Iterator[None]:
    """All cores for all, until left: for latency, a proxy must not wait for whoever else has its core."""
    land.apart = False
    for pid in (0, land.origin_pid):
        os.sched_setaffinity(pid, _AVAILABLE)
    try:
        yield
    finally:
        land.apart = True
        for pid in (0, land.origin_pid):
            os.sched_setaffinity(pid, cores()[1])


def _prepare_proxy(own: set[int]) -> None:
    os.sched_setaffinity(0, own)
    raise_files_limit()


def raise_files_limit() -> None:
    """As many open files as this system lets us have, up to what the memory table needs. For a child, before exec."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_LIMIT if hard == resource.RLIM_INFINITY else min(FILES_LIMIT, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _listening(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None or time.monotonic() > until:
            raise MissingError(f"did not start: {' '.join(log.read_text(errors='replace').split())[-300:]}")
        time.sleep(0.05)


@contextlib.contextmanager
def process(
    command: list[str],
    port: int,
    log: Path,
    environment: dict[str, str] | None = None,
    prepare: Callable[[], None] = raise_files_limit,
) -> Iterator[int]:
    """Run a command until left; it listens on `port` when entered. Yields its process id.

    Raises:
        MissingError: it ended, or did not listen in time.
    """
    with log.open("ab") as output:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=ROOT,
            env=os.environ | (environment or {}),
            preexec_fn=prepare,  # noqa: PLW1509 - no threads here
        )
    try:
        _listening(port, child, log)
        yield child.pid
    finally:
        child.terminate()
        try:
            child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


@contextlib.contextmanager
def ground() -> Iterator[Ground]:
    """The server, the sink and a folder, until left. This process and its children keep off the proxies' core."""
    os.sched_setaffinity(0, cores()[1])
    folder = Path(tempfile.mkdtemp(prefix="weir-bench-"))
    origin, sink = free_port(), free_port()
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        pids = []
        for module, port in (("origin", origin), ("sink", sink)):
            command = [sys.executable, "-m", f"bench.{module}", str(port)]
            pids.append(stack.enter_context(process(command, port, folder / f"{module}.log")))
        yield Ground(origin, pids[0], sink, folder)


@contextlib.contextmanager
def standing(target: Target, land: Ground) -> Iterator[Standing]:
    """The target, running between a port of its own and the server.

    Raises:
        MissingError: it is not installed or did not start.
    """
    if target.command is None:
        yield Standing(target, land.origin_port, land.origin_pid, land.folder / "origin.log")
        return
    port = free_port()
    command = target.command(land, port)
    log = land.folder / f"{port}.log"
    environment = target.environment | otlp_environment(land)
    prepare = partial(_prepare_proxy, cores()[0] if land.apart else _AVAILABLE)
    with process(command, port, log, environment, prepare) as pid:
        yield Standing(target, port, pid, log)


def otlp_environment(land: Ground) -> dict[str, str]:
    """Where spans go, in OpenTelemetry's own variables."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{land.sink_port}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_BSP_SCHEDULE_DELAY": "1000",
    }


# --- weir -----------------------------------------------------------------------------------------------------------


def weir(name: str, telemetry: str, *, sampled: float = 0.0, diagnostics: bool = True, stdio: bool = False) -> Target:
    """weir with a telemetry section of its configuration (YAML, flow style)."""

    def command(land: Ground, port: int) -> list[str]:
        upstream = f"command: {STDIO_SERVER}" if stdio else f"url: {land.origin_url}, connections: 4000"
        watch = f"127.0.0.1:{port + _DIAGNOSTICS_ABOVE}" if diagnostics else "'off'"
        file = land.folder / f"weir-{port}.yaml"
        file.write_text(
            f"listen: {{http: '127.0.0.1:{port}', diagnostics: {watch}}}\n"
            f"upstreams: [{{name: bench, {upstream}}}]\n"
            f"sessions: {{max: 4000}}\n"
            f"telemetry: {telemetry}\n"
        )
        return [needed("weir", Path(sys.executable).parent / "weir"), "run", "--config", str(file)]

    def version() -> str:
        return installed_version("mcp-weir")

    return Target(name, command, version, sampled=sampled, counts=diagnostics)


def _telemetry(exporter: str, sample: float = 1.0, *, access: bool = True) -> str:
    logs = f"{{format: json, access: {str(access).lower()}}}"
    return f"{{traces: {{exporter: {exporter}, sample: {sample}}}, logs: {logs}}}"


WEIR = weir("weir, metrics + access log, no traces", _telemetry("none"))
WEIR_BARE = weir("weir, no access log, no traces", _telemetry("none", access=False), diagnostics=False)
WEIR_10 = weir("weir, traces at 10 %", _telemetry("otlp", 0.1), sampled=0.1)
WEIR_100 = weir("weir, traces at 100 %", _telemetry("otlp", 1.0), sampled=1.0)


def weir_with(*, sample: float, stdio: bool) -> Target:
    """weir for a profile: metrics and access log on, traces as said."""
    telemetry = _telemetry("otlp", sample) if sample else _telemetry("none")
    return weir(f"weir, traces at {100 * sample:g} %{', stdio' if stdio else ''}", telemetry, stdio=stdio)


WEIR_STDIO = weir("weir, metrics + access log", _telemetry("none"), stdio=True)


# --- the others -----------------------------------------------------------------------------------------------------

_NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr error;
events {{ worker_connections 8192; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; client_max_body_size 16m;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  keepalive_requests 100000000;
  upstream origin {{ server 127.0.0.1:{origin}; keepalive 64; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=2048;
    location / {{
      proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
      proxy_buffering off; proxy_read_timeout 300s;
    }}
  }}
}}
"""

_ENVOY = """
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: bench
          stream_idle_timeout: 300s
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{{match: {{prefix: "/"}}, route: {{cluster: origin, timeout: 0s}}}}]
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - name: origin
    type: STATIC
    connect_timeout: 5s
    load_assignment:
      cluster_name: origin
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {origin}}}}}}}
"""


def _nginx(land: Ground, port: int) -> list[str]:
    binary = needed("nginx", CACHE / "nginx" / "usr" / "sbin" / "nginx")
    file = land.folder / f"nginx-{port}.conf"
    file.write_text(_NGINX.format(folder=land.folder, origin=land.origin_port, port=port))
    return [binary, "-p", str(land.folder), "-c", str(file)]


def _envoy(land: Ground, port: int) -> list[str]:
    binary = needed(
        "envoy", next((CACHE / "envoy").glob("lib/python*/site-packages/envoy/_bin/envoy"), CACHE / "envoy")
    )
    if binary == str(CACHE / "envoy"):
        raise MissingError("its package holds no binary")
    file = land.folder / f"envoy-{port}.yaml"
    file.write_text(_ENVOY.format(origin=land.origin_port, port=port))
    return [binary, "-c", str(file), "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]


def _floor(_: Ground, port: int) -> list[str]:
    return [sys.executable, "-m", "bench.floor", str(port)]


def _fastmcp(mode: str) -> Callable[[Ground, int], list[str]]:
    def command(land: Ground, port: int) -> list[str]:
        python = needed("fastmcp", CACHE / "fastmcp" / "bin" / "python")
        return [python, str(PEERS / "fastmcp_proxy.py"), mode, land.origin_url, str(port)]

    return command


def _node(name: str, script: str) -> list[str]:
    if shutil.which("node") is None:
        raise MissingError("no node on this system")
    return ["node", needed(name, CACHE / name / "node_modules" / ".bin" / script)]


def _npm_http(land: Ground, port: int) -> list[str]:
    _node("npm-mcp-proxy", "mcp-proxy")
    package = CACHE / "npm-mcp-proxy" / "node_modules" / "mcp-proxy"
    return ["node", str(PEERS / "npm_mcp_proxy_http.mjs"), str(package), land.origin_url, str(port)]


def _npm_stdio(_: Ground, port: int) -> list[str]:
    listen = ["--host", "127.0.0.1", "--port", str(port), "--server", "stream"]
    return [*_node("npm-mcp-proxy", "mcp-proxy"), *listen, "--", *STDIO_SERVER]


def _supergateway(_: Ground, port: int) -> list[str]:
    transport = ["--outputTransport", "streamableHttp", "--stateful", "--port", str(port), "--logLevel", "none"]
    return [*_node("supergateway", "supergateway"), "--stdio", " ".join(STDIO_SERVER), *transport]


def _pypi_stdio(_: Ground, port: int) -> list[str]:
    binary = needed("pypi-mcp-proxy", CACHE / "pypi-mcp-proxy" / "bin" / "mcp-proxy")
    return [binary, "--host", "127.0.0.1", "--port", str(port), "--log-level", "ERROR", "--", *STDIO_SERVER]


def _stamp(name: str) -> Callable[[], str]:
    return lambda: (CACHE / name / ".version").read_text().strip()


def _nginx_version() -> str:
    binary = str(CACHE / "nginx" / "usr" / "sbin" / "nginx")
    return subprocess.run([binary, "-v"], capture_output=True, text=True, check=True).stderr.strip().rsplit("/", 1)[-1]


def _uvicorn_version() -> str:
    return installed_version("uvicorn")


DIRECT = Target("direct (CPU: the server's own)", None)
NGINX = Target("nginx", _nginx, _nginx_version, note="one worker, upstream keepalive, no access log, no buffering")
ENVOY = Target("envoy", _envoy, _stamp("envoy"), note="--concurrency 1, no access log")
FLOOR = Target(
    "uvicorn + httptools + uvloop", _floor, _uvicorn_version, note="answers by itself: the server side alone"
)
HTTP_PEERS = (
    Target("npm mcp-proxy", _npm_http, _stamp("npm-mcp-proxy"), exact=False, note="its library, HTTP to HTTP"),
    Target("fastmcp, one shared client", _fastmcp("shared"), _stamp("fastmcp"), exact=False),
    Target("fastmcp, as it comes", _fastmcp("fresh"), _stamp("fastmcp"), exact=False, note="a session for every call"),
)
STDIO_PEERS = (
    Target("npm mcp-proxy", _npm_stdio, _stamp("npm-mcp-proxy"), exact=False),
    Target("supergateway", _supergateway, _stamp("supergateway"), exact=False, note="--stateful"),
    Target("PyPI mcp-proxy", _pypi_stdio, _stamp("pypi-mcp-proxy"), exact=False),
)
