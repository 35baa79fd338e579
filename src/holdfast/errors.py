"""The one tree of errors every layer raises and the two edges (REST, CLI) present.

    HoldfastError
    ├── UsageError         the request itself is wrong; the same request can never succeed
    ├── AuthenticationError  who is calling is not proven
    ├── AccessError        who is calling may not do this
    ├── NotFoundError      what is named does not exist
    ├── ConflictError      the state of the thing forbids it now (in use, already exists, stale)
    ├── LimitError         too large, too many, too often
    ├── StoreError         the object store failed us
    │   ├── ObjectMissingError · ObjectExistsError · StoreFullError · StoreUnavailableError
    ├── IntegrityError     bytes are not what they must be (damage, tampering, unknown format)
    ├── SourceError        what is to be protected cannot be read
    ├── TargetError        where a restore should go cannot be written
    ├── CancelledError     the user asked to stop
    └── InternalError      a defect of ours

Every error carries a stable ``code`` (what scripts match), a message (what happened, to what),
a ``hint`` (what to do next) and ``retry``: "never", "same" (repeat the same call now), or
"later". Adapters translate vendor errors into this tree and keep the cause. Only the retry layer
and the job engine repeat work. Findings (a file that cannot be read) are values, not errors.
"""

from __future__ import annotations

from typing import ClassVar, Literal

Retry = Literal["never", "same", "later"]


class HoldfastError(Exception):
    """Base of all expected failures. ``code`` may be given per raise; the class has a default."""

    code: str = "InternalError"
    default_retry: ClassVar[Retry] = "never"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        hint: str = "",
        retry: Retry | None = None,
        target: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code
        self.hint = hint
        self.retry: Retry = retry if retry is not None else self.default_retry
        self.target = target

    def __str__(self) -> str:
        return self.message


class UsageError(HoldfastError):
    """The request is wrong: a value out of range, a missing field, a bad name."""

    code = "InvalidParameter"


class AuthenticationError(HoldfastError):
    """No token, an expired or forged token, wrong credentials."""

    code = "InvalidAuthenticationToken"


class AccessError(HoldfastError):
    """The caller is known and lacks the permission."""

    code = "AuthorizationFailed"


class NotFoundError(HoldfastError):
    """The named resource does not exist."""

    code = "ResourceNotFound"


class ConflictError(HoldfastError):
    """The state of the resource forbids the operation now."""

    code = "Conflict"


class LimitError(HoldfastError):
    """A size, count or rate limit was hit."""

    code = "LimitExceeded"
    default_retry: ClassVar[Retry] = "later"


class StoreError(HoldfastError):
    """The object store could not do what was asked."""

    code = "StoreFailed"


class ObjectMissingError(StoreError):
    """No object of that key."""

    code = "StoreObjectMissing"


class ObjectExistsError(StoreError):
    """Create-if-absent found an object of that key."""

    code = "StoreObjectExists"


class ObjectLockedError(StoreError):
    """The object must stay until its lock horizon; nothing was deleted."""

    code = "StoreObjectLocked"


class StoreFullError(StoreError):
    """No space left (or a quota hit) on the store."""

    code = "StoreFull"
    default_retry: ClassVar[Retry] = "later"


class StoreUnavailableError(StoreError):
    """The store did not answer or answered with a passing fault; the outcome may be unknown."""

    code = "StoreUnavailable"
    default_retry: ClassVar[Retry] = "later"


class IntegrityError(HoldfastError):
    """Bytes are not what they must be: damaged, swapped, rolled back, or of an unknown format."""

    code = "IntegrityError"


class SourceError(HoldfastError):
    """What is to be protected is missing or unreadable as a whole."""

    code = "SourceUnavailable"


class TargetError(HoldfastError):
    """Where a restore should go cannot be written, or would escape the target."""

    code = "TargetUnavailable"


class CancelledError(HoldfastError):
    """The operation was cancelled on request."""

    code = "OperationCancelled"


class InternalError(HoldfastError):
    """A defect of ours; the message names what was violated."""

    code = "InternalError"
