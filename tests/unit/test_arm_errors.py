"""Every class of error has a status, and every error one body."""

from __future__ import annotations

import pytest

from holdfast import errors
from holdfast.arm.errors import STATUS, error_body, status_of


def all_classes(root: type[errors.HoldfastError]) -> list[type[errors.HoldfastError]]:
    return [root, *(found for one in root.__subclasses__() for found in all_classes(one))]


def test_every_class_of_the_tree_has_a_status() -> None:
    named = {
        found
        for found in all_classes(errors.HoldfastError)
        if found.__module__ == "holdfast.errors"
    }
    assert named == set(STATUS)


@pytest.mark.parametrize("kind", all_classes(errors.HoldfastError))
def test_only_our_own_defects_are_500(kind: type[errors.HoldfastError]) -> None:
    error = kind.__new__(kind)
    errors.HoldfastError.__init__(error, "what happened")
    if kind not in (errors.HoldfastError, errors.InternalError):
        assert status_of(error) != 500


def test_codes_azure_fixes_come_before_the_class() -> None:
    in_use = errors.ConflictError("in use", code="BMSUserErrorPolicyInUse")
    assert status_of(in_use) == 400
    assert status_of(errors.ConflictError("other")) == 409


def test_the_body_says_code_message_and_what_to_do() -> None:
    body = error_body(
        errors.UsageError("it is wrong", code="Wrong", hint="do it right", target="x")
    )
    assert body["error"]["code"] == "Wrong"
    assert body["error"]["message"] == "it is wrong"
    assert body["error"]["target"] == "x"
    assert body["error"]["details"] == []
    assert body["error"]["additionalInfo"] == [{"type": "Hint", "info": {"hint": "do it right"}}]
