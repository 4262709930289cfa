"""What the standard OTEL_* variables say about traces, where the SDK does not read them by itself."""

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from opentelemetry.environment_variables import OTEL_TRACES_EXPORTER
from opentelemetry.sdk.environment_variables import (
    OTEL_EXPORTER_OTLP_ENDPOINT,
    OTEL_EXPORTER_OTLP_PROTOCOL,
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT,
    OTEL_EXPORTER_OTLP_TRACES_PROTOCOL,
    OTEL_SDK_DISABLED,
    OTEL_TRACES_SAMPLER,
    OTEL_TRACES_SAMPLER_ARG,
)

GRPC_PORT = 4317
_RATIO = re.compile(r"0|1|0?\.[0-9]+|[01]\.0*|0\.[0-9]+")
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
        return "grpc" if urlsplit(endpoint(environ)).port == GRPC_PORT else "http/protobuf"
    if named not in ("grpc", "http/protobuf"):
        raise UnknownExporterError(f"{variable}: weir does not speak {named!r}; it speaks grpc and http/protobuf")
    return named


def endpoint(environ: Mapping[str, str]) -> str:
    """Where spans go, "" for the exporter's own default."""
    return environ.get(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT) or environ.get(OTEL_EXPORTER_OTLP_ENDPOINT) or ""


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
