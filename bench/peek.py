"""What looking at a message and editing it costs: `python -m bench.peek` prints microseconds.

Each figure is the best of several rounds, so that a busy machine spoils it least.
"""

import json
import timeit
from collections.abc import Callable

from weir.protocol import edit, framing, scan
from weir.protocol.envelope import is_ambiguous, peek

ROUNDS, ROUND_SECONDS = 7, 0.05
LINE_CHUNK_BYTES = 64 * 1024
TRACE = b'"00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01"'
ONE = {b"traceparent": TRACE}
COLUMNS = ("peek", "set 1", "set 3", "set_id", "ambiguous?", "scan", "encode", "Lines")
THREE = {**ONE, b"tracestate": b'"vendor=abc"', b"baggage": b'"user=7"'}


def microseconds(work: Callable[[], object]) -> float:
    """One call, at best."""
    timer = timeit.Timer(work)
    once = max(timer.timeit(1), 1e-7)
    number = max(1, int(ROUND_SECONDS / once))
    return min(timer.repeat(ROUNDS, number)) / number * 1e6


def call(arguments: object, meta: dict[str, object]) -> bytes:
    """A tools/call as an SDK writes it."""
    params = {"name": "get_weather", "arguments": arguments, "_meta": meta}
    message = {"jsonrpc": "2.0", "id": 42, "method": "tools/call", "params": params}
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode()


def bodies() -> dict[str, bytes]:
    """A small call, one that is no trace yet, and a megabyte of three kinds."""
    weather = {"city": "Lisbon", "units": "metric", "days": 3, "verbose": False}
    context = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "vendor=abc"}
    traced = {"progressToken": 7, **context, "vendor.example/x": 1}
    code = 'print("hello")\n' * 60_000
    rows = [{"id": number, "name": f"n{number}", "v": [number, None, True]} for number in range(22_000)]
    return {
        "tools/call": call(weather, traced),
        "tools/call, all three": call(weather, {**traced, "baggage": "user=1"}),
        "tools/call, untraced": call(weather, {"progressToken": 7}),
        "1 MB of text": call({"text": "lorem ipsum dolor " * 55_000}, traced),
        "1 MB of code": call({"text": code}, traced),
        "1 MB of rows": call({"rows": rows}, traced),
    }


def feed(lines: framing.Lines, line: bytes) -> None:
    """A line as a pipe delivers it."""
    for at in range(0, len(line), LINE_CHUNK_BYTES):
        lines.feed(line[at : at + LINE_CHUNK_BYTES])


def figures(body: bytes) -> list[float]:
    """What each of COLUMNS costs for one body."""
    message, line, lines = peek(body), framing.encode(body), framing.Lines(2 * len(body))
    works: list[Callable[[], object]] = [
        lambda: peek(body),
        lambda: edit.set_meta(body, message, ONE),
        lambda: edit.set_meta(body, message, THREE),
        lambda: edit.set_id(body, b"43"),
        lambda: is_ambiguous(body),
        lambda: scan.request(body),
        lambda: framing.encode(body),
        lambda: feed(lines, line),
    ]
    return [microseconds(work) for work in works]


def main() -> None:
    """Print the table."""
    print(f"{'microseconds':24}" + "".join(f"{column:>12}" for column in ("bytes", *COLUMNS)))
    for name, body in bodies().items():
        print(f"{name:24}{len(body):12,}" + "".join(f"{figure:12.2f}" for figure in figures(body)))


if __name__ == "__main__":
    main()
