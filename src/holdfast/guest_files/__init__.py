"""Files for the inside of a protected machine, and where they go there.

``fsfreeze-hook`` is called by the QEMU guest agent (``qemu-ga -F``) before it freezes and after it
thaws the file systems; ``VMSnapshotScriptPluginConfig.json`` is a template that names the scripts
the hook runs. docs/virtual-machines.md says how to put them there.
"""

from __future__ import annotations

from importlib import resources

HOOK = "fsfreeze-hook"
CONFIG = "VMSnapshotScriptPluginConfig.json"
HOOK_PLACE = "/etc/qemu/fsfreeze-hook"
CONFIG_PLACE = "/etc/azure/VMSnapshotScriptPluginConfig.json"
REQUEST_PLACE = "/run/holdfast.request"
REPORT_PLACE = "/run/holdfast.report"


def content(name: str) -> bytes:
    """The bytes of ``HOOK`` or ``CONFIG``."""
    return resources.files(__name__).joinpath(name).read_bytes()
