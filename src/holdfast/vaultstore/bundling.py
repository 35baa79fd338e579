"""Where bundles of small files end: by what they hold, so that a change disturbs one of them."""

from __future__ import annotations

SMALL_FILE_BYTES = 128 * 1024  # smaller files go into bundles
BUNDLE_MIN, BUNDLE_MAX = 256 * 1024, 4 * 1024 * 1024
BUNDLE_EXPECTED = 768 * 1024  # bytes beyond the minimum until a bundle closes, on average


def closes_bundle(size: int, digest: bytes, member_bytes: int) -> bool:
    """Whether a bundle of ``size`` bytes closes after the member with this keyed ``digest``.

    Depends on the member's identity, so that a change disturbs only its own bundle; the chance
    grows with the member's length, so that bundles average about 1 MiB whatever the file sizes.
    """
    if size < BUNDLE_MIN:
        return False
    if size >= BUNDLE_MAX:
        return True
    return int.from_bytes(digest[:4], "little") % BUNDLE_EXPECTED < member_bytes
