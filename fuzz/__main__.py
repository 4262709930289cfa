"""Bytes at weir's edges, generated around valid ones, against a running weir. `make fuzz`; see CONTRIBUTING.md.

FUZZ_SECONDS says for how long, FUZZ_SEED with what (printed; the same seed generates the same bytes). After each
input must hold: the process lives and its log names no bug of weir's, an honest client's call beside it gets its own
answer, no reader kept the thread for 300 ms, and at the end memory is back to where it was.
"""

import asyncio
import contextlib
import json
import os
import queue
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from support.processes import Running
from support.rawhttp import Exchange, Reply, ScriptedServer, post
from support.stdio_script import COMMAND
from support.weirs import UNTRACED, command, weir_http, weir_stdio
from weir.config.problems import ConfigError
from weir.config.reading import parse
from weir.protocol.envelope import Kind, is_ambiguous, peek
from weir.protocol.framing import Lines
from weir.protocol.salvage import salvage
from weir.protocol.sse import Splitter
from weir.telemetry import redact

LONGEST_SECONDS = 0.3
ROUND_EXAMPLES = 50
ANSWER_SECONDS = 60.0
MEMORY_SLACK_BYTES = 96 * 1024 * 1024
"""What allocators and tables keep after some thousand connections; a leak of bodies passes it soon."""

BODY = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":{"a":[1,2.5,"t"]},"_meta":{}}}'
REQUEST = b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
CHUNKED = b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
ANSWER = b'{"jsonrpc":"2.0","id":1,"result":{"content":[]}}'
REPLY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nid: 1\r\nretry: 10\r\ndata: %b\r\n\r\n"
CONFIG = b"upstreams:\n  - name: one\n    url: http://127.0.0.1:1/mcp\npolicies: {timeout: {total: 5s}}\n"
REQUESTS = (
    REQUEST % (len(BODY), BODY),
    CHUNKED,
    b"GET /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n",
)
REPLIES = (REPLY % (len(ANSWER), ANSWER), STREAM % ANSWER)
MODERN = "2026-07-28"
LINES = (
    ANSWER,
    b'{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}',
    b'{"jsonrpc":"2.0","id":"ask","method":"sampling/createMessage","params":{}}',
    b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}',
    b"[" + ANSWER + b"]",
)
CLIENT_LINES = (BODY, ANSWER, b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}')
TEXTS = (BODY, ANSWER, STREAM % ANSWER, CONFIG, b"token='x' --password y https://u:p@h/?q")
PIECES = (
    b"\0",
    b"\xff",
    b"\xc2\xb2",
    b"9" * 5000,
    b"[" * 2000,
    b'"',
    b"\\ud800",
    b"NaN",
    b"\r",
    b"\n\n",
    b",",
    b"{",
    b": ",
)
FORGED = b'{"jsonrpc":"2.0","id":"honest","result":{"forged":true}}'

edit = st.tuples(st.floats(0, 1), st.integers(0, 8), st.sampled_from(PIECES) | st.binary(max_size=8), st.integers(1, 3))
edits = st.lists(edit, max_size=4)


def mutated(valid: bytes, changes: list[tuple[float, int, bytes, int]]) -> bytes:
    """Valid bytes with some cut out and others put in."""
    for place, cut, piece, times in changes:
        at = int(place * len(valid))
        valid = valid[:at] + piece * times + valid[at + cut :]
    return valid


class Edges:
    """A running weir, its server, and an honest client beside each input."""

    def __init__(self, weir: Running, server: ScriptedServer) -> None:
        self.weir, self.server = weir, server
        self.reply = REPLIES[0]
        self.count = self.answered = self.read = 0

    async def answer(self, exchange: Exchange) -> None:
        """The honest client gets its own word back, everybody else what is generated."""
        if b'"honest"' in exchange.request.body:
            word = exchange.request.body.partition(b'"word":"')[2].partition(b'"')[0]
            await exchange.json(b'{"jsonrpc":"2.0","id":"honest","result":{"word":"%b"}}' % word)
            return
        await exchange.raw(self.reply)
        exchange.abort()

    def attack(self, data: bytes, reply: bytes) -> None:
        """One input, and what must hold beside it."""
        self.reply = reply
        asyncio.run(self._attack(data))
        self.read = heard(self.weir, self.read)

    async def _attack(self, data: bytes) -> None:
        self.count += 1
        word = b"%d" % self.count
        body = b'{"jsonrpc":"2.0","id":"honest","method":"tools/call","params":{"name":"y","word":"%b"}}' % word
        async with asyncio.timeout(ANSWER_SECONDS):
            _, writer = await asyncio.open_connection("127.0.0.1", self.weir.port)
            writer.write(data)
            reply = await post(self.weir.port, body)
            text = reply.body
            writer.close()
        # the server hangs up after each generated reply, and a connection may be taken again just before that
        is_reset = reply.status == 502 and b'"reason":"upstream_reset"' in text
        is_own = reply.status == 200 and b'"word":"%b"' % word in text
        self.answered += is_own
        assert self.answered > self.count // 2, "honest calls are hardly answered"
        assert is_own or is_reset, f"an honest call got {reply.status} {text!r}"


def heard(weir: Running, already_read: int) -> int:
    """Asserts that weir lives and its log names no bug of weir's; returns how much of the log has been read now."""
    assert weir.process.poll() is None, "weir has ended"
    said = weir.log()
    new = said[already_read:]
    assert not any(word in new for word in ("a bug in weir", "Traceback")), new[-2000:]
    return len(said)


class Child:
    """A weir before a stdio server that all callers share: one caller has the server write what is generated."""

    def __init__(self, weir: Running) -> None:
        self.weir = weir
        self.count = self.read = 0

    def attack(self, lines: bytes) -> None:
        """Lines of the server, and an honest call beside them."""
        asyncio.run(self._attack(lines))
        self.read = heard(self.weir, self.read)

    async def _attack(self, lines: bytes) -> None:
        self.count += 1
        word = f"word-{self.count}"
        async with asyncio.timeout(ANSWER_SECONDS):
            _, reply = await asyncio.gather(self._call("raw", hex=lines.hex()), self._call("echo", word=word))
        assert (reply.status, word.encode() in reply.body) == (200, True), (reply.status, reply.body)

    async def _call(self, tool: str, **arguments: str) -> Reply:
        params = {"name": tool, "arguments": arguments, "_meta": {"io.modelcontextprotocol/protocolVersion": MODERN}}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
        named = [(b"Mcp-Method", b"tools/call"), (b"Mcp-Name", tool.encode())]
        return await post(self.weir.port, body, [(b"MCP-Protocol-Version", MODERN.encode()), *named])


class Client:
    """A weir whose client is on its pipes, and writes what is generated between honest calls."""

    def __init__(self, weir: Running) -> None:
        self.weir = weir
        self.count = self.read = 0
        self._lines: queue.Queue[bytes] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in self.weir.stdout:
            self._lines.put(line)

    def attack(self, lines: bytes) -> None:
        """Lines of the client, and an honest call behind them."""
        self.count += 1
        word = b"word-%d" % self.count
        honest = b'{"jsonrpc":"2.0","id":"honest","method":"tools/call","params":{"name":"y","word":"%b"}}\n' % word
        self.weir.stdin.write(lines + b"\n" + honest)
        self.weir.stdin.flush()
        until = time.monotonic() + ANSWER_SECONDS
        while word not in (line := self._lines.get(timeout=max(0.0, until - time.monotonic()))):
            assert is_message(line), f"no message on the client's pipe: {line[:200]!r}"
        self.read = heard(self.weir, self.read)


def is_message(line: bytes) -> bool:
    """Whether a line is a JSON-RPC message, also one that strict decoders refuse."""
    return peek(line).kind is not Kind.OPAQUE or salvage(line) is not None


def read(data: bytes) -> None:
    """Every reader of lines, events, settings and free text."""
    for reader in (peek, is_ambiguous, salvage, Lines(65536).feed, Splitter(65536).feed, _redacted, _configured):
        began = time.thread_time()
        reader(data)
        spent = time.thread_time() - began
        assert spent < LONGEST_SECONDS, f"{reader} took {spent:.3f} s"


def _redacted(data: bytes) -> str:
    return redact.printable(redact.text(data.decode("latin-1")))


def _configured(data: bytes) -> None:
    for suffix in ("yaml", "json"):
        try:
            parse(data.decode("latin-1"), f"weir.{suffix}")
        except ConfigError:
            pass


def one_round(number: int, edges: Edges, child: Child, client: Client) -> None:
    """Some examples of each edge, all of them told by one seed."""
    quiet = settings(
        max_examples=ROUND_EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )

    def run(check: Callable[..., None], *strategies: st.SearchStrategy[bytes]) -> None:
        seed(number)(quiet(given(*strategies)(check)))()

    requests = st.builds(mutated, st.sampled_from(REQUESTS), edits)
    replies = st.builds(mutated, st.sampled_from((*REPLIES, REPLY % (len(FORGED), FORGED))), edits)
    run(read, st.builds(mutated, st.sampled_from(TEXTS), edits))
    run(lambda data: edges.attack(data, REPLIES[0]), requests)
    run(lambda reply: edges.attack(REQUESTS[0], reply), replies)
    run(child.attack, st.builds(mutated, st.sampled_from(LINES), edits))
    run(client.attack, st.builds(mutated, st.sampled_from(CLIENT_LINES), edits))


@contextlib.contextmanager
def serving() -> Iterator[ScriptedServer]:
    """The server that weir stands before, in a thread and loop of its own."""
    server, ready, loop = ScriptedServer(), threading.Event(), asyncio.new_event_loop()
    over = asyncio.Event()

    async def serve() -> None:
        async with server:
            ready.set()
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    ready.wait()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()


def main() -> int:
    """Rounds until the time is over; the first that fails ends it with its seed."""
    first = int(os.environ.get("FUZZ_SEED") or random.randrange(10**9))
    until = time.monotonic() + float(os.environ.get("FUZZ_SECONDS") or 600)
    print(f"fuzz: FUZZ_SEED={first}", flush=True)
    with (
        tempfile.TemporaryDirectory() as directory,
        serving() as server,
        weir_http(Path(directory), {"url": server.url}, UNTRACED) as weir,
        weir_http(Path(directory), command(COMMAND), UNTRACED) as before_child,
        weir_stdio(Path(directory), {"url": server.url}, UNTRACED) as on_pipes,
    ):
        edges = Edges(weir, server)
        parts = (edges, Child(before_child), Client(on_pipes))
        server.script = edges.answer
        one_round(first, *parts)
        before, number = weir.rss_bytes(), first
        while time.monotonic() < until:
            number += 1
            server.got.clear()
            try:
                one_round(number, *parts)
            except BaseException:
                print(f"fuzz: round FUZZ_SEED={number} failed", flush=True)
                raise
        grown = weir.rss_bytes() - before
    print(f"fuzz: {number - first + 1} rounds, memory grew by {grown >> 20} MiB", flush=True)
    assert grown < MEMORY_SLACK_BYTES, f"memory grew by {grown} bytes"
    return 0


if __name__ == "__main__":
    sys.exit(main())
