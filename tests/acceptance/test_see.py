"""What is in a queue is seen, moved, and taken elsewhere, as it is typed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from acceptance.workers import counts, shell, start, until, worked

import ddmq

#: Runs `ddmq` with the ddmq that is tested.
DDMQ = f"{sys.executable} -c 'import sys; from ddmq.cli.main import main; sys.exit(main())'"
ENVIRON = {**os.environ, "PYTHONPATH": str(Path(ddmq.__file__).parent.parent)}
#: Lets a worker show itself more often than they do, and shorter runs.
OFTEN = (
    "import ddmq.hpc.presence as p, ddmq.storage.workers as w; "
    "p.RENAME_EVERY = w.RENAME_EVERY = p._LONG = 0.2; "
    "p.SIGN_EVERY = 1.0; p._GRAIN = 0.1"
)


STATES = (*("done", "running", "taken ahead", "leased", "waiting", "delayed", "dead"),)


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
    assert typed(f"ddmq view {there} jobs").split()[-5:-1] == ["1200", "0", "1", "0"]
    assert typed(f"ddmq peek {there} jobs -n 1").endswith("  sample 0\n")


def test_whoever_has_seen_enough_of_an_export_ends_it(root, broker):
    broker.publish_many("jobs", ["x" * 1000] * 1000)
    line = f"ddmq export {root} jobs | head -n 1 | wc -l || true"
    assert typed(line).strip() == "1"


@pytest.mark.slow
def test_each_display_adds_up_while_a_real_worker_runs(root, broker, tmp_path):
    """And what is done never decreases, from the first message to the last."""
    broker.publish_many("jobs", [f"sample {n}" for n in range(117)])
    for n in range(3):
        broker.publish("jobs", f"alone {n}")
    shown = tmp_path / "shown"
    line = f"exec {DDMQ} view {root} jobs --watch 0.05 > {shown}"
    with subprocess.Popen(["bash", "-c", line], env=ENVIRON) as watch:
        try:
            until(lambda: shown.exists() and "120 waiting" in shown.read_text())
            script = 'sleep 0.1; case "$0" in *7) exit 1 ;; esac'
            options = ("-j", 4, "--retries", 1, "--until-done", root, "jobs")
            status, _, err = worked(*options, *shell(script))
            assert (status, err.count("dead letter") > 0) == (4, True)
            until(lambda: "everything is finished, but for" in shown.read_text())
        finally:
            watch.kill()
    lines = shown.read_text().splitlines()
    displays = [dict.fromkeys(STATES, 0) for _ in lines]
    for display, text in zip(displays, lines):
        assert "jobs: 120 published: " in text
        found = re.findall(f"([0-9]+) ({'|'.join(STATES)})(?=[,;]|$)", text)
        display.update((state, int(number)) for number, state in found)
    assert {sum(each.values()) for each in displays} == {120}
    assert max(each["running"] for each in displays) == 4
    assert any(each["running"] == 4 and each["taken ahead"] for each in displays)
    done = [each["done"] for each in displays]
    assert done == sorted(done)
    assert len(set(done)) > 3
    assert displays[-1] == {**dict.fromkeys(STATES, 0), "done": 109, "dead": 11}
    estimated = next(n for n, text in enumerate(lines) if " done in " in text)
    assert done[estimated] < 60


def test_who_works_is_seen_from_the_first_message_to_long_after_the_last(
    root, broker, tmp_path
):
    broker.publish_many("jobs", ["sample 1", "sample 2", "sample 3"])
    script = (
        f'while [ "$0" != "sample 1" ] && [ ! -e {tmp_path}/go ]; do sleep 0.02; done'
    )
    with start("-j", 2, root, "jobs", *shell(script), before=OFTEN) as worker:
        try:
            until(lambda: "sample 3" in typed(f"ddmq workers {root} jobs"))
            told = typed(f"ddmq workers {root} jobs")
            assert told.startswith("jobs: 1 working\n")
            assert f"{os.uname().nodename}:{worker.pid} " in told
            assert told.count("    slot ") == 2
            last = typed(f"ddmq view {root} jobs").splitlines()[-1]
            assert last.startswith("jobs: 1 worker, 2 of 2 slots busy, ")
            assert last.endswith(", only leased messages are left")
            (tmp_path / "go").touch()
            worker.communicate(timeout=60)
        finally:
            worker.kill()
    [seen] = broker.workers("jobs", running=True)
    assert (seen.state, seen.busy, seen.acked, seen.running) == ("ended", 0, 3, ())
    assert typed(f"ddmq workers {root} jobs") == "jobs: 1 ended\n"
    assert " ended " in typed(f"ddmq workers {root} jobs --all")
    assert len(typed(f"ddmq view {root} jobs").splitlines()) == 2
    assert typed(f"ddmq doctor {root} jobs")


def test_a_job_that_was_submitted_by_hand_is_told_what_to_ask_for(root, broker):
    """Its script is not known, so its worker notes what it has."""
    broker.publish_many("jobs", ["a", "b"])
    status, _, _ = worked("-j", 2, "--time", "1h", root, "jobs", "--", "true")
    assert status == 0
    told = json.loads(typed(f"ddmq report {root} jobs --format json"))
    asked = told["asked"]["jobs"]
    assert (asked["slots"], round(asked["seconds"] / 60)) == (2, 60)
    page = typed(f"ddmq report {root} jobs")
    assert " of time, as its worker noted. " in page
    assert "would have been enough." in page
    assert len(typed(f"ddmq log {root} jobs").splitlines()) == 2


def test_one_that_was_killed_is_lost_some_minutes_later(root, broker):
    broker.publish("jobs", "sample 1")
    with start(root, "jobs", *shell("exec sleep 600")) as worker:
        try:
            until(lambda: broker.workers("jobs"))
        finally:
            worker.kill()
    [name] = (root / "jobs" / "workers").glob("*.working.*")
    token, time, rest = name.name.split(".", 2)
    name.rename(name.with_name(f"{token}.{int(time) - 720_000}.{rest}"))
    assert typed(f"ddmq workers {root} jobs").startswith("jobs: 1 lost\n")
    assert "12 minutes ago" in typed(f"ddmq workers {root} jobs")


def test_a_worker_that_cant_show_itself_works_all_the_same(root, broker, tmp_path):
    (root / "jobs" / "workers").symlink_to(tmp_path)
    broker.publish_many("jobs", ["a", "b"])
    status, _, told = worked(root, "jobs", "--", "true")
    assert status == 0
    assert "2 acked" in told
    assert told.count("can't be seen by others") == 1
    assert broker.workers("jobs") == []


def test_a_worker_that_is_asked_to_drain_finishes_what_it_holds(root, broker, tmp_path):
    broker.publish_many("jobs", ["first", "second"])
    host, script = (
        os.uname().nodename,
        f"while [ ! -e {tmp_path}/go ]; do sleep 0.02; done",
    )
    with start("-j", 1, root, "jobs", *shell(script), before=OFTEN) as worker:
        try:
            until(lambda: broker.workers("jobs"))
            told = typed(f"ddmq drain {root} jobs --host elsewhere --format json")
            assert '"jobs": 0' in told
            told = typed(f"ddmq drain {root} jobs --host {host}")
            assert told.startswith("jobs: 1 worker asked to drain")
            until(lambda: broker.workers("jobs")[0].state == "draining")
            (tmp_path / "go").touch()
            _, err = worker.communicate(timeout=60)
        finally:
            worker.kill()
    assert worker.returncode == 5
    assert "stopped: it was asked to drain, by `ddmq drain`; 1 acked, " in err
    assert ", 1 left" in err
    assert broker.view("jobs")["jobs"] == (1, 0, 0, 0)
    status, _, err = worked(root, "jobs", "--", "true")  # it started later
    assert (status, "1 acked" in err) == (0, True)


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
