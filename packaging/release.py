"""Make in dist/ what a release publishes, and try it where nothing else is: `tox -e release`.

    python packaging/release.py [--output DIR] [--without-pyz]

It builds the sdist, and the wheel from the sdist alone, lets twine check both, and installs the
wheel in an empty environment. There all commands must answer with the version of the release, and
`scripts/first-run` must succeed. Then it prints the sums, and what is still to be written before
the release. It uploads nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TOP = HERE.parent
COMMANDS = "ddmq", "ddmq-submit", "ddmq-worker"


def main() -> int:
    """Build and try; return 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--output", type=Path, default=TOP / "dist", help="where")
    parser.add_argument(
        "--without-pyz", action="store_true", help="it takes pip's index"
    )
    told = parser.parse_args()
    version = version_of(TOP)
    for old in told.output.glob("ddmq*"):
        old.unlink()
    try:
        python("-m", "build", "--outdir", told.output, TOP)
        built = sorted(told.output.glob(f"ddmq-{version}*"))
        python("-m", "twine", "check", "--strict", *built)
        if not told.without_pyz:
            python(HERE / "pyz" / "build.py", told.output / "ddmq.pyz")
        [wheel] = told.output.glob(f"ddmq-{version}-*.whl")
        with tempfile.TemporaryDirectory() as directory:
            try_out(wheel, Path(directory), version)
    except subprocess.CalledProcessError as error:
        print(f"failed: {error}")
        return 1
    for path in sorted(told.output.glob("ddmq*")):
        print(hashlib.sha256(path.read_bytes()).hexdigest(), path.name)
    print("\n".join(unwritten(TOP, version)) or "ready to be tagged")
    return 0


def version_of(top: Path) -> str:
    """Return the version that the sources have."""
    text = (top / "ddmq" / "__init__.py").read_text(encoding="utf-8")
    return re.findall(r'^__version__ = "(.+)"$', text, re.MULTILINE)[0]


def python(*words: object, **options: Any) -> None:
    """Run this Python; CalledProcessError if it fails."""
    subprocess.run([sys.executable, *map(str, words)], check=True, **options)


def try_out(wheel: Path, directory: Path, version: str) -> None:
    """Install a wheel where nothing else is, and use it."""
    venv.create(directory, with_pip=True)
    commands = directory / "bin"
    # Neither this checkout nor what tox installed is on the path of what is tried.
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    environ = {**kept, "PATH": f"{commands}:/usr/bin:/bin"}
    run = [commands / "python", "-m", "pip", "install", "--quiet", wheel]
    subprocess.run(run, check=True, env=environ, cwd=directory)
    for name in COMMANDS:
        said = subprocess.check_output(
            [commands / name, "--version"], env=environ, cwd=directory, text=True
        )
        if version not in said:
            raise SystemExit(f"{name} says {said}, not {version}")
    first_run = TOP / "scripts" / "first-run"
    environ["TMPDIR"] = str(directory)  # it leaves its root there
    subprocess.run([first_run], check=True, env=environ, cwd=directory)


def unwritten(top: Path, version: str) -> list[str]:
    """Return what a person has still to write before this version is released."""
    found = []
    changes = (top / "CHANGELOG.md").read_text(encoding="utf-8")
    heading = rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$"
    if not re.search(heading, changes, re.MULTILINE):
        found.append(f"CHANGELOG.md: {version} has no date")
    for name, text in recipes(top).items():
        if version not in text:
            found.append(f"{name}: not of version {version}")
    if not (top / "packaging" / "lmod" / "ddmq" / f"{version}.lua").exists():
        found.append(f"packaging/lmod/ddmq: the file's name is not {version}.lua")
    return found


def recipes(top: Path) -> dict[str, str]:
    """Return the recipes that name a version, by their paths."""
    names = "packaging/conda/recipe.yaml", "packaging/spack/package.py"
    return {name: (top / name).read_text(encoding="utf-8") for name in names}


if __name__ == "__main__":
    sys.exit(main())
