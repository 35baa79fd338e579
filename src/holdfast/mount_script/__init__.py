"""The script an operator runs to mount a recovery point: ``mount_point.py`` as it is, with the
values of one recovery put into it. It needs Python alone, and nothing of Holdfast."""

from __future__ import annotations

import json
from importlib import resources

PLACE = "SETTINGS: dict[str, str] = {}\n"


def script(**values: str) -> str:
    """The script of one recovery: ``server``, ``authority`` (its CA, PEM), ``recovery`` (an id),
    ``machine`` and ``point``. The password is not in it."""
    text = resources.files(__name__).joinpath("mount_point.py").read_text()
    before, after = text.split(PLACE)
    return f"{before}SETTINGS: dict[str, str] = {json.dumps(values, indent=4)}\n{after}"
