"""What is in a queue is seen, moved, and taken elsewhere, as it is typed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from acceptance.workers import counts, shell, start, until

import ddmq

#: Runs `ddmq` with the ddmq that is tested.
DDMQ = f"{sys.executable} -c 'import sys; from ddmq.cli.main import main; sys.exit(main())'"
ENVIRON = {**os.environ, "PYTHONPATH": str(Path(ddmq.__file__).parent.parent)}


def typed(line):
    """Return what a line of shell prints, which must succeed."""
    line = f"set -o pipefail; {line.replace('ddmq ', f'{DDMQ} ')}"
    done = subprocess.run(
        ["bash", "-c", line], env=ENVIRON, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_message_is_seen_moved_and_shown_where_it_went(root, broker):
    broker.publish_many("jobs", [f"sample {n}" for n in range(20)])
    broker.create_queue("bigmem")
    shown = typed(f"ddmq peek {root} jobs -n 13").splitlines()
    id_, priority, text = shown[-1].split("  ")
    assert (priority, text) == ("999", "sample 12")
    assert typed(f"ddmq move {root} jobs {id_} bigmem") == f"{id_}: moved to bigmem\n"
    assert "waits at priority 999" in typed(f"ddmq show {root} bigmem {id_}")
    assert "    | sample 12" in typed(f"ddmq show {root} bigmem {id_}")
    assert broker.view("jobs")["jobs"].waiting == 19


def test_a_queue_goes_through_a_pipe_to_another_root(root, broker, tmp_path):
    broker.publish_many("jobs", [f"sample {n}" for n in range(1200)])
    broker.publish("jobs", "later", delay=3600)
    there = tmp_path / "there"
    line = f"ddmq export {root} jobs | gzip | gunzip | ddmq import -f {there} jobs -"
    assert typed(line) == "1201\n"
    assert typed(f"ddmq view {there} jobs").split()[-4:] == ["1200", "0", "1", "0"]
    assert typed(f"ddmq peek {there} jobs -n 1").endswith("  sample 0\n")


def test_whoever_has_seen_enough_of_an_export_ends_it(root, broker):
    broker.publish_many("jobs", ["x" * 1000] * 1000)
    line = f"ddmq export {root} jobs | head -n 1 | wc -l || true"
    assert typed(line).strip() == "1"


def test_a_message_is_asked_for_through_its_life(root, broker, tmp_path):
    """As Snakemake does: the id that publish printed, a word back."""
    id_, go = typed(f"ddmq publish {root} jobs good").strip(), tmp_path / "go"
    bad = typed(f"ddmq publish {root} jobs bad").strip()

    def told(message):
        return typed(f"ddmq status --snakemake {root} jobs {message}")

    assert told(id_) == "running\n"
    script = f'while [ ! -e {go} ]; do sleep 0.01; done; [ "$0" = good ]'
    with start("-j", 1, "--retries", 0, root, "jobs", *shell(script)) as worker:
        try:
            until(lambda: counts(broker)[1])
            assert told(id_) == "running\n"
            line = f"ddmq status {root} jobs {id_} || echo $?"
            assert typed(line) == "work\n5\n"
            go.touch()
            until(lambda: counts(broker) == (0, 0, 0, 1))
            assert [told(id_), told(bad)] == ["success\n", "failed\n"]
            worker.communicate(timeout=60)
        finally:
            worker.kill()
    assert typed(f"ddmq status {root} jobs {id_}") == "acked\n"
    assert typed(f"ddmq status {root} jobs {bad} || echo $?") == "dead\n4\n"
    assert typed(f"ddmq status {root} jobs {id_[::-1]} || echo $?") == "unknown\n3\n"


def test_a_running_message_is_cancelled_and_its_command_ends(root, broker, tmp_path):
    """And nothing runs it again: the worker has all of its retries left."""
    broker.publish_many("jobs", ["forever", *map(str, range(11))], timeout=3)
    started, ended = tmp_path / "started", tmp_path / "ended"
    script = (
        f'[ "$0" = forever ] || exit 0; trap "touch {ended}; exit 1" TERM; echo >> {started}; '
        "while :; do sleep 0.01; done"
    )
    with start("-j", 1, "--retries", 5, root, "jobs", *shell(script)) as worker:
        try:
            until(started.exists)
            id_ = next(
                x.id
                for x in broker.contents("jobs", work=True)
                if x.message == "forever"
            )
            assert "is at work" in typed(f"ddmq cancel {root} jobs {id_}")
            _, err = worker.communicate(timeout=60)
        finally:
            worker.kill()
    assert ended.exists()
    assert started.read_text() == "\n"
    assert worker.returncode == 0
    assert "11 acked, 0 failed, 0 released, 0 moved, 0 lost, 1 cancelled" in err
    told = typed(f"ddmq status {root} jobs {id_} -v || true").splitlines()
    assert told[0] == f"{id_}  dead"
    assert "cancelled: " in told[1]
    assert told[-1].startswith("    cancelled by ")
    assert typed(f"ddmq redrive {root} jobs {id_}") == "1\n"
    assert counts(broker) == (1, 0, 0, 0)


def test_a_submission_script_that_was_killed_is_run_again(root, broker, tmp_path):
    """At any moment: it publishes all of its messages once."""
    lines = tmp_path / "lines"
    lines.write_text("".join(f"sample {n}\n" for n in range(5000)))
    line = f"publish {root} jobs --key samples --from-file {lines}"
    for hundredths in range(5, 40, 5):
        killed = f"timeout -s KILL 0.{hundredths:02d} {DDMQ} {line}"
        subprocess.run(
            ["bash", "-c", killed], env=ENVIRON, capture_output=True, check=False
        )
    assert typed(f"ddmq {line}; ddmq {line}") == "5000\n5000\n"
    assert counts(broker) == (5000, 0, 0, 0)
    texts = [seen.message for seen in broker.contents("jobs")]
    assert texts == [f"sample {n}" for n in range(5000)]
