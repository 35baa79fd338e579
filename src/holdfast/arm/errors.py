"""Errors as ARM shows them: one table from our tree to HTTP, one body for all."""

from __future__ import annotations

from typing import Any

from holdfast import errors

MAX_MESSAGE = 2000  # messages quote what they were sent
STATUS: dict[type[errors.HoldfastError], int] = {
    errors.HoldfastError: 500,
    errors.UsageError: 400,
    errors.AuthenticationError: 401,
    errors.AccessError: 403,
    errors.NotFoundError: 404,
    errors.ConflictError: 409,
    errors.LimitError: 429,
    errors.StoreError: 503,
    errors.ObjectMissingError: 409,
    errors.ObjectExistsError: 409,
    errors.ObjectLockedError: 409,
    errors.StoreFullError: 507,
    errors.StoreUnavailableError: 503,
    errors.IntegrityError: 409,
    errors.SourceError: 400,
    errors.TargetError: 400,
    errors.CancelledError: 409,
    errors.InternalError: 500,
}
# codes whose status Azure fixes otherwise
BY_CODE: dict[str, int] = {
    "ServiceResourceNotEmptyWithBackendMessage": 400,
    "BMSUserErrorPolicyInUse": 400,
    "BMSUserErrorContainerHasDatasources": 400,
    "BMSUserErrorSoftDeleteStateNotSetToAlwaysON": 400,
    "PreconditionFailed": 412,
    "CannotDeleteLastRbacAdminAssignment": 412,
    "MethodNotAllowed": 405,
    "RequestTooLarge": 413,
    "PackRefused": 422,
    "TooManyUploads": 429,
    "invalid_grant": 400,
    "interaction_required": 400,
}


def status_of(error: errors.HoldfastError) -> int:
    """The HTTP status of an error: by its code, else by its nearest class."""
    if error.code in BY_CODE:
        return BY_CODE[error.code]
    for kind in type(error).__mro__:
        if kind in STATUS:
            return STATUS[kind]
    return 500


def error_body(error: errors.HoldfastError) -> dict[str, Any]:
    """``{"error": {code, message, ...}}``; the hint is in additionalInfo and in ``hint``."""
    message = error.message
    if len(message) > MAX_MESSAGE:
        message = f"{message[:MAX_MESSAGE]} ... (cut)"
    body: dict[str, Any] = {"code": error.code, "message": message, "details": []}
    if error.target:
        body["target"] = error.target
    if error.hint:
        body["hint"] = error.hint
        body["additionalInfo"] = [{"type": "Hint", "info": {"hint": error.hint}}]
    missing = getattr(error, "missing", None)
    if missing:
        body["missing"] = [bytes(one).hex() for one in missing]
    return {"error": body}
