"""What the processes of a storm do and note, and how messages are accounted for."""

from __future__ import annotations

import os

import pytest

from ddmq.diagnose.check import storm
from ddmq.diagnose.check.channel import Silence
from ddmq.diagnose.check.storm import Account, Line, account


def events(path):
    with open(path) as file:
        return [line.split("\t")[0].strip() for line in file]


def test_a_publisher_and_a_consumer_note_all_that_they_do(benches, tmp_path):
    bench, log = benches[0], str(tmp_path / "log")
    broker = storm.make_queue(bench, 5)
    storm.publish(bench, log, 3, os.getppid())
    assert events(log) == ["publishing", "published"] * 2
    while storm.consume_some(bench, broker, storm.Log(log)):
        pass
    assert events(log)[4:] == ["consumed", "acking", "acked"] * 2
    assert storm.left_after(bench, broker, 0) == 0


@pytest.fixture
def orphaned(monkeypatch):
    """Return a function that lets our parent die after it was looked for so many times."""

    def after(times):
        parents = iter([1] * times)
        monkeypatch.setattr(os, "getppid", lambda: next(parents, 2))

    return after


def test_a_publisher_whose_parent_died_ends(benches, tmp_path, orphaned):
    storm.make_queue(benches[0], 5)
    orphaned(1)
    storm.publish(benches[0], str(tmp_path / "log"), 3, 1)
    assert events(tmp_path / "log") == ["publishing", "published"]


def test_some_are_published_as_a_bundle(benches, tmp_path, monkeypatch):
    monkeypatch.setattr(storm, "MESSAGES", 20)
    broker = storm.make_queue(benches[0], 5)
    storm.publish(benches[0], str(tmp_path / "log"), 0, os.getppid())
    assert broker.view()[storm.QUEUE].waiting == 20
    waiting = tmp_path / "here" / "mq" / storm.QUEUE / "ready"
    assert sum(len(files) for _, _, files in os.walk(waiting)) == 6


def test_a_consumer_whose_parent_died_ends(benches, tmp_path, orphaned):
    broker = storm.make_queue(benches[0], 5)
    broker.publish(storm.QUEUE, "x")
    orphaned(3)
    storm.consume(benches[0], str(tmp_path / "log"), 1)
    assert events(tmp_path / "log") == ["consumed", "acking", "acked"]


def test_who_begins_after_the_death_of_its_parent_does_nothing(benches, tmp_path):
    """Else it would take whoever adopted it for its parent, and never end."""
    storm.make_queue(benches[0], 5)
    gone = os.getppid() + 1
    storm.publish(benches[0], str(tmp_path / "published"), 3, gone)
    storm.consume(benches[0], str(tmp_path / "consumed"), gone)
    assert events(tmp_path / "published") == events(tmp_path / "consumed") == []


def test_workers_note_what_they_complain_about(benches, tmp_path, orphaned):
    storm.publish(
        benches[0], str(tmp_path / "published"), 0, os.getppid()
    )  # there is no queue
    orphaned(1)
    storm.consume(benches[0], str(tmp_path / "consumed"), 1)
    assert events(tmp_path / "published") == events(tmp_path / "consumed") == ["failed"]


def test_a_lease_that_ran_over_is_noted(benches, tmp_path):
    bench, log = benches[0], str(tmp_path / "log")
    broker = storm.make_queue(bench, 1)
    broker.publish(storm.QUEUE, "x", timeout=1)

    class Slow(type(broker)):
        def ack(self, message):
            bench.clock.sleep(1.01)
            self.clean(storm.QUEUE)
            super().ack(message)

    slow = Slow(storm.root_of(bench))
    storm.consume_some(bench, slow, storm.Log(log))
    assert events(log) == ["consumed", "acking", "overrun"]


def test_a_storm_that_takes_too_long_is_given_up(benches):
    storm.make_queue(benches[0], 5)
    slow = storm.Storm(benches[0]._replace(patience=-1.0))
    try:
        with pytest.raises(Silence, match="too long"):
            slow.run()
    finally:
        slow.stop()


def test_what_a_killed_process_wrote_by_half_is_left_out(benches):
    killed = storm.Storm(benches[0])
    with open(f"{benches[0].records}/a/001", "w") as file:
        file.write("publishing\ta1\npublished\ta1\npubl")
    assert [line.what for line in killed.record()] == ["publishing", "published"]


def lines(text):
    return [Line(*line.split()) for line in text.splitlines() if line]


LIFE = "publishing a\npublished a\nconsumed a 0\nacking a\nacked a\n"


@pytest.mark.parametrize(
    ("text", "left", "expected"),
    [
        (LIFE, 0, {}),
        ("publishing a\npublished a", 0, {"lost": 1}),
        ("publishing a\npublished a", 1, {"left": 1}),
        ("publishing a", 0, {"published": 0}),  # killed: perhaps it was published
        ("publishing a\npublished a\nconsumed a 0\nacking a", 0, {}),  # perhaps acked
        ("publishing a\npublished a\nconsumed a 0", 0, {"lost": 1}),
        (LIFE + "consumed a 1", 0, {"again": 1}),
        (LIFE + "consumed a 0", 0, {"again": 1, "consumed_twice": 1}),
        (LIFE + "acked a", 0, {"acked_twice": 1}),
        (LIFE + "acking b", 0, {"foreign": 1}),
        (LIFE + "failed disk", 0, {"errors": ["disk"]}),
    ],
)
def test_each_message_is_accounted_for(text, left, expected):
    nothing_wrong = Account(1, 0, 0, 0, 0, 0, 5, 0, [])
    found = account(lines(text), 5, left)
    assert found == nothing_wrong._replace(**expected)
