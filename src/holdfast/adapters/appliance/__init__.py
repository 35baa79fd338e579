"""A small machine that reads file systems nobody trusts: neither our process nor the host's kernel
parses a byte of them.

packages   Debian's packages, fetched and unpacked     image    kernel and initial file system
machine    QEMU, shut in, over disks that are served   channel  what is asked and answered
looker     the port ``ports/point_files`` over these   inside/  what runs in it
"""

from holdfast.adapters.appliance.image import ApplianceImage, build_image, missing_tools
from holdfast.adapters.appliance.looker import ApplianceLooker

__all__ = ["ApplianceImage", "ApplianceLooker", "build_image", "missing_tools"]
