"""From finished spans to the collector: a bounded queue, a thread that exports, and counts of what was lost.

Private to weir: no global tracer provider, so that no library's spans mix with ours. A collector
that is slow or away costs spans, never calls.
"""

import logging
import threading
from collections.abc import Mapping, Sequence

from opentelemetry.sdk.environment_variables import (
    OTEL_BSP_MAX_EXPORT_BATCH_SIZE,
    OTEL_BSP_MAX_QUEUE_SIZE,
    OTEL_BSP_SCHEDULE_DELAY,
)
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from weir.protocol.numbers import whole_number
from weir.telemetry import redact

# encoding holds the interpreter for 7 µs a span; a post costs 1 ms, however many it carries
BATCH_SPANS = 256
# two seconds of a thousand calls a second
QUEUE_SPANS = 4096
# a trace can be looked at a second after its call
DELAY_MILLISECONDS = 1000
# more spans than memory holds, and more milliseconds than a day has
_MOST = 100_000_000
_SDK_LOGGER = "opentelemetry"


class _Counting(SpanExporter):
    """Counts what an exporter took, sent and lost. Runs in the processor's thread."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self.taken = 0
        self.exported = 0
        self.failed = 0
        self.is_failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export one batch; an exporter's bug counts as a failure."""
        self.taken += len(spans)
        try:
            result = self._inner.export(spans)
        except Exception as error:  # noqa: BLE001 - the thread must live on, whatever the exporter does
            logging.getLogger(_SDK_LOGGER).error("%s", error)
            result = SpanExportResult.FAILURE
        self.is_failing = result is not SpanExportResult.SUCCESS
        if self.is_failing:
            self.failed += len(spans)
        else:
            self.exported += len(spans)
        return result

    def shutdown(self) -> None:
        """Stop the inner exporter; ends its waiting between retries."""
        self._inner.shutdown()


class _LastWords(logging.Handler):
    """Keeps the SDK's last complaint for weir's own notice, in place of a line for every batch."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = redact.text(record.getMessage())


class Pipeline:
    """Exports spans. Make it once for a process; `close` it."""

    def __init__(self, exporter: SpanExporter, environ: Mapping[str, str]) -> None:
        self._counting = _Counting(exporter)
        self._queue_spans = _number(environ, OTEL_BSP_MAX_QUEUE_SIZE, QUEUE_SPANS)
        self._processor = BatchSpanProcessor(
            self._counting,
            max_queue_size=self._queue_spans,
            schedule_delay_millis=_number(environ, OTEL_BSP_SCHEDULE_DELAY, DELAY_MILLISECONDS),
            max_export_batch_size=min(_number(environ, OTEL_BSP_MAX_EXPORT_BATCH_SIZE, BATCH_SPANS), self._queue_spans),
        )
        self._last_words = _LastWords()
        logger = logging.getLogger(_SDK_LOGGER)
        logger.addHandler(self._last_words)
        logger.propagate = False
        self.submitted = 0
        self.dropped = 0
        """Spans for which the queue had no room."""

    def submit(self, span: ReadableSpan) -> bool:
        """Queue a span; False where there is no room, and it is lost."""
        if self.queued >= self._queue_spans:
            self.dropped += 1
            return False
        self.submitted += 1
        self._processor.on_end(span)
        return True

    @property
    def queued(self) -> int:
        """Spans that wait for their turn."""
        return self.submitted - self._counting.taken

    @property
    def exported(self) -> int:
        """Spans the collector took."""
        return self._counting.exported

    @property
    def failed(self) -> int:
        """Spans the collector did not take."""
        return self._counting.failed

    @property
    def is_failing(self) -> bool:
        """Whether the last batch was lost."""
        return self._counting.is_failing

    @property
    def complaint(self) -> str:
        """What the exporter last said of it."""
        return self._last_words.text

    def close(self, deadline_seconds: float) -> None:
        """Export what is queued, as far as the deadline allows. Blocks."""
        # a daemon: it may hang in a connection that a dead collector holds open
        ending = threading.Thread(target=self._processor.shutdown, name="weir-spans-end", daemon=True)
        ending.start()
        ending.join(deadline_seconds)
        if ending.is_alive():
            self._counting.shutdown()
        logger = logging.getLogger(_SDK_LOGGER)
        logger.removeHandler(self._last_words)
        logger.propagate = True


def _number(environ: Mapping[str, str], name: str, otherwise: int) -> int:
    return whole_number(environ.get(name, "").strip(), _MOST) or otherwise
