"""How many of each there may be: numbers of the settings, checked before one more is made."""

from __future__ import annotations

from holdfast.errors import ConflictError


def check_quota(
    count: int, most: int, what: str, setting: str, do: str = "delete what is not needed"
) -> None:
    """ConflictError (QuotaExceeded) when ``count`` things are there already and ``most`` may be; 0
    is no limit. Not a matter of waiting, so no client should try again by itself."""
    if most and count >= most:
        raise ConflictError(
            f"{what} is {most}, and {count} exist",
            code="QuotaExceeded",
            hint=f"{do}, or raise {setting} in the server's settings",
        )
