"""Queues that ddmq 0.9.14 made, to be taken over."""

from __future__ import annotations

import shutil
from pathlib import Path

ROOT = Path(__file__).with_name("root")


def former_root(target: Path) -> Path:
    """Copy the root with its three queues; what Git does not keep is an empty `work/`."""
    shutil.copytree(ROOT, target)
    for queue in filter(Path.is_dir, list(target.iterdir())):
        (queue / "work").mkdir(exist_ok=True)
    return target
