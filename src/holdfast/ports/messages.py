"""Telling people: a channel that takes one message for one address."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol


class Channel(Protocol):
    """``name``: email | webhook. ``shared``: one server takes all messages, so when it fails the
    others need not be tried. May be slow; never called for two messages at once."""

    @property
    def name(self) -> str: ...

    @property
    def shared(self) -> bool: ...

    def send(self, target: str, key: str, at: datetime, message: Mapping[str, Any]) -> None:
        """Hand the message over to the other side; return when it was taken. ``key`` is the same
        each time one message is sent. StoreUnavailableError otherwise: NotificationFailed, or
        ReceiverRefused when a shared server takes messages but not for this target."""
        ...
