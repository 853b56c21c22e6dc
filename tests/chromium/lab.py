"""A headless Chromium, which is unpacked, not installed: Debian's, with the libraries it needs."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

CACHE = Path("/var/cache/ddmq-chromium-lab")
#: The first has no window at all, and is smaller; earlier Debians have only the second.
PACKAGES = ("chromium-headless-shell", "chromium")
#: What is not unpacked: the C library, which has to be that of the host's loader, and what drives
#: graphics cards, which nobody needs here.
UNWANTED = ("libc6_", "libllvm", "libz3-", "mesa-", "libgl1-mesa-", "libglx-mesa")
#: The directories of Debian's root that are links.
LINKS = ("bin", "sbin", "lib", "lib64")


class Program(NamedTuple):
    """A Chromium, and the environment that it is started in."""

    path: str
    environ: dict[str, str]


def program(cache: Path = CACHE) -> Program | None:
    """Return the one that is unpacked, else one that is installed; None: there is none."""
    for package in PACKAGES:
        unpacked = cache / "usr/lib/chromium" / package
        if unpacked.exists():
            libraries = [*cache.glob("usr/lib/*-linux-gnu*")]
            libraries += [*cache.glob("usr/lib/*-linux-gnu*/pulseaudio")]
            environ = {
                "LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries)),
                "FONTCONFIG_SYSROOT": str(cache),
            }
            return Program(str(unpacked), {**os.environ, **environ})
    for name in (*PACKAGES, "chromium-browser"):
        if (installed := shutil.which(name)) is not None:
            return Program(installed, {**os.environ})
    return None


def install(cache: Path = CACHE) -> None:
    """Unpack one, if we are root where apt is; what can't be had is left out."""
    has_apt = shutil.which("apt-get") is not None
    if cache.exists() or os.geteuid() != 0 or not has_apt:
        return
    for package in PACKAGES:
        with suppress(subprocess.CalledProcessError):
            unpack(package, cache)
            return


def unpack(package: str, cache: Path) -> None:
    """Put a package, and all that it depends on, into a directory: whole or not at all."""
    with tempfile.TemporaryDirectory(dir=cache.parent) as name:
        root, archives = Path(name) / "root", Path(name) / "archives"
        archives.mkdir()
        for link in LINKS:
            (root / "usr" / link).mkdir(parents=True)
            (root / link).symlink_to(f"usr/{link}")
        apt("update", cwd=archives)
        # As if nothing were installed: so it is the same wherever these tests run.
        told = apt(
            *("install", "--print-uris", "--no-install-recommends", "-y"),
            *("-o", "Dir::State::status=/dev/null", package),
            cwd=archives,
        )
        files = [line.split()[1] for line in told.splitlines() if line[:1] == "'"]
        wanted = [file for file in files if not file.startswith(UNWANTED)]
        apt("download", *(file.partition("_")[0] for file in wanted), cwd=archives)
        for archive in archives.glob("*.deb"):
            run("dpkg-deb", "-x", str(archive), str(root), cwd=archives)
        with suppress(OSError):  # somebody else was as quick
            root.rename(cache)


def apt(*words: str, cwd: Path) -> str:
    return run("apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300", *words, cwd=cwd)


def run(*words: str, cwd: Path) -> str:
    """Run a command of administration; return what it prints."""
    done = subprocess.run(words, cwd=cwd, check=True, capture_output=True, text=True)
    return done.stdout
