"""From finished spans to the collector: a bounded queue, a thread that exports, and counts of what was lost.

Private to weir: no global tracer provider, so that no library's spans mix with ours. A collector
that is slow or away costs spans, never calls.
"""

import logging
import threading
import time
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
from weir.telemetry.receipt import EXPORT_FAILED, QUEUE_FULL, REJECTED, STOPPED, Receipt, failed, taken

# encoding holds the interpreter for 7 µs a span; a post costs 1 ms, however many it carries
BATCH_SPANS = 256
# two seconds of a thousand calls a second
QUEUE_SPANS = 4096
# a trace can be looked at a second after its call
DELAY_MILLISECONDS = 1000
# more spans than memory holds, and more milliseconds than a day has
_MOST = 100_000_000
_SDK_LOGGER = "opentelemetry"


class _Accounting(SpanExporter):
    """Counts what the collector took and what was lost, and keeps the pauses that it asks for.

    `export` runs in the processor's thread.
    """

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self._ending = threading.Event()
        self._settling = threading.Lock()
        self._is_over = False
        self._not_before = 0.0
        self.taken = 0
        """Spans that left the queue."""
        self.exported = 0
        self.lost = dict.fromkeys((EXPORT_FAILED, REJECTED, STOPPED), 0)
        self.is_failing = False
        self.text = ""
        """What was last said of a loss or a pause."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Exports one batch; an exporter's bug counts as a failure."""
        self.taken += len(spans)
        receipt = self._deliver(spans)
        with self._settling:
            if self._is_over:
                return SpanExportResult.FAILURE
            self.is_failing = receipt.lost > 0
            self.text = receipt.text or self.text
            self.exported += len(spans) - receipt.lost
            if receipt.lost:
                self.lost[receipt.reason] += receipt.lost
        return SpanExportResult.FAILURE if receipt.lost else SpanExportResult.SUCCESS

    def _deliver(self, spans: Sequence[ReadableSpan]) -> Receipt:
        """Sends the batch, and again after each pause that the collector asks for."""
        while not self._ending.wait(max(0.0, self._not_before - time.monotonic())):
            receipt = self._once(spans)
            if receipt.again_after_seconds is None:
                return receipt
            self._not_before = time.monotonic() + receipt.again_after_seconds
            self.text = receipt.text
        if time.monotonic() >= self._not_before:
            # the last batches of a weir that ends
            receipt = self._once(spans)
            if receipt.again_after_seconds is None:
                return receipt
            self._not_before = time.monotonic() + receipt.again_after_seconds
        return Receipt(len(spans), STOPPED)

    def _once(self, spans: Sequence[ReadableSpan]) -> Receipt:
        deliver = getattr(self._inner, "deliver", None)
        try:
            if deliver is not None:
                receipt: Receipt = deliver(spans)
                return receipt
            is_taken = self._inner.export(spans) is SpanExportResult.SUCCESS
        except Exception as error:  # noqa: BLE001 - the thread must live on, whatever the exporter does
            return failed(len(spans), str(error))
        return taken() if is_taken else failed(len(spans), "")

    def end(self) -> None:
        """Ends a pause; what the collector does not take at once from now on is lost."""
        self._ending.set()

    def settle(self, submitted: int) -> None:
        """Counts what is still in hand as lost: weir ends, and the collector took too long."""
        with self._settling:
            self._is_over = True
            self.lost[STOPPED] += submitted - self.exported - sum(self.lost.values())

    def shutdown(self) -> None:
        """Stops the inner exporter; ends its waiting between retries."""
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
        self._accounting = _Accounting(exporter)
        self._queue_spans = _number(environ, OTEL_BSP_MAX_QUEUE_SIZE, QUEUE_SPANS)
        self._processor = BatchSpanProcessor(
            self._accounting,
            max_queue_size=self._queue_spans,
            schedule_delay_millis=_number(environ, OTEL_BSP_SCHEDULE_DELAY, DELAY_MILLISECONDS),
            max_export_batch_size=min(_number(environ, OTEL_BSP_MAX_EXPORT_BATCH_SIZE, BATCH_SPANS), self._queue_spans),
        )
        self._last_words = _LastWords()
        logger = logging.getLogger(_SDK_LOGGER)
        logger.addHandler(self._last_words)
        logger.propagate = False
        self._submitted = 0
        self._queue_full = 0
        self._is_closed = False

    def submit(self, span: ReadableSpan) -> bool:
        """Queues a span; False where there is no room, and it is lost."""
        if self._is_closed or self.queued >= self._queue_spans:
            self._queue_full += 1
            return False
        self._submitted += 1
        self._processor.on_end(span)
        return True

    @property
    def queued(self) -> int:
        """Spans that wait for their turn; those of the batch that is being exported do not."""
        return self._submitted - self._accounting.taken

    @property
    def in_hand(self) -> int:
        """Spans that are neither exported nor lost: those that wait, and those on their way to the collector."""
        return self._submitted - self._accounting.exported - sum(self._accounting.lost.values())

    @property
    def exported(self) -> int:
        """Spans that the collector took."""
        return self._accounting.exported

    @property
    def lost(self) -> dict[str, int]:
        """Spans that are gone, by reason."""
        return {QUEUE_FULL: self._queue_full, **self._accounting.lost}

    @property
    def is_failing(self) -> bool:
        """Whether spans of the last batch were lost."""
        return self._accounting.is_failing

    @property
    def complaint(self) -> str:
        """What the collector or the exporter last said of a loss or a pause."""
        return self._accounting.text or self._last_words.text

    def close(self, deadline_seconds: float) -> None:
        """Exports what is queued, as far as the deadline allows; the rest is counted as lost. Blocks."""
        self._is_closed = True
        self._accounting.end()
        # a daemon: it may hang in a connection that a dead collector holds open
        ending = threading.Thread(target=self._processor.shutdown, name="weir-spans-end", daemon=True)
        ending.start()
        ending.join(deadline_seconds)
        if ending.is_alive():
            self._accounting.shutdown()
        self._accounting.settle(self._submitted)
        logger = logging.getLogger(_SDK_LOGGER)
        logger.removeHandler(self._last_words)
        logger.propagate = True


def _number(environ: Mapping[str, str], name: str, otherwise: int) -> int:
    return whole_number(environ.get(name, "").strip(), _MOST) or otherwise
