"""What commands print is kept in part, what they write is one result."""

from __future__ import annotations

import os
import re
import signal
import time
from collections import Counter
from functools import partial

import pytest
from acceptance.workers import (
    counts,
    shell,
    start,
    until,
    worked,
)

pytestmark = pytest.mark.slow

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


def test_a_gigabyte_on_standard_error_costs_no_memory(root, broker, tmp_path):
    peaks = []
    for number in (1, 1_000_000_000):
        broker.publish("jobs", "a", requeue_limit=0)
        script = (
            f"echo begin >&2; head -c {number} /dev/zero >&2;"
            "grep VmHWM /proc/$PPID/status >&2; exit 1"
        )
        directory = tmp_path / f"logs{number}"
        logs = ["--log-dir", directory, "--log-limit", "100K"]
        worked(*logs, root, "jobs", *shell(script))
        [log] = directory.rglob("*.err")
        text = log.read_bytes()
        assert text.startswith(b"begin\n\0")
        peaks += map(int, re.findall(rb"VmHWM:\s+(\d+) kB\n$", text))
    assert b"bytes left out" in text
    assert len(text) < 110_000
    assert peaks[1] - peaks[0] < 5_000
    assert "VmHWM" in broker.dead("jobs")[0].note["stderr"]


@pytest.mark.parametrize(("logs", "kept"), [("failed", 1), ("all", 2), ("none", 0)])
def test_logs_are_kept_of_the_runs_asked_for(root, broker, tmp_path, logs, kept):
    broker.publish_many("jobs", ["0", "1"], requeue_limit=0)
    options = ["--log-dir", tmp_path / "logs", "--logs", logs]
    worked(*options, root, "jobs", *shell('echo "$0"; echo err >&2; exit "$0"'))
    assert len(list((tmp_path / "logs").rglob("*.out"))) == kept
    assert len(list((tmp_path / "logs").rglob("*.err"))) == kept


def test_lines_of_concurrent_commands_are_whole(root, broker):
    broker.publish_many("jobs", [str(n) for n in range(8)])
    script = 'for i in $(seq 30); do printf "$0"; sleep 0.01; printf "$0$0\\n"; done'
    _, out, _ = worked("-j", 4, root, "jobs", *shell(script))
    lines = Counter(out.splitlines())
    assert lines == {str(n) * 3: 30 for n in range(8)}
    assert len({*out.splitlines()[:30]}) > 1  # they did run at once


@pytest.mark.parametrize("stream", ["1", "2"])
def test_a_group_is_not_mixed_and_a_tag_says_whose_line_it_is(root, broker, stream):
    broker.publish_many("jobs", [f"{n}\x1b[2J" for n in range(8)])
    script = f"for i in $(seq 3); do echo $i >&{stream}; sleep 0.05; done"
    _, *told = worked("-j", 4, "--group", "--tag", root, "jobs", *shell(script))
    lines = [line for line in told[int(stream) - 1].splitlines() if "\t" in line]
    groups = [lines[i : i + 3] for i in range(0, 24, 3)]
    wanted = [[f"{n}\\x1b[2J\t{i}" for i in (1, 2, 3)] for n in range(8)]
    assert sorted(groups) == wanted


def test_a_worker_whose_output_nobody_reads_obeys_signals(root, broker):
    """It takes no more messages, keeps little in memory, and ends when it is asked to."""
    broker.publish_many("jobs", ["x"] * 200)
    options = ["-j", 2, "--grace", "0.5"]
    process = start(*options, root, "jobs", *shell("head -c 50000 /dev/zero"))
    before = None
    while before != (now := counts(broker)) or now[1] or now[0] == 200:
        before = now
        time.sleep(1)
    assert now[0] > 0
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    assert process.wait(timeout=20) == 5
    assert time.monotonic() - began < 5
    process.communicate()


def test_what_a_command_says_goes_nowhere_where_standard_error_is_closed(root, broker):
    """Not into a file of the queue, say, which would be open by that number."""
    broker.publish("jobs", "a")
    close = partial(os.close, 2)
    script = "readlink /proc/$PPID/fd/2; echo poison >&2"
    process = start(root, "jobs", *shell(script), preexec_fn=close)
    assert process.communicate(timeout=60) == ("/dev/null\n", "")
    assert process.returncode == 0


def test_a_worker_whose_warnings_nobody_reads_obeys_signals(root, broker):
    """As where a pager, or a terminal after Ctrl-S, shows no more: it holds nothing for ever."""
    broker.publish_many("jobs", ["x"] * 3)
    script = "head -c 300000 /dev/zero >&2; exec sleep 600"
    process = start("-j", 2, "--grace", "0.5", root, "jobs", *shell(script))
    until(lambda: counts(broker)[1] == 2)
    time.sleep(2)
    process.send_signal(signal.SIGTERM)
    try:
        assert process.wait(timeout=20) == 5
    finally:
        process.kill()
        said = process.communicate()[1]
    assert counts(broker) == (3, 0, 0, 0)
    assert "\0" in said


def test_a_reader_that_was_slow_gets_all_in_the_end(root, broker):
    broker.publish_many("jobs", ["x"] * 30)
    script = "printf %09999d 0 >&2; echo >&2; exit 1"
    options = ["-j", 2, "--no-brake", "--retries", 0]
    process = start(*options, root, "jobs", *shell(script))
    time.sleep(3)
    said = process.communicate(timeout=60)[1].splitlines()
    assert process.returncode == 4
    assert said.count("0" * 9999) == 30
    assert sum("; a dead letter" in line for line in said) == 30
    assert said[-1].startswith("ddmq-worker: 0 acked, 30 failed")


def test_whoever_reads_the_beginning_stops_no_command(root, broker):
    broker.publish_many("jobs", ["x"] * 20)
    process = start("-j", 2, root, "jobs", *shell("seq 20000"))
    assert process.stdout.read(100).startswith("1\n2\n")
    process.stdout.close()
    assert process.wait(timeout=60) == 0
    process.stderr.close()
    assert counts(broker) == (0, 0, 0, 0)


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
    process = start("-j", 1, *output, root, "jobs", *shell(script))
    until(lambda: is_writing(tmp_path / "out" / ".ddmq-unfinished"))
    [lease] = os.listdir(root / "jobs" / "work")
    broker.release(broker.leased("jobs", lease))
    [message] = broker.consume("jobs")
    process.communicate(timeout=30)
    assert os.listdir(tmp_path / "out") == [".ddmq-unfinished"]
    broker.ack(message)


def is_writing(unfinished):
    """Tell whether a command has made its file: a worker that tries the directory makes others."""
    files = [path.name for path in unfinished.rglob("*") if path.is_file()]
    return len(files) == 1 and not files[0].startswith(".ddmq-")


def killed_while_writing(root, broker, *options):
    process = start(
        *options, root, "jobs", *shell("echo half > $DDMQ_OUTPUT; sleep 60")
    )
    unfinished = options[1] / ".ddmq-unfinished"
    until(lambda: is_writing(unfinished))
    process.kill()
    process.communicate()
    return unfinished


@pytest.mark.parametrize("limit", [3, 0])
def test_what_a_killed_worker_left_is_removed(root, broker, tmp_path, limit):
    id_ = broker.publish("jobs", "a", timeout=1, requeue_limit=limit)
    output = ["--output-dir", tmp_path / "out"]
    unfinished = killed_while_writing(root, broker, *output)
    until(lambda: counts(broker)[1] == 0)
    worked(*output, root, "jobs", *shell("echo whole > $DDMQ_OUTPUT"))
    assert os.listdir(unfinished) == []
    assert (tmp_path / "out" / id_).exists() == (limit > 0)
