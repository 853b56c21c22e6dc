"""Job scripts: their text, their record, and what the scheduler gets."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
from pathlib import Path

import pytest
from hpc.fakes import fake_commands

from ddmq import Broker, StorageError
from ddmq.errors import InvalidArgument
from ddmq.hpc import submit
from ddmq.schedulers import SCHEDULERS
from ddmq.storage.filesystem import FileSystem


@pytest.fixture
def fake(tmp_path, monkeypatch):
    return fake_commands(tmp_path, monkeypatch)


@pytest.fixture
def broker(tmp_path):
    broker = Broker(tmp_path / "mq", create=True)
    broker.create_queue("jobs")
    return broker


def request(name, **more):
    words = ["ddmq-worker"], ["/mq", "jobs", "--", "true"]
    return submit.Request(name, "jobs", *words, **more)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_request_becomes_options_of_its_scheduler(name):
    row = SCHEDULERS[name]
    asked = request(name, workers=3, slots=4, seconds=90.0)
    lines = submit.rendered(asked, "/mq/jobs/jobs/x.sh").splitlines()
    for form, value in (
        (row.job_name, "ddmq-jobs"),
        (row.tasks, 3),
        (row.slots, 4),
        (row.time_option, "00:01:30"),
    ):
        assert row.prefix + form.format(value) in lines
    told = [] if row.tells_end else ["--time", "00:01:30"]
    last = ["exec", "ddmq-worker", *told, "/mq", "jobs", "--", "true"]
    assert shlex.split(lines[-1]) == last


def test_a_script_knows_its_own_sum_and_is_refused_with_another(tmp_path):
    script = str(tmp_path / "x.sh")
    text = submit.rendered(request("slurm", chain=2), script)
    Path(script).write_text(text)
    [sum_] = [
        line.rpartition("=")[2]
        for line in text.splitlines()
        if line.startswith("export DDMQ_CHAIN_SUM")
    ]
    assert submit.unchanged(script, sum_, FileSystem()) == text.encode()
    with pytest.raises(submit.SubmitFailed, match="was changed"):
        submit.unchanged(script, "0" * 64, FileSystem())


def test_a_record_is_written_and_forgotten(broker):
    script = submit.new_script(f"{broker.root}/jobs")
    submit.write(script, "text", FileSystem())
    assert Path(script).read_text() == "text"
    submit.forget(script, FileSystem())
    assert not os.path.exists(script)
    with pytest.raises(StorageError):
        submit.write("/nowhere/jobs/x.sh", "text", FileSystem())


def test_a_word_of_several_lines_is_one_line_for_the_shell():
    assert submit.quoted("a b") == "'a b'"
    assert submit.quoted("a\nb'") == r"$'a\x0ab\''"


def test_times_are_written_as_schedulers_read_them():
    assert (submit.clock(59.9), submit.clock(93784)) == ("00:00:59", "26:03:04")


@pytest.mark.parametrize("text", ["", "=x", " =x", "a\nb"])
def test_what_is_no_option_is_refused(text):
    assert submit.checked_option("mem=4G") == "mem=4G"
    with pytest.raises(InvalidArgument, match="no option"):
        submit.checked_option(text)


def test_a_command_that_is_missing_is_named(fake):
    with pytest.raises(submit.SubmitFailed, match="qsub is not on the PATH"):
        submit.require("sge")
    fake("qsub")
    submit.require("sge")


def test_a_requeue_names_one_job(fake):
    got = fake("scontrol")
    submit.requeued(SCHEDULERS["slurm"], "7_3")
    assert got()[:2] == ["requeue", "7_3"]


def test_a_scheduler_that_can_not_be_run_is_explained(broker, fake):
    fake("sbatch")
    Path(shutil.which("sbatch")).write_text("#!/nowhere\n")
    with pytest.raises(submit.SubmitFailed, match="sbatch: No such file"):
        submit.submitted("slurm", submit.Script(b"#!/bin/sh\n"), {})


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ("exit 3", "sbatch refused: it said nothing"),
        ("kill -9 $$", "sbatch was ended by signal 9, and may have done it or not"),
    ],
)
def test_a_scheduler_that_ends_without_a_word_is_explained(broker, fake, ends, said):
    fake("sbatch")
    Path(shutil.which("sbatch")).write_text(f"#!/bin/sh\n{ends}\n")
    with pytest.raises(submit.SubmitFailed, match=said):
        submit.submitted("slurm", submit.Script(b"#!/bin/sh\n"), {})


def saying(fake, script, given=b"#!/bin/sh\n"):
    """Let sbatch be a script; return what is made of what it says."""
    fake("sbatch")
    Path(shutil.which("sbatch")).write_text(f"#!/bin/sh\n{script}\n")
    return submit.submitted("slurm", submit.Script(given), {})


def test_what_a_scheduler_warns_of_is_passed_on(fake, caplog):
    assert saying(fake, "echo little money >&2; echo job 8") == "job 8"
    assert "sbatch says: little money" in caplog.text


def test_a_scheduler_may_say_all_on_standard_error(fake, caplog):
    assert saying(fake, "echo job 8 >&2") == "job 8"
    assert not caplog.text


def test_a_job_that_is_named_by_a_command_that_fails_is_told(fake):
    with pytest.raises(submit.MaybeSubmitted) as told:
        saying(fake, "echo job 8; echo late answer >&2; exit 1")
    known = (
        "sbatch ended with status 1, and may have done it or not: late answer; job 8"
    )
    assert str(told.value) == known


def test_of_very_much_the_beginning_and_the_end_are_told(fake):
    loop = "x=1234567890123456\nfor _ in 1 2 3 4 5 6 7 8 9 10; do x=$x$x; done\n"
    with pytest.raises(submit.SubmitFailed) as told:
        saying(fake, f"{loop}echo first $x last >&2; exit 1")
    said = str(told.value)
    assert "first" in said
    assert said.endswith("last")
    assert len(said) < 5000


@pytest.mark.slow
def test_what_a_scheduler_leaves_in_the_background_is_not_waited_for(fake, tmp_path):
    pid = tmp_path / "pid"
    assert saying(fake, f"/bin/sleep 600 &\necho $! > '{pid}'\necho job 8") == "job 8"
    os.kill(int(pid.read_text()), signal.SIGKILL)


@pytest.mark.slow
def test_a_scheduler_may_take_its_time(fake):
    slow = "/bin/sleep 0.7; /bin/cat; /bin/sleep 0.7; echo job 8"
    assert saying(fake, slow) == "#!/bin/sh\njob 8"
    slow = "/bin/sleep 0.7; /usr/bin/wc -c; /bin/sleep 0.7"
    assert saying(fake, slow, bytes(300000)) == "300000"


@pytest.mark.slow
def test_a_scheduler_need_not_read_a_script(fake, tmp_path):
    assert saying(fake, "echo job 8", bytes(300000)) == "job 8"
    pid = tmp_path / "pid"
    held = f"/bin/sleep 600 <&0 &\necho $! > '{pid}'\necho job 8"
    assert saying(fake, held, bytes(300000)) == "job 8"
    os.kill(int(pid.read_text()), signal.SIGKILL)


def test_the_worker_is_the_one_that_is_installed_here(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.executable", f"{tmp_path}/python")
    worker = tmp_path / "ddmq-worker"
    worker.write_text("")
    worker.chmod(0o755)
    assert submit.worker_path() == str(worker)
