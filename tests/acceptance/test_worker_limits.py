"""How a worker treats commands that fail, and when it stops."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import signal
import sys
import tempfile
import time
from functools import partial

import pytest
from acceptance.workers import (
    counts,
    running,
    seconds_of_ours,
    shell,
    start,
    takes,
    until,
    worked,
)

from ddmq.cli import main as cli

pytestmark = pytest.mark.slow

# One message


def test_placeholders_are_those_of_gnu_parallel(root, broker):
    id_ = broker.publish("jobs", "a dir/file.tar.gz")
    arguments = ["{}", "{.}", "{/}", "{//}", "{/.}", "{id}", "{slot}", "{x}", "{ }"]
    _, out, _ = worked("-j", 1, root, "jobs", "--", "printf", "%s\\n", *arguments)
    assert out.splitlines() == [
        "a dir/file.tar.gz",
        "a dir/file.tar",
        "file.tar.gz",
        "a dir",
        "file.tar",
        id_,
        "1",
        "{x}",
        "{ }",
    ]


def test_fields_of_an_object_are_placeholders_and_variables(root, broker):
    broker.publish("jobs", {"name": "{n} $(x)", "n": 3, "in ner": [1]})
    script = 'printf "%s\\n" "$1" "$DDMQ_FIELD_N" "$DDMQ_FIELD_IN_NER"'
    _, out, _ = worked(root, "jobs", *shell(script), "sh", "{name}")
    assert out.splitlines() == ["{n} $(x)", "3", "[1]"]


@pytest.mark.parametrize(
    ("options", "program", "message"),
    [
        ([], "{}", "{}/no-such"),
        (["--batch", 3], "{}", "{}/no-such"),
        ([], "{tool}", {"tool": "{}/no-such"}),
        ([], "{}", "{}"),
        ([], "{}/{}", "no-such"),
    ],
)
def test_a_program_that_a_message_names_and_that_is_not_there_is_its_fault(
    root, broker, tmp_path, options, program, message
):
    given = json.loads(json.dumps(message).replace("{}", str(tmp_path)))
    broker.publish("jobs", given)
    good = {"tool": "true"} if isinstance(message, dict) else "true"
    broker.publish_many("jobs", [good, good])
    os.symlink("/bin/true", tmp_path / "true")
    program = program.replace("{}/", f"{tmp_path}/")
    status, _, err = worked("-j", 1, *options, root, "jobs", "--", program)
    assert (status, counts(broker)) == (4, (0, 0, 0, 1)), err
    [letter] = broker.dead("jobs")
    assert letter.message == given
    assert f"it names the program {tmp_path}" in letter.reason


def test_the_text_comes_on_standard_input_when_asked(root, broker):
    broker.publish("jobs", "x" * 300_000)
    status, out, _ = worked("--stdin", root, "jobs", "--", "wc", "-c")
    assert (status, out.strip()) == (0, "300000")


def test_a_long_text_is_left_out_of_the_environment(root, broker):
    broker.publish("jobs", "x" * 300_000)
    script = "echo ${DDMQ_MESSAGE-unset} $DDMQ_PRIORITY $DDMQ_FAILURES $DDMQ_LOSSES"
    _, out, _ = worked("--stdin", root, "jobs", *shell(script))
    assert out == "unset 999 0 0\n"


def test_root_and_queue_are_told(root, broker):
    broker.publish("jobs", "a")
    _, out, _ = worked(root, "jobs", *shell("echo $DDMQ_ROOT $DDMQ_QUEUE $DDMQ_SLOT"))
    assert out == f"{root} jobs 1\n"


@pytest.mark.parametrize(
    ("options", "code", "after", "status"),
    [
        ([], 1, (0, 0, 0, 1), 4),
        (["--fatal", "3-5"], 4, (0, 0, 0, 1), 4),
        ([], 75, (0, 0, 1, 0), 0),
        (["--retry-free", "9"], 9, (0, 0, 1, 0), 0),
        (["--on-exit", "7=queue:other"], 7, (0, 0, 0, 0), 0),
        (["--backoff", "60,600"], 1, (0, 0, 1, 0), 4),
    ],
)
def test_the_exit_status_decides(root, broker, options, code, after, status):
    broker.create_queue("other")
    limit = None if "--fatal" in options or "--backoff" in options else 0
    broker.publish("jobs", "a", requeue_limit=limit)
    got, _, _ = worked(*options, root, "jobs", *shell(f"exit {code}"))
    assert (counts(broker), got) == (after, status)
    assert counts(broker, "other")[0] == ("--on-exit" in options)


def test_without_a_limit_the_worker_has_one(root, broker):
    broker.publish("jobs", "bad")
    status, _, err = worked("--retries", 2, root, "jobs", "--", "false")
    assert (status, counts(broker)) == (4, (0, 0, 0, 1))
    assert "1 failed" in err
    assert err.count("exit status 1") == 3
    assert "exit status 1" in broker.dead("jobs")[0].reason


def test_a_message_that_was_lost_too_often_is_not_run_any_more(root, broker, tmp_path):
    broker.publish("jobs", "deadly")
    for _ in range(3):
        until(lambda: counts(broker)[0] == 1)
        (message,) = broker.consume("jobs")
        over = f"{1:013d}{message.filename[13:]}"
        os.rename(root / "jobs/work" / message.filename, root / "jobs/work" / over)
    until(lambda: counts(broker)[0] == 1)
    worked("--retries", 2, root, "jobs", "--", "touch", tmp_path / "ran")
    assert not (tmp_path / "ran").exists()
    assert "3 losses" in broker.dead("jobs")[0].reason


def test_what_counts_nothing_counts_nothing(root, broker):
    broker.publish("jobs", "a")
    worked("--backoff", "0.01", root, "jobs", *shell("exit 75"))
    until(lambda: counts(broker)[0] == 1)
    assert broker.consume("jobs")[0].requeue_counter == 0


def test_a_command_killed_by_a_signal_has_a_status_as_in_a_shell(root, broker):
    broker.create_queue("bigmem")
    broker.publish("jobs", "a")
    on_exit = ["--on-exit", "137=queue:bigmem"]
    worked(*on_exit, root, "jobs", *shell("kill -9 $$"))
    assert counts(broker, "bigmem")[0] == 1


def test_a_command_that_takes_too_long_is_ended_whatever_it_does(root, broker):
    broker.publish("jobs", "a", requeue_limit=0)
    script = f"trap '' TERM; setsid sleep {seconds_of_ours(71)} & sleep {seconds_of_ours(71)}"
    began = time.monotonic()
    status, _, _ = worked(
        "--timeout", 0.5, "--grace", 0.5, root, "jobs", *shell(script)
    )
    assert status == 4
    assert time.monotonic() - began < 20
    assert "timed out after 0.5 s" in broker.dead("jobs")[0].reason
    assert running(seconds_of_ours(71)) == []


def test_a_command_that_ends_while_the_worker_is_stopped_has_not_timed_out(
    root, broker, tmp_path
):
    broker.publish("jobs", "a", requeue_limit=0)
    started, go_on = tmp_path / "started", tmp_path / "go on"
    script = f"touch {started}; until [ -e '{go_on}' ]; do sleep 0.01; done"
    process = start("--timeout", 2, root, "jobs", *shell(script))
    until(started.exists)
    process.send_signal(signal.SIGSTOP)
    go_on.touch()
    time.sleep(2.5)
    process.send_signal(signal.SIGCONT)
    assert "1 acked, 0 failed" in process.communicate(timeout=30)[1]


def test_a_dead_letter_tells_how_it_ended(root, broker, capsys):
    broker.publish("jobs", "a", requeue_limit=0)
    worked(root, "jobs", *shell("echo first >&2; echo last words >&2; exit 3"))
    [letter] = broker.dead("jobs")
    note = letter.note
    assert (note["exit"], note["signal"]) == (3, None)
    assert note["stderr"].splitlines()[-1] == "last words"
    assert note["host"] in letter.reason
    assert cli.main(["dead", str(root), "jobs"]) == 0
    shown = capsys.readouterr().out
    assert "exit status 3" in shown
    assert "| last words" in shown


# When it stops


def test_max_messages_is_a_limit(root, broker):
    broker.publish_many("jobs", list("abcde"))
    status, _, err = worked("-j", 2, "--max-messages", 3, root, "jobs", "--", "true")
    assert counts(broker) == (2, 0, 0, 0)
    assert (status, "3 acked" in err) == (5, True)


def test_too_many_failures_end_it(root, broker):
    broker.publish_many("jobs", list("abcde"), requeue=False)
    status, _, err = worked("-j", 1, "--max-failures", 2, root, "jobs", "--", "false")
    assert counts(broker) == (3, 0, 0, 2)
    assert "2 of 2 messages failed" in err
    assert status == 5


def test_a_share_of_failures_ends_it(root, broker):
    broker.publish_many("jobs", map(str, range(30)), requeue=False)
    worked("-j", 1, "--max-failures", "50%", root, "jobs", *shell('[ "$0" -lt 8 ]'))
    assert counts(broker)[3] == 8


def test_fast_failures_in_a_row_mean_a_broken_node(root, broker):
    broker.publish_many("jobs", list("abcde"), requeue=False)
    status, _, err = worked("--fast-failures", 3, root, "jobs", "--", "false")
    assert "this node looks broken" in err
    assert (status, counts(broker)) == (1, (5, 0, 0, 0))
    assert [m.requeue_counter for m in broker.consume("jobs", 5)] == [0] * 5


def test_fast_failures_that_are_too_few_count(root, broker):
    broker.publish_many("jobs", list("abc"), requeue=False)
    script = '[ "$0" = c ]'
    status, _, _ = worked("--fast-failures", 3, root, "jobs", *shell(script))
    assert (status, counts(broker)) == (4, (0, 0, 0, 2))


@pytest.mark.parametrize("slots", [1, 8, 16])
def test_a_command_that_only_fails_makes_no_dead_letters(root, broker, tmp_path, slots):
    broker.publish_many("jobs", map(str, range(1000)), requeue=False)
    log = tmp_path / "runs"
    script = f"echo x >> {log}; echo 'no such licence' >&2; exec /bin/false"
    status, _, err = worked("-j", slots, root, "jobs", *shell(script))
    first = max(10, slots)
    assert (status, counts(broker)) == (5, (1000, 0, 0, 0))
    assert log.read_text() == "x\n" * first
    assert {m.requeue_counter for m in broker.consume("jobs", 1000)} == {0}
    said = err.splitlines()[-1]
    assert f"0 failed, {first} released" in said
    assert f"stopped: the first {first} commands all failed" in said
    assert "exit status 1 (no such licence)" in said
    assert "--no-brake" in said


def test_a_brake_can_be_done_without(root, broker):
    broker.publish_many("jobs", map(str, range(50)))
    options = ["--no-brake", "-j", 4, "--retries", 1]
    status, _, err = worked(*options, root, "jobs", "--", "/bin/false")
    assert (status, counts(broker)) == (4, (0, 0, 0, 50))
    assert "50 failed" in err


def test_many_workers_that_brake_at_once_lose_nothing(root, broker):
    broker.publish_many("jobs", map(str, range(200)), requeue=False)
    started = [start("-j", 2, root, "jobs", "--", "/bin/false") for _ in range(4)]
    for process in started:
        process.communicate(timeout=60)
        assert process.returncode == 5
    assert counts(broker) == (200, 0, 0, 0)
    assert {m.requeue_counter for m in broker.consume("jobs", 200)} == {0}


def test_it_lingers_when_asked(root, broker):
    process = start("--wait", 30, "--poll-max", 0.2, root, "jobs", "--", "true")
    until(lambda: process.poll() is None)
    broker.publish("jobs", "late")
    until(lambda: counts(broker) == (0, 0, 0, 0))
    process.terminate()
    assert "1 acked" in process.communicate(timeout=30)[1]


def test_until_done_waits_for_what_others_hold(root, broker):
    broker.publish("jobs", "a")
    [message] = broker.consume("jobs")
    process = start("--until-done", "--poll-max", 0.2, root, "jobs", "--", "true")
    time.sleep(0.7)
    assert process.poll() is None
    broker.nack(message)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, "1 acked" in err) == (0, True)


def test_a_message_that_would_not_finish_is_not_started(root, broker):
    broker.publish("jobs", "a")
    options = ["--deadline", time.time() + 60, "--min-remaining", "61"]
    status, _, err = worked(*options, root, "jobs", "--", "true")
    assert (status, counts(broker)) == (5, (1, 0, 0, 0))
    assert "too little time remains" in err


def test_the_journals_say_how_long_a_message_takes(root, broker):
    broker.publish("jobs", "1.2")
    worked(root, "jobs", "--", "sleep")
    broker.publish("jobs", "0")
    status, _, _ = worked("--time", "1", "--grace", "0.1", root, "jobs", "--", "sleep")
    assert (status, counts(broker)[0]) == (5, 1)


def test_at_the_deadline_it_drains(root, broker):
    broker.publish("jobs", "a")
    options = ["--time", "1.5", "--grace", "0.5", "--min-remaining", "0"]
    status, _, err = worked(*options, root, "jobs", *shell("sleep 60"))
    assert (status, counts(broker)) == (5, (1, 0, 0, 0))
    assert "its time is over" in err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "the last 10 s are for the commands to end (--grace), so none ever would be; "
         "give --time more than 10s, or --grace 0.6\n"),
        (["--grace", "2", "--min-remaining", "4"], "the last 2 s are for the commands to end "
         "(--grace), and no message is started when less than 4 s remain, so none ever would be; "
         "give --time more than 6s, or shorten --grace or --min-remaining\n"),
    ],
)  # fmt: skip
def test_a_time_in_which_no_message_would_be_started_is_refused(
    root, broker, options, told
):
    broker.publish("jobs", "a")
    words = ["--time", "6", *options, root, "jobs", "--", "true"]
    assert worked(*words) == (2, "", f"ddmq-worker: --time is 6 s, but {told}")
    assert counts(broker) == (1, 0, 0, 0)
    # What it says is what works.
    assert worked("--grace", "0.6", "--time", "6", root, "jobs", "--", "true")[0] == 0


def test_where_the_scheduler_says_when_it_ends_the_grace_gives_way(
    root, broker, monkeypatch
):
    broker.publish("jobs", "a")
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 60))
    options = ["--grace", "40", "--min-remaining", "30", root, "jobs"]
    status, _, err = worked(*options, "--", "true")
    assert (status, counts(broker)) == (0, (0, 0, 0, 0))
    found = re.search(
        r"the job ends in [\d.]+ s, which is not more than --grace 40 s \+ "
        r"--min-remaining 30 s: commands get ([\d.]+) s to end\n",
        err,
    )
    assert 3 < float(found[1]) <= 6


# A file server that is away


def test_an_ack_is_not_given_up_while_the_storage_is_away(root, broker):
    broker.publish("jobs", "a")
    process = start(root, "jobs", *shell("sleep 1"))
    until(lambda: counts(broker)[1] == 1)
    os.rename(root, f"{root}.away")
    time.sleep(2)
    os.rename(f"{root}.away", root)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "could not be settled yet" in err
    assert counts(broker) == (0, 0, 0, 0)


def test_leases_are_held_while_the_storage_is_away(root, broker):
    broker.update_settings("jobs", message_timeout=3)
    broker.publish("jobs", "a")
    process = start(root, "jobs", *shell("sleep 4"))
    until(lambda: counts(broker)[1] == 1)
    os.rename(root, f"{root}.away")
    time.sleep(1.5)
    os.rename(f"{root}.away", root)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "leases are not renewed now" in err
    assert counts(broker) == (0, 0, 0, 0)


#: All that is below the root answers so, until there is a file `back`.
STANDS_STILL = """
import os
def unless_away(real):
    def call(path, *rest, **named):
        if str(path).startswith({root!r}) and not os.path.exists({back!r}):
            raise OSError({code}, os.strerror({code}), path)
        return real(path, *rest, **named)
    return call
os.open, os.lstat, os.listdir = map(unless_away, (os.open, os.lstat, os.listdir))
"""


@pytest.fixture
def begun(root, tmp_path):
    """Return a function that starts a worker while the file server stands still."""

    def begun(*words, code=errno.EIO, stdin=b""):
        before = STANDS_STILL.format(root=str(root), back=str(back), code=code)
        with tempfile.TemporaryFile() as given:
            given.write(stdin)
            given.seek(0)
            process = start(*words, before=before, stdin=given)
        return process, process.stderr.readline()

    back = tmp_path / "back"
    begun.back = back
    return begun


@pytest.mark.parametrize("code", [errno.EIO, errno.ETIMEDOUT])
def test_who_starts_while_the_storage_is_away_waits_and_says_so_once(
    root, broker, begun, code
):
    words = ["--progress", "--from-file", "-", root, "jobs", *shell("exit 0")]
    process, said = begun(*words, code=code, stdin=b"a\nb\n")
    assert "nothing was started yet, tried again until the file server answers" in said
    assert os.strerror(code) in said
    begun.back.touch()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "2 acked, 0 failed" in err
    assert "tried again" not in err
    assert counts(broker) == (0, 0, 0, 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_who_waits_for_the_storage_at_its_start_ends_when_asked(
    root, broker, begun, number
):
    process, _ = begun(root, "jobs", *shell("exit 0"))
    until(lambda: takes(process.pid, number))
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 5
    assert "stopped: it was asked to drain; " in err
    assert "nobody knows how many left" in err


def test_who_waits_for_the_storage_at_its_start_ends_with_its_job(root, broker, begun):
    process, _ = begun("--time", 3, "--grace", 1, root, "jobs", *shell("exit 0"))
    _, err = process.communicate(timeout=30)
    assert process.returncode == 5
    assert "stopped: its time is over; " in err


def test_with_few_files_open_the_others_go_on(root, broker):
    broker.update_settings("jobs", message_timeout=1)
    broker.publish_many("jobs", map(str, range(10)), requeue_limit=0)
    options = ["-j", "8", "--backoff", "0.2", "--wait", "1"]
    few = partial(resource.setrlimit, resource.RLIMIT_NOFILE, (20, 20))
    process = start(*options, root, "jobs", *shell("sleep 1.5"), preexec_fn=few)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "10 acked, 0 failed" in err
    assert "Too many open files" in err
    assert counts(broker) == (0, 0, 0, 0)


# The journal


def test_the_log_lists_the_runs(root, broker, capsys):
    broker.publish_many("jobs", ["0", "1", "0"], requeue=False)
    worked("-j", 2, root, "jobs", *shell('exit "$0"'))
    assert cli.main(["log", str(root), "jobs", "--format", "json"]) == 0
    runs = json.loads(capsys.readouterr().out)
    assert sorted(run["exit"] for run in runs) == [0, 0, 1]
    assert all(run["peak_kib"] > 0 and run["duration"] > 0 for run in runs)
    assert cli.main(["log", str(root), "jobs", "--failed"]) == 0
    assert "exit 1" in capsys.readouterr().out
    assert cli.main(["log", str(root), "jobs", "--slowest", "2", "--format=json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 2
    assert cli.main(["log", str(root), "jobs", "--host", "nowhere"]) == 0
    assert capsys.readouterr().out == ""
    assert cli.main(["log", str(root), "jobs", "--compact"]) == 0


@pytest.mark.parametrize(
    "options",
    [
        ["--timeout", "soon"],
        ["--fatal", "x"],
        ["--fatal", "300"],
        ["--on-exit", "1=other"],
        ["--on-exit", "1=queue:../x"],
        ["--backoff", "1,x"],
        ["--log-limit", "10X"],
        ["--term-signal", "NOTHING"],
        ["--max-failures", "0%"],
        ["--max-failures", "many"],
        ["--deadline", "tomorrow"],
        ["--time", "1:2:3:4"],
        ["--bogus"],
    ],
)
def test_wrong_options_are_explained(options):
    status, out, err = worked(*options, "/r", "q", "--", "true")
    assert (status, out) == (2, "")
    assert err.count("\n") == 1


def test_memory_and_start_are_small(root, broker, monkeypatch):
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)  # it takes 5 MB
    broker.publish("jobs", "a")
    code = (
        "import re, os; text = open(f'/proc/{os.getppid()}/smaps_rollup').read();"
        "print(re.search('Pss: +([0-9]+)', text)[1])"
    )
    _, out, _ = worked(root, "jobs", "--", sys.executable, "-c", code)
    assert int(out) < 20_000
