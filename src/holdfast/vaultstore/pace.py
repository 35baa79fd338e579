"""Holding a long piece of work to a rate, so that others get their share of the store."""

from __future__ import annotations

from collections.abc import Callable

SLICE_SECONDS = 0.5  # so often a wait looks whether it is still wanted


class Pace:
    """At most so many bytes and requests per second; 0 is no limit. ``monotonic`` gives seconds and
    ``sleep`` takes them. For one thread."""

    def __init__(
        self,
        bytes_per_second: float,
        requests_per_second: float,
        monotonic: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._rates = (requests_per_second, bytes_per_second)
        self._free_at = [0.0, 0.0]
        self._monotonic = monotonic
        self._sleep = sleep

    def pay(
        self, requests: int, size: int = 0, is_over: Callable[[], bool] = lambda: False
    ) -> None:
        """Wait until this may be done: so many requests that move ``size`` bytes in all. Returns
        early when ``is_over``. What was saved up by doing nothing is not given back."""
        now = self._monotonic()
        start = now
        for number, count in enumerate((requests, size)):
            if self._rates[number] and count:
                begin = max(now, self._free_at[number])
                self._free_at[number] = begin + count / self._rates[number]
                start = max(start, begin)
        while (left := start - self._monotonic()) > 0 and not is_over():
            self._sleep(min(left, SLICE_SECONDS))


def unpaced() -> Pace:
    """No limit at all."""
    return Pace(0, 0, lambda: 0.0, lambda _seconds: None)
