"""From a file, a URL or a command to a configuration; whatever is wrong is said at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath

from pydantic import ValidationError

from weir.config import clients, crossed, explain, exposed, names
from weir.config.document import Document
from weir.config.expand import Expansion, Sources, expand
from weir.config.files import FileError, read_text
from weir.config.model import Config
from weir.config.problems import ConfigError, Path, Place, Problem
from weir.config.reading import parse

MAX_FILE_BYTES = 16 * 1024 * 1024
"""Client files hold more than servers (histories); beyond this a file is not a configuration."""


@dataclass(frozen=True, slots=True)
class Overrides:
    """What flags say over a file, as written; None leaves it as it is."""

    listen: str | None = None
    diagnostics: str | None = None
    name: str | None = None
    log_level: str | None = None
    log_format: str | None = None
    stdio: bool = False


NO_OVERRIDES = Overrides()

DIAGNOSTICS: Path = ("listen", "diagnostics")

_FLAGS: tuple[tuple[str, str, Path], ...] = (
    ("listen", "--listen", ("listen", "http")),
    ("diagnostics", "--diagnostics", DIAGNOSTICS),
    ("log_level", "--log-level", ("telemetry", "logs", "level")),
    ("log_format", "--log-format", ("telemetry", "logs", "format")),
)


def load(path: str, environ: Mapping[str, str], overrides: Overrides = NO_OVERRIDES) -> Config:
    """A configuration file: weir's own YAML, or a client's `mcpServers` or `servers` JSON, unchanged.

    Raises ConfigError with everything that is wrong with it.
    """
    document = parse(_text(path), path)
    exposing = exposed.remarks(document)
    file = FilePath(path).resolve()
    if clients.is_client_file(document):
        return _settled(clients.read(document, environ, file), overrides, exposing)
    return _settled(expand(document, Sources(environ, str(file.parent))), overrides, exposing)


def from_upstream(url: str, overrides: Overrides = NO_OVERRIDES) -> Config:
    """One upstream that is reached by URL. Raises ConfigError."""
    return _from_flag("--upstream", {"name": names.of_url(url), "url": url}, overrides)


def from_command(argv: Sequence[str], overrides: Overrides = NO_OVERRIDES) -> Config:
    """One upstream that is a command. Raises ConfigError."""
    return _from_flag("COMMAND", {"name": names.of_command(argv), "command": list(argv)}, overrides)


def _from_flag(flag: str, upstream: Mapping[str, object], overrides: Overrides) -> Config:
    path: Path = ("upstreams", 0)
    document = Document(
        {"upstreams": [dict(upstream)]}, flag, flags={path: flag, (*path, "url"): flag, (*path, "command"): flag}
    )
    return _settled(Expansion(document), overrides)


def _text(path: str) -> str:
    try:
        return read_text(path, MAX_FILE_BYTES)
    except FileError as error:
        raise ConfigError([Problem(Place(path), (), str(error))]) from None


def _settled(expansion: Expansion, overrides: Overrides, remarks: Sequence[Problem] = ()) -> Config:
    document = _with_flags(expansion.document, overrides)
    found = [*document.problems, *_misfits(document, overrides)]
    try:
        config = Config.model_validate(document.value, by_alias=True, by_name=False)
    except ValidationError as error:
        raise ConfigError([*found, *explain.problems(error, document, Config, expansion.failed)]) from None
    found = found or crossed.problems(config, document)
    if found:
        raise ConfigError(found)
    config = config.with_remarks((*remarks, *document.remarks))
    return config.on_stdio() if overrides.stdio else config


def _with_flags(document: Document, overrides: Overrides) -> Document:
    for field, flag, path in _FLAGS:
        text = getattr(overrides, field)
        if text is not None:
            document = document.with_flag(path, text, flag)
    if overrides.name is not None and _upstream_count(document) == 1:
        document = document.with_flag(("upstreams", 0, "name"), overrides.name, "--name")
    if overrides.stdio and not document.has(DIAGNOSTICS):
        # an editor starts one weir a server: they would fight for the port
        document = document.with_flag(DIAGNOSTICS, "off", "--stdio")
    return document


def _misfits(document: Document, overrides: Overrides) -> list[Problem]:
    count = _upstream_count(document)
    if count <= 1:
        return []
    texts = {
        "--name": overrides.name is not None and f"there are {count} upstreams, each with a name; leave --name out",
        "--stdio": overrides.stdio and f"serves one upstream, and there are {count}; keep one, or leave --stdio out",
    }
    return [Problem(Place(flag), (), text) for flag, text in texts.items() if text]


def _upstream_count(document: Document) -> int:
    upstreams = document.value.get("upstreams") if isinstance(document.value, dict) else None
    return len(upstreams) if isinstance(upstreams, list) else 0
