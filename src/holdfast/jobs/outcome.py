"""What a step of a job says should happen next. JSON-shaped, because the engine stores it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, TypedDict

from holdfast.errors import HoldfastError

Verb = Literal["go", "wait", "done", "fail", "retry", "cancelled"]


class Outcome(TypedDict, total=False):
    """``do``: go on with the next step, wait (until ``until``, an ISO time, or a signal), or end.

    ``keep`` is handed to later steps of the same turn; ``result`` is stored with the job. ``note``
    is a (event, message) line for the history.
    """

    do: Verb
    keep: dict[str, Any]
    until: str | None
    phase: str
    detail: str
    note: list[str]
    code: str
    message: str
    hint: str
    retry: str
    result: dict[str, Any]


def go(**keep: Any) -> Outcome:
    return {"do": "go", "keep": keep}


def wait(until: datetime | None, phase: str, detail: str, note: list[str] | None = None) -> Outcome:
    """Park the job; a signal wakes it earlier."""
    shaped = until.isoformat() if until is not None else None
    outcome: Outcome = {"do": "wait", "until": shaped, "phase": phase, "detail": detail}
    if note:
        outcome["note"] = note
    return outcome


def done(result: dict[str, Any] | None = None, note: list[str] | None = None) -> Outcome:
    outcome: Outcome = {"do": "done", "result": result or {}}
    if note:
        outcome["note"] = note
    return outcome


def fail(code: str, message: str, hint: str = "") -> Outcome:
    return {"do": "fail", "code": code, "message": message, "hint": hint}


def cancelled(message: str) -> Outcome:
    return {"do": "cancelled", "message": message}


def retry(code: str, message: str, hint: str = "") -> Outcome:
    """Try again later, as often as the retry policy allows."""
    return {"do": "retry", "code": code, "message": message, "hint": hint}


def of_error(error: HoldfastError) -> Outcome:
    """Failures that may pass are tried again; the others end the job."""
    make = fail if error.retry == "never" else retry
    return make(error.code, error.message, error.hint)
