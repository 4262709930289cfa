"""What the standard OTEL_* variables say about traces, where the SDK does not read them by itself."""

import os
import re
from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit

from opentelemetry.environment_variables import OTEL_TRACES_EXPORTER
from opentelemetry.sdk.environment_variables import (
    OTEL_EXPORTER_OTLP_CERTIFICATE,
    OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE,
    OTEL_EXPORTER_OTLP_CLIENT_KEY,
    OTEL_EXPORTER_OTLP_COMPRESSION,
    OTEL_EXPORTER_OTLP_ENDPOINT,
    OTEL_EXPORTER_OTLP_PROTOCOL,
    OTEL_EXPORTER_OTLP_TIMEOUT,
    OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE,
    OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE,
    OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY,
    OTEL_EXPORTER_OTLP_TRACES_COMPRESSION,
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT,
    OTEL_EXPORTER_OTLP_TRACES_PROTOCOL,
    OTEL_EXPORTER_OTLP_TRACES_TIMEOUT,
    OTEL_SDK_DISABLED,
    OTEL_TRACES_SAMPLER,
    OTEL_TRACES_SAMPLER_ARG,
)

from weir.protocol import hosts

GRPC_PORT = 4317
_RATIO = re.compile(r"0|1|0?\.[0-9]+|[01]\.0*|0\.[0-9]+")
_NUMBER = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")
_SECONDS = (OTEL_EXPORTER_OTLP_TIMEOUT, OTEL_EXPORTER_OTLP_TRACES_TIMEOUT)
_FILES = (
    OTEL_EXPORTER_OTLP_CERTIFICATE,
    OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE,
    OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE,
    OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE,
    OTEL_EXPORTER_OTLP_CLIENT_KEY,
    OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY,
)
_COMPRESSIONS = (OTEL_EXPORTER_OTLP_COMPRESSION, OTEL_EXPORTER_OTLP_TRACES_COMPRESSION)
_ENDPOINT_MEND = "write for example 'http://127.0.0.1:4318'"
MAX_SHOWN = 40
"""Characters of a wrong value in an error."""
OTLP, CONSOLE, NONE = "otlp", "console", "none"


class UnknownExporterError(ValueError):
    """A variable names an exporter, a protocol or a sampler that weir does not have. The text names the variable."""


def chosen(setting: str, environ: Mapping[str, str]) -> str:
    """otlp, console or none. The variables decide only where the setting is the default, `otlp`.

    Raises:
        UnknownExporterError: none of the three.
    """
    if environ.get(OTEL_SDK_DISABLED, "").strip().lower() == "true":
        return NONE
    name = setting
    if setting == OTLP:
        name = environ.get(OTEL_TRACES_EXPORTER, "").split(",")[0].strip().lower() or OTLP
    if name not in (OTLP, CONSOLE, NONE):
        raise UnknownExporterError(
            f"{OTEL_TRACES_EXPORTER}: weir has no exporter {name!r}; it has otlp, console and none"
        )
    return name


def protocol(environ: Mapping[str, str]) -> str:
    """grpc or http/protobuf: as the variables say, else grpc at its usual port, else http/protobuf.

    Raises:
        UnknownExporterError: another protocol.
    """
    variable = OTEL_EXPORTER_OTLP_TRACES_PROTOCOL
    if not environ.get(variable):
        variable = OTEL_EXPORTER_OTLP_PROTOCOL
    named = environ.get(variable)
    if not named:
        return "grpc" if _parts(environ).port == GRPC_PORT else "http/protobuf"
    if named not in ("grpc", "http/protobuf"):
        raise UnknownExporterError(f"{variable}: weir does not speak {named!r}; it speaks grpc and http/protobuf")
    return named


def endpoint(environ: Mapping[str, str]) -> str:
    """Where spans go, "" for the exporter's own default."""
    return environ.get(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT) or environ.get(OTEL_EXPORTER_OTLP_ENDPOINT) or ""


def shown_endpoint(environ: Mapping[str, str]) -> str:
    """Scheme, host and port of the endpoint: its path and query may be secrets."""
    try:
        parts = _parts(environ)
    except UnknownExporterError:
        # `check` has refused it, unless there are no spans to export
        return "default"
    if parts.netloc:
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    # gRPC takes HOST:PORT too
    return re.split(r"[/?#]", endpoint(environ).rpartition("@")[2])[0] or "default"


def check(environ: Mapping[str, str]) -> None:
    """Looks at what the SDK reads by itself, and would fail on with a traceback.

    Raises:
        UnknownExporterError: a time limit is no number, a file is not there, the endpoint is no URL.
    """
    for variable in _SECONDS:
        text = environ.get(variable, "").strip()
        if text and not _NUMBER.fullmatch(text):
            raise UnknownExporterError(f"{variable}: {text[:MAX_SHOWN]!r} is no number of seconds")
    for variable in _FILES:
        name = environ.get(variable)
        if name and not os.path.isfile(name):
            raise UnknownExporterError(f"{variable}: there is no such file; name a PEM file")
    for variable in _COMPRESSIONS:
        if environ.get(variable, "").strip().lower() not in ("", "none", "gzip", "deflate"):
            raise UnknownExporterError(f"{variable}: weir has none, gzip and deflate (over gRPC only the first two)")
    parts = _parts(environ)
    if parts.scheme in ("http", "https") and not parts.hostname:
        raise UnknownExporterError(f"{_endpoint_variable(environ)}: no http or https URL; {_ENDPOINT_MEND}")


def _parts(environ: Mapping[str, str]) -> SplitResult:
    """The endpoint in parts, whose port is one that there is."""
    try:
        parts = urlsplit(endpoint(environ))
        _ = parts.port
    except ValueError:
        # the library's own text quotes what it read, which may be a password
        raise UnknownExporterError(f"{_endpoint_variable(environ)}: no URL; {_ENDPOINT_MEND}") from None
    if parts.hostname and ":" not in parts.hostname and (reason := hosts.objection(parts.hostname)):
        raise UnknownExporterError(f"{_endpoint_variable(environ)}: its host is no host name: {reason}")
    return parts


def _endpoint_variable(environ: Mapping[str, str]) -> str:
    own = OTEL_EXPORTER_OTLP_TRACES_ENDPOINT
    return own if environ.get(own) else OTEL_EXPORTER_OTLP_ENDPOINT


def sample_ratio(setting: float, environ: Mapping[str, str]) -> float:
    """The share of the traces that begin here which is sampled. A setting below 1 wins over the variables.

    A caller's own decision is kept with every sampler, as with the `parentbased_` ones.

    Raises:
        UnknownExporterError: another sampler, or an argument that is no ratio.
    """
    sampler = environ.get(OTEL_TRACES_SAMPLER, "").strip().lower().removeprefix("parentbased_")
    if setting != 1.0 or sampler in ("", "always_on"):
        return setting
    if sampler == "always_off":
        return 0.0
    argument = environ.get(OTEL_TRACES_SAMPLER_ARG, "").strip() or "1"
    if sampler != "traceidratio":
        has = "always_on, always_off and traceidratio, each with or without parentbased_"
        raise UnknownExporterError(f"{OTEL_TRACES_SAMPLER}: weir has no sampler {sampler!r}; it has {has}")
    if not _RATIO.fullmatch(argument):
        raise UnknownExporterError(f"{OTEL_TRACES_SAMPLER_ARG}: {argument!r} is no share from 0 to 1")
    return float(argument)
