"""The whole shape of weir's configuration, in plain numbers with their units in the names.

A section left out is None, which means off. What is always on is in `Always`.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, PrivateAttr, WithJsonSchema, model_validator

from weir.config import merge
from weir.config.faults import Faults
from weir.config.fields import (
    AllowedHost,
    Bytes,
    Command,
    Count,
    CountOrAuto,
    EmptyIsDefault,
    Environment,
    Headers,
    Listening,
    ListeningOrOff,
    Name,
    Network,
    Origin,
    Seconds,
    SecondsOrZero,
    Section,
    Switch,
    Text,
    Token,
    Url,
    default_address,
    default_duration,
    default_size,
)
from weir.config.policies import Policies, Retry, Timeout, ToolOverride
from weir.config.problems import Path, Problem, shown
from weir.config.watching import Objective, Telemetry
from weir.upstream.child_texts import program_of


class Always:
    """Limits that hold when nothing is configured: nothing hangs and nothing grows without end."""

    CONNECT_SECONDS = 5.0
    IDLE_SECONDS = 300.0
    CLIENT_INPUT_SECONDS = 600.0
    DRAIN_SECONDS = 5.0
    """Long enough for most calls in flight, and under the 10 s after which container runtimes kill."""
    MAX_SESSIONS = 1000
    SESSION_IDLE_SECONDS = 1800.0


class KeyPair(Section):
    """A certificate and its key (PEM files)."""

    @classmethod
    def contradictions(cls, named: Mapping[str, object]) -> Iterator[tuple[Path, str]]:
        """A key belongs to a certificate."""
        if named.get("key") is not None and named.get("cert") is None:
            yield ("key",), "key without cert; add cert"


class ServerTls(KeyPair):
    """The certificate that weir shows its clients (PEM files)."""

    cert: Text | None = None
    key: Text | None = Field(default=None, description="Left out: the key is in the file of the certificate.")


class ClientTls(KeyPair):
    """What weir trusts, and shows, when it connects to an upstream (PEM files)."""

    ca: Text | None = Field(default=None, description="Certificates to trust instead of the system's.")
    cert: Text | None = Field(default=None, description="weir's own certificate, for servers that ask for one.")
    key: Text | None = Field(default=None, description="Left out: the key is in the file of the certificate.")


class Listen(Section):
    """Where clients and operators reach weir."""

    http: Listening = default_address("127.0.0.1:8931", description="MCP.")
    diagnostics: ListeningOrOff = default_address(
        "127.0.0.1:8932", description="/metrics /healthz /readyz /status; `off` for none."
    )
    diagnostics_token: Token | None = Field(
        default=None,
        description="What /status and /faults ask for (Bearer, or the password of Basic). "
        "Where other machines reach `diagnostics`, both stay closed without it.",
        examples=["${WEIR_DIAGNOSTICS_TOKEN}", "${file:/run/secrets/weir}"],
    )
    public_url: Url | None = Field(default=None, description="Where clients reach weir, when that differs.")
    allowed_origins: tuple[Origin, ...] = Field(
        default=(), description="Web pages that may call; empty refuses every one."
    )
    allowed_hosts: tuple[AllowedHost, ...] = Field(
        default=(), description='Beside loopback and public_url; "*" for any.'
    )
    trusted_proxies: tuple[Network, ...] = Field(default=(), description="Whose X-Forwarded-For is believed.")
    tls: Annotated[ServerTls, EmptyIsDefault] = Field(default=ServerTls())
    max_body_bytes: Bytes = default_size("16MiB", alias="max_body", description="Larger requests are refused (413).")
    max_reply_buffer_bytes: Bytes = default_size(
        "4MiB", alias="max_reply_buffer", description="A JSON reply up to this size is judged before it is relayed."
    )

    client_read_seconds: Seconds = default_duration(
        "60s", alias="client_read", description="A client that reads less than min_rate for so long is cut off."
    )
    body_silence_seconds: Seconds = default_duration(
        "30s", alias="body_silence", description="A request body slower than min_rate for so long is refused (408)."
    )
    min_rate_bytes: Bytes = default_size(
        "500B", alias="min_rate", description="A second, on average; slower clients hold memory for nothing."
    )
    max_buffered_bytes: Bytes = default_size(
        "256MiB", alias="max_buffered", description="For all bodies under way; one client has at most a quarter."
    )
    max_connections: CountOrAuto = Field(
        default=None,
        json_schema_extra={"default": "auto"},
        description="auto: what the limit of descriptors leaves; one client has at most half.",
    )

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        if self.http == self.diagnostics and self.http.port != 0:
            raise ValueError("http and diagnostics are the same address; give diagnostics another port, or 'off'")
        return self


_URL_ONLY = ("transport", "headers", "preserve_host", "tls", "connections", "streams")
_COMMAND_ONLY = ("env", "cwd")


class Upstream(Section):
    """One MCP server: reached by URL, or started as a command."""

    name: Name = Field(description="Used in paths and labels.")
    url: Url | None = Field(default=None, description="Without a path, every path below it is mirrored.")
    transport: Literal["auto", "http", "sse"] = Field(
        default="auto", description="sse, the transport of 2024-11-05, is not spoken yet."
    )
    headers: Headers = Field(default={}, description="Sent with every request; they replace the client's.")
    preserve_host: Switch = Field(default=False, description="Send the client's Host instead of the upstream's.")
    tls: Annotated[ClientTls, EmptyIsDefault] = Field(default=ClientTls())
    connections: Count = Field(default=100, description="At most this many to the upstream, for requests.")
    streams: Count = Field(default=1000, description="At most this many more, for long-lived streams.")
    command: Command | None = Field(
        default=None,
        min_length=1,
        description="Program and arguments of a stdio server.",
        examples=[["npx", "-y", "server"]],
    )
    env: Environment = Field(default={}, description="Variables of the command.")
    cwd: Text | None = Field(default=None, description="Where the command runs.")
    policies: Annotated[Policies | None, EmptyIsDefault] = Field(
        default=None, description="Overrides `policies` for this upstream; rate_limits are added, [] clears."
    )
    tools: dict[str, ToolOverride] = Field(default={}, description="Overrides for single tools.")

    @classmethod
    def contradictions(cls, named: Mapping[str, object]) -> Iterator[tuple[Path, str]]:
        """A URL or a command, and only what goes with it."""
        kinds = [kind for kind in ("url", "command") if named.get(kind) is not None]
        if len(kinds) != 1:
            yield (), "needs exactly one of url and command"
            return
        for key in _COMMAND_ONLY if kinds == ["url"] else _URL_ONLY:
            if named.get(key) is not None:
                yield (key,), f"has no meaning beside {kinds[0]}; leave it out"

    @property
    def is_stdio(self) -> bool:
        """weir starts it, and talks over its stdin and stdout."""
        return self.command is not None

    @property
    def program(self) -> str:
        """The name of the command's program, without its folder and arguments; empty for a URL."""
        return program_of(self.command[0]) if self.command else ""

    @property
    def path(self) -> str:
        """The path of the URL; empty: every path below it is mirrored."""
        path = urlsplit(self.url or "").path
        return "" if path == "/" else path

    @property
    def query(self) -> str:
        """The query of the URL, without the question mark. It may hold a secret."""
        return urlsplit(self.url or "").query

    @property
    def shown_url(self) -> str:
        """Scheme, host and port of the URL: path and query may be secrets; empty for a command."""
        if self.url is None:
            return ""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


class Refusals(Section):
    """How weir says no."""

    http_200: Switch = Field(
        default=False, description="Send refusals as HTTP 200, for clients that drop other bodies."
    )


def _word(written: object) -> object:
    return str(written).lower() if isinstance(written, bool) else written


Resurrect = Annotated[
    Literal["auto", "true", "false"], BeforeValidator(_word), WithJsonSchema({"enum": ["auto", True, False]})
]


class Sessions(Section):
    """Sessions that weir keeps."""

    resurrect: Resurrect = Field(
        default="auto", description="Not applied yet. auto: stdio children; true: HTTP upstreams too; false: none."
    )
    idle_seconds: Seconds = default_duration(
        "30m", alias="idle", description="A session nobody uses is closed; its child stops."
    )
    max_sessions: Count = Field(default=Always.MAX_SESSIONS, alias="max", description="Further ones are refused.")


class Drain(Section):
    """Stopping without cutting off."""

    deadline_seconds: SecondsOrZero = default_duration("30s", alias="deadline")


_NAMING_AN_UPSTREAM: tuple[tuple[str, ...], ...] = (("slo",), ("faults", "inject"))


def _members(tree: object, below: tuple[str, ...], key: str) -> list[tuple[Path, str]]:
    """The texts under one key in each mapping of a list, each with its path; whatever has another form is skipped."""
    for part in below:
        tree = tree.get(part) if isinstance(tree, dict) else None
    entries = enumerate(tree) if isinstance(tree, list) else ()
    texts = [(index, entry.get(key)) for index, entry in entries if isinstance(entry, dict)]
    return [((*below, index, key), text) for index, text in texts if isinstance(text, str)]


def _twice(members: list[tuple[Path, str]]) -> Iterator[tuple[Path, str]]:
    seen: dict[str, Path] = {}
    for path, name in members:
        first = seen.setdefault(name, path)
        if first != path:
            yield path, f"{shown(first)} is the same; names must differ"


class Config(Section):
    """All that an operator asked for."""

    listen: Annotated[Listen, EmptyIsDefault] = Field(default=Listen())
    upstreams: tuple[Upstream, ...] = Field(description="The MCP servers. At least one.")
    policies: Annotated[Policies | None, EmptyIsDefault] = None
    refusals: Annotated[Refusals, EmptyIsDefault] = Field(default=Refusals())
    sessions: Annotated[Sessions | None, EmptyIsDefault] = None
    drain: Annotated[Drain | None, EmptyIsDefault] = None
    faults: Annotated[Faults | None, EmptyIsDefault] = None
    telemetry: Annotated[Telemetry, EmptyIsDefault] = Field(default=Telemetry())
    slo: tuple[Objective, ...] = ()

    _stdio: bool = PrivateAttr(default=False)
    _remarks: tuple[Problem, ...] = PrivateAttr(default=())

    @classmethod
    def contradictions(cls, named: Mapping[str, object]) -> Iterator[tuple[Path, str]]:
        """Names are there once, and whoever is named is there."""
        if named.get("upstreams") == []:
            yield ("upstreams",), "needs at least one"
        names = [name for _, name in _members(named, ("upstreams",), "name")]
        yield from _twice(_members(named, ("upstreams",), "name"))
        yield from _twice(_members(named, ("slo",), "name"))
        for below in _NAMING_AN_UPSTREAM:
            for path, name in _members(named, below, "upstream"):
                if name not in names:
                    yield path, "{written} is the name of no upstream"

    @property
    def stdio(self) -> bool:
        """The client is on stdin and stdout instead of HTTP. Never written in a file: it is how weir was started."""
        return self._stdio

    @property
    def remarks(self) -> tuple[Problem, ...]:
        """Returns remarks on what the file says that works, and yet not as one might think."""
        return self._remarks

    def with_remarks(self, remarks: tuple[Problem, ...]) -> Self:
        """The same, with what was noticed while it was read."""
        copy = self.model_copy()
        copy._remarks = remarks
        return copy

    def on_stdio(self) -> Self:
        """The same, for a client on stdin and stdout."""
        copy = self.model_copy()
        copy._stdio = True
        return copy

    @property
    def drain_seconds(self) -> float:
        """How long a stop may take."""
        return self.drain.deadline_seconds if self.drain is not None else Always.DRAIN_SECONDS

    @property
    def max_sessions(self) -> int:
        """How many sessions weir keeps at most."""
        return self.sessions.max_sessions if self.sessions is not None else Always.MAX_SESSIONS

    @property
    def session_idle_seconds(self) -> float:
        """How long a session may be unused."""
        return self.sessions.idle_seconds if self.sessions is not None else Always.SESSION_IDLE_SECONDS

    def policies_for(self, upstream: Upstream) -> Policies:
        """The policies that hold for one upstream: its own over the general ones."""
        return merge.policies(self.policies or Policies(), upstream.policies or Policies())

    def timeout_for(self, upstream: Upstream, tool: str = "") -> Timeout | None:
        """The limits of an upstream, or of one of its tools; None: only what is always on."""
        timeout = self.policies_for(upstream).timeout
        override = upstream.tools.get(tool)
        if override is None or override.timeout is None:
            return timeout
        return merge.over(timeout or Timeout(), override.timeout)

    def retry_for(self, upstream: Upstream, tool: str = "") -> Retry | None:
        """How calls of an upstream, or of one of its tools, are tried again; None: not at all."""
        retry = self.policies_for(upstream).retry
        override = upstream.tools.get(tool)
        if override is None or not override.retry.model_fields_set - {"safe"}:
            return retry
        return merge.over(retry or Retry(), override.retry)

    def connect_seconds(self, upstream: Upstream, tool: str = "") -> float:
        """How long connecting may take. Always on."""
        timeout = self._enforced(upstream, tool)
        return timeout.connect_seconds if timeout else Always.CONNECT_SECONDS

    def idle_seconds(self, upstream: Upstream, tool: str = "") -> float:
        """How long an upstream, or one of its tools, may be silent. Always on."""
        timeout = self._enforced(upstream, tool)
        return timeout.idle_seconds if timeout else Always.IDLE_SECONDS

    def client_input_seconds(self, upstream: Upstream, tool: str = "") -> float:
        """How long an upstream waits for a client's answer. Always on before a command, which weir itself waits for."""
        timeout = self._enforced(upstream, tool)
        return timeout.client_input_seconds if timeout else Always.CLIENT_INPUT_SECONDS

    def _enforced(self, upstream: Upstream, tool: str) -> Timeout | None:
        """Without those of the tool those of its upstream hold."""
        said = (self.timeout_for(upstream, tool), self.timeout_for(upstream))
        return next((one for one in said if one is not None and one.mode == "enforce"), None)
