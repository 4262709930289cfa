"""The files that MCP clients keep, read unchanged: `mcpServers` (Claude, Cursor, Windsurf) and `servers` (VS Code).

What weir does not know in them is ignored. Variables expand as in weir's own file, and so do the
`${workspaceFolder}` and `${userHome}` of editors; `${input:...}` is a question weir cannot ask.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path as FilePath

from weir.config import env_file, names
from weir.config.document import Document
from weir.config.expand import Expansion, Foreign, Sources, expand
from weir.config.problems import Path, Problem

ROOTS = ("mcpServers", "servers")

_TRANSPORTS = {
    "http": "http",
    "streamable-http": "http",
    "streamablehttp": "http",
    "streamable_http": "http",
    "sse": "sse",
    "auto": "auto",
}
_KIND_KEYS = ("type", "transport", "transportType")
_URL_KEYS = ("url", "serverUrl", "httpUrl")
_EDITOR_FOLDERS = frozenset([".vscode", ".cursor"])


def is_client_file(document: Document) -> bool:
    """It has the root key of a client's file, and not weir's own."""
    value = document.value
    return isinstance(value, dict) and "upstreams" not in value and any(root in value for root in ROOTS)


def read(document: Document, environ: Mapping[str, str], file: FilePath) -> Expansion:
    """The servers of a client's file as upstreams of weir's, each value remembering where it came from."""
    whole = document.value if isinstance(document.value, dict) else {}
    root = next(root for root in ROOTS if root in whole)
    folder = file.parent.parent if file.parent.name in _EDITOR_FOLDERS else file.parent
    own = tuple(problem for problem in document.problems if problem.path[:1] == (root,))
    document = replace(document, value={root: _enabled(whole[root])}, problems=own)
    expansion = expand(document, Sources(environ, str(file.parent), _editor_variables(folder, environ)))
    translation = _Translation(expansion.document, root, folder)
    return Expansion(translation.document(), expansion.failed | translation.failed)


def _enabled(servers: object) -> object:
    """Without what is disabled, so that its variables need not be set."""
    if not isinstance(servers, dict):
        return servers
    return {name: one for name, one in servers.items() if not (isinstance(one, dict) and one.get("disabled") is True)}


def _editor_variables(folder: FilePath, environ: Mapping[str, str]) -> Foreign:
    known = {
        "workspaceFolder": str(folder),
        "workspaceFolderBasename": folder.name,
        "userHome": environ.get("HOME") or environ.get("USERPROFILE"),
        "pathSeparator": os.sep,
        "/": os.sep,
    }

    def resolve(inner: str) -> str | None:
        if inner.startswith("input:"):
            name = inner.removeprefix("input:")
            variable = re.sub(r"\W+", "_", name).upper()
            raise ValueError(
                f"the input '{name}' is a question that only the editor can ask; "
                f"write '${{{variable}}}' here and set that variable"
            )
        return known.get(inner)

    return resolve


class _Translation:
    """One client file on its way to weir's shape."""

    def __init__(self, source: Document, root: str, folder: FilePath) -> None:
        self._source = source
        self._root = root
        self._folder = folder
        self._problems: list[Problem] = []
        self._origins: dict[Path, Path] = {("upstreams",): (root,)}
        self.failed: set[Path] = set()

    def document(self) -> Document:
        """weir's shape. What cannot be translated is a problem and left out."""
        whole = self._source.value
        servers = whole[self._root] if isinstance(whole, dict) else None
        upstreams: list[object] = []
        if not isinstance(servers, dict) or not servers:
            is_empty = isinstance(servers, dict)
            text = "holds no server that is not disabled" if is_empty else "must be a mapping of servers by name"
            self._problem((self._root,), text)
            self.failed.add((self._root,))
        else:
            for name, server in servers.items():
                if isinstance(server, dict):
                    upstreams.append(self._upstream(name, server, len(upstreams)))
                else:
                    self._problem((self._root, name), "must be a mapping: {command: ...} or {url: ...}")
            self._check_names(list(servers))
        return replace(
            self._source,
            value={"upstreams": upstreams},
            problems=(*self._source.problems, *self._problems),
            origins=self._origins,
        )

    def _upstream(self, name: str, server: dict[str, object], index: int) -> dict[str, object]:
        source: Path = (self._root, name)
        target: Path = ("upstreams", index)
        self._origins[target] = source
        self._origins[(*target, "name")] = (*source, "name")
        upstream: dict[str, object] = {"name": names.slug(name) or names.UNNAMED}
        url_key = _first(_URL_KEYS, server)
        if url_key:
            upstream["url"] = server[url_key]
            self._origins[(*target, "url")] = (*source, url_key)
        if server.get("command"):
            upstream |= self._local(source, target, server)
        elif url_key:
            upstream |= self._remote(source, target, server)
        else:
            self._problem(source, "has neither command nor url")
            self.failed.add(source)
        return upstream

    def _remote(self, source: Path, target: Path, server: dict[str, object]) -> dict[str, object]:
        result = {"headers": server["headers"]} if server.get("headers") else {}
        key = _first(_KIND_KEYS, server)
        if not key:
            return result
        transport = _TRANSPORTS.get(str(server[key]).lower())
        if transport is None:
            self._problem((*source, key), "is no transport of weir's for a url; write 'http' or 'sse'")
            return result
        self._origins[(*target, "transport")] = (*source, key)
        return {**result, "transport": transport}

    def _local(self, source: Path, target: Path, server: dict[str, object]) -> dict[str, object]:
        arguments = server.get("args") or []
        if not isinstance(arguments, list):
            self._problem((*source, "args"), "must be a list: [...]")
            arguments = []
        self._origins[(*target, "command", 0)] = (*source, "command")
        for index in range(len(arguments)):
            self._origins[(*target, "command", index + 1)] = (*source, "args", index)
        result: dict[str, object] = {"command": [server["command"], *arguments]}
        environment = self._env_file(source, server) | self._env(source, server)
        if environment:
            result["env"] = environment
        if server.get("cwd"):
            result["cwd"] = server["cwd"]
        return result

    def _env(self, source: Path, server: dict[str, object]) -> dict[str, object]:
        variables = server.get("env") or {}
        if not isinstance(variables, dict):
            self._problem((*source, "env"), "must be a mapping: {NAME: value}")
            return {}
        return {name: value for name, value in variables.items() if value is not None}

    def _env_file(self, source: Path, server: dict[str, object]) -> dict[str, object]:
        name = server.get("envFile")
        if not isinstance(name, str) or not name:
            return {}
        try:
            with (self._folder / name).open("rb") as file:
                return dict(env_file.parse(file.read(env_file.MAX_BYTES).decode()))
        except (OSError, UnicodeDecodeError):
            self._problem((*source, "envFile"), "cannot be read; is the path right?")
            return {}

    def _check_names(self, originals: list[str]) -> None:
        seen: dict[str, str] = {}
        for original in originals:
            name = names.slug(original)
            other = seen.setdefault(name, original)
            if name and other == original:
                continue
            reason = f"becomes the name '{name}', as '{other}' does; rename one"
            self._problem((self._root, original), reason if name else "has nothing to make a name of; use letters a-z")
            self.failed.add((self._root, original, "name"))

    def _problem(self, path: Path, text: str) -> None:
        self._problems.append(self._source.problem(path, text))


def _first(keys: tuple[str, ...], server: dict[str, object]) -> str:
    return next((key for key in keys if server.get(key)), "")
