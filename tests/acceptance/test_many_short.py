"""Many short tasks, as docs/hpc.md shows them, by real workers."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest
from acceptance import workers
from daemons import install

import ddmq
from ddmq import Broker

TOP = Path(__file__).parents[2]


def shown(language):
    """Return the example in one language."""
    text = (TOP / "docs" / "hpc.md").read_text()
    section = text.split("\n## Many short tasks\n")[1].split("\n## ")[0]
    [block] = re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)
    return block


@pytest.fixture
def broker(tmp_path):
    return Broker(tmp_path / "mq", create=True)


@pytest.mark.parametrize(
    ("language", "interpreter", "needs"),
    [
        ("python", sys.executable, ""),
        ("perl", "perl", ""),
        pytest.param("sh", "sh", "jq", marks=pytest.mark.root("install jq")),
    ],
)
def test_the_examples_of_commands_that_stay_do_what_they_say(
    broker, tmp_path, monkeypatch, language, interpreter, needs
):
    if shutil.which(interpreter) is None:
        pytest.skip(f"{interpreter} is not installed")
    if needs and shutil.which(needs) is None:
        install([needs])
    monkeypatch.setenv("PYTHONPATH", str(Path(ddmq.__file__).parents[1]))
    (tmp_path / "tasks").write_text(shown(language))
    texts = ["ab", 'quoted "c"', "d"] if needs else ["ab", " ", 'quoted "c"', "d"]
    for text in texts:
        broker.publish("jobs", text, requeue_limit=0)
    status, out, err = workers.worked(
        "-j1",
        "--persistent",
        "--no-brake",
        tmp_path / "mq",
        "jobs",
        "--",
        interpreter,
        tmp_path / "tasks",
    )
    assert out.splitlines() == ["AB", 'QUOTED "C"', "D"], err
    assert status == (0 if needs else 4)
    assert [
        letter.reason.split(" on ")[0].strip() for letter in broker.dead("jobs")
    ] == ([] if needs else ["an empty line"])


def test_the_examples_of_batches_do_what_they_say(broker, tmp_path):
    files = [tmp_path / f"file{n}" for n in range(250)]
    for file in files:
        file.touch()
    broker.publish_many("jobs", map(str, files))
    root = tmp_path / "mq"
    assert workers.worked("--batch", "100", root, "jobs", "--", "gzip")[0] == 0
    assert not any(file.exists() for file in files)
    broker.publish_many("jobs", ["a", "b", "c"])
    words = [
        "-j1",
        "--batch",
        "100",
        "--stdin",
        root,
        "jobs",
        "--",
        "xargs",
        "-n",
        "1",
        "echo",
    ]
    assert workers.worked(*words)[1] == "a\nb\nc\n"
    broker.publish_many("jobs", ["a", "b"])
    words = ["-j1", "--batch", "100", root, "jobs", "--", "echo", "--in={}", "-v"]
    assert workers.worked(*words)[1] == "--in=a --in=b -v\n"
