"""The checks before the first message."""

from __future__ import annotations

import os

import pytest

from ddmq.errors import DdmqError
from ddmq.hpc.options import Next, WorkerOptions
from ddmq.hpc.preflight import check_all, check_command, missing
from ddmq.hpc.results.result import NAMES, UNFINISHED


def test_what_can_be_used_is_used_and_left_clean(broker, tmp_path):
    broker.create_queue("other")
    options = WorkerOptions(
        output_dir=f"{tmp_path}/out",
        log_dir=f"{tmp_path}/log",
        spool=str(tmp_path),
        on_exit={137: "other"},
        on_success=Next("queue", "other"),
        stdin=True,
    )
    check_all(options, broker)
    assert os.listdir(tmp_path / "out") == [UNFINISHED]
    assert os.listdir(tmp_path / "out" / UNFINISHED) == []
    assert os.listdir(tmp_path / "log") == []


def test_more_commands_that_stay_than_open_files_are_refused(broker):
    many = os.sysconf("SC_OPEN_MAX") // 4
    check_all(WorkerOptions(slots=many), broker)
    check_all(WorkerOptions(slots=8, persistent=True), broker)
    with pytest.raises(DdmqError, match=f"{many} commands that stay need .* -j"):
        check_all(WorkerOptions(slots=many, persistent=True), broker)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"output_dir": "{}/file"}, "--output-dir {}/file can't be used: {}/file"),
        ({"log_dir": "{}/file"}, "--log-dir {}/file can't be used: "),
        ({"spool": "{}/file", "stdin": True}, "TMPDIR {}/file can't be used: "),
        ({"spool": "{}/file", "group": True}, "TMPDIR {}/file can't be used: "),
        ({"on_exit": {1: "none"}}, "--on-exit 1=queue:none can't be used: "),
        (
            {"on_success": Next("lines", "none")},
            "--on-success lines:none can't be used: ",
        ),
    ],
)
def test_what_can_not_be_used_is_named(broker, tmp_path, options, named):
    (tmp_path / "file").write_text("")
    given = {
        name: value.format(tmp_path) if isinstance(value, str) else value
        for name, value in options.items()
    }
    with pytest.raises(DdmqError) as refused:
        check_all(WorkerOptions(**given), broker)
    assert named.replace("{}", str(tmp_path)) in str(refused.value)


def test_what_will_not_be_needed_is_not_tried(broker, tmp_path):
    options = WorkerOptions(
        log_dir=f"{tmp_path}/log", logs="none", spool=f"{tmp_path}/nowhere"
    )
    check_all(options, broker)
    assert not os.path.exists(tmp_path / "log")


@pytest.mark.parametrize("planted", ["file", "link"])
def test_where_no_name_can_be_reserved_no_message_is_taken(broker, tmp_path, planted):
    out = tmp_path / "out"
    options = WorkerOptions(output_dir=str(out), output_name="{id}")
    check_all(options, broker)
    assert sorted(os.listdir(out)) == [NAMES, UNFINISHED]
    assert os.listdir(out / NAMES) == []
    os.rmdir(out / NAMES)
    if planted == "file":
        (out / NAMES).write_text("")
    else:
        (out / NAMES).symlink_to(tmp_path)
    with pytest.raises(DdmqError, match=f"{NAMES}: Not a directory"):
        check_all(options, broker)


def test_what_is_to_follow_must_be_a_program(broker, tmp_path, monkeypatch):
    program = tmp_path / "collect"
    program.write_text("#!/bin/sh")
    monkeypatch.setenv("PATH", f"/nowhere:{tmp_path}")
    for name in ("collect", str(program), str(tmp_path)):
        with pytest.raises(DdmqError, match="no executable file"):
            check_all(WorkerOptions(then=(name,)), broker)
    program.chmod(0o755)
    for name in ("collect", str(program)):
        check_all(WorkerOptions(then=(name, "x")), broker)


def test_the_program_must_be_there_before_the_first_message(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"/nowhere::{tmp_path}/bin")  # what is empty is here
    (tmp_path / "bin").mkdir(mode=0o755)
    (tmp_path / "bin" / "tool").touch(mode=0o755)
    (tmp_path / "run.sh").touch(mode=0o755)
    (tmp_path / "text.sh").touch(mode=0o644)
    for fine in ("tool", "run.sh", "./run.sh", str(tmp_path / "run.sh"), "./{}", "{/}"):
        assert missing(fine) == ""
    for wrong in ("none", "text.sh", ""):
        assert "is no executable file, on the PATH; " in missing(wrong)
    for wrong in ("./none", "./text.sh", "./bin", "./run.sh/", "/none"):
        assert "is no executable file, seen from here, where it will" in missing(wrong)
    assert missing("./text.sh").endswith("or `chmod +x` it")


def test_a_program_that_is_here_and_not_on_the_path_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    (tmp_path / "run.sh").touch(mode=0o755)
    assert missing("run.sh").endswith("; ./run.sh is one")


def test_a_command_that_is_quoted_as_one_word_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.sh").touch(mode=0o755)
    for command in ("./run.sh {}", "./run.sh a b", f"{tmp_path}/run.sh {{}}"):
        assert "leave out the quotes" in missing(command)
    assert "quotes" not in missing("./none a")
    for fine in ("./none {}", "{} x"):  # the message may make it one
        assert missing(fine) == ""
    (tmp_path / "with space").touch(mode=0o755)
    assert missing("./with space") == ""


def test_a_path_for_the_command_finds_no_program(tmp_path, monkeypatch):
    (tmp_path / "tool").touch(mode=0o755)
    monkeypatch.setenv("PATH", "/nowhere")
    options = WorkerOptions(env={"PATH": str(tmp_path)})
    with pytest.raises(DdmqError, match="--env PATH is for what the command starts"):
        check_command(["tool"], options)
    with pytest.raises(DdmqError, match=r"chmod [^;]*$"):
        check_command(["./tool"], options)
    check_command([f"{tmp_path}/tool"], options)
