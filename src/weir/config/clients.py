"""The files that MCP clients keep, read unchanged: `mcpServers` (Claude, Cursor, Windsurf), `servers` (VS Code).

What a key asks for is done, or the key is named in a remark: a server that one believes to be off, or restricted, and
that is not, is the worst kind of mistake. Only what is the client's own business (how it shows or approves a server)
is left out without a word. Variables expand as in weir's own file, and so do those of editors (editor_variables.py).
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path as FilePath

from weir.config import client_servers, editor_variables, names
from weir.config.document import Document
from weir.config.expand import Expansion, Sources, expand
from weir.config.problems import Path, Problem, shown

ROOTS: tuple[Path, ...] = (("mcpServers",), ("servers",), ("mcp", "servers"), ("context_servers",))
"""Where clients list servers; VS Code's settings.json has the third, Zed's the last."""

_CHOOSING_KEYS: tuple[Path, ...] = (
    ("mcp", "allowed"),
    ("mcp", "excluded"),
    ("allowedMcpServers",),
    ("deniedMcpServers",),
    ("enabledMcpServers",),
    ("disabledMcpServers",),
    ("enabledMcpjsonServers",),
    ("disabledMcpjsonServers",),
)
"""Lists by which clients turn servers on and off beside their definitions (Claude Code, Gemini CLI)."""

_PROJECTS = "projects"
_MAX_NAMED = 5
"""More names in one line help nobody."""


def is_client_file(document: Document) -> bool:
    """It has the root key of a client's file, and not weir's own."""
    value = document.value
    if not isinstance(value, dict) or "upstreams" in value:
        return False
    return isinstance(value.get(_PROJECTS), dict) or any(_has(value, root) for root in ROOTS)


def read(document: Document, environ: Mapping[str, str], file: FilePath) -> Expansion:
    """The servers of a client's file as upstreams of weir's, each value remembering where it came from."""
    whole = document.value if isinstance(document.value, dict) else {}
    roots = [root for root in ROOTS if _has(whole, root)]
    folder = editor_variables.folder_of(file)
    remarks = [*_of_choosing_keys(document, whole), *_of_projects_left_out(document, whole)]
    own = [problem for problem in document.problems if any(problem.path[: len(root)] == root for root in roots)]
    kept, problems = _enabled(document, roots, whole)
    document = replace(document, value=kept, problems=(*own, *problems), remarks=tuple(remarks))
    sources = Sources(environ, str(file.parent), editor_variables.resolver(folder, environ))
    expansion = expand(document, sources)
    translation = _Translation(expansion.document, roots, folder)
    return Expansion(translation.document(), expansion.failed | translation.failed)


def _has(tree: object, path: Path) -> bool:
    for part in path:
        if not isinstance(tree, dict) or part not in tree:
            return False
        tree = tree[part]
    return True


def _at(tree: object, path: Path) -> object:
    for part in path:
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def _of_projects(whole: Mapping[str, object]) -> Iterator[tuple[str, list[str]]]:
    """The projects of a `~/.claude.json` that have servers of their own, and the names of these."""
    projects = whole.get(_PROJECTS)
    for project, settings in projects.items() if isinstance(projects, dict) else ():
        servers = settings.get("mcpServers") if isinstance(settings, dict) else None
        if isinstance(servers, dict) and servers:
            yield project, list(servers)


def _of_projects_left_out(document: Document, whole: Mapping[str, object]) -> Iterator[Problem]:
    for project, servers in _of_projects(whole):
        listed = ", ".join(servers[:_MAX_NAMED]) + (", ..." if len(servers) > _MAX_NAMED else "")
        text = f"the servers of one project are not served: {listed}; copy those to serve to mcpServers at the top"
        yield document.problem((_PROJECTS, project, "mcpServers"), text)


def _of_choosing_keys(document: Document, whole: Mapping[str, object]) -> Iterator[Problem]:
    for path in _CHOOSING_KEYS:
        if _at(whole, path):
            yield document.problem(path, "is not read; give a server that weir must leave out 'disabled: true'")


def _enabled(document: Document, roots: list[Path], whole: object) -> tuple[dict[str, object], list[Problem]]:
    """The roots without what is disabled, so that its variables need not be set; and what is no switch."""
    kept: dict[str, object] = {}
    problems: list[Problem] = []
    for root in roots:
        servers = _at(whole, root)
        if isinstance(servers, dict):
            found = {name: client_servers.is_enabled(one) for name, one in servers.items()}
            for name, switches in found.items():
                problems += [document.problem((*root, name, key), text) for key, text in switches.objections]
            servers = {name: one for name, one in servers.items() if found[name].is_on}
        _put(kept, root, servers)
    return kept, problems


def _put(tree: dict[str, object], path: Path, value: object) -> None:
    for part in path[:-1]:
        below = tree.setdefault(str(part), {})
        assert isinstance(below, dict)
        tree = below
    tree[str(path[-1])] = value


class _Translation:
    """One client file on its way to weir's shape."""

    def __init__(self, source: Document, roots: list[Path], folder: FilePath) -> None:
        self._source = source
        self._roots = roots
        self._folder = folder
        self._problems: list[Problem] = []
        self._remarks: list[Problem] = []
        self._origins: dict[Path, Path] = {("upstreams",): roots[0]} if roots else {}
        self._names: dict[str, Path] = {}
        self.failed: set[Path] = set()

    def document(self) -> Document:
        """weir's shape. What cannot be translated is a problem and left out."""
        upstreams: list[object] = []
        for root in self._roots:
            servers = _at(self._source.value, root)
            if isinstance(servers, dict):
                self._servers(root, servers, upstreams)
            else:
                self._fail(root, "must be a mapping of servers by name")
        if not upstreams and not self._problems:
            self._nothing_served()
        return replace(
            self._source,
            value={"upstreams": upstreams},
            problems=(*self._source.problems, *self._problems),
            remarks=(*self._source.remarks, *self._remarks),
            origins=self._origins,
        )

    def _nothing_served(self) -> None:
        """The reason, where there is one beside an empty list."""
        left_out = [remark for remark in self._source.remarks if remark.path[:1] == (_PROJECTS,)]
        if left_out:
            self._problems += left_out
            self.failed.add(())
        elif self._roots:
            self._fail(self._roots[0], "holds no server that is not disabled")
        else:
            self._problem((_PROJECTS,), "no project has a server; put those to serve under mcpServers at the top")
            self.failed.add(())

    def _servers(self, root: Path, servers: dict[str, object], upstreams: list[object]) -> None:
        for name, server in servers.items():
            source = (*root, name)
            if isinstance(server, dict):
                upstreams.append(self._upstream(source, name, server, len(upstreams)))
            else:
                self._problem(source, "must be a mapping: {command: ...} or {url: ...}")
            self._check_name(source, name)

    def _upstream(self, source: Path, name: str, server: dict[str, object], index: int) -> dict[str, object]:
        translated = client_servers.translate(server, self._folder)
        target: Path = ("upstreams", index)
        self._origins[target] = source
        self._origins[(*target, "name")] = (*source, "name")
        for key, origin in translated.origins.items():
            self._origins[(*target, *key)] = (*source, *origin)
        for key, text in translated.objections:
            self._problem((*source, *key), text)
        self._remarks += [self._source.problem((*source, *key), text) for key, text in translated.remarks]
        if not translated.is_reachable:
            self.failed.add(source)
        return {"name": names.slug(name) or names.UNNAMED, **translated.upstream}

    def _check_name(self, source: Path, original: str) -> None:
        name = names.slug(original)
        other = self._names.setdefault(name, source)
        if name and other == source:
            return
        by = f"'{other[-1]}'" if other[:-1] == source[:-1] else shown(other)
        reason = f"becomes the name '{name}', as {by} does; rename one"
        self._problem(source, reason if name else "has nothing to make a name of; use letters a-z")
        self.failed.add((*source, "name"))

    def _fail(self, path: Path, text: str) -> None:
        self._problem(path, text)
        self.failed.add(path)

    def _problem(self, path: Path, text: str) -> None:
        self._problems.append(self._source.problem(path, text))
