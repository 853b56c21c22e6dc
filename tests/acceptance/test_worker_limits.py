"""How a worker treats commands that fail, hang, flood, hide or die, and when it stops."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time

import pytest
from acceptance.test_worker import start, until, worked

from ddmq import Broker, cli


@pytest.fixture
def root(tmp_path):
    return tmp_path / "mq"


@pytest.fixture
def broker(root):
    broker = Broker(root, create=True)
    broker.create_queue("jobs")
    return broker


def seconds_of_ours(number):
    """Return a time to sleep by which no other run of these tests can be meant."""
    return f"{number}.{os.getpid()}"


def counts(broker, queue="jobs"):
    return tuple(broker.view(queue)[queue])


def shell(script):
    return ["--", "sh", "-c", script]


def running(word):
    """Return the processes whose command line holds a word, but not our own."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as line:
                words = line.read().split(b"\0")
        except OSError:
            continue
        if word.encode() in words and words[0] in (b"sleep", b"yes"):
            found.append(int(pid))
    return found


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
    assert "3 failed" in err
    assert "exit status 1" in broker.dead("jobs")[0].reason


def test_a_message_that_was_lost_too_often_is_not_run_any_more(root, broker, tmp_path):
    broker.publish("jobs", "deadly", timeout=0.05)
    for _ in range(3):
        until(lambda: broker.consume("jobs"))
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


# Nothing runs on


def test_after_a_sigkill_of_the_worker_nothing_runs_on(root, broker):
    broker.publish("jobs", "a")
    process = start(
        root,
        "jobs",
        *shell(
            f"setsid sleep {seconds_of_ours(72)} & sleep {seconds_of_ours(72)} & sleep {seconds_of_ours(72)}"
        ),
    )
    until(lambda: len(running(seconds_of_ours(72))) == 3)
    process.kill()
    process.communicate()
    until(lambda: running(seconds_of_ours(72)) == [])


def test_a_daemon_that_a_command_left_ends_with_the_worker(root, broker):
    broker.publish("jobs", "a")
    script = f"setsid sleep {seconds_of_ours(73)} >/dev/null 2>&1 & exit 0"
    status, _, _ = worked(root, "jobs", *shell(script))
    assert status == 0
    assert running(seconds_of_ours(73)) == []


# What commands print


def test_a_flood_of_output_is_cut_in_the_middle(root, broker, tmp_path):
    broker.publish("jobs", "a", requeue_limit=0)
    script = "echo begin; yes | head -c 50000000; echo end; exit 1"
    logs = ["--log-dir", tmp_path / "logs", "--log-limit", "10K"]
    worked(*logs, root, "jobs", *shell(script))
    [log] = (tmp_path / "logs").rglob("*.out")
    text = log.read_text()
    assert text.startswith("begin\ny\n")
    assert text.endswith("y\nend\n")
    assert re.search(r"\[\.\.\. \d{8} bytes left out", text)
    assert len(text) < 11_000
    assert str(log).removesuffix(".out") == broker.dead("jobs")[0].note["log"]


@pytest.mark.parametrize(("logs", "kept"), [("failed", 1), ("all", 2), ("none", 0)])
def test_logs_are_kept_of_the_runs_asked_for(root, broker, tmp_path, logs, kept):
    broker.publish_many("jobs", ["0", "1"], requeue_limit=0)
    options = ["--log-dir", tmp_path / "logs", "--logs", logs]
    worked(*options, root, "jobs", *shell('echo "$0"; echo err >&2; exit "$0"'))
    assert len(list((tmp_path / "logs").rglob("*.out"))) == kept
    assert len(list((tmp_path / "logs").rglob("*.err"))) == kept


# Exactly one result


def test_the_output_of_a_success_becomes_the_result(root, broker, tmp_path):
    id_ = broker.publish("jobs", "a")
    output = ["--output-dir", tmp_path / "out"]
    worked(*output, root, "jobs", *shell('echo "result $0" > $DDMQ_OUTPUT'))
    assert (tmp_path / "out" / id_).read_text() == "result a\n"
    assert os.listdir(tmp_path / "out" / ".ddmq-unfinished") == []


def test_the_output_of_a_failure_is_removed(root, broker, tmp_path):
    broker.publish("jobs", "a", requeue_limit=0)
    output = ["--output-dir", tmp_path / "out"]
    worked(*output, root, "jobs", *shell("mkdir $DDMQ_OUTPUT; exit 1"))
    assert os.listdir(tmp_path / "out") == [".ddmq-unfinished"]
    assert os.listdir(tmp_path / "out" / ".ddmq-unfinished") == []


def test_a_run_that_lost_its_lease_leaves_no_result(root, broker, tmp_path):
    broker.publish("jobs", "a")
    output = ["--output-dir", tmp_path / "out"]
    script = "echo mine > $DDMQ_OUTPUT; sleep 1"
    process = start(*output, root, "jobs", *shell(script))
    until(lambda: counts(broker)[1] == 1)
    [lease] = os.listdir(root / "jobs" / "work")
    broker.release(broker.leased("jobs", lease))
    [message] = broker.consume("jobs")
    process.communicate(timeout=30)
    assert os.listdir(tmp_path / "out") == [".ddmq-unfinished"]
    broker.ack(message)


# When it stops


def test_max_messages_is_a_limit(root, broker):
    broker.publish_many("jobs", "abcde")
    status, _, err = worked("-j", 2, "--max-messages", 3, root, "jobs", "--", "true")
    assert counts(broker) == (2, 0, 0, 0)
    assert (status, "3 acked" in err) == (5, True)


def test_too_many_failures_end_it(root, broker):
    broker.publish_many("jobs", "abcde", requeue=False)
    status, _, err = worked("-j", 1, "--max-failures", 2, root, "jobs", "--", "false")
    assert counts(broker) == (3, 0, 0, 2)
    assert "2 of 2 messages failed" in err
    assert status == 5


def test_a_share_of_failures_ends_it(root, broker):
    broker.publish_many("jobs", map(str, range(30)), requeue=False)
    worked("-j", 1, "--max-failures", "50%", root, "jobs", *shell('[ "$0" -lt 8 ]'))
    assert counts(broker)[3] == 8


def test_fast_failures_in_a_row_mean_a_broken_node(root, broker):
    broker.publish_many("jobs", "abcde", requeue=False)
    status, _, err = worked("--fast-failures", 3, root, "jobs", "--", "false")
    assert "this node looks broken" in err
    assert (status, counts(broker)) == (1, (5, 0, 0, 0))
    assert [m.requeue_counter for m in broker.consume("jobs", 5)] == [0] * 5


def test_fast_failures_that_are_too_few_count(root, broker):
    broker.publish_many("jobs", "abc", requeue=False)
    script = '[ "$0" = c ]'
    status, _, _ = worked("--fast-failures", 3, root, "jobs", *shell(script))
    assert (status, counts(broker)) == (4, (0, 0, 0, 2))


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
    options = ["--time", "60", "--min-remaining", "61"]
    status, _, err = worked(*options, root, "jobs", "--", "true")
    assert (status, counts(broker)) == (5, (1, 0, 0, 0))
    assert "too little time remains" in err


def test_the_journals_say_how_long_a_message_takes(root, broker):
    broker.publish("jobs", "1.2")
    worked(root, "jobs", "--", "sleep")
    broker.publish("jobs", "0")
    status, _, _ = worked("--time", "1", root, "jobs", "--", "sleep")
    assert (status, counts(broker)[0]) == (5, 1)


def test_at_the_deadline_it_drains(root, broker):
    broker.publish("jobs", "a")
    options = ["--time", "1.5", "--grace", "0.5", "--min-remaining", "0"]
    status, _, err = worked(*options, root, "jobs", *shell("sleep 60"))
    assert (status, counts(broker)) == (5, (1, 0, 0, 0))
    assert "its time is over" in err


# Signals


def test_a_signal_that_comes_twice_at_once_is_one(root, broker):
    broker.publish("jobs", "a")
    script = "trap 'sleep 0.5; exit 0' TERM; sleep 60 & wait"
    process = start(root, "jobs", *shell(script))
    until(lambda: counts(broker)[1] == 1)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert "1 acked" in err


def test_the_commands_get_the_signal_that_was_asked_for(root, broker):
    broker.publish("jobs", "a")
    script = "trap 'echo got it; exit 3' USR2; sleep 60 & wait"
    process = start("--term-signal", "USR2", root, "jobs", *shell(script))
    until(lambda: counts(broker)[1] == 1)
    time.sleep(0.3)
    process.send_signal(signal.SIGUSR1)
    out, err = process.communicate(timeout=30)
    assert out == "got it\n"
    assert "1 released" in err
    assert broker.consume("jobs")[0].requeue_counter == 0


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


def test_memory_and_start_are_small(root, broker):
    broker.publish("jobs", "a")
    code = (
        "import re, os; text = open(f'/proc/{os.getppid()}/smaps_rollup').read();"
        "print(re.search('Pss: +([0-9]+)', text)[1])"
    )
    _, out, _ = worked(root, "jobs", "--", sys.executable, "-c", code)
    assert int(out) < 20_000
