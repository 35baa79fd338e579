"""QEMU as a hypervisor: machines named in the settings, through their monitors.

    qmp, guest_agent     the two channels of a machine
    drives, images       which disks it has, and whether they still are the same
    bitmaps              the rotation of dirty bitmaps (decides)
    levels, quiesce      freezing the guest; which consistency was reached (decides)
    filters, scratch     the picture of the moment, and room for what is overwritten meanwhile
    handing              files of ours that QEMU uses as another user
    guard, rescue        a guest is not left standing when the agent dies
    opening, taking      the sequence; a machine that is off goes through storage_daemon, keeper
    exports, snapshot    what is served, and how it ends
    booting, running     machines of ours that run from the vault; moving: their disks to local
    runner               storage; the port's calls for them
    reading              an image that no machine has, as a disk

docs/design/virtual-machines.md tells the sequence and what a crash at each step leaves.
"""

from holdfast.adapters.hypervisor.qemu.hypervisor import QemuHypervisor
from holdfast.adapters.hypervisor.qemu.reading import read_image
from holdfast.adapters.hypervisor.qemu.runner import QemuRunner

__all__ = ["QemuHypervisor", "QemuRunner", "read_image"]
