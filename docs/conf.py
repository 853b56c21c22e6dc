"""How Sphinx makes a site of these pages: `tox -e docs`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ddmq

if TYPE_CHECKING:
    from sphinx.application import Sphinx

DOCS = Path(__file__).resolve().parent
TOP = DOCS.parent
#: The pages that stand above these, and what they are in the site.
ABOVE = {
    name: f"project/{name.lower()}"
    for name in ("README", "CHANGELOG", "CONTRIBUTING", "SECURITY")
}
PLACED = {page: name for name, page in ABOVE.items()}

project = "ddmq"
release = version = ddmq.__version__
copyright = "the authors of ddmq; MIT license"  # noqa: A001
extensions = ["myst_parser", "sphinx.ext.autodoc"]
html_theme = "furo"
html_title = f"ddmq {release}"
html_show_sourcelink = False
default_role = "code"
myst_heading_anchors = 4
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_class_signature = "separated"
# Signatures in docs/python.md have `…` in them, which is not quite Python.
suppress_warnings = ["misc.highlighting_failure"]


def place(_: Sphinx, page: str, text: list[str]) -> None:
    """Give a page the text that it stands for, and links that lead to pages of the site."""
    source = DOCS / f"{page}.md"
    if page in PLACED:
        source = TOP / f"{PLACED[page]}.md"
        text[0] = source.read_text(encoding="utf-8")

    def link(found: re.Match[str]) -> str:
        said, path, anchor = found.groups()
        target = Path(os.path.normpath(source.parent / path))
        name = target.stem
        if target.parent == TOP and name in ABOVE:
            target = DOCS / f"{ABOVE[name]}.md"
        if target.suffix != ".md" or DOCS not in target.parents:
            return said  # what is in the repository only
        place = os.path.relpath(target, (DOCS / page).parent)
        return f"[{said}]({place}{anchor or ''})"

    text[0] = re.sub(r"\[([^\]\[]+)\]\(([^)#:\s]+)(#[\w-]+)?\)", link, text[0])


def separate(_: Sphinx, *told: Any) -> None:
    """Let code in a docstring end where it ends: reStructuredText can't read `DdmqError`s."""
    lines: list[str] = told[-1]
    lines[:] = [re.sub(r"(`[^`]+`)(?=\w)", r"\1\\ ", line) for line in lines]


def setup(app: Sphinx) -> None:
    """Let Sphinx call us for each page, and for each docstring."""
    app.connect("source-read", place)
    app.connect("autodoc-process-docstring", separate)
