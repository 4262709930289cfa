"""One server of a client's file in weir's words."""

from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import NamedTuple

from weir.config import env_file
from weir.config.files import FileError
from weir.config.problems import Path

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
_SWITCH_KEYS = ("disabled", "enabled")
_REMOTE_KEYS = frozenset([*_URL_KEYS, *_KIND_KEYS, *_SWITCH_KEYS, "headers"])
_LOCAL_KEYS = frozenset([*_KIND_KEYS, *_SWITCH_KEYS, "command", "args", "env", "envFile", "cwd"])
_OF_THE_CLIENT = frozenset(
    [
        "alwaysAllow",
        "autoApprove",
        "author",
        "description",
        "gallery",
        "homepage",
        "icon",
        "id",
        "label",
        "license",
        "name",
        "source",
        "tags",
        "title",
        "trust",
        "version",
    ]
)
"""How a client shows a server, and which calls it makes without asking: nothing that a proxy could do."""

Remark = tuple[Path, str]
"""A path below the server, and the text."""


class Switches(NamedTuple):
    """Whether a server is on, and what is wrong with the keys that say so."""

    is_on: bool
    objections: list[tuple[str, str]]


@dataclass(slots=True)
class Translated:
    """A server as an upstream of weir's, without its name; paths are below the one and the other."""

    upstream: dict[str, object] = field(default_factory=dict)
    origins: dict[Path, Path] = field(default_factory=dict)
    objections: list[Remark] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)
    is_reachable: bool = True
    """It has a command or a URL."""


def is_enabled(server: object) -> Switches:
    """Reads `disabled` and `enabled`, as words too; a server is off when either says so."""
    if not isinstance(server, dict):
        return Switches(True, [])
    is_on, objections = True, []
    for key in _SWITCH_KEYS:
        written = server.get(key)
        word = str(written).strip().lower() if isinstance(written, bool | str) else ""
        if word in ("true", "false"):
            is_on = is_on and (word == "true") == (key == "enabled")
        elif written is not None:
            objections.append((key, "must be true or false"))
    return Switches(is_on, objections)


def translate(server: dict[str, object], folder: FilePath) -> Translated:
    """One server; `folder` is where the path of its envFile begins."""
    result = Translated()
    url_key = _first(_URL_KEYS, server)
    if url_key:
        result.upstream["url"] = server[url_key]
        result.origins[("url",)] = (url_key,)
    if server.get("command"):
        _local(server, folder, result)
        _remark_on(server, _LOCAL_KEYS | frozenset(_URL_KEYS), "a server with a command", result)
    elif url_key:
        _remote(server, result)
        _remark_on(server, _REMOTE_KEYS, "a server with a url", result)
    else:
        result.objections.append(((), "has neither command nor url"))
        result.is_reachable = False
    return result


def _remote(server: dict[str, object], result: Translated) -> None:
    if server.get("headers") is not None:
        result.upstream["headers"] = server["headers"]
    key = _first(_KIND_KEYS, server)
    if not key:
        return
    transport = _TRANSPORTS.get(str(server[key]).lower())
    if transport is None:
        result.objections.append(((key,), "is no transport of weir's for a url; write 'http' or 'sse'"))
        return
    result.origins[("transport",)] = (key,)
    result.upstream["transport"] = transport


def _local(server: dict[str, object], folder: FilePath, result: Translated) -> None:
    arguments = server.get("args")
    if arguments is not None and not isinstance(arguments, list):
        result.objections.append((("args",), "must be a list: [...]"))
    arguments = arguments if isinstance(arguments, list) else []
    key = _first(_KIND_KEYS, server)
    if str(server.get(key)).lower() in _TRANSPORTS and "url" not in result.upstream:
        result.objections.append(((key,), "is the transport of a url, and this server has a command; write 'stdio'"))
    result.origins[("command", 0)] = ("command",)
    for index in range(len(arguments)):
        result.origins[("command", index + 1)] = ("args", index)
    result.upstream["command"] = [server["command"], *arguments]
    environment = _env_file(server, folder, result) | _env(server, result)
    if environment:
        result.upstream["env"] = environment
    if server.get("cwd"):
        result.upstream["cwd"] = server["cwd"]


def _env(server: dict[str, object], result: Translated) -> dict[str, object]:
    variables = server.get("env")
    if variables is not None and not isinstance(variables, dict):
        result.objections.append((("env",), "must be a mapping: {NAME: value}"))
    return (
        {name: value for name, value in variables.items() if value is not None} if isinstance(variables, dict) else {}
    )


def _env_file(server: dict[str, object], folder: FilePath, result: Translated) -> dict[str, object]:
    name = server.get("envFile")
    if name is None or name == "":
        return {}
    if not isinstance(name, str):
        result.objections.append((("envFile",), "must be the path of a file"))
        return {}
    if "${" in name:
        # the expansion has failed, and has said so
        return {}
    try:
        found = env_file.read(str(folder / name))
    except FileError as error:
        mend = "; is the path right?" if error.is_missing else ""
        result.objections.append((("envFile",), f"{error}{mend}"))
        return {}
    if found.skipped_lines:
        listed = ", ".join(map(str, found.skipped_lines[:5])) + (", ..." if len(found.skipped_lines) > 5 else "")
        result.remarks.append((("envFile",), f"sets nothing in line {listed}: not of the form NAME=value"))
    return dict(found.variables)


def _remark_on(server: dict[str, object], known: frozenset[str], kind: str, result: Translated) -> None:
    """Names what weir does not do for this server."""
    for key, value in server.items():
        if key not in known | _OF_THE_CLIENT and value not in (None, False, "", [], {}):
            result.remarks.append(((key,), f"has no effect: weir has no such setting for {kind}"))


def _first(keys: tuple[str, ...], server: dict[str, object]) -> str:
    return next((key for key in keys if server.get(key)), "")
