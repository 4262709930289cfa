"""Writes docs/demo.svg: the last screen of a real `weir demo`. `python docs/picture.py`"""

import asyncio
import html
import io
import re
import tempfile
from pathlib import Path

from rich.console import Console, RenderableType
from rich.terminal_theme import MONOKAI

from weir.app.demo import Demo
from weir.app.demo_screen import WIDTH, Screen

TARGET = Path(__file__).parent / "demo.svg"


class Recording(Screen):
    """Shows the last screen to the picture too."""

    def __init__(self) -> None:
        super().__init__()
        self.paper = Console(
            record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor"
        )
        self.width = WIDTH

    def show(self, *parts: RenderableType) -> None:
        """To both."""
        super().show(*parts)
        for part in parts:
            self.paper.print(part)


def _portable(svg: str) -> str:
    """Without what some viewers do not honour: fonts from elsewhere, and spaces that stand for distance."""
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    svg = svg.replace("Fira Code,", "ui-monospace,Menlo,Consolas,")
    return re.sub(r'x="([\d.]+)" y="([\d.]+)" textLength="([\d.]+)"([^>]*)>((?:&#160;)+)([^<]+)', _moved, svg)


def _moved(found: re.Match[str]) -> str:
    x, y, length, rest, spaces, text = found.groups()
    count = len(spaces) // len("&#160;")
    cell = float(length) / (count + len(html.unescape(text)))
    x, length = str(round(float(x) + count * cell, 1)), str(round(float(length) - count * cell, 1))
    return f'x="{x}" y="{y}" textLength="{length}"{rest}>{text}'


async def _showing(screen: Screen) -> int:
    with tempfile.TemporaryDirectory(prefix="weir-demo-") as directory:
        return await Demo(8.0, screen, Path(directory)).show()


if __name__ == "__main__":
    screen = Recording()
    asyncio.run(_showing(screen))
    svg = screen.paper.export_svg(title="weir demo", theme=MONOKAI)
    TARGET.write_text(_portable(svg), encoding="utf-8")
