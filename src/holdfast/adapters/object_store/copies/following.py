"""One object on its way to a member that follows what the home has taken."""

from __future__ import annotations

import logging
from collections.abc import Callable

from holdfast.adapters.object_store.copies import copying
from holdfast.adapters.object_store.copies.group import Group, Present
from holdfast.adapters.object_store.copies.replication import Replication
from holdfast.errors import HoldfastError, ObjectExistsError, StoreUnavailableError
from holdfast.ports.object_store import ObjectStore

log = logging.getLogger(__name__)


class Following:
    """``write`` creates it there; called once, by a thread of that member."""

    def __init__(
        self,
        key: str,
        home: ObjectStore,
        to: Present,
        write: Callable[[], None],
        *,
        group: Group,
        replication: Replication,
    ) -> None:
        self._key, self._home, self._write = key, home, write
        self._member, self._target = to
        self._group, self._replication = group, replication

    def __call__(self) -> bool:
        """Whether the member holds the object now, durably and in this term."""
        try:
            self._write()
        except ObjectExistsError:
            if not copying.is_same(self._key, self._home, self._target):
                self._replication.doubt(self._member, self._key)
                return False
        except StoreUnavailableError as error:
            self._member.fail(error)
            return self.give_up()
        except HoldfastError as error:
            log.warning("%s did not take %s: %s", self._member.address, self._key, error.message)
            return self.give_up()
        try:
            self._group.check_term(self._target)
            if self._home.size(self._key) is None:  # another process deleted it meanwhile
                self._target.delete(self._key)
        except HoldfastError:
            return False
        return True

    def give_up(self) -> bool:
        """Leave it to replication."""
        self._replication.want(self._member, self._key)
        return False
