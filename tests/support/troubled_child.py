"""A stdio server in trouble. Run as a program: `troubled_child.py DIRECTORY TROUBLE`.

What it is asked to do it notes in `DIRECTORY/ledger` first, so that a server that dies has been counted. While there
is a file `DIRECTORY/trouble` it misbehaves in the way named TROUBLE, or does not start at all (`absent`).
"""

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

NOTES = [
    {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x" * 200}},
    {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"},
    {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 10**6, "progress": 1}},
    {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 10**6}},
]
GARBAGE = [b"Listening ...\n", b"\n", b"{]\n", b"\x00\xff\xfe\n", b'{"jsonrpc":"2.0"}\n', b"[]\n", b"NaN\n", b"17\n"]


def put(data: bytes) -> None:
    """Bytes on stdout, at once."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def say(message: object) -> None:
    """One message."""
    put(json.dumps(message).encode() + b"\n")


class Asked:
    """One request."""

    def __init__(self, body: dict[str, Any], subject: str) -> None:
        self.id = body["id"]
        self.subject = subject

    def answer(self, filler: str = "", **changes: Any) -> dict[str, Any]:
        """The response; `changes` are to its members."""
        content = [{"type": "text", "text": f"{self.subject};0;{filler}"}]
        return {"jsonrpc": "2.0", "id": self.id, "result": {"content": content}, **changes}

    def error(self, **changes: Any) -> dict[str, Any]:
        """A response that is an error."""
        return {"jsonrpc": "2.0", "id": self.id, "error": {"code": -32603, "message": "disk full"}, **changes}


Act = Callable[[Asked], None]


def honest(asked: Asked) -> None:
    """Answer as one should."""
    say(asked.answer())


def fail(asked: Asked) -> None:
    """An error of the server's."""
    say(asked.error())


def deluge(asked: Asked) -> None:
    """An answer of 3 MiB."""
    say(asked.answer("x" * (3 << 20)))


def never(asked: Asked) -> None:
    """No answer to this one."""


def freeze(asked: Asked) -> None:
    """Nothing at all for a while, for anybody."""
    time.sleep(0.1)
    say(asked.answer())


def exit_before(asked: Asked) -> None:
    """Dead before the answer."""
    os._exit(3)


def exit_after(asked: Asked) -> None:
    """Dead after it."""
    say(asked.answer())
    os._exit(0)


def exit_within(asked: Asked) -> None:
    """Dead within the line."""
    put(json.dumps(asked.answer()).encode()[:-20])
    os._exit(1)


def killed(asked: Asked) -> None:
    """Ended by a signal."""
    os.kill(os.getpid(), signal.SIGKILL)


def mute(asked: Asked) -> None:
    """Stdout closed, and running on."""
    os.close(1)
    time.sleep(60)


def flood(asked: Asked) -> None:
    """A thousand notifications that nobody asked for, then the answer."""
    for step in range(1000):
        say(NOTES[step % len(NOTES)])
    say(asked.answer())


def chatter(asked: Asked) -> None:
    """Lines that are no messages, then the answer."""
    put(b"".join(GARBAGE) * 50)
    say(asked.answer())


def complain(asked: Asked) -> None:
    """A MiB on stderr, then the answer."""
    sys.stderr.write("trouble\n" * (1 << 17))
    sys.stderr.flush()
    say(asked.answer())


def foreign(asked: Asked) -> None:
    """The answer to a call that nobody made, and no other."""
    say(asked.answer(id=10**6))


def foreign_first(asked: Asked) -> None:
    """Answers to calls that nobody made before the right one."""
    say(asked.answer(id="nobody's"))
    say(asked.answer(id=-7))
    say(asked.answer(id=None))
    say([asked.answer(id="this one's"), asked.answer(id=[asked.id])])
    say(asked.answer())


def twice(asked: Asked) -> None:
    """The answer, another one, and an error."""
    say(asked.answer())
    say(asked.answer("other"))
    say(asked.error())


def torn(asked: Asked) -> None:
    """An answer with a line end in it, then the right one."""
    put(json.dumps(asked.answer()).encode().replace(b", ", b",\n"))
    put(b"\n")
    say(asked.answer())


TROUBLES: dict[str, tuple[float, tuple[Act, ...]]] = {
    # the share of calls, and what happens to them
    "fails": (0.3, (fail,) * 30 + (deluge,)),
    "stalls": (0.05, (never,) * 20 + (freeze,)),
    "dies": (0.01, (exit_before, exit_after, exit_within, killed) * 10 + (mute,)),
    "floods": (0.04, (flood, deluge, chatter, complain)),
    "lies": (0.3, (foreign_first, twice, torn) * 10 + (foreign,)),
    "absent": (0.0, (honest,)),
}


def subject_of(method: str, params: dict[str, Any]) -> str:
    """What a request is about."""
    if method == "resources/read":
        return f"{method} {params['uri'].rpartition('/')[2]}"
    if method == "tools/call":
        return f"{params['name']} {params['arguments']['number']}"
    return f"{method} {params['_meta']['number']}"


class Server:
    """What is asked, counted and answered."""

    def __init__(self, directory: Path, trouble: str) -> None:
        self._ledger = os.open(directory / "ledger", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._flag = directory / "trouble"
        self._share, self._acts = TROUBLES[trouble]
        self._draw = random.Random(os.getpid())
        if trouble == "absent" and self._flag.exists():
            sys.exit("no licence found")

    def take(self, body: dict[str, Any]) -> None:
        """One message."""
        if "id" not in body or "method" not in body:
            return
        method, params = body["method"], body.get("params", {})
        if method == "initialize":
            result = {"protocolVersion": params["protocolVersion"], "capabilities": {}, "serverInfo": {}}
            say({"jsonrpc": "2.0", "id": body["id"], "result": result})
            return
        subject = subject_of(method, params)
        os.write(self._ledger, f"{subject}\n".encode())
        act: Act = honest
        if self._draw.random() < self._share and self._flag.exists():
            act = self._draw.choice(self._acts)
        act(Asked(body, subject))


def main(directory: str, trouble: str) -> None:
    """Serve until stdin ends."""
    server = Server(Path(directory), trouble)
    for line in sys.stdin.buffer:
        server.take(json.loads(line))


if __name__ == "__main__":
    main(*sys.argv[1:])
