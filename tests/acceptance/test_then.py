"""What runs when a queue is done, with real workers and real commands."""

from __future__ import annotations

import os
import re
import signal

import pytest
from acceptance.workers import start, until, worked


@pytest.fixture
def runs(tmp_path):
    """Return the command that notes each run of it, and what it noted."""
    log = tmp_path / "runs"
    script = f'echo "$DDMQ_QUEUE $DDMQ_THEN_ID $DDMQ_THEN_DEAD" >> {log}'

    def noted():
        return log.read_text().splitlines() if log.exists() else []

    def command(after=""):
        return ["--then", f"sh -c '{script}; {after}'"]

    noted.command = command
    return noted


def then(root):
    return sorted(os.listdir(root / "jobs" / "then"))


@pytest.mark.parametrize("options", [[], ["--until-done"]])
def test_three_workers_run_it_once_when_all_is_done(root, broker, runs, options):
    broker.publish_many("jobs", [f"m{n}" for n in range(20)], durable=False)
    arguments = ["-j", 2, *options, *runs.command(), root, "jobs"]
    workers = [start(*arguments, "--", "sh", "-c", "sleep 0.05") for _ in range(3)]
    for worker in workers:
        _, err = worker.communicate(timeout=60)
        assert worker.returncode == 0, err
    [run] = runs()
    assert re.fullmatch("jobs [0-9a-f]{20} 0", run)
    assert then(root) == []
    assert worked(*arguments, "--", "true")[0] == 0
    assert len(runs()) == 1  # nothing has come since


def test_messages_that_come_later_arm_it_again(root, broker, runs):
    for _ in range(2):
        broker.publish("jobs", "a")
        assert worked(*runs.command(), root, "jobs", "--", "true")[0] == 0
    first, second = runs()
    assert first != second


def test_another_worker_runs_it_again_when_one_was_killed(root, broker, runs, tmp_path):
    broker.update_settings("jobs", message_timeout=2)
    broker.publish("jobs", "a")
    slow = f"[ -e {tmp_path}/go ] || sleep 600"
    arguments = ["--until-done", *runs.command(slow), root, "jobs", "--", "true"]
    first = start(*arguments)
    until(runs)
    second = start(*arguments)
    (tmp_path / "go").touch()
    first.kill()
    first.communicate(timeout=30)
    _, err = second.communicate(timeout=30)
    assert second.returncode == 0, err
    assert len(runs()) == 2
    assert len(set(runs())) == 1
    assert then(root) == []


def test_dead_letters_keep_it_from_being_run_unless_it_is_told_so(root, broker, runs):
    broker.publish("jobs", "bad", requeue_limit=0)
    broker.publish("jobs", "good")
    arguments = [root, "jobs", "--", "sh", "-c", '[ "$0" = good ]']
    status, _, err = worked(*runs.command(), *arguments)
    assert (status, runs()) == (4, [])
    assert "1 dead letter: --then is not run; redrive them" in err
    assert then(root) == ["armed"]
    assert worked(*runs.command(), "--then-even-if-dead", *arguments)[0] == 0
    assert [run.split()[2] for run in runs()] == ["1"]


def test_it_is_run_when_what_was_dead_has_succeeded(root, broker, runs):
    broker.publish("jobs", "a", requeue_limit=0)
    worked(*runs.command(), root, "jobs", "--", "false")
    broker.redrive("jobs")
    assert worked(*runs.command(), root, "jobs", "--", "true")[0] == 0
    assert len(runs()) == 1


def test_one_that_fails_is_tried_again_and_then_told(root, broker, runs):
    broker.publish("jobs", "a")
    again = ["--retries", 2, "--backoff", "0.1"]
    status, _, err = worked(*again, *runs.command("exit 3"), root, "jobs", "--", "true")
    assert status == 4
    assert len(runs()) == 3
    assert len(set(runs())) == 1
    assert "exit status 3; it failed 3 times" in err
    [name] = then(root)
    assert name.endswith(".failed")
    broker.publish("jobs", "b")
    assert worked(*runs.command(), root, "jobs", "--", "true")[0] == 0
    assert (len(set(runs())), then(root)) == (2, [])


def test_a_drain_gives_it_back_uncounted_and_the_next_worker_runs_it(
    root, broker, runs, tmp_path
):
    broker.publish("jobs", "a")
    slow = f"[ -e {tmp_path}/go ] || exec sleep 600"
    arguments = ["--grace", 1, *runs.command(slow), root, "jobs", "--", "true"]
    worker = start(*arguments)
    until(runs)
    worker.send_signal(signal.SIGTERM)
    _, err = worker.communicate(timeout=30)
    assert worker.returncode == 5
    assert "--then is left to the next worker" in err
    [name] = then(root)
    assert name.endswith(".waiting")
    assert name.split(".")[1] == "0"
    (tmp_path / "go").touch()
    assert worked(*arguments)[0] == 0
    assert len(runs()) == 2
    assert len(set(runs())) == 1


def test_one_that_ends_within_the_grace_is_done(root, broker, runs):
    broker.publish("jobs", "a")
    worker = start(*runs.command("sleep 1"), root, "jobs", "--", "true")
    until(runs)
    worker.send_signal(signal.SIGTERM)
    _, err = worker.communicate(timeout=30)
    assert (worker.returncode, then(root)) == (0, []), err


def test_a_worker_that_was_stopped_by_a_limit_leaves_it(root, broker, runs):
    broker.publish_many("jobs", ["a", "b"])
    limited = ["--max-messages", 2, *runs.command(), root, "jobs", "--", "true"]
    status, _, err = worked(*limited)
    assert (status, runs(), then(root)) == (5, [], ["armed"]), err
    assert worked(*runs.command(), root, "jobs", "--", "true")[0] == 0
    assert len(runs()) == 1


def test_its_command_is_checked_before_anything_is_run(root, broker):
    broker.publish("jobs", "a")
    for command, said in (
        ("no-such-program x", "--then no-such-program"),
        ("'", "No closing"),
    ):
        status, _, err = worked("--then", command, root, "jobs", "--", "true")
        assert (status, said in err) == (1 if "no-such" in command else 2, True), err
    assert broker.view("jobs")["jobs"].waiting == 1
    assert not (root / "jobs" / "then").exists()


def test_the_recipe_collects_once_though_it_is_run_twice(
    root, broker, tmp_path, monkeypatch
):
    """As docs/hpc.md has it."""
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "collect-once.sh"
    script.write_text(
        "#!/bin/sh\nmkdir done-$DDMQ_THEN_ID || exit 0\necho collected >> log\n"
        "[ -e go ] || { touch go; exit 1; }\n"
    )
    script.chmod(0o755)
    broker.publish("jobs", "a")
    options = ["--backoff", "0.1", "--then", "./collect-once.sh"]
    assert worked(*options, root, "jobs", "--", "true")[0] == 0
    assert (tmp_path / "log").read_text() == "collected\n"
