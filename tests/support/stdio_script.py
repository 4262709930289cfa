"""A stdio server that says exactly what a test wants: raw lines, and misbehaviour on demand.

Run as a program: `python stdio_script.py [FLAG...]`. Flags: `ignore-sigterm`, `ignore-eof`, `deaf` (never
reads), `exit-at-once`, `silent-batches` and `silent-listen` (never answers these), `annotated` (lists a tool).

`tools/call` with the names below; any other request is answered with the method and the line received.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

COMMAND = (sys.executable, str(Path(__file__)))


def say(text: str) -> None:
    """One line on stdout."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def answer(raw_id: Any, result: object) -> None:
    """A result."""
    say(json.dumps({"jsonrpc": "2.0", "id": raw_id, "result": result}))


ANNOTATED = {
    "name": "echo",
    "inputSchema": {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}},
}
"""A tool one of whose arguments is to stand in a header, too."""


class Request:
    """One tools/call."""

    def __init__(self, message: dict[str, Any]) -> None:
        self.id = message["id"]
        self.name = message["params"]["name"]
        self.arguments = message["params"].get("arguments", {})
        self.token = message["params"].get("_meta", {}).get("progressToken")

    def answer(self, value: object) -> None:
        """A tool's result."""
        answer(self.id, {"content": [{"type": "text", "text": str(value)}]})


def as_given(request: Request) -> None:
    """Lines as given; $ID and $TOKEN stand for this request's."""
    for line in request.arguments["lines"]:
        say(line.replace("$ID", json.dumps(request.id)).replace("$TOKEN", json.dumps(request.token)))
    if "exit" in request.arguments:
        os._exit(0)


def as_bytes(request: Request) -> None:
    """Bytes as given, in hexadecimal, as lines of their own; then the answer."""
    sys.stdout.flush()
    os.write(1, bytes.fromhex(request.arguments["hex"]) + b"\n")
    request.answer("written")


def end(request: Request) -> None:
    """Exit with last words on stderr."""
    sys.stderr.write(request.arguments.get("why", "") + "\n")
    sys.stderr.flush()
    os._exit(request.arguments.get("code", 3))


def complain(request: Request) -> None:
    """Fill stderr."""
    sys.stderr.write("e" * request.arguments["size"] + "\n")
    sys.stderr.flush()
    request.answer("done")


def flood(request: Request) -> None:
    """Progress until the pipe is full, then the answer."""
    for step in range(request.arguments["count"]):
        params = {"progressToken": request.token, "progress": step, "message": "x" * request.arguments["size"]}
        say(json.dumps({"jsonrpc": "2.0", "method": "notifications/progress", "params": params}))
    request.answer("done")


def stop_reading(request: Request) -> None:
    """Answer, and never read again."""
    request.answer("deaf")
    time.sleep(1000)


def mute(request: Request) -> None:
    """Close stdout, and run on."""
    os.close(1)
    time.sleep(1000)


def daemon(request: Request) -> None:
    """Start a process in a session of its own, as Playwright starts browsers."""
    request.answer(subprocess.Popen(["sleep", "1000"], start_new_session=True).pid)


def orphan(request: Request) -> None:
    """Start a process in a session of its own, whose parent ends at once, as daemons do."""
    shell = ["sh", "-c", "setsid sleep 1000 > /dev/null 2>&1 & echo $!"]
    request.answer(subprocess.run(shell, capture_output=True, check=True).stdout.decode())


LINES: list[str] = []
"""All that was read."""

TOOLS: dict[str, Callable[[Request], None]] = {
    "say": as_given,
    "files": lambda request: request.answer(sorted(int(each) for each in os.listdir("/dev/fd"))),
    "id": lambda request: request.answer(request.id),
    "pid": lambda request: request.answer(os.getpid()),
    "big": lambda request: request.answer("x" * request.arguments["size"]),
    "exit": end,
    "fork": lambda request: request.answer(subprocess.Popen(["sleep", "1000"]).pid),
    "raw": as_bytes,
    "daemon": daemon,
    "orphan": orphan,
    "env": lambda request: request.answer(json.dumps(dict(os.environ))),
    "stderr": complain,
    "flood": flood,
    "deaf": stop_reading,
    "mute": mute,
    "never": lambda request: None,
    "lines": lambda request: request.answer(len(LINES)),
    "echo": lambda request: request.answer(json.dumps(request.arguments)),
}


def initialize(message: dict[str, Any]) -> None:
    """Agree to any revision but one."""
    revision = message["params"].get("protocolVersion")
    if revision == "refuse me":
        say(json.dumps({"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32602, "message": "no"}}))
        return
    answer(message["id"], {"protocolVersion": revision, "capabilities": {}, "serverInfo": {}})


def request(message: dict[str, Any], line: str) -> None:
    """Answer one request."""
    method = message["method"]
    if method == "initialize":
        initialize(message)
    elif method == "tools/call":
        asked = Request(message)
        TOOLS[asked.name](asked)
    elif method == "tools/list" and "annotated" in sys.argv:
        answer(message["id"], {"tools": [ANNOTATED]})
    elif method != "subscriptions/listen" or "silent-listen" not in sys.argv:
        answer(message["id"], {"method": method, "line": line})


def serve(line: str) -> None:
    """Answer one line."""
    LINES.append(line)
    message = json.loads(line)
    if isinstance(message, list):
        if "silent-batches" not in sys.argv:
            say(json.dumps([{"jsonrpc": "2.0", "id": each["id"], "result": {}} for each in message if "id" in each]))
    elif "method" not in message:
        params = {"level": "info", "data": line}
        say(json.dumps({"jsonrpc": "2.0", "method": "notifications/message", "params": params}))
    elif "id" not in message:
        sys.stderr.write(f"told: {line}\n")
        sys.stderr.flush()
    else:
        request(message, line)


def main(flags: list[str]) -> None:
    """Serve until stdin ends."""
    if "ignore-sigterm" in flags:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "exit-at-once" in flags:
        sys.stderr.write("no licence found\n")
        sys.exit(7)
    if "deaf" in flags:
        time.sleep(1000)
    for line in sys.stdin:
        serve(line.rstrip("\n"))
    if "ignore-eof" in flags:
        time.sleep(1000)


if __name__ == "__main__":
    main(sys.argv[1:])
