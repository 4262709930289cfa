"""From a file, a URL or a command to a configuration; whatever is wrong is said at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path as FilePath

from pydantic import ValidationError

from weir.config import clients, crossed, explain, names
from weir.config.document import MAX_FILE_BYTES, Document, parse
from weir.config.expand import Expansion, expand
from weir.config.model import Config
from weir.config.problems import ConfigError, Path, Problem


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

_FLAGS: tuple[tuple[str, str, Path], ...] = (
    ("listen", "--listen", ("listen", "http")),
    ("diagnostics", "--diagnostics", ("listen", "diagnostics")),
    ("log_level", "--log-level", ("telemetry", "logs", "level")),
    ("log_format", "--log-format", ("telemetry", "logs", "format")),
)


def load(path: str, environ: Mapping[str, str], overrides: Overrides = NO_OVERRIDES) -> Config:
    """A configuration file: weir's own YAML, or a client's `mcpServers` or `servers` JSON, unchanged.

    Raises ConfigError with everything that is wrong with it.
    """
    document = parse(_text(path), path)
    if clients.is_client_file(document):
        expansion, document = clients.read(document, environ, FilePath(path).resolve())
    else:
        expansion = expand(document, environ)
    return _settled(document, expansion, overrides)


def from_upstream(url: str, overrides: Overrides = NO_OVERRIDES) -> Config:
    """One upstream that is reached by URL. Raises ConfigError."""
    return _from_flag("--upstream", {"name": overrides.name or names.of_url(url), "url": url}, overrides)


def from_command(argv: Sequence[str], overrides: Overrides = NO_OVERRIDES) -> Config:
    """One upstream that is a command. Raises ConfigError."""
    upstream: dict[str, object] = {"name": overrides.name or names.of_command(argv), "command": list(argv)}
    return _from_flag("COMMAND", upstream, overrides)


def _from_flag(flag: str, upstream: dict[str, object], overrides: Overrides) -> Config:
    document = Document({"upstreams": [upstream]}, flag)
    return _settled(document, Expansion(document.value), overrides)


def _text(path: str) -> str:
    try:
        with FilePath(path).open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError([Problem(path, (), f"cannot be read: {error.strerror}")]) from None
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError(
            [Problem(path, (), f"is larger than {MAX_FILE_BYTES // 1024**2} MiB; this is no configuration")]
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError([Problem(path, (), "is not UTF-8 text")]) from None


def _settled(document: Document, expansion: Expansion, overrides: Overrides) -> Config:
    value, document = _with_flags(document, expansion, overrides)
    found = [*document.problems, *expansion.problems]
    try:
        config = Config.model_validate(value, by_alias=True, by_name=False)
    except ValidationError as error:
        found += explain.problems(error, document, Config, expansion.failed)
        raise ConfigError(found) from None
    found += crossed.problems(config, document) if not found else []
    if found:
        raise ConfigError(found)
    return config.on_stdio() if overrides.stdio else config


def _with_flags(document: Document, expansion: Expansion, overrides: Overrides) -> tuple[object, Document]:
    changed = replace(document, value=expansion.value)
    for field, flag, path in _FLAGS:
        text = getattr(overrides, field)
        if text is not None:
            changed = changed.with_value(path, text, flag)
            expansion.failed.discard(path)
    upstreams = changed.value.get("upstreams") if isinstance(changed.value, dict) else None
    if overrides.name is not None and isinstance(upstreams, list):
        if len(upstreams) != 1:
            problem = Problem(
                "--name", (), f"there are {len(upstreams)} upstreams, and they have names; leave --name out"
            )
            expansion.problems.append(problem)
        else:
            changed = changed.with_value(("upstreams", 0, "name"), overrides.name, "--name")
    if overrides.stdio and isinstance(upstreams, list) and len(upstreams) > 1:
        text = f"serves one upstream, and there are {len(upstreams)}; leave one, or serve HTTP without --stdio"
        expansion.problems.append(Problem("--stdio", (), text))
    return changed.value, changed
