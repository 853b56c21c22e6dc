"""`ddmq status`: words for people, exit statuses for scripts, and what Snakemake wants."""

from __future__ import annotations

import errno
import json

import pytest
from hpc.inside import run

from ddmq import Broker
from ddmq.storage.filesystem import FileSystem


@pytest.fixture
def one_of_each(root, broker, clock):
    """Return ids of a queue `q` by their states; the acked and the dead one were run by a worker."""
    acked, dead = broker.publish("q", "good"), broker.publish("q", "bad")
    run(root, clock, '[ "$0" = good ]', retries=0)
    broker = Broker(root)  # whose clock is that of the commands
    ids = {"acked": acked, "dead": dead, "unknown": "nowhere"}
    ids["work"] = broker.publish("q", "held")
    broker.consume("q")
    ids["waiting"] = broker.publish("q", "next")
    ids["delayed"] = broker.publish("q", "later", delay=10**6)
    return ids


@pytest.mark.parametrize(
    ("state", "code", "for_snakemake"),
    [
        ("acked", 0, "success"),
        ("unknown", 3, "failed"),
        ("dead", 4, "failed"),
        ("work", 5, "running"),
        ("waiting", 5, "running"),
        ("delayed", 5, "running"),
    ],
)
def test_one_word_and_an_exit_status(sh, root, one_of_each, state, code, for_snakemake):
    id_ = one_of_each[state]
    assert sh("status", root, "q", id_)[:2] == (code, f"{state}\n")
    said = sh.ok("status", root, "q", id_, "--snakemake")
    assert said == for_snakemake


def test_of_several_the_worst_decides(sh, root, one_of_each):
    def code(*states):
        ids = ",".join(one_of_each[state] for state in states)
        status, out, _ = sh("status", root, "q", ids)
        assert out.split() == [w for s in states for w in (one_of_each[s], s)]
        return status

    assert code("acked", "unknown") == 3
    assert code("unknown", "waiting", "acked") == 5
    assert code("waiting", "dead", "unknown") == 4


def test_it_is_told_to_programs(sh, root, one_of_each):
    acked, dead = one_of_each["acked"], one_of_each["dead"]
    rows = [{"id": acked, "state": "acked"}, {"id": dead, "state": "dead"}]
    status, out, _ = sh("status", root, "q", f"{acked},{dead}", "--format", "json")
    assert (status, json.loads(out)) == (4, rows)
    _, out, _ = sh("status", root, "q", acked, "--format", "csv")
    assert out == f"id,state\n{acked},acked\n"
    request = {"cmd": "status", "root": str(root), "queue": "q", "id": [acked, dead]}
    status, out, _ = sh("json", json.dumps(request))
    assert (status, json.loads(out)) == (4, {"messages": rows})


def test_the_history_has_each_try_and_the_reason(sh, root, one_of_each):
    dead = one_of_each["dead"]
    status, out, _ = sh("status", root, "q", dead, "-v")
    first, tried, reason = out.splitlines()
    assert (status, first, reason) == (4, f"{dead}  dead", "    exit status 1 on node")
    assert "  dead: exit 1 after " in tried
    assert tried.endswith(" s on node")
    _, out, _ = sh("status", root, "q", dead, "--history", "--format", "json")
    [row] = json.loads(out)
    assert (row["reason"], len(row["tries"])) == ("exit status 1 on node", 1)
    assert row["tries"][0]["exit"] == 1


def test_snakemake_asks_again_where_nobody_could_look(sh, root, monkeypatch, caplog):
    def fails(self, path):
        raise OSError(errno.EIO, "the storage failed", path)

    id_ = Broker(root).publish("testmq", "x")
    monkeypatch.setattr(FileSystem, "listing", fails)
    assert sh.ok("status", root, "testmq", id_, "--snakemake") == "running"
    assert "the storage failed" in caplog.text
    assert sh("status", root, "testmq", id_)[:2] == (1, "")
    assert "of one message" in sh.wrong("status", root, "testmq", "a,b", "--snakemake")
