"""systemd units for server and agent."""

from __future__ import annotations

import sys
from collections.abc import Sequence
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
ExecStart={line}
Restart=always
RestartSec=5
KillSignal=SIGTERM
{kill}TimeoutStopSec=90
LimitNOFILE=65536
UMask=0077

[Install]
WantedBy=multi-user.target
"""
# what an agent starts outlives it: machines that run from the vault, and guards that thaw guests
KILL_MODES = {"agent": "KillMode=process\n", "server": ""}


def _word(text: str) -> str:
    """A word of a unit's command line: quoted where systemd would read more into it."""
    text = text.replace("%", "%%").replace("$", "$$")
    if not any(one in text for one in " \t\"'\\;"):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def unit_text(kind: str, program: Path, data: Path, more: Sequence[str]) -> str:
    """The unit of ``server`` or ``agent``."""
    words = [str(program), kind, "start", "--data", str(data.absolute()), *more]
    return TEMPLATE.format(kind=kind, line=" ".join(map(_word, words)), kill=KILL_MODES[kind])


def install(kind: str, data: Path, more: Sequence[str], *, only_print: bool) -> None:
    """Write (or print) the unit. UsageError (ServiceNotInstalled) without permission."""
    text = unit_text(kind, Path(sys.argv[0]).resolve(), data, more)
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
    click.echo(f"wrote {path}")
    click.echo(f"start it: systemctl daemon-reload && systemctl enable --now holdfast-{kind}")
