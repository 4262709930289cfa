"""What libraries write with stdlib logging, as lines of weir's own log."""

import logging

from weir.telemetry.log import Log


class OtherLoggers(logging.Handler):
    """Takes every record that reaches the root logger. Install it once for the process."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        fields = {"logger": record.name}
        if record.exc_info and record.exc_info[1] is not None:
            fields["error"] = repr(record.exc_info[1])
        level = "error" if record.levelno >= logging.ERROR else "warning"
        self._log.write_once(level, record.getMessage(), fields, record.name)

    def install(self) -> None:
        """Listen to the root logger."""
        logging.getLogger().addHandler(self)

    def remove(self) -> None:
        """Stop listening."""
        logging.getLogger().removeHandler(self)
