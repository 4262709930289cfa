"""The demo's last screen, part by part."""

import io

from rich.console import Console, RenderableType

from weir.app import demo_screen as screen
from weir.app.demo_traffic import Lost
from weir.telemetry.line import Line


def call(phases: dict[str, float], outcome: str = "replied", reason: str = "ok") -> Line:
    """One line of the access log."""
    whole = sum(phases.values())
    return Line(
        "2026-11-21T10:00:00.000Z",
        "info",
        "call",
        "demo",
        "tools/call",
        outcome,
        whole,
        "report",
        reason,
        phases=phases,
    )


def printed(part: RenderableType, width: int = 100) -> str:
    """What stands on paper."""
    console = Console(file=io.StringIO(), width=width)
    console.print(part)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_counts_that_differ_are_seen_to_differ() -> None:
    """The demo would be worth nothing else."""
    assert "✓ clients sent 1" in printed(screen.counts([call({"relay": 1})], 1, 1))
    assert "✗ clients sent 2, the access log has 1, /metrics counts 1" in printed(
        screen.counts([call({"relay": 1})], 2, 1)
    )


def test_each_phase_begins_where_the_last_one_ended() -> None:
    """Long ones are bars in proportion, short ones a line."""
    text = printed(screen.waterfall(call({"receive": 0.1, "connect": 50, "upstream_first_byte": 50}), 100))
    bars = [line[line.index("│") + 23 : 55] for line in text.splitlines()[1:-1]]
    half = screen.BAR_CELLS // 2
    assert ["▏", "█" * half, " " * half + "█" * half] == [bar.rstrip() for bar in bars]


def test_a_failure_is_told_in_the_words_its_client_got() -> None:
    """With whose fault it was, and whether the server had the request."""
    lost = Lost("report", "MCP server 'demo': gone.", {"blame": "upstream", "sent": True})
    text = printed(screen.failed([call({"relay": 5}, "failed", "upstream_reset")], [lost]))
    assert "report after 5.00 ms: upstream_reset  blame: upstream   sent: yes" in text
    assert "MCP server 'demo': gone." in text
