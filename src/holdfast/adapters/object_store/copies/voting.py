"""One answer out of several members: two that say the same are believed, a third decides.

Every read asks two members. When they differ the third is asked, and the one that stands alone is
wrong: it is named, and its copy is looked at again later. When no two say the same, because a third
is missing, each call gives the answer of another member in turn: whoever reads a vault checks what
it got (a signature, a hash, a key), and asks again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from holdfast.adapters.object_store.copies.group import Present
from holdfast.adapters.object_store.copies.member import Member
from holdfast.errors import (
    HoldfastError,
    IntegrityError,
    ObjectMissingError,
    StoreUnavailableError,
)
from holdfast.ports.object_store import ObjectStore

T = TypeVar("T")
Ask = Callable[[ObjectStore], T | None]


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """``value`` is None when the member does not have it: ``error`` says how."""

    member: Member
    value: T | None
    error: HoldfastError | None = None


@dataclass(frozen=True, slots=True)
class Vote(Generic[T]):
    """``lacking``: members asked that do not hold it; ``wrong``: those that stand alone, or whose
    object is too short. ``held``: how many gave ``value``; ``split``: no two did, and one gave
    another."""

    value: T | None
    error: HoldfastError | None
    held: int
    split: bool
    lacking: tuple[Member, ...]
    wrong: tuple[Member, ...]


def take(there: Sequence[Present], ask: Ask[T], turn: int, thorough: bool = False) -> Vote[T]:
    """Ask members in the order given until two agree, or all (``thorough``).
    StoreUnavailableError when none answers."""
    answers: list[Answer[T]] = []
    last: StoreUnavailableError | None = None
    for member, store in there:
        try:
            answers.append(_answer(member, store, ask))
        except StoreUnavailableError as error:
            member.fail(error)
            last = error
        if not thorough and _agreed(answers) is not None:
            break
    if not answers:
        raise last or StoreUnavailableError("no disk answers", hint="bring a disk back")
    return _counted(answers, turn)


def _answer(member: Member, store: ObjectStore, ask: Ask[T]) -> Answer[T]:
    try:
        return Answer(member, ask(store))
    except (ObjectMissingError, IntegrityError) as error:
        return Answer(member, None, error)


def _agreed(answers: Sequence[Answer[T]]) -> Answer[T] | None:
    """The answer that two members gave."""
    for number, one in enumerate(answers):
        if one.value is not None and any(one.value == other.value for other in answers[:number]):
            return one
    return None


def _counted(answers: Sequence[Answer[T]], turn: int) -> Vote[T]:
    having = [one for one in answers if one.value is not None]
    short = [one for one in answers if isinstance(one.error, IntegrityError)]
    lacking = tuple(one.member for one in answers if one.value is None and one not in short)
    if not having:
        error = next((one.error for one in (*short, *answers) if one.error is not None), None)
        return Vote(None, error, 0, False, lacking, ())
    agreed = _agreed(answers)
    chosen = agreed or having[turn % len(having)]
    wrong = [one.member for one in short]
    if agreed is not None:
        wrong += [one.member for one in having if one.value != chosen.value]
    held = sum(one.value == chosen.value for one in having)
    split = held == 1 and len(having) > 1
    return Vote(chosen.value, None, held, split, lacking, tuple(wrong))
