"""What the documents say, held against the code: tables, names, files and links."""

import re
from pathlib import Path

import msgspec
import pytest
import typer.main

from weir import cli
from weir.core.call import NOWHERE, Call, Peer, Transport
from weir.core.outcome import Failed, FailureKind, RefusalKind, Refused
from weir.downstream.rescue import rescue
from weir.telemetry.families import MetricFamilies
from weir.telemetry.line import Line

ROOT = Path(__file__).parents[2]
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()
SOURCE = ROOT / "src" / "weir"


def status_of(outcome: Failed | Refused) -> int:
    """The HTTP status that goes out for it."""
    call = Call(upstream="x", peer=Peer(Transport.HTTP), sink=NOWHERE, received_at=0.0)
    return rescue(outcome, call).status


def test_the_readme_lists_every_reason_with_its_status_and_code() -> None:
    """No more, no less."""
    outcomes: list[Failed | Refused] = [Failed(kind, "") for kind in FailureKind]
    outcomes += [Refused(kind, "") for kind in RefusalKind]
    made = {outcome.kind.value: status_of(outcome) for outcome in outcomes}
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| −(\d+)", README, re.MULTILINE)
    assert made == {reason: int(status) for reason, status, _ in rows}
    assert {reason: 33000 + status for reason, status in made.items()} == {
        reason: int(code) for reason, _, code in rows
    }


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_metric_that_is_named_exists(path: Path) -> None:
    """By the name that Prometheus sees."""
    suffixes = {"counter": ["_total"], "gauge": [""], "histogram": ["", "_bucket", "_count", "_sum"]}
    names = {family.name + suffix for family in MetricFamilies().all() for suffix in suffixes[family.kind]}
    named = set(
        re.findall(
            r"\b(?:weir|mcp_client|mcp_server)_[a-z_]+(?:_total|_seconds|_in_flight|_open|_info)\b", path.read_text()
        )
    )
    assert set() == named - names


def test_the_readme_names_every_field_of_the_access_log_in_order() -> None:
    """Whoever writes a query over the log has nothing else."""
    told = README.partition("As JSON a line has")[2].partition("weir's other lines")[0]
    fields = msgspec.structs.fields(Line)
    assert [field.name for field in fields] == [
        word for word in re.findall(r"`(\w+)`", told) if word in {field.name for field in fields}
    ]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    """Those to files."""
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text())
    assert [] == [link for link in links if "://" not in link and not (path.parent / link).exists()]


def test_no_source_leans_on_a_document_that_is_not_here() -> None:
    """A reader has this repository, and what the specifications say."""
    named = {name for path in SOURCE.rglob("*.py") for name in re.findall(r"[\w/.-]+\.md\b", path.read_text())}
    assert named
    assert set() == {name for name in named if not (ROOT / name).exists()}
    lost = re.compile(r"\bDESIGN\b|\breference:? [\w-]+ §")
    assert [] == [str(path) for path in SOURCE.rglob("*.py") if lost.search(path.read_text())]


def test_the_readme_uses_only_flags_that_weir_has() -> None:
    """In its commands and in its text."""
    command = typer.main.get_command(cli.commands)
    known = {option for sub in vars(command)["commands"].values() for param in sub.params for option in param.opts}
    commands = re.findall(r"weir (?:run|check|demo)([^`\n|]*)", README)
    used = {flag for line in commands for flag in re.findall(r"(?<!\S)--[a-z-]+", line.partition(" -- ")[0])}
    assert used
    assert set() == used - known


def test_the_architecture_names_every_file_once() -> None:
    """A page that forgets a file lies about the rest."""
    files = {str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*.py") if path.name != "__init__.py"}
    named = []
    room = ""
    for line in ARCHITECTURE.splitlines():
        heading = re.match(r"^\*\*`(?:src/weir/)?([a-z]*)/?`", line)
        room = f"{heading[1]}/" if heading and heading[1] else room if not heading else ""
        named += [
            f"{room}{name}.py" for name in re.findall(r"`(\w+)`(?=:| and| \()", line) if f"{room}{name}.py" in files
        ]
    assert files == set(named)
    assert len(named) == len(set(named))
    assert len(ARCHITECTURE.splitlines()) <= 150


def test_architectural_decisions_are_numbered_and_listed() -> None:
    """Each has its place in the list, and says what was decided and what it costs."""
    folder = ROOT / "docs" / "decisions"
    records = sorted(path for path in folder.glob("0*.md"))
    assert [f"{number:04}" for number in range(1, len(records) + 1)] == [path.name[:4] for path in records]
    index = (folder / "README.md").read_text()
    for record in records:
        assert record.name in index
        assert {"## Decision", "## Price"} <= set(record.read_text().splitlines()), record.name


def test_each_promise_against_a_threat_names_a_test_that_exists() -> None:
    """A promise that nothing shows is a wish."""
    page = (ROOT / "docs" / "threats.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ") and not line.startswith("| who does what ")]
    assert rows
    assert [] == [row for row in rows if "`tests/" not in row]
    lost = []
    for path, name in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", page):
        file = ROOT / path
        if not file.exists() or (name and f"def {name}(" not in file.read_text()):
            lost.append(f"{path}::{name}")
    assert [] == lost
