"""Values that are empty and of the wrong kind are refused, not taken for what was left out."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.errors import UsageError
from holdfast.services.item_bodies import read_files_part
from holdfast.services.recovery import read_restore

TO: dict[str, Any] = {"targetDirectory": "/srv/back"}


@pytest.mark.parametrize("name", ["recoveryType", "targetDirectory", "paths", "conflict"])
@pytest.mark.parametrize("empty", [{}, 0, False])
def test_of_a_restore(name: str, empty: Any) -> None:
    """An object where paths belong would restore everything."""
    with pytest.raises(UsageError):
        read_restore({**TO, name: empty})


@pytest.mark.parametrize("name", ["recoveryType", "paths", "conflict", "targetContainerName"])
def test_null_is_left_out(name: str) -> None:
    assert read_restore({**TO, name: None}) == read_restore(TO)


@pytest.mark.parametrize("empty", [{}, [], False, ""])
def test_of_a_speed_limit(empty: Any) -> None:
    """Only null and 0 mean that there is none."""
    ours = {"includePaths": ["/srv"], "throttleBytesPerSecond": empty}
    with pytest.raises(UsageError, match="throttleBytesPerSecond"):
        read_files_part({"holdfast": ours}, None)
