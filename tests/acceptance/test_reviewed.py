"""What hostile readers found once must not come back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import ddmq
from ddmq import Broker, InvalidArgument, LeaseLost
from ddmq.cli import main as cli
from ddmq.clock import Clock
from ddmq.settings import LAYOUT_LINE

ENVIRON = {**os.environ, "PYTHONPATH": str(Path(ddmq.__file__).parent.parent)}
CLI = "import sys; from ddmq.cli.main import main; sys.exit(main())"


@pytest.fixture
def root(tmp_path):
    broker = Broker(tmp_path / "mq", create=True)
    broker.create_queue("q")
    return tmp_path / "mq"


def shell(line, root):
    """Run a line of shell in which `ddmq` is the ddmq that is tested."""
    ddmq_ = f"{sys.executable} -c '{CLI}'"
    text = line.replace("ddmq ", f"{ddmq_} ").replace("ROOT", str(root))
    return subprocess.run(
        ["sh", "-c", text], env=ENVIRON, capture_output=True, text=True, check=False
    )


# Clocks


class Ahead(Clock):
    """A node whose clock is an hour ahead of the file server's."""

    def own_ns(self):
        return super().own_ns() + 3600 * 10**9


@pytest.mark.parametrize("verb", ["clean", "view", "consume"])
def test_a_node_with_a_wrong_clock_ends_no_lease(root, verb):
    broker = Broker(root)
    broker.publish("q", "x")
    [message] = broker.consume("q")
    getattr(Broker(root, clock=Ahead()), verb)("q")
    broker.ack(message)


def test_a_node_with_a_wrong_clock_delays_as_asked(root):
    broker = Broker(root, clock=Ahead())
    broker.publish("q", "x", delay=30)
    [name] = os.listdir(root / "q" / "delayed")
    assert int(name[:13]) / 1000 - Clock().time() < 31


def test_a_clock_that_is_set_is_noticed():
    class Stepping(Clock):
        step = 0

        def own_ns(self):
            return super().own_ns() + self.step

    clock = Stepping()
    assert clock.compared_ns() is None
    clock.compare(clock.own_ns)
    assert clock.compared_ns() is not None
    clock.step = 5 * 10**9
    assert clock.compared_ns() is None
    assert clock.compared_ns() is None
    clock.compare(clock.own_ns)
    assert clock.compared_ns() is not None


# Whose lease


def test_a_file_name_still_proves_a_lease_that_was_renewed(root):
    broker = Broker(root)
    broker.publish("q", "x")
    [old] = broker.consume("q")
    broker.renew(old, 9999)
    assert broker.leased("q", old.filename).id == old.id


def test_of_several_to_settle_all_are_tried(root, capsys):
    broker = Broker(root)
    broker.publish_many("q", list("ab"))
    a, b = broker.consume("q", 2)
    status = cli.main(["ack", str(root), "q", f"{a.id},nothing,{b.id}"])
    assert (status, broker.view("q")["q"].work) == (1, 0)
    assert f"acked: {a.id}, {b.id}" in capsys.readouterr().err


# Roots and queues


def test_a_root_may_be_a_link(root, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(root)
    broker = Broker(link)
    broker.publish("q", "x")
    assert broker.view()["q"].waiting == 1
    broker.delete_queue("q")
    assert broker.queues() == []


@pytest.mark.parametrize("name", ["tmp", "ready", "work", "delayed", "dead", "drop"])
def test_a_queue_that_lacks_a_directory_is_reported_and_mended(root, name, caplog):
    (root / "q" / name).rmdir()
    assert Broker(root).view() == {}
    assert name in caplog.text
    Broker(root).create_queue("q")
    assert list(Broker(root).view()) == ["q"]


def test_one_broken_queue_hides_no_other(root, caplog):
    broker = Broker(root)
    broker.create_queue("bad")
    (root / "bad" / "ddmq.yaml").write_text(f"{LAYOUT_LINE}\nbogus: 1\n")
    assert list(Broker(root).view()) == ["q"]
    assert list(Broker(root).clean_all()) == ["q"]
    assert "bogus" in caplog.text


@pytest.mark.parametrize("junk", ["link", "file"])
def test_what_a_deletion_left_stops_nobody(root, junk):
    path = root / ".deleted-x"
    path.symlink_to("/") if junk == "link" else path.touch()
    broker = Broker(root)
    broker.create_queue("other")
    broker.delete_queue("other")
    assert broker.queues() == ["q"]


@pytest.mark.parametrize("mode", [0o770, 0o777, 0o3770, 0o600])
def test_a_mode_that_can_not_be_shared_is_refused(root, mode):
    with pytest.raises(InvalidArgument, match="2770"):
        Broker(root).create_queue("other", mode=mode)


def test_a_shared_root_hands_on_its_mode(tmp_path):
    before = os.umask(0o077)
    try:
        Broker(tmp_path / "mq", create=True, mode=0o2770)
        Broker(tmp_path / "mq").create_queue("q")
    finally:
        os.umask(before)
    assert oct((tmp_path / "mq" / "q" / "ready").stat().st_mode & 0o7777) == "0o2770"


def test_junk_in_work_is_no_message_to_wait_for(root):
    (root / "q" / "work" / "junk").touch()
    assert Broker(root).wait("q", timeout=0)


# Nothing that a user can cause is a traceback


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("ddmq view ROOT >&-", 1),
        ("ddmq view ROOT >/dev/full", 1),
        ("ddmq -v >/dev/full", 1),
        ("unset PYTHONUNBUFFERED; ddmq --help >/dev/full", 1),
        ("PYTHONUNBUFFERED=1 ddmq --help >/dev/full", 1),
        ("ddmq json '{}' >/dev/full", 1),
        ("ddmq json <&-", 2),
        ("ddmq publish ROOT q - <&-", 2),
        ("ddmq publish ROOT q x 2>&-", 0),
        ("ddmq config ROOT q --set queue=1", 2),
        ("ddmq config ROOT q --set self=1", 2),
        ("ddmq config ROOT q --set 'priority=[1'", 2),
        ("mkdir gone; cd gone; rmdir ../gone; ddmq view mq", 2),
    ],
)
def test_odd_surroundings_are_explained(root, tmp_path, line, status):
    done = shell(f"cd {tmp_path}; {line}", root)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert done.returncode == status


def test_what_is_done_all_the_same_is_told_without_a_buffer_too(root):
    line = "PYTHONUNBUFFERED=1 ddmq publish ROOT q x >/dev/full"
    done = shell(line, root)
    assert "No space left on device; all but this answer is done" in done.stderr
    assert done.returncode == 1


@pytest.mark.parametrize(
    "request_",
    [
        {"cmd": "ack", "queue": "q", "id": None},
        {"cmd": "wait", "queue": None},
        {"cmd": "config", "queue": "q", "set": {"queue": 1}},
        {"cmd": "config", "queue": "q", "set": {"self": 1}},
        {"cmd": "publish", "queue": "q", "from_file": "a\0b"},
        {"cmd": "view", "root": "/tmp/\ud800"},
    ],
)
def test_odd_requests_are_answered(root, capsys, request_):
    assert cli.main(["json", json.dumps({"root": str(root), **request_})]) == 2
    assert json.loads(capsys.readouterr().out)["error"]


def test_an_empty_list_of_states_purges_nothing(root, capsys):
    Broker(root).publish("q", "x")
    request = {"cmd": "purge", "root": str(root), "queue": "q", "only": []}
    assert cli.main(["json", json.dumps(request)]) == 0
    assert Broker(root).view("q")["q"].waiting == 1


@pytest.mark.parametrize("message", [None, "-"])
def test_a_request_publishes_what_it_says(root, capsys, message):
    request = {"cmd": "publish", "root": str(root), "queue": "q", "message": message}
    assert cli.main(["json", json.dumps(request)]) == 0
    assert Broker(root).consume("q")[0].message == message


def test_a_message_that_could_not_be_shown_is_given_back(root):
    Broker(root).publish("q", "x")
    assert shell("ddmq consume ROOT q >/dev/full", root).returncode == 1
    assert Broker(root).view("q")["q"] == (1, 0, 0, 0)


def test_a_lost_lease_is_lost_by_file_name(root):
    broker = Broker(root)
    broker.publish("q", "x")
    [old] = broker.consume("q")
    broker.release(old)
    broker.consume("q")
    with pytest.raises(LeaseLost):
        broker.leased("q", old.filename)
