"""A libvirt host as a hypervisor: its machines are found by themselves.

    library, connection   libvirt's Python binding, loaded when it is there; one connection
    domains               what a domain's XML says of a machine (decides)
    documents             the XML libvirt is given
    checkpoints           libvirt's name for a disk's record of changes (decides)
    agent                 the guest agent through libvirt, and the freeze over it
    guard, rescue         a guest is not left frozen when the agent dies
    taking, snapshot      one point in time, and how it ends
    off                   a machine that is off, through a storage daemon

docs/design/virtual-machines.md says where it differs from the provider for bare QEMU.
"""

from holdfast.adapters.hypervisor.libvirt.hypervisor import LibvirtHypervisor

__all__ = ["LibvirtHypervisor"]
