"""Clients that hold on: GET streams left open, or replies left unread. Blocking sockets, nothing clever.

Prints `ready` once everything is held, lets go at a line on stdin, and prints `done` if all was right.
Run: python -m bench.holder streams|stall PORT COUNT
"""

import http.client
import json
import socket
import sys

from bench.lines import BIG_TEXT
from bench.load import Plan, handshake

SMALL_WINDOW_BYTES = 4096
_HEADERS = {"accept": "application/json, text/event-stream", "content-type": "application/json"}


def open_stream(port: int) -> socket.socket:
    """A session of its own and its GET stream, up to the first byte of the body."""
    plan = Plan(port=port)
    session = handshake(plan)
    held = socket.create_connection(("127.0.0.1", port), timeout=30)
    held.sendall(
        f"GET /mcp HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\naccept: text/event-stream\r\n"
        f"mcp-session-id: {session}\r\nmcp-protocol-version: {plan.revision}\r\n\r\n".encode()
    )
    seen = b""
    while b": open" not in seen:
        more = held.recv(4096)
        if not more:
            raise ConnectionError(f"the GET stream ended: {seen[:300]!r}")
        seen += more
    return held


def ask_without_reading(port: int, session: str, number: int) -> http.client.HTTPConnection:
    """A call with a large result whose client takes next to nothing of it for now."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_WINDOW_BYTES)
    held.settimeout(60)
    held.connect(("127.0.0.1", port))
    client = http.client.HTTPConnection("127.0.0.1", port)
    client.sock = held
    params = {"name": "big", "arguments": {}}
    body = json.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params})
    client.request("POST", "/mcp", body, _HEADERS | {"mcp-session-id": session})
    return client


def read_all(client: http.client.HTTPConnection, number: int) -> None:
    """Take the reply at last.

    Raises:
        ValueError: it is not the right one.
    """
    message = json.loads(client.getresponse().read())
    if message["id"] != number or message["result"]["content"][0]["text"] != BIG_TEXT:
        raise ValueError(f"call {number} got another's reply")


def _wait() -> None:
    print("ready", flush=True)
    sys.stdin.readline()


def main(kind: str, port: int, count: int) -> None:
    """Hold `count` of a kind."""
    if kind == "streams":
        streams = [open_stream(port) for _ in range(count)]
        _wait()
        for stream in streams:
            stream.close()
    else:
        session = handshake(Plan(port=port))
        clients = [ask_without_reading(port, session, number) for number in range(1, count + 1)]
        _wait()
        for number, client in enumerate(clients, 1):
            read_all(client, number)
    print("done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
