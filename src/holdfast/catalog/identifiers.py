"""New identifiers from handed-in randomness."""

from __future__ import annotations

import uuid

from holdfast.ports.clock import Random


def new_id(rng: Random) -> str:
    """A random GUID in lower-case text."""
    return str(uuid.UUID(bytes=rng.token(16), version=4))


def id_bytes(identifier: str) -> bytes:
    """The 16 bytes of a GUID text. ValueError when it is none."""
    return uuid.UUID(identifier).bytes


def id_text(identifier: bytes) -> str:
    """The text of a GUID's 16 bytes."""
    return str(uuid.UUID(bytes=identifier))


def is_id(text: str) -> bool:
    """Whether it reads as a GUID."""
    try:
        id_bytes(text)
    except ValueError:
        return False
    return True
