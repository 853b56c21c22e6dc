"""Build ddmq.pyz: ddmq, filelock and pyyaml in one file for any Python from 3.9 on.

    python packaging/pyz/build.py [FILE]

The same sources make the same file, byte for byte: the libraries are pinned, and the members
are sorted, not compressed, and dated 1980. docs/decisions/0006-one-file.md tells why the file
holds no compiled files.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZipFile, ZipInfo

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).resolve().parent
TOP = HERE.parents[1]
SHEBANG = b"#!/usr/bin/env python3\n"
#: What uses pyyaml's C library, which fits one Python and one kind of machine only.
LEFT_OUT = "yaml/cyaml.py", "_yaml/__init__.py"
#: All wheels of pyyaml hold the same Python files. We name one, so that we know its hash.
WHEELS = (
    *("--only-binary=:all:", "--implementation=cp", "--python-version=3.9"),
    "--platform=manylinux2014_x86_64",
)


def main() -> int:
    """Build the file; return the exit status of pip."""
    target = Path(sys.argv[1]) if sys.argv[1:] else TOP / "dist" / "ddmq.pyz"
    with tempfile.TemporaryDirectory() as directory:
        status = fetch(directory)
        if status == 0:
            write(target, dict([*ours(), *libraries(Path(directory))]))
            print(f"{target}: {target.stat().st_size:,} bytes")
    return status


def fetch(directory: str) -> int:
    """Download the wheels of the libraries."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *WHEELS]
    what = ["--require-hashes", "--requirement", str(HERE / "requirements.txt")]
    return subprocess.run([*pip, *what, "--dest", directory]).returncode


def ours() -> Iterator[tuple[str, bytes]]:
    """Yield the names and contents of ddmq's own files."""
    yield "__main__.py", (HERE / "__main__.py").read_bytes()
    yield "LICENSE", (TOP / "LICENSE").read_bytes()
    for pattern in ("*.py", "*.sh", "completion/ddmq.*"):
        for path in (TOP / "ddmq").rglob(pattern):
            yield path.relative_to(TOP).as_posix(), path.read_bytes()


def libraries(directory: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the names and contents of the libraries' files and licenses."""
    for wheel in directory.glob("*.whl"):
        with ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name.endswith((".py", "/LICENSE")) and name not in LEFT_OUT:
                    yield name, archive.read(name)


def write(target: Path, held: dict[str, bytes]) -> None:
    """Write the file, and make it executable."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        file.write(SHEBANG)
        with ZipFile(file, "w") as archive:
            for name in sorted(held):
                archive.writestr(ZipInfo(name), held[name])
    target.chmod(0o755)


if __name__ == "__main__":
    sys.exit(main())
