"""The Python of "Use your az scripts", typed as it is written."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from holdfast.testing.azure_sdk import address
from holdfast.testing.how_to import blocks, filled
from holdfast.testing.world import World

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "use-your-az-scripts.md"


def test_the_page_s_python_lists_the_items(world: World, tmp_path: Path) -> None:
    for name in ("ca.pem", "admin.json"):
        shutil.copy(world.server_data / name, tmp_path)
    (program,) = blocks(PAGE, "## Python")
    done = subprocess.run(
        [sys.executable, "-c", filled(program, {"https://HOST:8443": address(world)})],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "FileFolder;docs" in {line.split()[0] for line in done.stdout.splitlines()}
