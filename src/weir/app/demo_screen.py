"""The demo's terminal: steps while it runs, and the screen at its end. Plain lines where there is no terminal."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from weir.app import demo_seen as seen
from weir.app.demo_seen import Row
from weir.app.demo_traffic import Lost
from weir.telemetry.line import Line

WIDTH = 100
"""Wider lines are harder to read."""
BAR_CELLS = 32
_LEAST_CELLS = 0.5
"""Of a bar; what is shorter is a line."""
_PLAIN_UPDATE_SECONDS = 2.0
_OWN, _SERVER, _BAD, _GOOD, _DIM = "bright_cyan", "yellow", "red", "green", "dim"
_MEANING = {
    "receive": "reading the request",
    "queue": "waiting for admission",
    "policy": "deciding",
    "connect": "a new connection",
    "upstream_first_byte": "the server, to its first byte",
    "upstream_stream": "the server, to its last byte",
    "client": "the client, asked by the server",
    "relay": "passing the answer on",
}


class Screen:
    """Where the demo speaks."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, soft_wrap=False)
        self.width = self._console.width = min(self._console.width, WIDTH)

    def say(self, text: str, style: str = "") -> None:
        """One line."""
        self._console.print(Text(text, style))

    @contextlib.contextmanager
    def step(self, doing: str, done: str, total: float | None = None) -> Iterator["Step"]:
        """Something that takes a moment: seen to move while it lasts, one line when it is done."""
        step = Step(self._console, doing, total)
        with step.shown():
            yield step
        step.end(done)

    def show(self, *parts: RenderableType) -> None:
        """The last screen."""
        for part in parts:
            self._console.print(part)


class Step:
    """A step under way."""

    def __init__(self, console: Console, text: str, total: float | None) -> None:
        self._console = console
        self._text = text
        self._total = total
        self._began = self._told = time.monotonic()
        self._note = ""
        self._update: Callable[[float, str], None] = self._say_now_and_then

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """While it lasts."""
        if not self._console.is_terminal:
            self._console.print(Text(f"{self._text} ..."))
            yield
            return
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(24), TimeElapsedColumn())
        with Progress(*columns, TextColumn("{task.fields[note]}"), console=self._console, transient=True) as progress:
            task = progress.add_task(self._text, total=self._total, note="")
            self._update = lambda done, note: progress.update(task, completed=done, note=note)
            yield

    def at(self, done: float, note: str) -> None:
        """How far it is, and a few words about it."""
        self._note = note
        self._update(done, note)

    def end(self, done: str) -> None:
        """Its one line."""
        took = f"{time.monotonic() - self._began:.1f} s"
        line = Text.assemble(("✓ ", _GOOD), done, (f"  {took}", _DIM), (f"  {self._note}" if self._note else "", _DIM))
        self._console.print(line)

    def _say_now_and_then(self, done: float, note: str) -> None:
        if time.monotonic() - self._told >= _PLAIN_UPDATE_SECONDS:
            self._told = time.monotonic()
            self._console.print(Text(f"  {note}"))


def counts(calls: Sequence[Line], sent: int, counted: int) -> RenderableType:
    """The table of calls, under the three counts that must be equal."""
    equal = len(calls) == sent == counted
    table = Table(box=None, pad_edge=False, expand=True, header_style=_DIM)
    table.add_column("tool")
    for name in ("calls", "ok", "tool errors", "failed", "p50", "p95"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in seen.rows(calls):
        table.add_row(*_cells(row))
    table.add_row(*_cells(seen.row("all", calls)), style="bold")
    own = seen.overhead(calls)
    notes = Text.assemble(
        ("\nweir's own time a call: ", "bold"),
        (f"p50 {_ms(own.p50_ms)}, p95 {_ms(own.p95_ms)}", f"bold {_OWN}"),
        (f"  ({' + '.join(seen.OWN_PHASES)})\n", _DIM),
        ("✓ " if equal else "✗ ", _GOOD if equal else _BAD),
        (f"clients sent {sent}, the access log has {len(calls)}, /metrics counts {counted}", _DIM if equal else _BAD),
    )
    return _panel(f"weir saw {len(calls)} tool calls", Group(table, notes))


def _panel(title: str, content: RenderableType) -> Panel:
    return Panel(
        content, title=Text(title, "bold"), title_align="left", border_style="blue", box=box.ROUNDED, padding=(0, 1)
    )


def _cells(row: Row) -> list[Text]:
    bad = [(row.tool_errors, _SERVER), (row.failed, _BAD)]
    return [
        Text(row.tool),
        Text(str(row.calls)),
        Text(str(row.ok)),
        *(Text(str(count) if count else "–", style if count else _DIM) for count, style in bad),
        Text(_ms(row.p50_ms)),
        Text(_ms(row.p95_ms)),
    ]


def waterfall(line: Line, width: int) -> RenderableType:
    """One call's phases, each where it began."""
    has_meanings = width >= WIDTH
    cells = BAR_CELLS if has_meanings else max(BAR_CELLS - (BAR_CELLS + 40 - width), 10)
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(width=cells)
    table.add_column(justify="right", no_wrap=True)
    began, whole = 0.0, sum(line.phases.values()) or 1.0
    for phase, spent in line.phases.items():
        bar = _bar(began / whole, spent / whole, cells, _OWN if phase in seen.OWN_PHASES else _SERVER)
        table.add_row(phase, bar, _ms(spent), Text(_MEANING.get(phase, ""), _DIM) if has_meanings else "")
        began += spent
    return _panel(f"the slowest call: {line.tool}, {_ms(line.duration_ms)}", table)


def _bar(start: float, share: float, cells: int, style: str) -> Text:
    first = min(round(start * cells), cells - 1)
    length = round((start + share) * cells) - first if share * cells >= _LEAST_CELLS else 0
    return Text(" " * first + ("█" * length or "▏"), style)


def failed(lines: Sequence[Line], lost: Sequence[Lost]) -> RenderableType:
    """What the clients got where the server did not answer: weir's words, and its verdict."""
    parts: list[RenderableType] = []
    for line, one in zip(lines, lost, strict=False):
        head = f"{line.tool} after {_ms(line.duration_ms)}: {line.reason}"
        verdict = f"  blame: {one.data.get('blame')}   sent: {'yes' if one.data.get('sent') else 'no'}"
        parts += [Text.assemble((head, _BAD), (verdict, "bold")), Padding(Text(one.text), (0, 0, 0, 2))]
    return _panel("the server was killed: what its clients were told", Group(*parts))


def next_steps() -> RenderableType:
    """Where to look next."""
    table = Table.grid(padding=(0, 3, 0, 0))
    table.add_row(Text("weir demo --seconds 600", "bold"), "the same for longer, to look at its addresses meanwhile")
    table.add_row(Text("weir run --upstream URL", "bold"), "before your own server; clients go to")
    table.add_row("", Text("http://127.0.0.1:8931/mcp", _OWN))
    table.add_row("", Text("http://127.0.0.1:8932/metrics  /status  /readyz", _OWN))
    table.add_row(Text("weir run -- npx -y SERVER", "bold"), "before a server that speaks on stdin and stdout")
    return _panel("next", table)


def _ms(value: float) -> str:
    return f"{value:,.2f} ms" if value < 10 else f"{value:,.1f} ms"
