"""Copies of images that share their blocks: ``extents`` and ``reflink`` the calls of the kernel,
``images`` what may be copied at all, ``copies`` the port."""

from __future__ import annotations

from holdfast.adapters.image_copy.copies import ReflinkCopies

__all__ = ["ReflinkCopies"]
