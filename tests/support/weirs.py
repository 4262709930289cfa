"""weir itself as a process: the three forms of `weir run` on free ports, with a configuration written for the test."""

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from support.processes import Running, free_port, running

Config = Mapping[str, Any]

UNTRACED: Config = {"telemetry": {"traces": {"exporter": "none"}}}
"""Bodies pass byte for byte."""

GENEROUS: Config = {
    "policies": {
        "timeout": {},
        "retry": {},
        "breaker": {"consecutive_failures": 1_000_000, "min_calls": 1_000_000},
        "concurrency": {"limit": 1000},
        "rate_limits": [{"per": per, "limit": 1_000_000, "window": "1m"} for per in ("client", "tool", "upstream")],
        "coalesce": {"mode": "enforce"},
        "hedge": {"mode": "enforce", "after": "10m"},
    }
}
"""Every policy is on, with limits that nothing reaches."""


def weir_argv(*options: str | Path) -> list[str | Path]:
    """The command line of `weir run` in this interpreter."""
    return [sys.executable, "-m", "weir", "run", *options]


def write_config(directory: Path, upstream: Config, config: Config, listen: str) -> Path:
    """Write weir's YAML for one upstream; a configuration that names several brings its own `upstreams`."""
    body: dict[str, Any] = {"upstreams": [{"name": "one", **upstream}], **config}
    if listen:
        body["listen"] = {"http": listen, "diagnostics": "off", **config.get("listen", {})}
    path = directory / f"weir-{os.getpid()}-{free_port()}.yaml"
    path.write_text(yaml.safe_dump(body))
    return path


def command(argv: Sequence[str | Path]) -> Config:
    """An upstream that weir starts as a child."""
    return {"command": [str(part) for part in argv]}


@contextlib.contextmanager
def weir_http(
    directory: Path, upstream: Config, config: Config = UNTRACED, env: Mapping[str, str] | None = None
) -> Iterator[Running]:
    """weir serving HTTP on a free port before one upstream (`{"url": ...}` or `command(...)`)."""
    port = free_port()
    path = write_config(directory, upstream, config, f"127.0.0.1:{port}")
    with running(weir_argv("--config", path), port=port, env=env) as one:
        yield one


def weir_stdio_argv(directory: Path, upstream: Config, config: Config = UNTRACED) -> list[str | Path]:
    """The command that serves the client on stdin and stdout before one upstream."""
    return weir_argv("--stdio", "--config", write_config(directory, upstream, config, ""))


@contextlib.contextmanager
def weir_stdio(
    directory: Path, upstream: Config, config: Config = UNTRACED, env: Mapping[str, str] | None = None
) -> Iterator[Running]:
    """weir serving the client on its pipes before one upstream."""
    with running(weir_stdio_argv(directory, upstream, config), env=env, pipes=True) as one:
        yield one
