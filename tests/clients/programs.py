"""The clients that others wrote, as commands, and what each of them saw of a server."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.installs import CACHE
from support.limits import HANG_SECONDS

HERE = Path(__file__).resolve().parent
HOME = CACHE / "weir-clients"
NODE = str(HOME / "bin/node")
NPM = HOME / "npm"
BIN = NPM / "node_modules/.bin"
LIMIT_SECONDS = HANG_SECONDS
MODERN = "2026-07-28"

Target = dict[str, Any]
"""`{"url": ...}` or `{"command": [...]}`."""

COMMANDS: dict[str, tuple[str, ...]] = {
    "python-sdk-auto": (sys.executable, str(HERE / "sdk_client.py"), "auto"),
    "python-sdk-legacy": (sys.executable, str(HERE / "sdk_client.py"), "legacy"),
    "python-sdk-modern": (sys.executable, str(HERE / "sdk_client.py"), MODERN),
    "fastmcp": (str(HOME / "fastmcp/bin/python"), str(HERE / "fastmcp_client.py"), "auto"),
    "typescript-1": (NODE, str(HERE / "typescript_v1.mjs"), "legacy"),
    "typescript-2-auto": (NODE, str(HERE / "typescript_v2.mjs"), "auto"),
    "typescript-2-legacy": (NODE, str(HERE / "typescript_v2.mjs"), "legacy"),
    "typescript-2-modern": (NODE, str(HERE / "typescript_v2.mjs"), MODERN),
}


@dataclass(frozen=True)
class Seen:
    """What a client saw. Progress apart: the TypeScript SDK's drops what comes in one read with the answer."""

    results: dict[str, Any]
    progress: list[float]


def run(argv: Sequence[str]) -> Any:
    """The JSON on the last line that a program printed, after it ended well."""
    environ = {**os.environ, "WEIR_NPM": str(NPM)}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT_SECONDS, env=environ, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def see(client: str, target: Target) -> Seen:
    """Let a client ask a server everything."""
    results = json.loads(run([*COMMANDS[client], json.dumps(target)]).splitlines()[-1])
    return Seen(results, results.pop("progress"))


def inspect(target: Target, *options: str) -> Any:
    """What MCP Inspector's command line prints for one method."""
    where = target.get("command") or [target["url"]]
    return json.loads(run([NODE, str(BIN / "mcp-inspector"), "--cli", *where, *options]))
