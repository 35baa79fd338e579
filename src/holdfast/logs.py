"""Structured logs: one JSON object per line on standard error, secrets masked."""

from __future__ import annotations

import json
import logging
import re
import sys
from typing import Any

_STANDARD = frozenset(vars(logging.makeLogRecord({})))
_SECRET = re.compile(r"(?i)(bearer\s+|secret[\"'=: ]+|passphrase[\"'=: ]+|password[\"'=: ]+)\S+")


class JsonLines(logging.Formatter):
    """Time, level, logger, message, whatever was given as ``extra``, and a traceback if any."""

    def format(self, record: logging.LogRecord) -> str:
        body: dict[str, Any] = {
            "at": self.formatTime(record, "%Y-%m-%dT%H:%M:%S"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _SECRET.sub(r"\1***", record.getMessage()),
        }
        extra = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        body.update({key: value for key, value in extra.items() if key != "color_message"})
        if record.exc_info:
            body["traceback"] = _SECRET.sub(r"\1***", self.formatException(record.exc_info))
        return json.dumps(body, default=str)


def set_up_logs(level: str) -> None:
    """All loggers to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("httpx", "httpx2", "httpcore", "httpcore2", "uvicorn.access", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
