"""Sending what alerts have to say: routed to the channels there are, then tried until it is taken.

The outbox is the durable work: a message leaves it when the other side has taken it, so a server
that dies in between sends it again, and a mail server that is down only delays it. Each channel has
a thread of its own, so that a slow one holds up no other.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial

from sqlalchemy import Connection

from holdfast.catalog import alerts, outbox
from holdfast.catalog.outbox import MessageRow
from holdfast.crashpoint import reach
from holdfast.domain.alerts import EVENTS, back_off, is_sent
from holdfast.domain.hook_names import SERVER
from holdfast.domain.mail_names import addresses
from holdfast.errors import HoldfastError
from holdfast.ports.messages import Channel
from holdfast.services.alert_watch import look
from holdfast.services.copies import catch_up
from holdfast.services.heads import watch_heads
from holdfast.services.platform import Platform
from holdfast.services.samples import take_samples

log = logging.getLogger("holdfast.alerts")
CLAIM = timedelta(minutes=5)  # longer than any channel tries
GIVE_UP = timedelta(days=7)
MOST_FAILED = 10  # receivers tried in vain in one round
TIDY_SECONDS = 3600.0
TIDY_AFTER_START = 60.0  # a server that starts has better things to do than to open every vault
MOST_PAUSE = 60.0  # a channel that failed is tried again after so many seconds, at most
STOP_SECONDS = 25.0


def route(platform: Platform, channels: Sequence[str]) -> int:
    """Give each new message to the channels that want it; how many messages came of it."""
    settings, made = platform.settings, 0
    with platform.catalog.read() as connection:
        if not outbox.has_due(connection, platform.now()):
            return 0
    with platform.catalog.write() as connection:
        for row in outbox.unrouted(connection):
            severity = int(str(row.message["severity"]).removeprefix("Sev"))
            targets: dict[tuple[str, str], None] = {}
            if is_sent(severity, settings.alert_severity):
                targets |= {("webhook", SERVER): None} if settings.alert_webhook else {}
                targets |= {("email", one): None for one in addresses(settings.alert_emails)}
            own = alerts.get_settings(connection, row.vault_id)
            if own is not None and is_sent(severity, own.severity):
                targets |= {("email", one): None for one in own.emails}
                targets |= {("webhook", one): None for one in own.webhooks}
            for channel, target in targets:
                if channel in channels:
                    _add(platform, connection, row, channel, target)
                    made += 1
            outbox.remove_message(connection, row.id)
    return made


def _add(
    platform: Platform, connection: Connection, row: MessageRow, channel: str, target: str
) -> None:
    outbox.add_message(
        connection,
        vault_id=row.vault_id,
        alert_id=row.alert_id,
        event=row.event,
        message=row.message,
        now=platform.now(),
        channel=channel,
        target=target,
        created_at=row.created_at,
    )


def deliver(platform: Platform, channel: Channel, driver: str) -> bool:
    """Send what is due on a channel; False when something could not be sent. A receiver that fails
    is left alone for this round, and the others are served; a shared server that fails ends it."""
    failed: set[str] = set()
    while len(failed) < MOST_FAILED:
        with platform.catalog.read() as connection:
            due = outbox.due_messages(connection, channel.name, platform.now(), without=failed)
        before = len(failed)
        for row in due:
            if row.target in failed or not _claim(platform, row, driver):
                continue
            trouble = _send(platform, channel, row)
            if trouble is not None:
                failed.add(row.target)
                if channel.shared and trouble.code != "ReceiverRefused":
                    return False
        if len(failed) == before:
            break
    return not failed


def _claim(platform: Platform, row: MessageRow, driver: str) -> bool:
    with platform.catalog.write() as connection:
        return outbox.claim(connection, row, driver, platform.now() + CLAIM)


def _send(platform: Platform, channel: Channel, row: MessageRow) -> HoldfastError | None:
    """What went wrong, if anything did; the message is then put off."""
    key = f"{row.alert_id}.{row.event}.{row.id}"
    try:
        reach("alert.send.before")
        channel.send(row.target, key, row.created_at, row.message)
        reach("alert.send.after")
    except HoldfastError as error:
        log.warning("an alert could not be sent: %s", error.message, extra={"code": error.code})
        due = platform.now() + back_off(row.attempts + 1)
        with platform.catalog.write() as connection:
            outbox.put_off(connection, row, due, error.message)
        return error
    with platform.catalog.write() as connection:
        outbox.end_message(connection, row.id, outbox.SENT, platform.now())
        if row.attempts:
            target = None if channel.shared else row.target
            outbox.pull_tried(connection, channel.name, platform.now(), target)
    return None


class Notifier:
    """The threads behind alerts. ``driver`` names this server among those of one catalog."""

    def __init__(self, platform: Platform, channels: Sequence[Channel], driver: str) -> None:
        self._platform = platform
        self._channels = channels
        self._names = [channel.name for channel in channels]
        self._driver = driver
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Take up what this server was sending when it died, and begin."""
        platform = self._platform
        self._stopping.clear()
        with platform.catalog.write() as connection:
            outbox.release_claims(connection, self._driver, platform.now())
        self._run(self._watch, "holdfast-alerts")
        self._run(self._watch_heads, "holdfast-heads")
        self._run(self._watch_copies, "holdfast-copies")
        for channel in self._channels:
            self._run(partial(self._serve, channel), f"holdfast-{channel.name}")

    def _run(self, work: Callable[[], None], name: str) -> None:
        thread = threading.Thread(target=work, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def stop(self) -> None:
        """A message being sent just now is finished, or sent again after the next start."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout=STOP_SECONDS)
        self._threads.clear()

    def _watch(self) -> None:
        platform = self._platform
        since, clock = platform.now(), platform.clock.monotonic
        look_at, tidy_at = 0.0, clock() + TIDY_AFTER_START
        while not self._stopping.is_set():
            if clock() >= look_at:
                look_at = clock() + platform.settings.alert_check_seconds
                self._guard("watch", lambda: look(platform, since))
            if clock() >= tidy_at:
                tidy_at = clock() + TIDY_SECONDS
                self._guard("tidy", self._tidy)
                self._guard("samples", lambda: take_samples(platform))
            self._guard("route", lambda: route(platform, self._names))
            self._stopping.wait(platform.settings.tick_seconds)

    def _watch_heads(self) -> None:
        """On its own: a store that is slow must not hold the alerts up."""
        while not self._stopping.is_set():
            self._guard("heads", lambda: watch_heads(self._platform))
            self._stopping.wait(self._platform.settings.alert_check_seconds)

    def _watch_copies(self) -> None:
        """On its own: a disk is filled for hours."""
        stopping = self._stopping
        while not stopping.is_set():
            self._guard("copies", lambda: catch_up(self._platform, stopping.is_set))
            stopping.wait(self._platform.settings.alert_check_seconds)

    def _serve(self, channel: Channel) -> None:
        tick, pause = self._platform.settings.tick_seconds, 0.0
        while not self._stopping.is_set():
            sent = self._guard(channel.name, lambda: deliver(self._platform, channel, self._driver))
            pause = tick if sent else min(MOST_PAUSE, max(tick, 2 * pause))
            self._stopping.wait(pause)

    def _guard(self, name: str, work: Callable[[], object]) -> object:
        """A failing part must not stop the others; the next round tries again."""
        try:
            return work()
        except HoldfastError as error:
            log.warning("alerts: %s: %s (%s)", name, error.message, error.code)
        except Exception:
            log.exception("alerts: %s failed", name)
        return None

    def _tidy(self) -> None:
        """Give up what nobody took for a week, and forget what is long over."""
        platform, now = self._platform, self._platform.now()
        before = now - timedelta(days=platform.settings.history_days)
        with platform.catalog.write() as connection:
            outbox.pull_due(connection, now + timedelta(hours=1), now)
            lost = outbox.give_up(connection, now - GIVE_UP, now)
            outbox.remove_messages_before(connection, before)
            alerts.remove_alerts_before(connection, before, EVENTS)
        if lost:
            log.error("%d messages about alerts could not be sent for a week", lost)
