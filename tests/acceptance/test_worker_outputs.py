"""What commands print is kept in part, what they write is one result."""

from __future__ import annotations

import os
import re

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
    broker.publish("jobs", "a", requeue_limit=0)
    script = (
        "echo begin >&2; head -c 1000000000 /dev/zero >&2;"
        "grep VmHWM /proc/$PPID/status >&2; exit 1"
    )
    logs = ["--log-dir", tmp_path / "logs", "--log-limit", "100K"]
    worked(*logs, root, "jobs", *shell(script))
    [log] = (tmp_path / "logs").rglob("*.err")
    text = log.read_bytes()
    assert text.startswith(b"begin\n\0")
    assert b"bytes left out" in text
    assert len(text) < 110_000
    [peak] = re.findall(rb"VmHWM:\s+(\d+) kB\n$", text)
    assert int(peak) < 30_000
    assert "VmHWM" in broker.dead("jobs")[0].note["stderr"]


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
    process = start("-j", 1, *output, root, "jobs", *shell(script))
    until(lambda: is_writing(tmp_path / "out" / ".ddmq-unfinished"))
    [lease] = os.listdir(root / "jobs" / "work")
    broker.release(broker.leased("jobs", lease))
    [message] = broker.consume("jobs")
    process.communicate(timeout=30)
    assert os.listdir(tmp_path / "out") == [".ddmq-unfinished"]
    broker.ack(message)


def is_writing(unfinished):
    return sum(path.is_file() for path in unfinished.rglob("*")) == 1


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
