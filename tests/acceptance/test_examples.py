"""The examples of the docs in Python: they have types, and do what is said of them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
TASKS = """
def work(text: str) -> str:
    if text == "bad":
        raise ValueError(text)
    return text.upper()
"""


def blocks(document, title):
    """Return the examples in Python of one section."""
    text = (TOP / "docs" / document).read_text()
    section = re.split(rf"^##+ {re.escape(title)}\n", text, flags=re.MULTILINE)[1]
    section = re.split(r"^##+ ", section, flags=re.MULTILINE)[0]
    found = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert found
    return found


EXAMPLES = [
    ("python.md", "A message in a `with` block"),
    ("hpc.md", "A worker in a program"),
    ("hpc.md", "`concurrent.futures`"),
]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "tasks.py").write_text(TASKS)
    yield tmp_path
    sys.modules.pop("tasks", None)


@pytest.mark.slow
@pytest.mark.parametrize(("document", "title"), EXAMPLES)
def test_an_example_has_types(here, document, title):
    names = []
    for number, code in enumerate(blocks(document, title)):
        names.append(f"example{number}.py")
        (here / names[-1]).write_text(code)
    strict = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", here / "cache"]
    environ = {"MYPYPATH": f"{TOP}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [*strict, *names], env=environ, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


def run(code, root):
    code = code.replace("/scratch/mq", str(root)).replace("wait=30", "wait=0")
    exec(code.replace("wait=60", "wait=0"), {"__name__": "__main__"})


def test_messages_in_with_blocks_are_settled(broker, root, here, capsys):
    [code] = blocks(*EXAMPLES[0])
    run(code, root)  # nothing waits
    broker.publish_many("jobs", ["a", "b", 5, "c"], requeue=False)
    run(code, root)
    assert capsys.readouterr().out.split() == ["A", "B", "C"]
    [dead] = broker.dead("jobs")
    assert dead.reason == "AttributeError: 'int' object has no attribute 'upper'"
    assert tuple(broker.view("jobs")["jobs"]) == (0, 0, 0, 1)


@pytest.mark.slow
def test_a_worker_in_a_program_says_what_it_did(broker, root, here, capsys):
    [code] = blocks(*EXAMPLES[1])
    broker.publish_many("jobs", ["a", "b", "bad"], requeue=False)
    run(code, root)
    assert capsys.readouterr().out == "2 acked, 1 failed \n"


@pytest.mark.slow
def test_an_executor_returns_what_functions_do(broker, root, here, capsys):
    first, second = blocks(*EXAMPLES[2])
    first, found = re.subn(r", slurm=dict\(.*?\)", ', "run1"', first)
    assert found == 1
    run(first, root)
    assert capsys.readouterr().out.split() == ["A.TXT", "B.TXT", "C.TXT"]
    run(second + "print(results)", root)
    assert capsys.readouterr().out == "['A.TXT', 'B.TXT', 'C.TXT']\n"
