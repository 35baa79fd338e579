"""Cooperative scheduling of threads by a seed: one baton, and whoever holds it runs."""

from __future__ import annotations

import hashlib
import random
import threading
import traceback
from collections import deque
from collections.abc import Callable

TRACE_KEPT = 400
THREAD_SECONDS = 120.0  # an actor that computes longer than this between two points hangs


class StoppedError(BaseException):
    """The run is over; unwinds an actor past every handler of errors."""


class Actor:
    """One thread of the simulation, of one process. ``waits_for``: the lock it cannot have yet."""

    def __init__(self, name: str, process: str, body: Callable[[], None]) -> None:
        self.name = name
        self.process = process
        self.body = body
        self.gate = threading.Semaphore(0)
        self.finished = False
        self.waits_for: SimulatedLock | None = None
        self.thread: threading.Thread | None = None

    def may_run(self) -> bool:
        if self.finished:
            return False
        return self.waits_for is None or self.waits_for.owner is None


class Scheduler:
    """Owns the baton. ``stickiness``: how often whoever runs goes on running at a point.

    ``failure`` holds the first error an actor did not handle; the run then stops."""

    def __init__(self, seed: int, *, stickiness: float, most_steps: int) -> None:
        self._random = random.Random(f"schedule {seed}")
        self._stickiness = stickiness
        self._most_steps = most_steps
        self._actors: list[Actor] = []
        self._by_thread: dict[int, Actor] = {}
        self._frozen: dict[str, int] = {}  # process to the step at which it wakes up
        self._done = threading.Event()
        self._digest = hashlib.sha256()
        self.trace: deque[str] = deque(maxlen=TRACE_KEPT)
        self.steps = 0
        self.stopped = False
        self.failure: str = ""
        self.on_step: Callable[[], None] = lambda: None
        self.on_label: Callable[[str], None] = lambda _label: None

    @property
    def digest(self) -> str:
        """Names the whole run: equal digests mean equal runs."""
        return self._digest.hexdigest()[:16]

    def spawn(self, name: str, process: str, body: Callable[[], None]) -> None:
        """Add an actor; before ``run``."""
        self._actors.append(Actor(name, process, body))

    def freeze(self, process: str, steps: int) -> None:
        """Let no actor of this process run for so many steps, as a paused machine would."""
        self._frozen[process] = self.steps + steps

    def is_frozen(self, process: str) -> bool:
        """Whether the process stands still now."""
        return self._frozen.get(process, 0) > self.steps

    def run(self) -> None:
        """Let the actors run until all have finished or one has failed."""
        for actor in self._actors:
            actor.thread = threading.Thread(target=self._live, args=(actor,), daemon=True)
            actor.thread.start()
        self._random.choice(self._actors).gate.release()
        while not self._done.wait(THREAD_SECONDS):
            steps = self.steps
            if self._done.wait(THREAD_SECONDS) or self.steps != steps:
                continue
            raise AssertionError(f"an actor hangs after {list(self.trace)[-3:]}")
        for actor in self._actors:
            if actor.thread is not None:
                actor.thread.join()

    def point(self, label: str) -> None:
        """A point where another actor may be chosen. Outside of actors nothing happens."""
        me = self._by_thread.get(threading.get_ident())
        if me is None or self.stopped:
            self._leave_if_stopped(me)
            return
        self._note(f"{me.name}: {label}")
        self.on_step()
        self._yield(me)

    def wait_for(self, lock: SimulatedLock) -> None:
        """Let others run until ``lock`` is free."""
        me = self._by_thread.get(threading.get_ident())
        while me is not None and lock.owner not in (None, me.name):
            self._leave_if_stopped(me)
            me.waits_for = lock
            try:
                self._yield(me)
            finally:
                me.waits_for = None

    def current(self) -> str:
        """Name of the running actor, or an empty string outside of actors."""
        me = self._by_thread.get(threading.get_ident())
        return "" if me is None else me.name

    def fail(self, why: str) -> None:
        """Stop the run as failed."""
        if not self.failure:
            self.failure = why
        self.stopped = True

    def note(self, what: str) -> None:
        """Add a remark to the trace."""
        self.trace.append(f"      {what}")
        self.on_label(self.trace[-1])

    def _note(self, label: str) -> None:
        self.steps += 1
        self._digest.update(label.encode())
        self.trace.append(f"{self.steps:6} {label}")
        self.on_label(self.trace[-1])
        if self.steps > self._most_steps:
            self.fail(f"no end after {self.steps} steps: somebody makes no progress")

    def _live(self, actor: Actor) -> None:
        actor.gate.acquire()
        self._by_thread[threading.get_ident()] = actor
        try:
            if not self.stopped:
                actor.body()
        except StoppedError:
            pass
        except BaseException:  # noqa: BLE001 - whatever an actor did not expect is a finding
            self.fail(f"{actor.name} failed:\n{traceback.format_exc()}")
        actor.finished = True
        self._pass_on(actor)

    def _leave_if_stopped(self, me: Actor | None) -> None:
        if me is not None and self.stopped:
            raise StoppedError

    def _yield(self, me: Actor) -> None:
        stays = me.may_run() and self._random.random() < self._stickiness
        if not stays or self.is_frozen(me.process):
            self._pass_on(me)
        self._leave_if_stopped(me)

    def _pass_on(self, me: Actor) -> None:
        """Give the baton away and, unless finished, wait to get it back."""
        left = [actor for actor in self._actors if not actor.finished]
        able = left if self.stopped else self._able(left)
        if not able and left:
            self.fail(f"deadlock: {[actor.name for actor in left]} wait for each other")
            able = left
        if not able:
            self._done.set()
            return
        chosen = self._random.choice(able)
        if chosen is me:
            return
        chosen.gate.release()
        if not me.finished:
            me.gate.acquire()

    def _able(self, left: list[Actor]) -> list[Actor]:
        """Who may go on. When all that could are frozen, the machines wake up."""
        free = [actor for actor in left if actor.may_run()]
        awake = [actor for actor in free if not self.is_frozen(actor.process)]
        if free and not awake:
            self._frozen.clear()
        return awake or free


class SimulatedLock:
    """A reentrant lock whose waiting is known to the scheduler. Stands in for a vault's lock."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self.owner: str | None = None
        self._depth = 0

    def __enter__(self) -> SimulatedLock:
        self._scheduler.wait_for(self)
        self.owner = self._scheduler.current()
        self._depth += 1
        return self

    def __exit__(self, *_error: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            self.owner = None
