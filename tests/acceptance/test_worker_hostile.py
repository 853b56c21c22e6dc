"""Messages as data: whatever a text holds, a real worker hands it on, or says why not."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest
from acceptance.workers import worked

from ddmq import Broker

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = [
    *("$(touch {sentinel})", "`touch {sentinel}`", "; touch {sentinel} #", "a\nb\n"),
    *("--output={sentinel}", "-rf", "--", "'\"", "*", "{}", "%s%n", "\\", "ä\u202e"),
    *("\x1b[2J", "| touch {sentinel}", "&& touch {sentinel}", "x" * 100_000, ""),
]
SHOW = "import os, sys; os.write(1, ascii(sys.argv[1:]).encode() + b'\\n')"


@pytest.mark.parametrize("argument", [[], ["{}"]])
def test_a_hostile_text_is_one_argument_and_nothing_more(
    argument: list[str], tmp_path: Path
) -> None:
    broker = Broker(tmp_path / "mq", create=True)
    broker.create_queue("jobs")
    sentinel = str(tmp_path / "sentinel")
    texts = [text.replace("{sentinel}", sentinel) for text in HOSTILE]
    broker.publish_many("jobs", texts)
    command = [sys.executable, "-c", SHOW, *argument]
    status, out, err = worked("-j", 1, tmp_path / "mq", "jobs", "--", *command)
    assert (status, out.splitlines()) == (0, [ascii([text]) for text in texts])
    assert not os.path.exists(sentinel)
    assert "Traceback" not in err


def test_a_command_may_hold_bytes_that_are_no_text(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "mq", create=True)
    broker.create_queue("jobs")
    broker.publish("jobs", "a")
    command = [sys.executable, "-c", SHOW, os.fsdecode(b"caf\xe9")]
    status, out, _ = worked(tmp_path / "mq", "jobs", "--", *command)
    assert (status, out) == (0, ascii([command[-1], "a"]) + "\n")


def test_a_text_over_the_kernels_limit_is_a_dead_letter_that_names_the_remedy(
    tmp_path: Path,
) -> None:
    broker = Broker(tmp_path / "mq", create=True)
    broker.create_queue("jobs")
    broker.publish_many("jobs", ["x" * 200_000, "a\0b", "good"])
    command = [sys.executable, "-c", SHOW]
    status, out, _ = worked(tmp_path / "mq", "jobs", "--", *command)
    assert (status, out.splitlines()) == (4, ["['good']"])
    long, null = broker.dead("jobs")
    assert "--stdin" in long.reason
    assert "NUL" in null.reason
    assert broker.redrive("jobs") == 2
    size = "import sys; print(len(sys.stdin.read()))"
    command = [
        "-j",
        1,
        "--stdin",
        tmp_path / "mq",
        "jobs",
        "--",
        sys.executable,
        "-c",
        size,
    ]
    assert sorted(worked(*command)[1].splitlines()) == ["200000", "3"]


def test_a_queue_that_everybody_may_write_to_is_named(root: Path) -> None:
    Broker(root, create=True).create_queue("jobs")
    os.chmod(root / "jobs", 0o777)
    status, _, told = worked(root, "jobs", "--", "true")
    assert status == 0
    assert f"everybody may write to {root}/jobs" in told
    os.chmod(root / "jobs", 0o755)
    assert "everybody" not in worked(root, "jobs", "--", "true")[2]


@pytest.mark.parametrize("option", ["--output-dir", "--log-dir"])
def test_a_directory_of_a_job_that_everybody_may_write_to_is_named(
    root: Path, tmp_path: Path, option: str
) -> None:
    Broker(root, create=True).create_queue("jobs")
    (tmp_path / "mine").mkdir(mode=0o755)
    os.symlink(tmp_path / "mine", tmp_path / "link")
    command = [option, tmp_path / "link", root, "jobs", "--", "true"]
    assert "everybody" not in worked(*command)[2]
    os.chmod(tmp_path / "mine", 0o777)
    assert f"everybody may write to {tmp_path}/mine" in worked(*command)[2]
