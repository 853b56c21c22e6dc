"""What `--version` of each program prints."""

from __future__ import annotations

import sys

from ddmq.diagnose.versions import as_lines, versions


def show_version() -> int:
    """Print the versions of ddmq and of what it needs; return the exit status."""
    text = as_lines(versions())
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace") + b"\n")
    return 0
