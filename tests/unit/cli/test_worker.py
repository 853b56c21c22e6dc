"""What `ddmq-worker` makes of what it is told."""

from __future__ import annotations

import errno
import os
import shutil

import pytest

from ddmq import Broker
from ddmq.cli import worker
from ddmq.cli.spec import filled
from ddmq.cli.worker_arguments import WhichQueue, WorkerArguments, worker_parser
from ddmq.errors import InvalidArgument, StorageError
from ddmq.hpc import beginning
from ddmq.hpc.worker import Summary


def told(*words):
    """Return arguments as they are typed."""
    values = worker_parser().parse_args([*words, "/mq", "jobs"])
    return filled(WorkerArguments, vars(values))


def test_the_user_decides_before_the_scheduler_does():
    on_slurm = {"SLURM_CPUS_ON_NODE": "16", "SLURM_JOB_ID": "1"}
    assert worker.worker_options(told(), on_slurm).slots == 16
    assert worker.worker_options(told("-j", "2"), on_slurm).slots == 2


def test_directories_are_known_wherever_a_command_goes():
    given = told("--log-dir", "logs", "--output-dir", "/out")
    options = worker.worker_options(given, {"TMPDIR": "/scratch"})
    assert options.log_dir == f"{os.getcwd()}/logs"
    assert (options.output_dir, options.spool) == ("/out", "/scratch")


def test_a_limit_of_failures_is_a_number_or_a_share():
    for text, wanted in (("7", (7, None)), ("7%", (None, 0.07))):
        options = worker.worker_options(told("--max-failures", text), {})
        assert (options.max_failures, options.max_failed_share) == wanted


def test_the_earliest_end_counts(clock):
    now = clock.own_ns() / 1e9
    on_slurm = {"SLURM_JOB_ID": "1", "SLURM_JOB_END_TIME": str(int(now + 100))}
    assert worker.deadline_of(told().job_end, {}, clock).at is None
    assert worker.deadline_of(told().job_end, on_slurm, clock).at == int(now + 100)
    for words, wanted in (
        (("--time", "50"), now + 50),
        (("--time", "500"), int(now + 100)),
        (("--deadline", str(now + 10), "--time", "50"), now + 10),
    ):
        found = worker.deadline_of(told(*words).job_end, on_slurm, clock)
        assert found.at == pytest.approx(wanted)


def test_the_lines_of_a_file_are_published_once(broker, tmp_path, capfd):
    broker.create_queue("jobs")
    path = tmp_path / "files.txt"
    path.write_text("a b\n\nc\n")
    worker.publish_once(broker, "jobs", str(path))
    said = capfd.readouterr().err
    assert said == f"ddmq-worker: {path}: 2 lines published\n"
    worker.publish_once(broker, "jobs", str(path))
    assert [each.message for each in broker.consume("jobs", 10)] == ["a b", "c"]
    said = capfd.readouterr().err
    assert said == f"ddmq-worker: {path}: 2 lines published before, and not again\n"
    path.write_text("a b\n")  # other lines
    worker.publish_once(broker, "jobs", str(path))
    assert capfd.readouterr().err.endswith(": 1 line published\n")
    assert broker.view("jobs")["jobs"].waiting == 1


def test_a_file_that_is_missing_is_named_and_nothing_is_published(broker, tmp_path):
    broker.create_queue("jobs")
    with pytest.raises(InvalidArgument, match=r"none\.txt'.*nothing is published"):
        worker.publish_once(broker, "jobs", str(tmp_path / "none.txt"))


def test_a_file_with_a_line_that_is_no_text_publishes_nothing(broker, tmp_path):
    broker.create_queue("jobs")
    (tmp_path / "files.txt").write_bytes(b"a\n\xff\n")
    with pytest.raises(InvalidArgument, match="line 2"):
        worker.publish_once(broker, "jobs", str(tmp_path / "files.txt"))
    assert broker.view("jobs")["jobs"].waiting == 0


def test_a_command_is_needed(capsys):
    with pytest.raises(SystemExit, match="2"):
        worker.main(["/mq", "jobs"])
    assert "put the command last, after --" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("numbers", "left", "said", "status"),
    [
        ({"acked": 3, "failed": 0, "lost": 0}, 0, "", 0),
        ({"acked": 3, "failed": 1, "lost": 0}, 0, "", 4),
        ({"acked": 3, "failed": 0, "lost": 1}, 0, "", 4),
        ({"acked": 3, "failed": 1, "lost": 0}, 7, "", 5),
        ({"acked": 3, "failed": 1, "lost": 0}, None, "", 5),  # nobody could say
        ({"acked": 3, "failed": 1, "lost": 0}, 7, "broken", 1),
        ({"acked": 0, "failed": 0, "lost": 0}, 0, "braked", 5),  # others took them
        ({"acked": 0, "failed": 0, "lost": 0}, 9, "braked", 5),
        ({"acked": 3, "failed": 1, "lost": 0}, 0, "then_is_left", 5),
    ],
)
def test_the_worst_decides_the_status(numbers, left, said, status):
    summary = Summary(numbers, left=left, **({said: True} if said else {}))
    assert worker.status_of(summary) == status
    forgiven = 0 if status == 4 else status
    assert worker.status_of(summary, exit_zero=True) == forgiven


def test_what_failed_when_all_was_done_is_a_failure_of_the_job():
    numbers = {"acked": 3, "failed": 0, "lost": 0}
    summary = Summary(numbers, then_has_failed=True)
    assert worker.status_of(summary) == worker.status_of(summary, exit_zero=True) == 4


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["/mq", "jobs", "./run.sh"], "put the command last, after --: -- ./run.sh;"),
        (["/mq", "jobs", "--tag", "a", "b"], "put the command last, after --: -- a;"),
        (["-J", "4", "/mq", "jobs", "--", "x"], "-J; did you mean -j?;"),
        (["-J4", "/mq", "jobs", "--", "x"], "-J4; did you mean -j?;"),
        (
            ["/mq", "jobs", "--retires=2", "--", "x"],
            "--retires=2; did you mean --retries?;",
        ),
        (
            ["--retries", "-1", "/mq", "jobs", "--", "x"],
            "'-1': it must be a whole number, 0",
        ),
        (["-j", "0", "/mq", "jobs", "--", "x"], "'0': it must be a whole number, 1"),
    ],
)
def test_what_is_typed_wrongly_is_told_in_one_line(capsys, words, told):
    with pytest.raises(SystemExit, match="2"):
        worker.main(words)
    said = capsys.readouterr().err
    assert said.startswith("ddmq-worker: ")
    assert said.count("\n") == 1
    assert told in said


def test_logs_below_a_directory_that_is_gone_are_refused(
    broker, tmp_path, monkeypatch, capfd
):
    broker.create_queue("jobs")
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    words = ["--log-dir", "logs", broker.root, "jobs", "--", "true"]
    assert worker.main(words) == 1
    assert "the current directory is gone" in capfd.readouterr().err


@pytest.fixture
def main(broker, tmp_path, monkeypatch):
    """Return a function that runs a worker with options, whose waits are over at once."""
    broker.create_queue("jobs")
    monkeypatch.setattr(beginning, "_FIRST", 0.0)
    return lambda *words: worker.main([*words, broker.root, "jobs", "--", "true"])


def stood_still():
    return OSError(errno.EIO, os.strerror(errno.EIO))


def test_where_a_part_of_a_pipe_was_read_the_rest_is_not_published(
    main, broker, monkeypatch, capfd
):
    reader, writer = os.pipe()
    os.write(writer, b"a\nb\n")
    os.close(writer)

    copy = shutil.copyfileobj

    def copied_a_part(source, _):
        monkeypatch.setattr(shutil, "copyfileobj", copy)
        os.read(source.fileno(), 2)
        raise stood_still()  # `TMPDIR` did not take it

    monkeypatch.setattr(shutil, "copyfileobj", copied_a_part)
    assert main("--from-file", f"/dev/fd/{reader}") == 2
    os.close(reader)
    assert "Input/output error; nothing is published" in capfd.readouterr().err
    assert broker.view("jobs")["jobs"].waiting == 0


def test_what_was_published_and_told_is_not_once_more_while_a_worker_waits(
    main, broker, tmp_path, monkeypatch, capfd, caplog
):
    path = tmp_path / "files.txt"
    path.write_text("a\n")
    os.chmod(f"{broker.root}/jobs", 0o777)
    answers = [stood_still(), None]

    def check_all(*_):
        path.write_text("a\nb\n")  # somebody goes on writing to it
        error = answers.pop(0)
        if error:
            raise StorageError(error)

    monkeypatch.setattr("ddmq.hpc.worker.check_all", check_all)
    assert main("--from-file", str(path)) == 0
    said = capfd.readouterr().err
    assert "1 acked" in said
    assert said.count("published\n") == 1
    assert caplog.text.count("everybody may write to") == 1


def test_the_name_of_a_queue_is_one_word_for_a_shell(tmp_path, capsys):
    broker = Broker(tmp_path / "mq", create=True)
    broker.publish("a; rm b", "x")
    held = broker.consume("a; rm b")
    worker._tell_what_others_hold(WhichQueue(root=broker.root, queue="a; rm b"))
    assert f"`ddmq doctor {broker.root} 'a; rm b'`" in capsys.readouterr().err
    broker.ack(held)
