"""Pre- and post-scripts in the test guest."""

from __future__ import annotations

import json
from typing import Any

from holdfast import guest_files
from holdfast.testing.guest.machine import GuestMachine


def install_scripts(guest: GuestMachine, pre: str, post: str = "true", **changes: Any) -> None:
    """Pre- and post-script and their configuration, as an administrator puts them there."""
    values = {
        **json.loads(guest_files.content(guest_files.CONFIG)),
        "preScriptLocation": "/etc/azure/pre.sh",
        "postScriptLocation": "/etc/azure/post.sh",
        **changes,
    }
    lines = [
        f"printf '#!/bin/sh\\necho pre >> /run/order\\n%s\\n' '{pre}' > /etc/azure/pre.sh",
        f"printf '#!/bin/sh\\necho post >> /run/order\\n%s\\n' '{post}' > /etc/azure/post.sh",
        f"printf '%s' '{json.dumps(values)}' > {guest_files.CONFIG_PLACE}",
        f"chmod 700 /etc/azure/*.sh; chmod 600 {guest_files.CONFIG_PLACE}; rm -f /run/order",
    ]
    guest.shell("\n".join(lines))
