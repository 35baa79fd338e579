"""Ways to tell people about alerts: mail and webhook, each as the settings say."""

from __future__ import annotations

from holdfast.errors import StoreUnavailableError

MOST_REASON = 300


def not_sent(where: str, why: object, code: str = "NotificationFailed") -> StoreUnavailableError:
    """What every channel raises. ``code`` ReceiverRefused: others may well be told."""
    return StoreUnavailableError(
        f"{where}: {str(why)[:MOST_REASON]}",
        code=code,
        hint="check the server's settings for alerts and the other side; it is tried again",
    )
