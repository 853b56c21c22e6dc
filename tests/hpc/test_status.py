"""What a worker acks is never called unknown, and what is in the queue never acked."""

from __future__ import annotations

import pytest
from hpc.inside import Hurried, run, worker
from support import Calls

from ddmq import Broker
from ddmq.hpc import journal
from ddmq.storage.filesystem import FileSystem

KNOWN = {"waiting", "work", "acked"}


def ids_of(broker):
    return [seen.id for seen in broker.peek("q", 100)]


@pytest.mark.parametrize("number", [3, 12], ids=["single files", "a bundle"])
@pytest.mark.parametrize("options", [{}, {"slots": 4}, {"logs": "all"}], ids=str)
def test_at_each_system_call_others_know_where_each_message_is(
    root, broker, clock, number, options, tmp_path
):
    """So they do after a crash there."""
    broker.publish_many("q", ["x"] * number)
    ids, other, seen = ids_of(broker), Broker(root, clean=False), []

    def look():
        states = other.status("q", ids)
        assert set(states.values()) <= KNOWN
        there = [id_ for id_ in ids if other.find("q", id_)]
        assert [id_ for id_ in there if states[id_] == "acked"] == []
        seen.append(list(states.values()).count("acked"))

    def call(_, name, function, arguments):
        result = function(*arguments)
        if name in ("rename", "unlink", "symlink"):
            look()
        return result

    if "logs" in options:
        options = {**options, "log_dir": str(tmp_path / "log")}
    run(root, clock, "exit 0", fs=FileSystem(Calls(call)), **options)
    assert seen[-1] == number
    assert sorted(seen) == seen
    runs = list(journal.read(f"{root}/q"))
    assert sorted(run.id for run in runs) == sorted(ids)
    assert {(run.result, run.logged) for run in runs} == {("acked", "")}


def test_acks_that_come_together_are_noted_by_one_write(root, broker, clock):
    broker.publish_many("q", ["x"] * 40)
    made = []
    flush = journal.Journal.flush

    class Kept(journal.Journal):
        def flush(self):
            made.append(len(self._lines))
            flush(self)

    with Hurried(clock, pace=0.001) as signals:
        ours = worker(Broker(root, clock=clock), root, signals, clock, "true", slots=40)
        ours._settler._journal = Kept(f"{root}/q", "node", clock, None)
        ours.run()
    assert sum(made) == 40
    assert max(made) > 1
