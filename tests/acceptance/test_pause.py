"""A queue is paused and resumed under workers that are real processes."""

from __future__ import annotations

import time

from acceptance.workers import counts, shell, start, until
from shell import Shell


def test_a_worker_finishes_what_it_holds_waits_and_goes_on(
    root, broker, tmp_path, capfd, monkeypatch
):
    sh, held = Shell(capfd, monkeypatch), tmp_path / "held"
    broker.publish_many("jobs", ["first", *"abcdefghijk"])
    script = f'[ "$0" != first ] || {{ touch {held}; while [ -e {held} ]; do sleep 0.01; done; }}'
    with start("-j", 1, "--until-done", root, "jobs", *shell(script)) as worker:
        try:
            until(held.exists)
            assert "jobs: paused" in sh.ok("pause", root, "jobs")
            time.sleep(0.3)  # for so long a listing is believed
            held.unlink()
            assert "is paused by" in worker.stderr.readline()
            until(lambda: counts(broker) == (11, 0, 0, 0))  # it looks before it acks
            assert "paused by" in sh.ok("view", root)
            assert worker.poll() is None
            assert sh.ok("resume", root, "jobs") == "jobs: resumed"
            _, err = worker.communicate(timeout=60)
            assert worker.returncode == 0
            assert "12 acked" in err
        finally:
            worker.kill()
    assert counts(broker) == (0, 0, 0, 0)
