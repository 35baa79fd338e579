"""Log lines: JSON, in UTC, with what was bound, without secrets."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.logs import formatter, log_context, mask


def line(message: str, *arguments: Any, **extra: Any) -> dict[str, Any]:
    record = logging.getLogger("holdfast.test").makeRecord(
        "holdfast.test", logging.INFO, "file", 1, message, arguments, None, extra=extra
    )
    found: dict[str, Any] = json.loads(formatter().format(record))
    return found


def test_a_line_says_when_what_where_and_for_which_job() -> None:
    with log_context(job_id="j1", request_id="r1"):
        found = line("hello %s", "you", seconds=1.5)
    assert found["message"] == "hello you"
    assert found["at"].endswith("Z")
    assert (found["level"], found["logger"]) == ("info", "holdfast.test")
    assert (found["job_id"], found["request_id"], found["seconds"]) == ("j1", "r1", 1.5)
    assert "job_id" not in line("later")


def test_a_traceback_is_one_line() -> None:
    try:
        raise ValueError("password=hunter2 is wrong")
    except ValueError as error:
        record = logging.getLogger("x").makeRecord(
            "x", logging.ERROR, "f", 1, "broken", (), (ValueError, error, error.__traceback__)
        )
    text = formatter().format(record)
    assert "\n" not in text
    assert "ValueError" in text
    assert "hunter2" not in text


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer s3cr3t",
        "client_secret=s3cr3t&scope=x",
        "{'client_secret': 's3cr3t'}",
        '{"passphrase": "s3cr3t"}',
        "access_token: s3cr3t",
        "client_assertion=s3cr3t",
        "postgresql://holdfast:s3cr3t@db/holdfast",
    ],
)
def test_secrets_are_masked(text: str) -> None:
    assert "s3cr3t" in text
    assert "s3cr3t" not in mask(text)
    assert "s3cr3t" not in json.dumps(line("%s", text))


@pytest.mark.parametrize("name", ["client_secret", "passphrase", "Authorization", "token"])
def test_fields_named_as_secrets_are_masked(name: str) -> None:
    assert line("x", **{name: "s3cr3t"})[name] == "***"


@given(st.text(max_size=300))
def test_any_message_gives_one_json_object(text: str) -> None:
    assert isinstance(line("%s", text)["message"], str)
