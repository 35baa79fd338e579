"""systemd units for server and agent."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from holdfast.errors import UsageError

UNITS = Path("/etc/systemd/system")
TEMPLATE = """\
[Unit]
Description=Holdfast {kind}
After=network-online.target
Wants=network-online.target

[Service]
ExecStart={program} {kind} start --data {data}{more}
Restart=always
RestartSec=5
KillSignal=SIGTERM
TimeoutStopSec=90
LimitNOFILE=65536
UMask=0077

[Install]
WantedBy=multi-user.target
"""


def install(kind: str, data: Path, more: str, *, only_print: bool) -> None:
    """Write (or print) the unit. UsageError (ServiceNotInstalled) without permission."""
    program = Path(sys.argv[0]).resolve()
    text = TEMPLATE.format(kind=kind, program=program, data=data.absolute(), more=more)
    if only_print:
        click.echo(text, nl=False)
        return
    path = UNITS / f"holdfast-{kind}.service"
    try:
        path.write_text(text)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written: {error.strerror}",
            code="ServiceNotInstalled",
            hint="run it as root, or use --print and install the unit yourself",
        ) from error
    click.echo(f"wrote {path}; start it: systemctl enable --now holdfast-{kind}")
