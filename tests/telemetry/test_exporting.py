"""Spans on the wire: real collectors, the standard variables, and collectors that fail."""

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Mapping, Sequence

import msgspec
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import SpanContext, TraceFlags

from support.limits import HANG_SECONDS
from support.otlp_sink import ENOUGH_SECONDS, Sink, attributes_of, grpc_sink, http_sink
from support.watched import OK, Watch, answer, call_of, tool_call
from weir.core.call import Attempt
from weir.telemetry import environment
from weir.telemetry.build import Surroundings, Telemetry
from weir.telemetry.environment import UnknownExporterError
from weir.telemetry.pipeline import Pipeline
from weir.telemetry.settings import LogsSettings, TelemetrySettings, TracesSettings

pytestmark = pytest.mark.anyio

QUICK = {"OTEL_BSP_SCHEDULE_DELAY": "20"}


class Exporting(Watch):
    """A Watch with the exporter that the variables choose."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, environ: Mapping[str, str], exporter: str = "otlp") -> None:
        super().__init__(TelemetrySettings(TracesSettings(exporter="none")))
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        self.now = time.monotonic()
        world = Surroundings(clock=lambda: self.now, environ={**environ}, write=self.written.append)
        self.telemetry = Telemetry(TelemetrySettings(TracesSettings(exporter=exporter)), world)

    async def notices(self) -> list[str]:
        """The texts of the log lines that are no calls."""
        return [line["msg"] for line in await self.lines() if line["msg"] != "call"]


async def exported(monkeypatch: pytest.MonkeyPatch, sink: Sink, environ: Mapping[str, str]) -> None:
    watch = Exporting(monkeypatch, {**QUICK, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint, **environ})
    await watch.serve(call_of(tool_call("add")), answer)
    watch.telemetry.flush()
    await asyncio.to_thread(sink.await_spans, 2)
    await watch.telemetry.aclose()


RESOURCE = {
    "OTEL_SERVICE_NAME": "front",
    "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
    "OTEL_EXPORTER_OTLP_HEADERS": "x-key=4711",
}


@pytest.mark.parametrize("environ", [{}, {"OTEL_EXPORTER_OTLP_COMPRESSION": "none"}])
async def test_spans_arrive_over_http(monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]) -> None:
    """The default protocol; headers, service name and resource as the variables say."""
    with http_sink() as sink:
        await exported(monkeypatch, sink, {**RESOURCE, **environ})
    assert ("/v1/traces", "4711") == (sink.headers[0][":path"], sink.headers[0]["x-key"])
    check_request(sink)


@pytest.mark.parametrize("name", ["OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"])
async def test_spans_arrive_over_grpc(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """When either variable asks for it."""
    with grpc_sink() as sink:
        await exported(monkeypatch, sink, {**RESOURCE, name: "grpc"})
    assert "4711" == sink.headers[0]["x-key"]
    check_request(sink)


def check_request(sink: Sink) -> None:
    """One resource, one scope, and the pair of one call with every attribute."""
    (resource_spans,) = sink.requests[0].resource_spans
    resource = {item.key: item.value.string_value for item in resource_spans.resource.attributes}
    assert ("front", "test") == (resource["service.name"], resource["deployment.environment.name"])
    assert {"service.version", "service.instance.id"} <= set(resource)
    assert "weir" == resource_spans.scope_spans[0].scope.name
    server, client = sink.spans
    assert server.span_id == client.parent_span_id
    assert ("add", "search") == (attributes_of(server)["gen_ai.tool.name"], attributes_of(client)["weir.upstream"])


async def test_the_service_is_called_weir_when_nobody_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not unknown_service."""
    with http_sink() as sink:
        await exported(monkeypatch, sink, {})
    attributes = sink.requests[0].resource_spans[0].resource.attributes
    assert "weir" == next(item.value.string_value for item in attributes if item.key == "service.name")


@pytest.mark.parametrize(
    ("environ", "protocol"),
    [
        ({}, "http/protobuf"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317"}, "grpc"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, "http/protobuf"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4317"}, "grpc"),
        (
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"},
            "http/protobuf",
        ),
    ],
)
def test_the_protocol_follows_the_variables_or_the_usual_port(environ: dict[str, str], protocol: str) -> None:
    """The traces' own variable wins; without any, gRPC's port means gRPC."""
    assert protocol == environment.protocol(environ)


@pytest.mark.parametrize(
    ("setting", "environ", "chosen"),
    [
        ("otlp", {}, "otlp"),
        ("otlp", {"OTEL_TRACES_EXPORTER": "none"}, "none"),
        ("otlp", {"OTEL_TRACES_EXPORTER": "console"}, "console"),
        ("console", {"OTEL_TRACES_EXPORTER": "otlp"}, "console"),
        ("none", {"OTEL_TRACES_EXPORTER": "otlp"}, "none"),
        ("otlp", {"OTEL_SDK_DISABLED": "true"}, "none"),
    ],
)
def test_the_setting_decides_and_its_default_leaves_it_to_the_variables(
    setting: str, environ: dict[str, str], chosen: str
) -> None:
    """OTEL_SDK_DISABLED stands above both."""
    assert chosen == environment.chosen(setting, environ)


@pytest.mark.parametrize(
    ("setting", "sampler", "argument", "ratio"),
    [
        (1.0, "", "", 1.0),
        (1.0, "always_on", "", 1.0),
        (1.0, "parentbased_always_off", "", 0.0),
        (1.0, "traceidratio", "0.25", 0.25),
        (1.0, "parentbased_traceidratio", "", 1.0),
        (0.5, "parentbased_always_off", "", 0.5),
    ],
)
def test_the_share_of_sampled_traces_follows_the_setting_or_the_sampler(
    setting: float, sampler: str, argument: str, ratio: float
) -> None:
    """As with the exporter: the variables decide where the setting is the default."""
    environ = {"OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": argument}
    assert ratio == environment.sample_ratio(setting, environ)


@pytest.mark.parametrize(
    ("sampler", "argument", "at_fault"),
    [
        ("jaeger_remote", "", "OTEL_TRACES_SAMPLER: "),
        ("traceidratio", "2", "OTEL_TRACES_SAMPLER_ARG: "),
        ("traceidratio", "x", "OTEL_TRACES_SAMPLER_ARG: "),
    ],
)
def test_an_unknown_sampler_is_an_error(sampler: str, argument: str, at_fault: str) -> None:
    """Not everything, and not nothing."""
    with pytest.raises(UnknownExporterError, match=at_fault):
        environment.sample_ratio(1.0, {"OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": argument})


def test_an_unknown_exporter_or_protocol_is_an_error_that_names_it() -> None:
    """Not a silent default."""
    with pytest.raises(UnknownExporterError, match=r"OTEL_TRACES_EXPORTER: .*zipkin"):
        environment.chosen("otlp", {"OTEL_TRACES_EXPORTER": "zipkin"})
    for variable in ("OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"):
        with pytest.raises(UnknownExporterError, match=f"{variable}: .*http/json"):
            environment.protocol({variable: "http/json"})


async def test_the_console_exporter_writes_lines_to_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    """One JSON object a span, with the access log's lines."""
    watch = Exporting(monkeypatch, {}, "console")
    await watch.serve(call_of(tool_call()), answer)
    lines = await watch.lines()
    assert ["tools/call add"] * 2 == [line["name"] for line in lines if "name" in line]


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
        return port


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
async def test_a_collector_that_is_away_costs_spans_and_one_notice(
    monkeypatch: pytest.MonkeyPatch, protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    """No call waits, nothing but one line is logged, and what was lost is counted."""
    environ = {
        **QUICK,
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
    }
    watch = Exporting(monkeypatch, environ)
    began = time.monotonic()
    for _ in range(300):
        await watch.serve(call_of(tool_call()), answer)
    assert time.monotonic() - began < 1
    assert ["spans are lost: the collector does not take them"] == await watch.notices()
    assert 0 < await watch.value("weir_spans_dropped_total", reason="export_failed")
    assert 0 == await watch.value("weir_spans_exported_total")
    assert [] == [record for record in caplog.records if record.name.startswith("opentelemetry")]


async def test_closing_ends_in_time_with_a_collector_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the connection and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        watch = Exporting(monkeypatch, {**QUICK, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint})
        await watch.serve(call_of(tool_call()), answer)
        async with asyncio.timeout(HANG_SECONDS):
            await watch.telemetry.aclose(deadline_seconds=0.5)


class Moody(SpanExporter):
    """Fails until it is told not to."""

    def __init__(self) -> None:
        self.result = SpanExportResult.FAILURE

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """As told."""
        return self.result


class Stuck(SpanExporter):
    """Takes a batch and does not come back until told."""

    def __init__(self) -> None:
        self.has_begun, self.may_end = threading.Event(), threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Wait."""
        self.has_begun.set()
        self.may_end.wait(ENOUGH_SECONDS)
        return SpanExportResult.SUCCESS


async def test_losing_spans_is_told_once_and_so_is_recovery() -> None:
    """Not a line for every batch."""
    moody, lines = Moody(), asyncio.Queue[bytes]()
    loop = asyncio.get_running_loop()

    def write(data: bytes) -> None:
        loop.call_soon_threadsafe(lines.put_nowait, data)

    world = Surroundings(environ=QUICK, write=write)
    settings = TelemetrySettings(logs=LogsSettings("json", access=False))
    telemetry = Telemetry(settings, world, exporter=moody)

    async def told_after_calls() -> str:
        call = call_of(tool_call())
        for _ in range(5):
            await telemetry.observe_call(call, lambda call: answer(Attempt(call, 1, 0.0)))
            telemetry.observe_call.finish(call, OK)
        text: str = msgspec.json.decode(await lines.get())["msg"]
        return text

    async with asyncio.timeout(ENOUGH_SECONDS), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(telemetry.run())
        assert "spans are lost: the collector does not take them" == await told_after_calls()
        moody.result = SpanExportResult.SUCCESS
        assert "spans are exported again" == await told_after_calls()
        running.cancel()
    await telemetry.aclose()
    assert lines.empty()


def test_a_full_queue_drops_spans_and_counts_them() -> None:
    """What is already on its way to a stuck collector does not count as waiting."""
    stuck = Stuck()
    environ = {"OTEL_BSP_MAX_QUEUE_SIZE": "4", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "2"}
    pipeline = Pipeline(stuck, environ)
    span = ReadableSpan("s", SpanContext(1, 1, False, TraceFlags(1)))
    assert all([pipeline.submit(span), pipeline.submit(span)])
    assert stuck.has_begun.wait(ENOUGH_SECONDS)
    assert [True, True, True, True, False, False] == [pipeline.submit(span) for _ in range(6)]
    assert (2, 4, 6) == (pipeline.lost["queue_full"], pipeline.queued, pipeline.in_hand)
    stuck.may_end.set()
    pipeline.close(ENOUGH_SECONDS)
    assert (6, 2, 0) == (pipeline.exported, sum(pipeline.lost.values()), pipeline.in_hand)


def test_the_sdks_loggers_are_as_before_when_the_pipeline_is_closed() -> None:
    """weir leaves no handler behind."""
    logger = logging.getLogger("opentelemetry")
    before = (list(logger.handlers), logger.propagate)
    pipeline = Pipeline(Moody(), {})
    assert not logger.propagate
    pipeline.close(ENOUGH_SECONDS)
    assert before == (logger.handlers, logger.propagate)
