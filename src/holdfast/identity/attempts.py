"""Counting failures in memory, so that guessing is slow."""

from __future__ import annotations

import threading
from collections import OrderedDict
from ipaddress import IPv4Address, IPv6Network, ip_address

from holdfast.errors import LimitError
from holdfast.ports.clock import Clock

MAX_TRACKED = 10_000


class Attempts:
    """At most ``most`` failures of one key in ``seconds``. Thread safe."""

    def __init__(self, clock: Clock, most: int, seconds: float) -> None:
        self._clock = clock
        self._most = most
        self._seconds = seconds
        self._failures: OrderedDict[str, list[float]] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, key: str) -> None:
        """LimitError (TooManyAttempts)."""
        with self._lock:
            if len(self._recent(self._failures.get(key, []))) >= self._most:
                raise LimitError(
                    "too many failed logins for this client",
                    code="TooManyAttempts",
                    hint="wait some minutes and use the right credentials",
                )

    def failed(self, key: str) -> None:
        with self._lock:
            recent = self._recent(self._failures.pop(key, []))
            self._failures[key] = [*recent, self._clock.monotonic()]
            while len(self._failures) > MAX_TRACKED:
                self._failures.popitem(last=False)

    def _recent(self, times: list[float]) -> list[float]:
        now = self._clock.monotonic()
        return [at for at in times if now - at < self._seconds]


def place_of(address: str) -> str:
    """What is counted for an address: of IPv6 the network of 64 bits, which one machine has."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, IPv4Address):
        return str(found)
    return str(found.ipv4_mapped or IPv6Network((int(found), 64), strict=False))


class PersonAttempts:
    """Failed sign-ins of people: by name and address, by name over all addresses that name never
    signed in from (so that a stranger locks nobody out of where they work), and by address over
    all names. A name counts whether or not there is somebody of that name."""

    def __init__(self, clock: Clock) -> None:
        self._pairs = Attempts(clock, 10, 60)
        self._names = Attempts(clock, 30, 900)
        self._addresses = Attempts(clock, 100, 300)
        self._known: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, name: str, address: str) -> None:
        """LimitError (TooManyAttempts)."""
        address = place_of(address)
        pair = f"{name} {address}"
        self._pairs.check(pair)
        self._addresses.check(address)
        with self._lock:
            known = pair in self._known
        if not known:
            self._names.check(name)

    def failed(self, name: str, address: str) -> None:
        address = place_of(address)
        self._pairs.failed(f"{name} {address}")
        self._names.failed(name)
        self._addresses.failed(address)

    def succeeded(self, name: str, address: str) -> None:
        with self._lock:
            self._known[f"{name} {place_of(address)}"] = None
            while len(self._known) > MAX_TRACKED:
                self._known.popitem(last=False)
