"""What is compared: weir in its variants, the proxies beside it, and how each is started and configured."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version as installed_version
from pathlib import Path

from bench.stand import CACHE, DIAGNOSTICS_ABOVE, PEERS, ROOT, STDIO_SERVER, Ground, MissingError, Target, needed

# --- weir -----------------------------------------------------------------------------------------------------------


COMPILED = ROOT / ".compiled"
_POLICIES = """
  timeout: {}
  retry: {}
  breaker: {}
  rate_limits: [{per: client, limit: 1000000, window: 1s}, {per: tool, limit: 1000000, window: 1s}]
  concurrency: {limit: 1000, queue: 1000, adaptive: true}
  coalesce: {mode: enforce}
  hedge: {mode: enforce}
"""
"""All of them, and none that stops a call."""


def weir(
    name: str,
    telemetry: str,
    *,
    sampled: float = 0.0,
    diagnostics: bool = True,
    stdio: bool = False,
    policies: str = " {}",
    build: Path = COMPILED,
) -> Target:
    """weir, its data path compiled (in the folder `build`), with these sections of its configuration (YAML)."""

    def command(land: Ground, port: int) -> list[str]:
        upstream = f"command: {STDIO_SERVER}" if stdio else f"url: {land.origin_url}, connections: 4000"
        watch = f"127.0.0.1:{port + DIAGNOSTICS_ABOVE}" if diagnostics else "'off'"
        file = land.folder / f"weir-{port}.yaml"
        file.write_text(
            f"listen: {{http: '127.0.0.1:{port}', diagnostics: {watch}}}\n"
            f"upstreams: [{{name: bench, {upstream}}}]\n"
            f"sessions: {{max: 4000}}\n"
            f"telemetry: {telemetry}\n"
            f"policies:{policies}\n"
        )
        if not (build / "weir").exists():
            raise MissingError("not compiled: run make compiled")
        return [needed("weir", Path(sys.executable).parent / "weir"), "run", "--config", str(file)]

    def version() -> str:
        return installed_version("mcp-weir")

    path = {"PYTHONPATH": str(build)}
    return Target(name, command, version, sampled=sampled, counts=diagnostics, environment=path)


def pure(target: Target) -> Target:
    """The same, as pure Python."""
    return replace(target, name=f"{target.name} (pure Python)", environment={"PYTHONPATH": str(ROOT / "src")})


def _telemetry(exporter: str, sample: float = 1.0, *, access: bool = True) -> str:
    logs = f"{{format: json, access: {str(access).lower()}}}"
    return f"{{traces: {{exporter: {exporter}, sample: {sample}}}, logs: {logs}}}"


WEIR = weir("weir, metrics + access log, no traces", _telemetry("none"))


def weir_built(name: str, build: Path) -> Target:
    """The plain weir of another build."""
    return weir(name, _telemetry("none"), build=build)


WEIR_POLICED = weir("weir, every policy on", _telemetry("none"), policies=_POLICIES)
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
