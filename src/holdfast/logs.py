"""Structured logs: one JSON object per line on standard error, secrets masked.

What is bound with ``log_context`` (request_id, job_id, ...) is on every line written inside it, in
this thread or task and those it starts by ``to_thread``.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import Any

import structlog
from structlog.contextvars import bound_contextvars as log_context
from structlog.typing import EventDict, Processor

__all__ = ["log_context", "set_up_logs"]

MASK = "***"
_SECRET_KEY = re.compile(
    r"(?i)secret|passphrase|password|authorization|assertion|credential|^token$"
)
_SECRET_TEXT = re.compile(
    r"(?i)(bearer\s+|(?:client_)?(?:secret|assertion)[\"'=: ]+|passphrase[\"'=: ]+"
    r"|password[\"'=: ]+|access_token[\"'=: ]+)[^\s\"'&,}]+"
)
_USERINFO = re.compile(r"(://[^/\s:@]*:)[^@\s/]+@")
_QUIET = ("httpx2", "httpcore2", "uvicorn.access", "uvicorn.error", "alembic", "asyncio", "dbos")


def mask(text: str) -> str:
    """``text`` without what looks like a secret."""
    return _USERINFO.sub(rf"\1{MASK}@", _SECRET_TEXT.sub(rf"\1{MASK}", text))


def _masked(_logger: Any, _method: str, event: EventDict) -> EventDict:
    for key, value in event.items():
        if _SECRET_KEY.search(key):
            event[key] = MASK
        elif isinstance(value, str):
            event[key] = mask(value)
    return event


def _renamed(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """``message`` rather than structlog's ``event``, and first."""
    event.pop("color_message", None)
    return {"at": event.pop("timestamp"), "message": event.pop("event"), **event}


def formatter() -> logging.Formatter:
    """Every record of any library as one JSON line."""
    before: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    after: list[Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        _masked,
        _renamed,
        structlog.processors.JSONRenderer(default=str),
    ]
    return structlog.stdlib.ProcessorFormatter(foreign_pre_chain=before, processors=after)


def set_up_logs(level: str) -> None:
    """All loggers to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
