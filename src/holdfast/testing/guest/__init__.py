"""A small real guest for tests and the demo: built from Debian packages, booted without KVM."""

from holdfast.testing.guest.build import GuestFiles, build_guest, cache_folder, missing_tools
from holdfast.testing.guest.disks import flatten, make_disk
from holdfast.testing.guest.machine import GuestDisk, GuestMachine, guest_folder
from holdfast.testing.guest.pulling import PullFailedError, dirty, pull
from holdfast.testing.guest.scripts import install_scripts

__all__ = [
    "GuestDisk",
    "GuestFiles",
    "GuestMachine",
    "PullFailedError",
    "build_guest",
    "cache_folder",
    "dirty",
    "flatten",
    "guest_folder",
    "install_scripts",
    "make_disk",
    "missing_tools",
    "pull",
]
