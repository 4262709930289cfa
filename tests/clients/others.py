"""Servers that others wrote: how each is started, and a few things to ask it whose answers do not change."""

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clients.programs import BIN, HOME, NODE

Call = tuple[str, dict[str, Any]]
ENTITY = {"name": "weir", "entityType": "dam", "observations": ["low", "lets the river pass — 🌊"]}


_NOON = "2026-01-01T12:00:00Z"
_AUTHOR = {
    **{f"GIT_{who}_NAME": "t" for who in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{who}_EMAIL": "t@example.invalid" for who in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{who}_DATE": _NOON for who in ("AUTHOR", "COMMITTER")},
}


@dataclass(frozen=True)
class Other:
    """One server: its command, what it needs in its environment, tools to call in this order, resources to read.

    `expects` is found in the answers: a comparison of two failures would prove nothing.
    """

    command: list[str]
    calls: list[Call]
    expects: str
    env: dict[str, str] = field(default_factory=dict)
    resources: list[str] = field(default_factory=list)
    prompts: list[Call] = field(default_factory=list)


def everything() -> Other:
    """The TypeScript SDK's server-everything: progress, sampling, elicitation, resources, prompts."""
    return Other(
        command=[NODE, str(BIN / "mcp-server-everything")],
        calls=[
            ("echo", {"message": "tést 🙂"}),
            ("get-sum", {"a": 0.1, "b": 2}),
            ("get-structured-content", {"location": "Chicago"}),
            ("get-annotated-message", {"messageType": "error", "includeImage": True}),
            ("get-resource-links", {"count": 2}),
            ("get-tiny-image", {}),
            ("trigger-long-running-operation", {"duration": 0.3, "steps": 3}),
            ("trigger-sampling-request", {"prompt": "?", "maxTokens": 5}),
            ("trigger-elicitation-request", {}),
            ("no-such-tool", {}),
        ],
        expects="Echo: tést 🙂",
        resources=["demo://resource/static/document/features.md", "demo://nothing"],
        prompts=[("simple-prompt", {}), ("args-prompt", {"city": "Köln"}), ("no-such-prompt", {})],
    )


def filesystem(directory: Path) -> Other:
    """server-filesystem on one directory."""
    note = str(directory / "note é.txt")
    return Other(
        command=[NODE, str(BIN / "mcp-server-filesystem"), str(directory)],
        calls=[
            ("write_file", {"path": note, "content": "line 1\nline 2 🌊\n"}),
            ("read_text_file", {"path": note}),
            ("edit_file", {"path": note, "edits": [{"oldText": "line 1", "newText": "first"}]}),
            ("list_directory", {"path": str(directory)}),
            ("read_text_file", {"path": "/etc/hostname"}),
        ],
        expects="line 2 🌊",
    )


def memory(directory: Path) -> Other:
    """server-memory with its graph in a file of its own."""
    return Other(
        command=[NODE, str(BIN / "mcp-server-memory")],
        env={"MEMORY_FILE_PATH": str(directory / "graph.jsonl")},
        calls=[
            ("create_entities", {"entities": [ENTITY]}),
            ("read_graph", {}),
            ("search_nodes", {"query": "river"}),
            ("delete_entities", {"entityNames": ["weir"]}),
        ],
        expects="lets the river pass — 🌊",
    )


def time() -> Other:
    """mcp-server-time; a conversion between two zones at one offset has the same answer all day."""
    noon = {"source_timezone": "Asia/Tokyo", "time": "12:00", "target_timezone": "Asia/Kolkata"}
    return Other(
        command=[str(HOME / "servers/bin/mcp-server-time")],
        calls=[("convert_time", noon), ("convert_time", {**noon, "time": "25:00"})],
        expects="-3.5h",
    )


def git(directory: Path) -> Other:
    """mcp-server-git on a repository with one commit."""
    (directory / "a.txt").write_text("1\n")
    for step in (["init", "-q", "-b", "main"], ["add", "a.txt"], ["commit", "-q", "-m", "the first 🌊"]):
        subprocess.run(["git", "-C", str(directory), *step], check=True, env={**os.environ, **_AUTHOR})
    (directory / "a.txt").write_text("2\n")
    here = {"repo_path": str(directory)}
    elsewhere = {"repo_path": "/"}
    return Other(
        command=[str(HOME / "servers/bin/mcp-server-git")],
        calls=[
            ("git_status", here),
            ("git_diff_unstaged", here),
            ("git_log", here),
            ("git_status", elsewhere),
        ],
        expects="the first 🌊",
    )
