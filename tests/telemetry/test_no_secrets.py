"""No credential, session id, requestState, header value, argument or result is ever written, by anybody."""

from dataclasses import replace

import pytest

from support.otlp_sink import http_sink
from support.watched import OK, OPENMETRICS, Watch, call_of
from weir.core.call import Attempt
from weir.core.events import Ask, AskFinished, AskStarted, ChildExited, Decided, Listed, Notice, ServerNotified
from weir.core.outcome import Failed, FailureKind, Outcome, RefusalKind, Refused, Replied, Verdict
from weir.protocol.envelope import peek
from weir.telemetry.build import Surroundings, Telemetry
from weir.telemetry.settings import LogsSettings, TelemetrySettings

pytestmark = pytest.mark.anyio

HEADERS = [
    (b"authorization", b"Bearer MARKER-authorization"),
    (b"cookie", b"sid=MARKER-cookie"),
    (b"mcp-session-id", b"MARKER-session"),
    (b"mcp-param-region", b"MARKER-param"),
    (b"mcp-name", b"add"),
    (b"x-api-key", b"MARKER-key"),
    (b"baggage", b"user=MARKER-baggage"),
    (b"tracestate", b"vendor=1"),
]
CALL = (
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add","arguments":{"a":"MARKER-argument"},'
    b'"requestState":"MARKER-state","inputResponses":{"x":"MARKER-input"},"_meta":{"progressToken":"MARKER-token"}}}'
)
READ = b'{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"https://u:MARKER-userinfo@h/x?k=MARKER-q"}}'
RESULT = b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"MARKER-result"}]}}'
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

            call = call_of(body, list(HEADERS), session="MARKER-session", target=b"/mcp?key=MARKER-target")
            await watch.serve(call, upstream, tries=2)
    call = call_of(CALL, list(HEADERS), session="MARKER-session")
    asked = b'{"jsonrpc":"2.0","id":2,"method":"sampling/createMessage","params":{"messages":["MARKER-message"]}}'
    ask = Ask("search", peek(asked), watch.now, call)
    watch.telemetry.tracing.begin_ask(ask, asked)
    emit(AskStarted(ask))
    emit(AskFinished(ask, Verdict(-1, "password: MARKER-answer")))
    told = peek(b'{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"MARKER-data"}}')
    emit(ServerNotified(call, told))
    emit(Listed("search", "tools/list", b'{"result":{"tools":[{"name":"add","description":"MARKER-description"}]}}'))
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
