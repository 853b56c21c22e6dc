"""What is late or ahead, and by how much it may be before it is told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import ddmq
from ddmq.diagnose.symptoms import times
from ddmq.storage.delayed import Delayed
from ddmq.storage.names import Entry, Lease, new_id, new_token

YEAR = 365 * 86400


@pytest.fixture
def leased(patient):
    """Return a function that makes a lease which ends in so many seconds."""

    def lease(seconds, policy=""):
        entry = Entry(9, 1_700_000_000_000_000_000, new_id(), policy=policy)
        expiry = int((patient.now + seconds) * 1000)
        name = Lease.of(entry, expiry, new_token()).filename
        open(f"{patient.work}/{name}", "w").close()
        return f"{patient.work}/{name}"

    return lease


def test_a_lease_is_over_when_somebody_should_have_requeued_it(patient, leased):
    leased(-59)
    assert list(times.expired(patient)) == []
    path = leased(-7200)
    [found] = times.expired(patient)
    assert (found.paths, found.fix) == ((path,), "clean")
    assert "1 lease is over, the oldest for 2 hours" in found.text


def test_a_lease_may_last_as_long_as_its_timeout(patient, leased):
    timeout = patient.settings.message_timeout
    leased(timeout + 59)
    leased(2 * timeout, policy=f"t{int(3 * timeout * 1000)}")
    assert list(times.ends_too_late(patient)) == []
    path = leased(timeout + 61)
    [found] = times.ends_too_late(patient)
    assert (found.paths, found.fix) == ((path,), "")


def test_a_lease_is_told_that_nobody_renewed_for_over_half_of_its_timeout(
    patient, leased
):
    timeout = patient.settings.message_timeout
    leased(timeout / 2 + 1)
    leased(-1)  # that is over
    leased(timeout / 2 - 1, policy="t1000")
    assert list(times.unrenewed(patient)) == []
    path = leased(timeout / 2 - 1)
    leased(31, policy="t90000")
    [found] = times.unrenewed(patient)
    assert (found.level, found.fix, found.paths[-1]) == ("note", "", path)
    for words in ("2 at work", "for 5 minutes, since 20", "back in 5 minutes"):
        assert words in found.text
    assert found.figures["number"] == 2
    assert found.figures["not_renewed_for"] == pytest.approx(timeout / 2 + 1)
    assert found.figures["back_in"] == pytest.approx(timeout / 2 - 1)
    assert found.figures["holders"] == []
    assert "ddmq release" in found.remedy


def test_who_holds_a_range_that_nobody_renewed_is_told(patient, broker, clock):
    broker.publish_many("q", map(str, range(12)))
    broker.consume("q", 4)
    broker.consume("q", 4)
    clock.advance(301)
    [found] = times.unrenewed(patient)
    assert found.figures["number"] == 8
    assert found.figures["holders"] == [f"{os.uname().nodename}:{os.getpid()}"]
    assert f"process {os.getpid()} on {os.uname().nodename}" in found.remedy


def test_what_a_process_held_that_this_node_has_no_more_is_told_at_once(
    patient, broker, root
):
    broker.publish_many("q", map(str, range(12)))
    code = "import sys, ddmq; ddmq.Broker(sys.argv[1]).consume('q', 4)"
    path = str(Path(ddmq.__file__).parent.parent)
    environ = {**os.environ, "PYTHONPATH": path}
    subprocess.run([sys.executable, "-c", code, str(root)], check=True, env=environ)
    broker.consume("q", 3)
    [found] = times.unrenewed(patient)
    assert found.figures["number"] == 4
    assert f" on {os.uname().nodename} is gone; back in " in found.text
    assert "look whether it lives" not in found.remedy


def test_what_is_over_within_half_a_minute_is_counted(patient, leased):
    for seconds in (-1, 1, 29, 31):
        leased(seconds)
    [found] = times.soon_over(patient)
    assert (found.level, found.figures) == ("note", {"number": 2})


def test_delays_are_told_when_they_are_due_and_when_they_are_absurd(patient):
    for seconds in (-59, YEAR - 1):
        put_delayed(patient, seconds)
    assert list(times.due(patient)) == []
    late, far = put_delayed(patient, -61), put_delayed(patient, YEAR + 1)
    found = {each.name: each for each in times.due(patient)}
    assert (found["due"].level, found["due"].paths) == ("bad", (late,))
    assert (found["far delays"].level, found["far delays"].paths) == ("note", (far,))


def put_delayed(patient, seconds):
    entry = Entry(9, 1_700_000_000_000_000_000, new_id())
    name = Delayed(entry, int((patient.now + seconds) * 1000)).filename
    open(f"{patient.delayed}/{name}", "w").close()
    return f"{patient.delayed}/{name}"


def test_a_bucket_a_minute_ahead_is_told(patient):
    buckets = [f"{patient.ready}/5/{int((patient.now + s) * 1e9)}" for s in (59, 61)]
    for bucket in buckets:
        os.makedirs(bucket)
    [found] = times.stamped_ahead(patient)
    assert (found.level, found.paths) == ("note", (buckets[1],))


@pytest.mark.parametrize(
    ("offset", "words"), [(0.9, None), (-60, "60.0 s ahead of"), (60, "60.0 s behind")]
)
def test_our_clock_may_differ_by_a_second(patient, clock, offset, words):
    clock.offset_ns = int(offset * 1e9)
    found = [each.text for each in times.clock(patient)]
    assert len(found) == (words is not None)
    assert all(words in text for text in found)


def test_without_tmp_nothing_is_said_of_the_clock(patient):
    os.rmdir(patient.tmp)
    assert list(times.clock(patient)) == []


DAY = 86400


def aged(path, patient, days):
    os.utime(path, (patient.now - days * DAY,) * 2, follow_symlinks=False)
    return str(path)


def test_a_file_is_told_when_a_quarter_of_its_age_remains(patient):
    assert list(times.near_removal(patient, 40 * DAY)) == []
    path = f"{patient.path}/ddmq.yaml"
    aged(path, patient, 29.9)
    assert list(times.near_removal(patient, 40 * DAY)) == []
    aged(path, patient, 30.1)
    [found] = times.near_removal(patient, 40 * DAY)
    assert (found.level, found.fix, found.paths) == ("bad", "", (path,))
    assert "1 file is near the 40 days after which" in found.text
    assert "the oldest is 30 days old" in found.text
    assert "ddmq export … q -o FILE" in found.remedy


def test_all_files_are_looked_at_without_which_a_message_is_lost(patient, broker, root):
    for text in "abc":
        broker.publish("q", text)
    broker.publish("q", "later", delay=100)
    broker.reject(broker.consume("q"), "why")
    broker.consume("q")
    broker.publish_many("q", map(str, range(20)))
    broker.consume("q", 5)
    kept_out = {"lock", "cleaned"}
    files = [x for x in root.rglob("*") if x.is_file() and x.name not in kept_out]
    assert (
        len(files) == 9
    )  # two of settings, 3 messages, a note, a bundle's two, one delayed
    for path in files:
        aged(path, patient, 31)
        [found] = times.near_removal(patient, 40 * DAY)
        assert (found.figures["number"], found.paths) == (1, (str(path),))
        aged(path, patient, 0)


def test_the_oldest_file_is_named_and_the_others_are_counted(patient, broker):
    broker.publish("q", "a")
    [entry] = [x.names for x in patient.ready_directories() if x.names]
    [path] = [x for x in patient.files() if x.endswith(entry[0])]
    aged(f"{patient.path}/ddmq.yaml", patient, 31)
    aged(path, patient, 39)
    [found] = times.near_removal(patient, 40 * DAY)
    assert (found.figures["number"], found.paths) == (2, (path,))
    assert found.figures["oldest"] == pytest.approx(39 * DAY, rel=0.01)


def test_what_is_to_be_run_when_all_is_done_is_told(patient, broker, root):
    assert list(times.follow_ups(patient)) == []
    broker.with_follow_ups("q", lambda each: each.arm())
    [armed] = times.follow_ups(patient)
    assert (armed.level, armed.figures) == ("note", {"number": 1, "running": 0})
    assert "1 --then command is still to be run" in armed.text
    held = broker.with_follow_ups("q", lambda each: each.claim(each.all()[0], 60))
    [running] = times.follow_ups(patient)
    assert (running.figures["running"], running.remedy) == (1, "")
    broker.with_follow_ups("q", lambda each: each.fail(held, 0, 0))
    [failed] = times.follow_ups(patient)
    assert (failed.level, failed.fix, len(failed.paths)) == ("bad", "", 1)
    assert f"rm {failed.paths[0]}" in failed.remedy
