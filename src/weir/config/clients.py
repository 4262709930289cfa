"""The files that MCP clients keep, read unchanged: `mcpServers` (Claude, Cursor, Windsurf) and `servers` (VS Code).

What weir does not know in them is ignored. Variables expand as in weir's own file, and so do the
`${workspaceFolder}` and `${userHome}` of editors; `${input:...}` is a question weir cannot ask.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path as FilePath

from weir.config import names
from weir.config.document import Document
from weir.config.expand import Expansion, expand
from weir.config.problems import ConfigError, Path, Problem

ROOTS = ("mcpServers", "servers")

MAX_ENV_FILE_BYTES = 1024 * 1024

_TRANSPORTS = {
    "http": "http",
    "streamable-http": "http",
    "streamablehttp": "http",
    "streamable_http": "http",
    "sse": "sse",
    "stdio": "stdio",
    "auto": "auto",
}
_KIND_KEYS = ("type", "transport", "transportType")
_URL_KEYS = ("url", "serverUrl", "httpUrl")
_EDITOR_FOLDERS = frozenset([".vscode", ".cursor"])
_ENV_LINE = re.compile(r"^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_.-]*)\s*=\s*(.*?)\s*$")


def is_client_file(document: Document) -> bool:
    """It has the root key of a client's file, and not weir's own."""
    value = document.value
    return isinstance(value, dict) and "upstreams" not in value and any(root in value for root in ROOTS)


def read(document: Document, environ: Mapping[str, str], file: FilePath) -> tuple[Expansion, Document]:
    """The servers of a client's file as upstreams of weir's, each member with the place it came from."""
    return _Reading(document, environ, file).result()


class _Reading:
    """One client file on its way to weir's shape."""

    def __init__(self, document: Document, environ: Mapping[str, str], file: FilePath) -> None:
        whole = document.value if isinstance(document.value, dict) else {}
        self._root = next(root for root in ROOTS if root in whole)
        only = replace(document, value={self._root: whole[self._root]})
        self._document = only
        self._folder = file.parent.parent if file.parent.name in _EDITOR_FOLDERS else file.parent
        self._environ = environ
        self._expansion = expand(_enabled(only, self._root), environ, self._foreign)
        self._problems = [problem for problem in document.problems if problem.path[:1] == (self._root,)]
        self._places: dict[Path, str] = {}
        self._written: dict[Path, str] = {}
        self._failed: set[Path] = set()

    def result(self) -> tuple[Expansion, Document]:
        value = self._expansion.value
        servers = value.get(self._root) if isinstance(value, dict) else None
        if not isinstance(servers, dict):
            raise ConfigError([self._problem((self._root,), "must be a mapping of servers by name")])
        if not servers:
            raise ConfigError([self._problem((self._root,), "holds no server that is not disabled")])
        upstreams = [self._upstream(name, server, index) for index, (name, server) in enumerate(servers.items())]
        self._check_names([str(name) for name in servers])
        document = Document(
            {"upstreams": upstreams}, self._document.name, self._places, self._written, tuple(self._problems)
        )
        return Expansion(document.value, self._expansion.problems, self._failed), document

    def _upstream(self, name: str, server: object, index: int) -> dict[str, object]:
        source, target = (self._root, name), ("upstreams", index)
        self._places[target] = self._document.place(source)
        members = server if isinstance(server, dict) else {}
        if not isinstance(server, dict):
            self._problems.append(self._problem(source, "must be a mapping: {command: ...} or {url: ...}"))
        upstream: dict[str, object] = {"name": names.slug(name), **dict(self._translated(source, members))}
        self._written[(*target, "name")] = name
        for key in list(upstream):
            self._copy_places((*source, _origin_of(key, members)), (*target, key))
        return upstream

    def _translated(self, source: Path, members: dict[str, object]) -> list[tuple[str, object]]:
        url = next((members[key] for key in _URL_KEYS if members.get(key)), None)
        if url is not None and not members.get("command"):
            return [("url", url), *self._remote(source, members)]
        if members.get("command"):
            both = [("url", url)] if url is not None else []
            return [*both, *self._local(source, members)]
        self._problems.append(self._problem(source, "has neither command nor url"))
        return [("command", ["none"])]

    def _remote(self, source: Path, members: dict[str, object]) -> list[tuple[str, object]]:
        result: list[tuple[str, object]] = []
        key = next((key for key in _KIND_KEYS if key in members), "")
        transport = _TRANSPORTS.get(str(members.get(key, "auto")).lower())
        if transport in (None, "stdio"):
            text = "is no transport that weir has for a url; use 'http' or 'sse', or leave it out"
            self._problems.append(self._problem((*source, key), text))
        elif transport != "auto":
            result.append(("transport", transport))
        if members.get("headers"):
            result.append(("headers", members["headers"]))
        return result

    def _local(self, source: Path, members: dict[str, object]) -> list[tuple[str, object]]:
        command, arguments = members["command"], members.get("args")
        if not isinstance(command, str):
            self._problems.append(self._problem((*source, "command"), "must be text: the program to start"))
        if not isinstance(arguments, list | None):
            self._problems.append(self._problem((*source, "args"), "must be a list: [...]"))
            arguments = None
        result: list[tuple[str, object]] = [("command", [command, *(arguments or [])])]
        environment = {**self._env_file(source, members), **_given(members.get("env"))}
        if environment:
            result.append(("env", environment))
        if members.get("cwd"):
            result.append(("cwd", members["cwd"]))
        return result

    def _env_file(self, source: Path, members: dict[str, object]) -> dict[str, object]:
        name = members.get("envFile")
        if not isinstance(name, str) or not name:
            return {}
        try:
            with (self._folder / name).open("rb") as file:
                text = file.read(MAX_ENV_FILE_BYTES).decode()
        except (OSError, UnicodeDecodeError):
            self._problems.append(self._problem((*source, "envFile"), "cannot be read; is the path right?"))
            return {}
        return dict(variable for variable in map(_env_line, text.splitlines()) if variable)

    def _foreign(self, inner: str) -> str | None:
        if inner.startswith("input:"):
            name = inner.removeprefix("input:")
            variable = re.sub(r"\W+", "_", name).upper()
            raise ValueError(
                f"the input '{name}' is a question that only the editor asks; "
                f"write '${{{variable}}}' and set that variable"
            )
        known = {
            "workspaceFolder": str(self._folder),
            "workspaceFolderBasename": self._folder.name,
            "userHome": self._environ.get("HOME") or self._environ.get("USERPROFILE"),
            "pathSeparator": os.sep,
            "/": os.sep,
        }
        return known.get(inner)

    def _check_names(self, originals: list[str]) -> None:
        seen: dict[str, str] = {}
        for index, original in enumerate(originals):
            name = names.slug(original)
            other = seen.setdefault(name, original)
            if other != original:
                text = f"becomes the name '{name}', as '{other}' does; rename one"
                self._problems.append(self._problem((self._root, original), text))
                self._failed.add(("upstreams", index, "name"))
            if not name:
                text = "has nothing to make a name of; rename it with letters a-z or digits"
                self._problems.append(self._problem((self._root, original), text))
                self._failed.add(("upstreams", index, "name"))

    def _copy_places(self, source: Path, target: Path) -> None:
        depth = len(source)
        for path, place in self._document.places.items():
            if path[:depth] == source:
                self._places[target + path[depth:]] = place
        for bad in self._expansion.failed:
            if bad[:depth] == source:
                self._failed.add(target + bad[depth:])

    def _problem(self, path: Path, text: str) -> Problem:
        return Problem(self._document.place(path), path, text)


def _enabled(document: Document, root: str) -> Document:
    """Without what is disabled, so that its variables need not be set."""
    whole = document.value
    servers = whole.get(root) if isinstance(whole, dict) else None
    if not isinstance(servers, dict):
        return document
    kept = {name: one for name, one in servers.items() if not (isinstance(one, dict) and one.get("disabled") is True)}
    return replace(document, value={root: kept})


def _given(env: object) -> dict[str, object]:
    if not isinstance(env, dict):
        return {} if env is None else {"env": env}
    return {name: value for name, value in env.items() if value is not None}


def _origin_of(key: str, members: dict[str, object]) -> str:
    candidates = {"url": _URL_KEYS, "transport": _KIND_KEYS}.get(key, (key,))
    return next((candidate for candidate in candidates if candidate in members), key)


def _env_line(line: str) -> tuple[str, str] | None:
    match = _ENV_LINE.match(line)
    if match is None:
        return None
    name, value = match[1], match[2]
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
        return name, value[1:-1]
    return name, value.split(" #")[0].rstrip()
