"""The versions of ddmq, of Python, and of the libraries that ddmq needs."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Any

from ddmq import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

#: What ddmq needs, by the name of its module.
_LIBRARIES = {"filelock": "filelock", "pyyaml": "yaml"}


def versions() -> dict[str, str]:
    """Return the versions of ddmq and of what it needs, and where it lies."""
    found = {
        "ddmq": __version__,
        "Python": f"{sys.version.split()[0]}, {sys.executable}",
    }
    for library, module in _LIBRARIES.items():
        try:
            found[library] = _written_in(module) or _imported(module)
        except (ImportError, AttributeError) as error:
            found[library] = f"unknown: {error}"
    found["from"] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return found


def as_lines(told: Mapping[str, str]) -> str:
    """Show it to people: a line for each, the name first."""
    lines = []
    for name, text in told.items():
        if not text.isprintable():
            from ddmq.printable import printable  # rarely needed

            text = printable(text)
        lines.append(f"{name} {text}")
    return "\n".join(lines)


def _written_in(module: str) -> str:
    """Return the version that the source of a library names; empty: it names none.

    The import of both libraries takes longer than any command of ddmq, and ddmq.pyz has no metadata
    of them.
    """
    spec: Any = PathFinder.find_spec(module)
    for directory in (spec and spec.submodule_search_locations) or ():
        for name in ("__init__.py", "version.py"):
            with suppress(OSError):
                for line in spec.loader.get_data(f"{directory}/{name}").splitlines():
                    before, *quoted = line.replace(b'"', b"'").split(b"'")
                    is_text = before.endswith(b"= ") and len(quoted) == 2
                    if is_text and before.startswith(b"__version__ "):
                        return str(quoted[0], "ascii", "replace")
    return ""


def _imported(module: str) -> str:
    return str(__import__(module).__version__)
