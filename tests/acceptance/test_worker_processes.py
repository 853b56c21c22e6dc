"""No command outlives its worker, and signals drain it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from itertools import cycle

import pytest
from acceptance.workers import (
    counts,
    python,
    running,
    seconds_of_ours,
    session_of,
    shell,
    start,
    until,
    worked,
)

pytestmark = pytest.mark.slow

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
    process.wait()  # not for the end of its output, which they may hold
    until(lambda: running(seconds_of_ours(72)) == [])
    process.communicate()


@pytest.mark.parametrize("together", [True, False], ids=["bundle", "files"])
def test_a_sigkill_of_the_worker_counts_only_for_what_its_commands_had(
    root, broker, together, tmp_path
):
    """What it had taken ahead comes back as if it was never taken."""
    texts = [str(number) for number in range(40)]
    if together:
        broker.publish_many("jobs", texts)
    else:
        for text in texts:
            broker.publish("jobs", text)
    seconds, seen = seconds_of_ours(79), tmp_path / "seen"
    script = f'[ "$0" -lt 10 ] || {{ echo "$0" >> {seen}; exec sleep {seconds}; }}'
    process = start("-j", 2, root, "jobs", *shell(f"sleep 0.2; {script}"))
    until(lambda: len(running(seconds)) == 2 and broker.view("jobs")["jobs"].work > 2)
    held = broker.view("jobs")["jobs"].work
    process.kill()
    process.communicate()
    swept = broker.clean("jobs", end_leases=True)
    assert (swept.requeued, swept.dead) == (held, 0)
    back = broker.consume("jobs", 40)
    assert {m.message for m in back if m.losses} == set(seen.read_text().split())
    assert len(back) == 30


#: As where the C library had no POSIX_SPAWN_SETSID when Python was built, conda's above all.
LACKING = """
import os
spawn = os.posix_spawn
def without_sessions(*arguments, setsid=False, **options):
    if setsid:
        raise NotImplementedError("posix_spawn: setsid unavailable on this platform")
    return spawn(*arguments, **options)
os.posix_spawn = without_sessions
"""


@pytest.mark.parametrize("before", ["", LACKING], ids=["spawned", "forked"])
def test_after_a_sigkill_of_the_whole_session_nothing_runs_on(root, broker, before):
    """As PBS does it, to the session of a job and nothing else."""
    broker.publish_many("jobs", ["a", "b"])
    seconds = seconds_of_ours(77)
    options = {"before": before, "start_new_session": True}
    command = shell(f"setsid sleep {seconds} & sleep {seconds}")
    process = start("-j", 2, root, "jobs", *command, **options)
    until(lambda: len(running(seconds)) == 4)
    members = session_of(process.pid)
    for number in (signal.SIGSTOP, signal.SIGKILL):  # all at once
        for pid in members:
            os.kill(pid, number)
    process.wait()
    until(lambda: running(seconds) == [])
    process.communicate()


def in_another_group(seconds):
    """Return a command whose child leaves its process group, and sleeps there."""
    return python(
        "import os; os.fork() or"
        f" (os.setpgid(0, 0), os.execvp('sleep', ['sleep', '{seconds}'])); os.wait()"
    )


def leads_a_group(seconds):
    return [os.getpgid(pid) == pid for pid in running(seconds)] == [True]


def test_a_timeout_ends_what_changed_its_process_group(root, broker):
    broker.publish("jobs", "a", requeue_limit=0)
    seconds = seconds_of_ours(74)
    options = ["--timeout", 2, "--grace", 0.5]
    process = start(*options, root, "jobs", *in_another_group(seconds))
    until(lambda: leads_a_group(seconds))
    process.communicate(timeout=30)
    assert process.returncode == 4
    assert "timed out after 2 s" in broker.dead("jobs")[0].reason
    assert running(seconds) == []


def test_after_a_sigkill_of_the_worker_no_process_group_runs_on(root, broker):
    broker.publish("jobs", "a")
    seconds = seconds_of_ours(75)
    process = start(root, "jobs", *in_another_group(seconds))
    until(lambda: leads_a_group(seconds))
    process.kill()
    process.wait()
    until(lambda: running(seconds) == [])
    process.communicate()


def cleared(seconds):
    """Return a command with a child as in a container that gets an environment of its own."""
    script = f"setsid env -i sleep {seconds} & env -i sleep {seconds}; exit"
    return shell(f"trap '' TERM; {script}")


def test_after_a_sigkill_of_the_worker_no_cleared_environment_runs_on(root, broker):
    broker.publish("jobs", "a")
    seconds = seconds_of_ours(78)
    process = start(root, "jobs", *cleared(seconds))
    until(lambda: len(running(seconds)) == 2)
    process.kill()
    process.wait()
    until(lambda: running(seconds) == [])
    process.communicate()


def test_a_timeout_ends_what_cleared_its_environment(root, broker):
    broker.publish("jobs", "a", requeue_limit=0)
    seconds = seconds_of_ours(79)
    command = cleared(seconds)
    command[1:1] = ["env", "-i"]  # not even the command itself has a mark
    process = start("--timeout", 2, "--grace", 0, root, "jobs", *command)
    until(lambda: len(running(seconds)) == 2)
    process.communicate(timeout=30)
    assert process.returncode == 4
    assert running(seconds) == []


def test_a_drain_ends_what_cleared_its_environment_and_whose_parent_obeys(root, broker):
    broker.publish("jobs", "a", requeue_limit=0)
    seconds = seconds_of_ours(86)
    script = f"setsid env -i sleep {seconds} & sleep {seconds}"
    process = start("--grace", 60, root, "jobs", *shell(script))
    until(lambda: len(running(seconds)) == 2)
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 5
    assert running(seconds) == []


@pytest.mark.parametrize("how", ["timeout", "drain", "signalled first", "cancelled"])
def test_what_left_its_parent_has_ended_when_its_message_comes_back(root, broker, how):
    """Else it would run beside the next run of the message, as long as this worker goes on."""
    seconds, stubborn = seconds_of_ours(89), seconds_of_ours(90)
    script = f"(setsid sleep {seconds} &); exec sleep {seconds}"
    ids = [broker.publish("jobs", script, requeue_limit=0)]
    if how in ("drain", "signalled first"):
        broker.publish("jobs", f"trap '' TERM; while :; do sleep {stubborn}; done")
    options = ["-j", 2, "--until-done", "--grace", 60, "--no-brake"]
    if how == "timeout":
        options += ["--timeout", 1]
    broker.update_settings("jobs", message_timeout=3)  # a heartbeat each second
    process = start(*options, root, "jobs", *shell('eval "$0"'))
    until(lambda: len(running(seconds)) == 2 or how == "timeout")
    if how == "cancelled":
        broker.cancel("jobs", ids)
    if how == "signalled first":
        [command] = [p for p in running(seconds) if os.getsid(p) != p]
        os.kill(command, signal.SIGTERM)
    if how in ("drain", "signalled first"):
        until(lambda: running(stubborn))
        process.terminate()
        until(lambda: counts(broker)[0] == 1)
    else:
        until(lambda: counts(broker)[3] == 1)
    left = running(seconds)
    process.kill()
    process.communicate()
    assert left == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_worker_that_is_a_command_leaves_nothing(root, broker, number):
    """Its guardian is a child of it, and below the mark of the outer worker."""
    broker.publish("jobs", "a", requeue_limit=0)
    broker.create_queue("inner")
    broker.publish("inner", "b", requeue_limit=0)
    seconds = seconds_of_ours(80)
    left = f"(setsid sh -c 'sleep {seconds} &' &); exec sleep {seconds}"
    code = "import sys; from ddmq.cli.worker import main; sys.exit(main())"
    inner = ["--", sys.executable, "-c", code, root, "inner", *shell(left)]
    process = start("--grace", 0, root, "jobs", *inner)
    until(lambda: len(running(seconds)) == 2)
    process.send_signal(number)
    process.wait(30)
    until(lambda: running(seconds) == [])
    process.communicate()


@pytest.mark.parametrize("has_guardian", [True, False])
def test_what_shows_progress_is_removed_after_a_sigkill(
    root, broker, tmp_path, has_guardian
):
    """By the guardian, or where that is killed as well, by the next worker of this user."""
    spool = tmp_path / "a *"
    spool.mkdir()
    before = f"import os; os.environ['TMPDIR'] = {str(spool)!r}"
    seconds = seconds_of_ours(91)
    broker.publish_many("jobs", [f"exec sleep {seconds}"] * 2, requeue_limit=0)
    process = start("-j", 2, root, "jobs", *shell('eval "$0"'), before=before)
    until(lambda: len(running(seconds)) == 2)
    assert len(os.listdir(spool)) == 2
    if not has_guardian:
        process.send_signal(signal.SIGSTOP)
        for pid in descendants(process.pid):
            os.kill(pid, signal.SIGKILL)
    process.kill()
    process.communicate()
    if not has_guardian:
        assert len(os.listdir(spool)) == 2
        broker.publish("jobs", "exit 0")
        after = start(root, "jobs", *shell('eval "$0"'), before=before)
        assert after.communicate(timeout=30)[1].count("1 acked")
    until(lambda: os.listdir(spool) == [])


def test_a_daemon_that_a_command_left_ends_with_the_worker(root, broker):
    broker.publish("jobs", "a")
    script = f"setsid sleep {seconds_of_ours(73)} >/dev/null 2>&1 & exit 0"
    status, _, _ = worked(root, "jobs", *shell(script))
    assert status == 0
    assert running(seconds_of_ours(73)) == []


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


def test_signals_that_go_on_until_the_end_change_no_exit_status(root, broker):
    """As a scheduler sends them that repeats what it sends, while the worker drains and ends."""
    broker.publish("jobs", "a")
    seconds = seconds_of_ours(87)
    process = start("--time", 900, root, "jobs", *shell(f"exec sleep {seconds}"))
    until(lambda: running(seconds))
    numbers = cycle((signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2))
    while process.poll() is None:
        process.send_signal(next(numbers))
        time.sleep(0.0002)
    assert process.returncode == 5
    assert "1 released" in process.communicate()[1]


#: Everything that can be ignored and blocked is so, as where another program started the worker.
DEAF = """
import signal
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
"""


@pytest.mark.parametrize(
    "options", [(), ("--then", "grep -E Sig(Blk|Ign) /proc/self/status")]
)
def test_no_command_inherits_ignored_or_blocked_signals(root, broker, options):
    broker.publish("jobs", "/proc/self/status")
    command = ["--", *(["true"] if options else ["grep", "-E", "Sig(Blk|Ign)"])]
    process = start(*options, root, "jobs", *command, before=DEAF)
    out, err = process.communicate(timeout=30)
    assert out.split() == ["SigBlk:", "0" * 16, "SigIgn:", "0" * 16], err


def test_a_worker_that_inherits_blocked_signals_drains(root, broker):
    broker.publish("jobs", "a")
    seconds = seconds_of_ours(88)
    process = start(root, "jobs", *shell(f"exec sleep {seconds}"), before=DEAF)
    until(lambda: running(seconds))
    process.terminate()
    assert "1 released" in process.communicate(timeout=30)[1]
    assert process.returncode == 5


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


def test_only_a_later_signal_cuts_the_grace_short(root, broker):
    broker.publish("jobs", "a")
    seconds = seconds_of_ours(76)
    stubborn = shell(f"trap '' TERM; sleep {seconds}")
    process = start("--grace", 60, root, "jobs", *stubborn)
    until(lambda: running(seconds))
    process.terminate()
    began = time.monotonic()
    time.sleep(2)
    process.terminate()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(began + 5.2 - time.monotonic())
    process.terminate()
    _, err = process.communicate(timeout=20)
    assert "1 released" in err
    assert (running(seconds), counts(broker)) == ([], (1, 0, 0, 0))


def descendants(pid):
    """Return the processes below one, children before their parents, as PBS finds them."""
    with open(f"/proc/{pid}/task/{pid}/children") as children:
        below = [int(child) for child in children.read().split()]
    return [p for child in below for p in (*descendants(child), child)]


def test_a_job_whose_commands_are_signalled_first_fails_no_message(
    root, broker, tmp_path
):
    broker.publish_many("jobs", map(str, range(16)), requeue_limit=0)
    seconds = seconds_of_ours(77)
    script = (
        f'echo "$0" >> {tmp_path}/began; n=0;'
        f"while [ $n -lt 49 ]; do sleep {seconds} & n=$((n+1)); done; exec sleep {seconds}"
    )
    process = start("-j", 8, root, "jobs", *shell(script))
    until(lambda: len(running(seconds)) == 400)
    commands = descendants(process.pid)
    for pid in commands:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    until(lambda: running(seconds) == [])
    time.sleep(0.2)  # what a slow `kill` of so many takes
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert len(commands) >= 400
    assert (process.returncode, "0 failed, 8 released" in err) == (5, True)
    assert len((tmp_path / "began").read_text().split()) == 8
    messages = broker.consume("jobs", 20)
    assert [message.requeue_counter for message in messages] == [0] * 16
