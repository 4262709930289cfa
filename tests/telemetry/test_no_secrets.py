"""Telemetry alone: whatever it is told, events that are hard to provoke included, it writes no secret of."""

from dataclasses import replace

import pytest

from support.marked import ASKED, CALL, HEADERS, READ, RESULT, TOLD
from support.otlp_sink import http_sink
from support.watched import OK, OPENMETRICS, Watch, call_of
from weir.core.call import Attempt
from weir.core.events import Ask, AskFinished, AskStarted, ChildExited, Decided, Listed, Notice, ServerNotified
from weir.core.outcome import Failed, FailureKind, Outcome, RefusalKind, Refused, Replied, Verdict
from weir.protocol.envelope import peek
from weir.telemetry.build import Surroundings, Telemetry
from weir.telemetry.settings import LogsSettings, TelemetrySettings

pytestmark = pytest.mark.anyio

SENT = [*HEADERS, (b"mcp-name", b"echo"), (b"tracestate", b"vendor=1")]
OUTCOMES: list[Outcome] = [
    replace(OK, body=RESULT),
    Replied(200, [(b"set-cookie", b"MARKER-set-cookie")], RESULT, Verdict(is_tool_error=True)),
    Replied(200, [], RESULT, Verdict(-32603, "upstream said token=MARKER-message")),
    Failed(FailureKind.CONNECT, "https://u:MARKER-detail@h/x?k=MARKER-detail refused"),
    Refused(RefusalKind.RATE_LIMITED, "client Authorization: Bearer MARKER-refused"),
]


async def everything(watch: Watch) -> None:
    """Every kind of event, with a secret wherever one can be."""
    emit = watch.telemetry.emit
    for outcome in OUTCOMES:
        for body in (CALL, READ, b"", b"[" + CALL + b"," + CALL + b"]"):

            async def upstream(attempt: Attempt, outcome: Outcome = outcome) -> Outcome:
                attempt.headers = [*attempt.headers, (b"authorization", b"MARKER-upstream")]
                return outcome

            call = call_of(body, list(SENT), session="MARKER-session", target=b"/mcp?key=MARKER-target")
            await watch.serve(call, upstream, tries=2)
    call = call_of(CALL, list(SENT), session="MARKER-session")
    ask = Ask("search", peek(ASKED), watch.now, call)
    watch.telemetry.tracing.begin_ask(ask, ASKED)
    emit(AskStarted(ask))
    emit(AskFinished(ask, Verdict(-1, "password: MARKER-answer")))
    emit(ServerNotified(call, peek(TOLD)))
    emit(Listed("search", "tools/list", b'{"result":{"tools":[{"name":"echo","description":"MARKER-description"}]}}'))
    emit(ChildExited("files", 1, 1, False, "OPENAI_API_KEY=MARKER-child"))
    emit(Notice("warning", "odd", {"url": "https://h/x?token=MARKER-notice"}))
    emit(Decided("rate_limit", "refused", call, detail="Authorization: MARKER-policy"))


@pytest.mark.parametrize("form", ["json", "text"])
async def test_nothing_secret_leaves_weir(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans as they are on the wire, metrics in both formats, and every log line at debug."""
    settings = TelemetrySettings(logs=LogsSettings(form, "debug"))
    watch = Watch(settings)
    with http_sink() as sink:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.endpoint)
        world = Surroundings(clock=lambda: watch.now, write=watch.written.append)
        watch.telemetry = Telemetry(settings, world)
        await everything(watch)
        metrics = [(await watch.telemetry.metrics.render(accept))[1] for accept in (OPENMETRICS, "")]
        await watch.telemetry.aclose()
        spans = b"".join(sink.raw)
    assert b"execute_tool" in spans
    assert b"execute_tool" in metrics[0]
    assert b"tools/call" in b"".join(watch.written)
    for written in (spans, *metrics, *watch.written):
        assert b"MARKER" not in written
