"""The variables of editors in the files of MCP clients: `${workspaceFolder}` and its kind."""

import os
import re
from collections.abc import Mapping
from pathlib import Path as FilePath

from weir.config.expand import Foreign

_FOLDERS = frozenset([".vscode", ".cursor"])
"""A client's file in one of these belongs to the workspace around it."""

_OF_THE_EDITOR = frozenset(
    [
        "cwd",
        "columnNumber",
        "defaultBuildTask",
        "execPath",
        "extensionInstallFolder",
        "file",
        "fileBasename",
        "fileBasenameNoExtension",
        "fileDirname",
        "fileDirnameBasename",
        "fileExtname",
        "fileWorkspaceFolder",
        "fileWorkspaceFolderBasename",
        "lineNumber",
        "relativeFile",
        "relativeFileDirname",
        "selectedText",
    ]
)
"""What stands for the state of an open window (code.visualstudio.com/docs/reference/variables-reference)."""

_OF_THE_EDITOR_PREFIXES = ("command:", "config:", "workspaceFolder:", "workspaceFolderBasename:")


def folder_of(file: FilePath) -> FilePath:
    """The workspace that a client's file belongs to."""
    return file.parent.parent if file.parent.name in _FOLDERS else file.parent


def resolver(folder: FilePath, environ: Mapping[str, str]) -> Foreign:
    """Resolves the variables of editors, for a workspace."""
    known = {
        "workspaceFolder": str(folder),
        "workspaceFolderBasename": folder.name,
        "pathSeparator": os.sep,
        "/": os.sep,
    }

    def resolve(inner: str) -> str | None:
        if inner.startswith("input:"):
            raise ValueError(_input_mend(inner.removeprefix("input:")))
        if inner in _OF_THE_EDITOR or inner.startswith(_OF_THE_EDITOR_PREFIXES):
            raise ValueError(f"only the editor knows '${{{inner}}}'; write its value here")
        if inner == "userHome":
            return _home(environ)
        return known.get(inner)

    return resolve


def _input_mend(name: str) -> str:
    variable = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_").upper() or "INPUT"
    variable = variable if not variable[0].isdigit() else f"INPUT_{variable}"
    return (
        f"the input '{name}' is a question that only the editor can ask; "
        f"write '${{{variable}}}' here and set that variable"
    )


def _home(environ: Mapping[str, str]) -> str:
    home = environ.get("HOME") or environ.get("USERPROFILE")
    if not home:
        raise ValueError("'${userHome}' is the variable HOME, which is not set; set it, or write the folder")
    return home
