"""Bring the docs up to date with the code: the drawing, and what they name.

    python packaging/refresh_docs.py [--check]

It writes the tree and the drawing of the imports into docs/architecture.md, and mends the
file of each test that the docs name, where that test has moved. Then it tells of what it
can't mend: a path, a test or a heading that the docs name and that is nowhere. With
`--check` it changes nothing, and what it would have to change is an error too.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

TOP = Path(__file__).resolve().parents[1]
ARCHITECTURE = TOP / "docs" / "architecture.md"
MARKS = r"(<!-- {} by packaging/refresh_docs.py -->\n```\n).*?(```\n)"
WIDTH = 96
#: An import that is not drawn, as it would close a circle. It is done once there are ranges.
ASKED_FOR = {"storage.names": "storage.range_names"}
#: Top to bottom. "broker" is what stands in ddmq/ itself above the storage, "" the rest of it.
BOXES = {
    "cli": "ddmq/cli: the commands",
    "diagnose": "ddmq/diagnose: is a file system fit, is a queue well?",
    "hpc": "ddmq/hpc: workers and batch jobs",
    "broker": "ddmq: the public API",
    "holding": "ddmq/holding: messages that are worked on",
    "former": "ddmq/former: the first ddmq, for those who come from it",
    "storage": "ddmq/storage: what is on disk, and every transition",
    "": "ddmq: what all of them use",
}


def main() -> int:
    """Refresh or check the docs; return 1 when something is wrong."""
    check = sys.argv[1:] == ["--check"]
    wrong = []
    for path in documents():
        text = path.read_text(encoding="utf-8")
        new = mended(text)
        if path == ARCHITECTURE:
            new = filled(new, "tree", tree())
            new = filled(new, "imports", drawing(imports()))
        if new != text and check:
            wrong.append(f"{path.relative_to(TOP)}: not up to date: `tox -e fix`")
        elif new != text:
            path.write_text(new, encoding="utf-8")
        names = [*missing_paths(new, path), *missing_tests(new)]
        wrong += [f"{path.relative_to(TOP)}: there is no {name}" for name in names]
    print("\n".join(wrong) or "the docs are up to date")
    return int(bool(wrong))


def documents() -> list[Path]:
    """Return all pages that are written for people."""
    pages = [*TOP.glob("*.md"), *TOP.glob("docs/**/*.md"), *TOP.glob(".github/**/*.md")]
    return sorted(pages)


def filled(text: str, mark: str, content: str) -> str:
    """Return a page with new content in the block that has this mark."""
    return re.sub(
        MARKS.format(mark), lambda m: m[1] + content + m[2], text, flags=re.DOTALL
    )


def tree() -> str:
    """Return the tree of modules, with the first sentence of each."""
    lines = []
    for path in sorted((TOP / "ddmq").rglob("*"), key=_folders_last):
        name = path.relative_to(TOP).as_posix()
        depth = "  " * name.count("/")
        if path.suffix == ".py" and not path.stem.startswith("__"):
            lines.append(f"{depth}{path.name:{24 - len(depth)}}{_sentence(path)}")
        elif (path / "__init__.py").is_file():
            start = f"{depth}{path.name}/"
            lines.append(f"{start:24}{_sentence(path / '__init__.py')}".rstrip())
    top = f"{'ddmq/':24}{_sentence(TOP / 'ddmq' / '__init__.py')}"
    return "\n".join([top, *lines]) + "\n"


def _folders_last(path: Path) -> tuple[tuple[bool, str], ...]:
    parts = path.relative_to(TOP).parts
    return (*((True, part) for part in parts[:-1]), (path.is_dir(), parts[-1]))


def _sentence(path: Path) -> str:
    said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return said.split("\n\n")[0].replace("\n", " ")


def imports() -> dict[str, set[str]]:
    """Return what each module of ddmq imports of ddmq; names without the "ddmq."."""
    texts = {}
    for path in (TOP / "ddmq").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        parts = path.relative_to(TOP / "ddmq").with_suffix("").parts
        if path.stem == "__init__" and "import" in text:
            texts[".".join(parts[:-1])] = text
        elif not path.stem.startswith("__"):
            texts[".".join(parts)] = text
    # Whoever imports `Broker` from ddmq imports ddmq.broker.
    exported = texts.pop("")
    del texts["hpc"], texts["cli"]  # they only hand on what programs import, or start
    homes = {
        alias.name: f"ddmq.{node.module.removeprefix('ddmq.')}"
        for node in ast.parse(exported).body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    found = {}
    for module, text in texts.items():
        names = set(_imported(ast.parse(text)))
        names |= {homes.get(name.removeprefix("ddmq."), name) for name in names}
        found[module] = {n for n in texts if f"ddmq.{n}" in names} - {module}
    return found


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)):
            yield from _imported(node)


def drawing(graph: dict[str, set[str]]) -> str:
    """Draw a box for each folder, and in it each module above all that it imports there."""
    used = {
        m for module in graph if module.startswith("storage.") for m in graph[module]
    }
    above = {m for m in graph if "." not in m and m not in _all_below(graph, used)}
    above -= {m for m in above if not any("storage." in n for n in graph[m])}
    box = {m: m.split(".")[0] if "." in m else "" for m in graph}
    box.update(dict.fromkeys(above, "broker"))
    lines, order = [], [*BOXES]
    for name, title in BOXES.items():
        modules = [m for m in graph if box[m] == name]
        inside = {m: {n for n in graph[m] if box[n] == name} for m in modules}
        for module, asked in ASKED_FOR.items():
            inside.get(module, set()).discard(asked)
        below = {box[n] for m in modules for n in graph[m]} - {name}
        lines.append(f"┌─ {title} ".ljust(WIDTH - 1, "─") + "┐")
        for floor in reversed(_floors(inside)):
            for line in _wrapped(m.removeprefix(f"{name}.") for m in floor):
                lines.append(f"│  {line}".ljust(WIDTH - 1) + "│")
        uses = ", ".join(b or "what all use" for b in sorted(below, key=order.index))
        lines.append(f"└─ uses {uses} ".ljust(WIDTH - 1, "─") + "┘")
    upward = [
        f"{m} imports {n}"
        for m in sorted(graph)
        for n in sorted(graph[m])
        if order.index(box[m]) > order.index(box[n]) or ASKED_FOR.get(m) == n
    ]
    return "\n".join([*lines, "", "Upward: " + "; ".join(upward) + "."]) + "\n"


def _all_below(graph: dict[str, set[str]], modules: set[str]) -> set[str]:
    found: set[str] = set()
    while modules - found:
        found |= modules
        modules = {n for m in modules for n in graph[m]}
    return found


def _floors(inside: dict[str, set[str]]) -> list[list[str]]:
    """Return modules by their height: the first ones import none of the others."""
    floors: list[list[str]] = []
    left = dict(inside)
    while left:
        floor = sorted(m for m in left if not left[m] & left.keys())
        floors.append(floor)
        left = {m: names for m, names in left.items() if m not in floor}
    return floors


def _wrapped(words: Iterator[str]) -> list[str]:
    lines = [""]
    for word in words:
        if len(lines[-1]) + len(word) > WIDTH - 8:
            lines.append("")
        lines[-1] += f"{word}   "
    return [line.rstrip() for line in lines]


def tests() -> dict[str, list[str]]:
    """Return, for each name of a test, the files that have one of that name."""
    found: dict[str, list[str]] = {}
    for path in sorted((TOP / "tests").rglob("test_*.py")):
        for name in re.findall(
            r"^def (test_\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE
        ):
            found.setdefault(name, []).append(path.relative_to(TOP).as_posix())
    return found


TESTS = tests()


def mended(text: str) -> str:
    """Return a page with the right file before each test: `test_x.py::test_it_works`."""

    def right(match: re.Match[str]) -> str:
        file, name = match.groups()
        places = TESTS.get(name, [])
        if not places or any(f"/{place}".endswith(f"/{file}") for place in places):
            return match[0]
        return f"{places[0] if '/' in file else places[0].rsplit('/', 1)[1]}::{name}"

    def moved(match: re.Match[str]) -> str:
        found = list((TOP / "tests").rglob(match[1]))
        is_one = len(found) == 1 and not (TOP / match[0]).exists()
        return found[0].relative_to(TOP).as_posix() if is_one else match[0]

    text = re.sub(r"([\w./-]+\.py)::(test_\w+)", right, text)
    return re.sub(r"tests/[\w/]+/(test_\w+\.py)", moved, text)


def missing_tests(text: str) -> list[str]:
    """Return the tests that a page names and that do not exist."""
    return [name for name in re.findall(r"::(test_\w+)", text) if name not in TESTS]


def missing_paths(text: str, page: Path) -> Iterator[str]:
    """Yield the files that a page names or links to and that do not exist."""
    for link in re.findall(r"\]\(([^)#:\s]+)(?:#[\w-]+)?\)", text):
        if not (page.parent / link).exists():
            yield link
    folders = "ddmq|docs|tests|benchmarks|packaging|scripts"
    for name in re.findall(rf"(?<![\w/.-])((?:{folders})/[\w./*-]*\w)", text):
        if not list(TOP.glob(name)) and "ddmq/check" not in name:
            yield name
    for name in re.findall(r"(?<![\w/.-])(test_\w+\.py)", text):
        if not list((TOP / "tests").rglob(name)):
            yield name
    for file, anchor in re.findall(r"\]\(([^)#:\s]*)#([\w-]+)\)", text):
        target = page.parent / file if file else page
        if target.exists() and anchor not in _anchors(target):
            yield f"{file}#{anchor}"


def _anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    kept = (re.sub(r"[^\w\- ]", "", title).lower() for title in titles)
    return {title.replace(" ", "-") for title in kept}


if __name__ == "__main__":
    sys.exit(main())
