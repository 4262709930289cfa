"""What `weir check` says beyond "it parses": what is served where, and what will not go as one might think."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from weir.app import rooms
from weir.app.capacity import capacity, reachable_descriptor_limit
from weir.config.model import Config, Listen, Sessions, Upstream
from weir.config.problems import Problem, shown
from weir.core.budget import SHARE_OF_ONE_CLIENT
from weir.protocol import hosts
from weir.telemetry import environment
from weir.upstream.child_texts import ARGUMENTS_APART, holds_arguments, program_of
from weir.upstream.dialing import TlsSettings, client_context, origin_of, proxy_for
from weir.upstream.no_proxy import unreadable

SHORT_TOKEN_LENGTH = 16
"""Sixteen random characters are beyond guessing over a network."""


class Finding(NamedTuple):
    """Something an operator should know. An error: weir, or an upstream, cannot work like this."""

    is_error: bool
    subject: str
    text: str

    def __str__(self) -> str:
        return f"{'error' if self.is_error else 'warning'}: {self.subject}: {self.text}"


def served(config: Config) -> list[str]:
    """Each upstream and the addresses it is reached at. Shows no arguments and no query: they may be secrets."""
    lines = [f"diagnostics: {_diagnostics(config.listen)}"]
    for upstream in config.upstreams:
        lines.append(f"{upstream.name}: {_kind(upstream)}")
        lines += [f"  {address}" for address in addresses(config, upstream)]
    return lines


def addresses(config: Config, upstream: Upstream) -> list[str]:
    """Where clients reach an upstream."""
    if config.stdio:
        return ["stdin and stdout"]
    base = _base(config.listen)
    found = [f"{base}/servers/{upstream.name}/mcp"]
    if len(config.upstreams) > 1:
        return found
    # the path itself may be a secret
    own = [f"{base} (the path of its URL)"] if upstream.path not in ("", "/mcp") else []
    mirrored = [f"{base}/ (every other path, as it is)"] if not upstream.is_stdio and not upstream.path else []
    return [f"{base}/mcp", *own, *found, *mirrored]


def findings(config: Config, environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> list[Finding]:
    """Everything worth saying about a configuration that parses. Looks at files and PATH, never at the network."""
    found = [Finding(False, _where(remark), remark.text) for remark in config.remarks]
    found += _of_listening(config)
    for upstream in config.upstreams:
        found += _of_command(upstream, environ) if upstream.is_stdio else _of_url(config, upstream)
        found += () if upstream.is_stdio else _of_proxy(upstream, environ)
        found += _of_tools(config, upstream)
    found += _of_room(config)
    found += _of_orphans(config, platform)
    found += _of_exporter(config, environ)
    found += _without_effect(config)
    return found


def _where(remark: Problem) -> str:
    return " ".join(filter(None, (str(remark.place), shown(remark.path))))


def _base(listen: Listen) -> str:
    if listen.public_url:
        return listen.public_url.rstrip("/")
    return f"{'https' if listen.tls.cert else 'http'}://{listen.http}"


def _diagnostics(listen: Listen) -> str:
    return f"http://{listen.diagnostics}" if listen.diagnostics else "off"


def _kind(upstream: Upstream) -> str:
    if upstream.command is None:
        return upstream.shown_url
    count = len(upstream.command) - 1
    return f"command {upstream.program}, {count} argument{'' if count == 1 else 's'}"


def _of_listening(config: Config) -> Iterator[Finding]:
    listen = config.listen
    if config.stdio:
        return
    yield from _of_tls_files("listen.tls", None, listen.tls.cert, listen.tls.key)
    if not listen.http.is_loopback:
        if listen.tls.cert is None:
            text = "others can reach it, in plain text; set listen.tls, or put a TLS proxy before it"
            yield Finding(False, "listen.http", text)
        if not listen.allowed_hosts and listen.public_url is None:
            text = "empty, so requests by any name but the listening address are refused (421); name the hosts"
            yield Finding(False, "listen.allowed_hosts", text)
    if "*" in listen.allowed_origins:
        yield Finding(False, "listen.allowed_origins", "'*' lets every web page call the servers behind weir")
    if listen.diagnostics is not None and not listen.diagnostics.is_loopback:
        yield from _of_reachable_diagnostics(config)
    token = listen.diagnostics_token
    if token is not None and len(token) < SHORT_TOKEN_LENGTH:
        text = f"is short enough to be guessed; take {SHORT_TOKEN_LENGTH} random characters or more"
        yield Finding(False, "listen.diagnostics_token", text)


def _of_reachable_diagnostics(config: Config) -> Iterator[Finding]:
    """What follows when other machines reach the diagnostics port."""
    if config.listen.diagnostics_token is None:
        text = (
            "others can read /metrics and /readyz; /status and /faults refuse everyone (403) "
            "until listen.diagnostics_token is set"
        )
        yield Finding(False, "listen.diagnostics", text)
        return
    text = "others can read /metrics and /readyz, and the token travels in plain text; put a TLS proxy before it"
    yield Finding(False, "listen.diagnostics", text)
    if config.faults is not None and config.faults.allow:
        text = (
            "with listen.diagnostics beyond this machine, whoever has its token can make servers fail; "
            "bind listen.diagnostics to 127.0.0.1, or set allow: false"
        )
        yield Finding(False, "faults.allow", text)


def _of_exporter(config: Config, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Yields what the OTEL_* variables ask for and no exporter can do."""
    traces = rooms.telemetry(config, environ).traces
    try:
        if environment.chosen(traces.exporter, environ) == environment.OTLP:
            environment.protocol(environ)
            environment.check(environ)
        environment.sample_ratio(traces.sample_ratio, environ)
    except environment.UnknownExporterError as error:
        yield Finding(True, "environment", str(error))


def _of_proxy(upstream: Upstream, environ: Mapping[str, str]) -> Iterator[Finding]:
    """What HTTPS_PROXY, HTTP_PROXY and NO_PROXY say and weir cannot do."""
    try:
        proxy = proxy_for(origin_of(upstream.url or ""), environ)
    except ValueError as error:
        yield Finding(True, upstream.name, str(error))
        return
    listed = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    if proxy is not None and (entries := unreadable(listed)):
        text = f"no_proxy: '{entries[0]}' is neither a name, nor an address, nor a range, so it exempts nothing"
        yield Finding(False, upstream.name, text)


def _of_url(config: Config, upstream: Upstream) -> Iterator[Finding]:
    tls = upstream.tls
    yield from _of_tls_files(f"{upstream.name}.tls", tls.ca, tls.cert, tls.key)
    url = urlsplit(upstream.url or "")
    if hosts.is_loopback(url.hostname or ""):
        return
    has_token = any(name.lower() == "authorization" for name in upstream.headers)
    if has_token and url.scheme == "http":
        yield Finding(False, upstream.name, "its Authorization goes over the network in plain text; use https")
    if not has_token and config.stdio:
        text = "if it asks for OAuth: clients on a pipe cannot sign in; give weir a token (Authorization under headers)"
        yield Finding(False, upstream.name, text)
    elif not has_token and not _is_at_the_public_name(config.listen, upstream):
        text = (
            "if it asks for OAuth, clients will refuse: the resource it names is not the address they dialled, and "
            "weir rewrites no OAuth metadata, as tokens would bear the wrong audience. "
            "Answer at its public name (listen.public_url, preserve_host: true), "
            "or give weir a token (its Authorization under headers)"
        )
        yield Finding(False, upstream.name, text)


def _is_at_the_public_name(listen: Listen, upstream: Upstream) -> bool:
    """Clients compare scheme, host and port of the protected resource with what they dialled (RFC 9728 §3.3)."""
    if listen.public_url is None:
        return False
    return upstream.preserve_host or _origin(listen.public_url) == _origin(upstream.url or "")


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    return scheme, parts.hostname or "", parts.port or {"http": 80, "https": 443}.get(scheme, 0)


def _of_command(upstream: Upstream, environ: Mapping[str, str]) -> Iterator[Finding]:
    program, *arguments = upstream.command or ("",)
    path = upstream.env.get("PATH", environ.get("PATH"))
    if upstream.cwd is not None and not Path(upstream.cwd).is_dir():
        yield Finding(True, upstream.name, "its cwd is no directory; make it, or name another one")
    elif shutil.which(_from(upstream.cwd, program), path=path) is None:
        yield Finding(True, upstream.name, _missing(program, path))
    name = upstream.program.lower().removesuffix(".cmd").removesuffix(".exe")
    if name == "npx" and not {"-y", "--yes"}.intersection(arguments):
        yield Finding(False, upstream.name, "npx without -y asks before it installs, and nobody answers; add -y")
    if name in ("docker", "podman") and "run" in arguments and not _is_interactive(arguments):
        yield Finding(False, upstream.name, f"{name} run without -i gives the server no stdin; add -i")


def _missing(command: str, path: str | None) -> str:
    """Tells a program that is not there from a whole command line; shows no arguments, which may be secrets."""
    if holds_arguments(command, path):
        return f"`{program_of(command)}` is there; {ARGUMENTS_APART}"
    return f"the program {program_of(command)} is not there; install it, or name its path"


def _of_room(config: Config) -> Iterator[Finding]:
    """What weir may hold at once, and what does not fit into it."""
    if config.stdio:
        return
    try:
        capacity(config, reachable_descriptor_limit())
    except rooms.SetupError as error:
        place, _, text = str(error).partition(": ")
        yield Finding(True, place, text)
    share = config.listen.max_buffered_bytes // SHARE_OF_ONE_CLIENT
    if share < config.listen.max_body_bytes:
        text = (
            f"one client may hold a quarter of it, {share} bytes, so larger bodies are always refused; "
            f"raise it, or lower listen.max_body ({config.listen.max_body_bytes} bytes)"
        )
        yield Finding(False, "listen.max_buffered", text)


def _of_orphans(config: Config, platform: str) -> Iterator[Finding]:
    if platform != "linux" and any(upstream.is_stdio for upstream in config.upstreams):
        text = "on this system a stdio server can outlive a weir that is killed; only Linux has what ends it then"
        yield Finding(False, "command", text)


def _from(cwd: str | None, program: str) -> str:
    is_relative_path = os.sep in program and not os.path.isabs(program)
    return os.path.join(cwd, program) if cwd is not None and is_relative_path else program


def _is_interactive(arguments: list[str]) -> bool:
    return any(
        word in ("--interactive", "--interactive=true") or (word[:1] == "-" and word[:2] != "--" and "i" in word)
        for word in arguments
    )


def _of_tls_files(subject: str, ca: str | None, cert: str | None, key: str | None) -> Iterator[Finding]:
    """Files that are missing, or hold nothing that TLS can use."""
    files = {"ca": ca, "cert": cert, "key": key}
    # a pipe can be read once: it is left to the start
    missing = {key for key, name in files.items() if name is not None and not os.access(name, os.R_OK)}
    for name in sorted(missing):
        yield Finding(True, f"{subject}.{name}", "there is no such file, or it may not be read")
    if not missing and all(os.path.isfile(name) for name in files.values() if name is not None):
        try:
            client_context(TlsSettings(ca or "", cert or "", key or ""))
        except OSError as error:
            yield Finding(True, subject, rooms.tls_objection(error, ca, cert, key))


def _of_tools(config: Config, upstream: Upstream) -> Iterator[Finding]:
    """What is said for a tool and changes nothing, as the policy itself is not on."""
    for tool, said in upstream.tools.items():
        place = f"{upstream.name}.tools.{tool}"
        retry = config.retry_for(upstream, tool)
        if said.retry.safe == "always" and (retry is None or retry.mode == "off"):
            yield Finding(False, f"{place}.retry", "nothing is tried again, as retry is off; add policies.retry")
        timeout = config.timeout_for(upstream, tool)
        if said.timeout is not None and timeout is not None and timeout.mode == "off" != said.timeout.mode:
            text = "has no effect beside 'mode: off'; take that out of policies.timeout, or name a mode for the tool"
            yield Finding(False, f"{place}.timeout", text)


def _resurrects(sessions: Sessions) -> bool:
    return "resurrect" in sessions.model_fields_set and sessions.resurrect != "false"


_PENDING_SECTIONS: dict[str, Callable[[Config], object]] = {
    "transport: sse": lambda config: [one for one in config.upstreams if one.transport == "sse"],
    "sessions.resurrect": lambda config: config.sessions and _resurrects(config.sessions),
    "telemetry.journal": lambda config: config.telemetry.journal,
    "slo": lambda config: config.slo,
}


def _without_effect(config: Config) -> Iterator[Finding]:
    """A protection that one believes in and that is not there is the worst kind."""
    pending = [name for name, of in _PENDING_SECTIONS.items() if of(config)]
    if pending:
        yield Finding(False, ", ".join(pending), "without effect in this version of weir")
