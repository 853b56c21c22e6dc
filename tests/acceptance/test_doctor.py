"""`ddmq doctor`: what is wrong with a queue is found, told, and mended; nothing is destroyed."""

from __future__ import annotations

import json
import os
import stat
import time

import pytest

from ddmq import Broker
from ddmq.cli import main as cli
from ddmq.clock import Clock
from ddmq.settings import LAYOUT_LINE
from ddmq.storage.delayed import Delayed
from ddmq.storage.locks import exclusive
from ddmq.storage.names import Entry, Lease, new_id, new_token

DAY = 86400


class Ward:
    """A queue `q` with what a test has done to it."""

    def __init__(self, path, capsys):
        self.root = path / "mq"
        self.path = self.root / "q"
        self.capsys = capsys
        self.broker = Broker(self.root, create=True)
        self.broker.create_queue("q")
        self.broker.update_settings("q", durable=False)

    def doctor(self, *options):
        """Return the exit status, and the findings by name."""
        self.capsys.readouterr()
        status = cli.main(["doctor", "--format", "json", str(self.root), *options])
        told = json.loads(self.capsys.readouterr().out)
        assert told["well"] is (status == 0)
        return status, {finding["name"]: finding for finding in told["findings"]}

    def plain(self, *options):
        cli.main(["doctor", str(self.root), *options])
        return " ".join(self.capsys.readouterr().out.split())

    def assert_found(self, name, words=""):
        before = self.everything()
        status, found = self.doctor()
        assert self.everything() == before, "it disturbed the queue"
        assert (status, found[f"q: {name}"]["level"]) == (1, "bad"), found
        assert words in found[f"q: {name}"]["text"]
        return found[f"q: {name}"]

    def assert_mended(self, name):
        status, found = self.doctor("--fix")
        assert found[f"q: {name}"]["level"] == "mended", found
        assert status == 0
        assert self.doctor() == (0, {})

    def everything(self):
        """Return all paths with their modes, but for what a look may touch."""
        return {
            path: path.lstat().st_mode
            for path in self.root.rglob("*")
            if path.name != "lock"
        }

    def entry(self):
        return Entry(999, time.time_ns(), new_id())

    def message(self, directory, name):
        path = self.path / directory / name
        path.write_text('{"message": "x", "priority": 999}')
        return path


@pytest.fixture
def ward(tmp_path, capsys, umask):
    umask(0o022)  # Where the group may write, the doctor says so.
    return Ward(tmp_path, capsys)


def lease(entry, seconds):
    return Lease.of(entry, int((time.time() + seconds) * 1000), new_token()).filename


def old(path, seconds=2 * DAY):
    os.utime(path, (time.time() - seconds,) * 2)
    return path


def test_a_queue_in_use_is_well(ward):
    for number in range(3):
        ward.broker.publish("q", number)
    ward.broker.publish("q", "later", delay=100)
    ward.broker.reject(ward.broker.consume("q"), "no such sample")
    ward.broker.consume("q")
    assert ward.doctor() == (0, {})
    assert ward.plain() == "all is well"
    assert cli.main(["doctor", str(ward.root), "q,q"]) == 0


def test_leases_that_nobody_requeued_are_found_and_requeued(ward):
    ward.message("work", lease(ward.entry(), -300))
    found = ward.assert_found("expired", "1 lease is over, the oldest for 5 minutes")
    assert found["remedy"] == "`--fix` requeues or buries them"
    ward.assert_mended("expired")
    assert ward.broker.view()["q"].waiting == 1


def test_leases_that_nobody_renews_are_told_and_left_alone(ward):
    path = ward.message("work", lease(ward.entry(), 240))
    before = ward.everything()
    status, found = ward.doctor("--fix")
    assert (status, found["q: not renewed"]["level"]) == (0, "note")
    assert found["q: not renewed"]["figures"]["number"] == 1
    assert "1 at work, not renewed for 6 minutes" in ward.plain()
    assert "all is well, but for what nobody renews" in ward.plain()
    assert path.exists()
    assert ward.everything() == before


def test_files_that_the_file_system_will_remove_are_told_when_it_is_asked(ward):
    ward.broker.publish("q", "x")
    [path] = (ward.path / "ready").glob("*/*/*")
    old(path, 25 * DAY)
    before = ward.everything()
    assert ward.doctor() == (0, {})
    assert ward.doctor("--purged-after", "40d") == (0, {})
    status, found = ward.doctor("--purged-after", "30d", "--fix")
    assert (status, found["q: old files"]["level"]) == (1, "bad")
    assert found["q: old files"]["figures"]["paths"] == [str(path)]
    assert "the oldest is 25 days old" in ward.plain("--purged-after", "30d")
    assert "1 found" in ward.plain("--purged-after", "30d")
    assert ward.everything() == before
    assert cli.main(["doctor", str(ward.root), "--purged-after", "0"]) == 2


def test_a_queue_whose_settings_were_removed_comes_back(ward):
    """As docs/scratch.md says of a scratch that removes old files."""
    ward.broker.publish("q", "x")
    (ward.root / "ddmq.yaml").unlink()
    (ward.path / "ddmq.yaml").unlink()
    assert cli.main(["view", str(ward.root)]) == 1
    assert cli.main(["create", "-f", str(ward.root), "q"]) == 0
    assert ward.doctor() == (0, {})
    assert Broker(ward.root).view()["q"].waiting == 1


def test_leases_beyond_any_timeout_are_found_and_left_alone(ward):
    entry = ward.entry()
    path = ward.message("work", lease(entry, DAY))
    found = ward.assert_found("far leases", "24 hours more")
    assert found["remedy"].endswith(entry.id)
    status, _ = ward.doctor("--fix")
    assert status == 1
    assert path.exists()


def test_a_message_with_a_long_timeout_of_its_own_is_well(ward):
    ward.broker.publish("q", "x", timeout=DAY)
    ward.broker.consume("q")
    assert ward.doctor() == (0, {})


@pytest.mark.parametrize("taken", [5, 20])
def test_a_queue_of_bundles_in_use_is_well(ward, taken):
    ward.broker.publish_many("q", range(20), timeout=DAY)
    ward.broker.publish_many("q", range(20), delay=100)
    ward.broker.consume("q", taken)
    before = ward.everything()
    assert ward.doctor() == (0, {})
    assert ward.everything() == before


def test_leases_that_end_soon_are_told_and_no_harm(ward):
    ward.message("work", lease(ward.entry(), 20))
    status, found = ward.doctor()
    assert (status, found["q: expiring"]["level"]) == (0, "note")


def test_delayed_messages_that_nobody_showed_are_found_and_shown(ward):
    name = Delayed(ward.entry(), int((time.time() - 7200) * 1000)).filename
    ward.message("delayed", name)
    ward.assert_found("due", "1 delayed message is due, the first since 2 hours")
    ward.assert_mended("due")
    assert ward.broker.view()["q"].waiting == 1


def test_delays_of_years_are_told(ward):
    ward.message("delayed", Delayed(ward.entry(), 9999999999999).filename)
    status, found = ward.doctor()
    assert (status, found["q: far delays"]["level"]) == (0, "note")


@pytest.mark.parametrize(
    "place",
    [
        "work/x",
        "delayed/x\n\x1b[2J",
        "ready/x",
        "ready/1/x",
        "ready/1/1700000000000000000/x",
    ],
)
def test_garbage_is_found_and_set_aside_whole(ward, place):
    path = ward.path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("precious")
    found = ward.assert_found("garbage", "no message")
    assert "\x1b" not in found["text"]
    _, found = ward.doctor("--fix")
    assert found["q: garbage"]["level"] == "mended"
    assert not path.exists()
    (aside,) = (ward.path / "dead").glob("*.foreign")
    assert aside.read_text() == "precious"


def test_what_lies_among_the_dead_and_is_no_letter_is_found(ward):
    (ward.path / "dead" / "directory").mkdir()
    (ward.path / "dead" / "x").write_text("x")
    found = ward.assert_found("dead", "no message")
    assert found["figures"]["number"] == 2


def test_leftovers_of_writers_that_died_are_found_and_removed(ward):
    old(ward.message("tmp", new_id()))
    old(ward.message("dead", f"{new_id()}.note"))
    ward.message("tmp", new_id())  # somebody is writing it
    found = ward.assert_found("leftovers", "died over an hour ago")
    assert found["figures"]["number"] == 2
    ward.assert_mended("leftovers")
    assert len(list((ward.path / "tmp").iterdir())) == 1


def test_empty_buckets_are_found_and_removed(ward):
    ward.broker.publish("q", "x")
    (ward.path / "ready" / "999" / "1700000000000000000").mkdir()
    ward.assert_found("buckets", "empty, and not the newest")
    ward.assert_mended("buckets")
    assert ward.broker.view()["q"].waiting == 1


@pytest.mark.parametrize("bucket", ["", "1700000000000000000"])
def test_empty_shelves_are_found_and_removed(ward, bucket):
    ward.broker.publish("q", "x")
    shelf = ward.path / "ready" / "999" / "1700000000000000000.shelf"
    (shelf / bucket).mkdir(parents=True)
    ward.assert_found("buckets", f"{shelf / bucket}: empty, and not the newest")
    ward.assert_mended("buckets")
    assert ward.broker.view()["q"].waiting == 1


def test_what_is_no_bucket_on_a_shelf_and_no_message_in_one_is_garbage(ward):
    shelf = ward.path / "ready" / "999" / "1700000000000000000.shelf"
    bucket = shelf / "1700000000000000000"
    bucket.mkdir(parents=True)
    ward.message(shelf, "1700000000000000001.shelf")
    ward.message(bucket, "1700000000000000000.a.0-0")
    ward.message(bucket, "stray")
    found = ward.assert_found("garbage", "no message")
    assert found["figures"]["number"] == 2
    ward.assert_mended("garbage")
    assert ward.broker.view()["q"].waiting == 1


def test_buckets_from_the_future_are_told(ward):
    bucket = ward.path / "ready" / "999" / "4000000000000000000"
    bucket.mkdir(parents=True)
    ward.message(bucket, "4000000000000000000.a.0-0")
    status, found = ward.doctor()
    assert (status, found["q: stamps"]["level"]) == (0, "note")


def test_dropped_files_that_nobody_took_are_found_and_taken(ward):
    old(ward.message("drop", "letter.txt"))
    ward.assert_found("drop", "letter.txt: dropped, and not taken")
    ward.assert_mended("drop")
    assert ward.broker.view()["q"].waiting == 1


@pytest.mark.parametrize("name", ["tmp", "ready", "work", "delayed", "dead", "drop"])
def test_a_missing_directory_is_found_and_made(ward, name):
    (ward.path / name).rmdir()
    ward.assert_found("missing", f"q/{name}: missing")
    ward.assert_mended("missing")
    assert (ward.path / name).is_dir()


@pytest.mark.parametrize("make", [os.symlink, lambda _, path: os.mkfifo(path)])
@pytest.mark.parametrize("place", ["work", "dead", "lock"])
def test_what_is_in_place_of_a_directory_is_moved_away_and_not_followed(
    ward, tmp_path, place, make
):
    ward.broker.publish("q", "first")
    path, home = ward.path / place, tmp_path / "home"
    home.mkdir()
    path.rmdir() if path.is_dir() else path.unlink()
    make(home, path)
    was = path.lstat().st_ino
    name = "lock" if place == "lock" else "links"
    found = ward.assert_found(name, f"q/{place}: no ")
    assert "a hidden name" in found["remedy"]
    ward.assert_mended(name)
    assert list(home.iterdir()) == []
    assert [p.lstat().st_ino for p in ward.path.glob(f".{place}-*")] == [was]
    assert [m.message for m in ward.broker.consume("q", 9)] == ["first"]


def test_a_link_in_place_of_the_lock_of_a_root_is_moved_away(ward, tmp_path):
    (ward.root / "lock").unlink()
    (ward.root / "lock").symlink_to(tmp_path / "nothing")
    assert ward.doctor()[1]["root: lock"]["level"] == "bad"
    status, found = ward.doctor("--fix")
    assert (status, found["root: lock"]["level"]) == (0, "mended")
    assert not (tmp_path / "nothing").exists()
    ward.broker.create_queue("other")


def test_a_queue_that_everybody_may_write_to_is_named_as_such(ward):
    ward.path.chmod(0o777)
    found = ward.assert_found("writers", "everybody may write to")
    assert found["remedy"].startswith("chmod o-w")
    assert ward.doctor("--fix")[0] == 1
    assert stat.S_IMODE(ward.path.stat().st_mode) == 0o777


def test_a_root_that_everybody_may_write_to_is_named_as_such(ward):
    ward.root.chmod(0o777)
    status, found = ward.doctor()
    assert (status, found["root: writers"]["level"]) == (1, "bad")


@pytest.fixture
def shared(ward):
    """The same, shared by a group."""
    ward.broker.create_queue("g", mode=0o2770)
    ward.path = ward.root / "g"
    return ward


def test_a_group_that_may_write_is_named(shared):
    status, found = shared.doctor("g")
    assert (status, found["g: writers"]["level"]) == (0, "note")
    assert "its members are trusted" in found["g: writers"]["text"]


def test_modes_that_the_group_can_not_use_are_found_and_set(shared):
    shelf = shared.path / "ready" / "999" / "1700000000000000000.shelf"
    bucket = shelf / "1700000000000000000"
    bucket.mkdir(parents=True)
    for directory in (bucket, shelf, shelf.parent):
        directory.chmod(0o755)
    path = shared.message(bucket, "1700000000000000000.a.0-0")
    path.chmod(0o600)
    status, found = shared.doctor("g")
    assert (status, found["g: modes"]["figures"]["number"]) == (1, 4)
    status, found = shared.doctor("g", "--fix")
    assert (status, found["g: modes"]["level"]) == (0, "mended")
    assert stat.S_IMODE(bucket.stat().st_mode) == 0o2770
    assert stat.S_IMODE(shelf.stat().st_mode) == 0o2770
    assert stat.S_IMODE(path.stat().st_mode) == 0o660


def test_the_mode_of_a_file_that_has_another_name_is_not_touched(shared, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("mine")
    secret.chmod(0o600)
    os.link(secret, shared.path / "delayed" / "secret")
    status, found = shared.doctor("g", "--fix")
    assert (status, found["g: modes"]["level"]) == (1, "bad")
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600


@pytest.mark.root("give files away")
def test_a_message_that_the_queues_owner_can_not_read_is_found(ward):
    for path in (ward.path, *ward.path.rglob("*")):
        os.chown(path, 12345, 12345)
    path = ward.message("work", lease(ward.entry(), 500))
    path.chmod(0o600)
    found = ward.assert_found("owners", "not of 12345, who can't read it")
    assert found["figures"]["paths"] == [str(path)]
    path.chmod(0o644)
    assert ward.doctor() == (0, {})


def test_a_clock_that_is_wrong_is_told(ward, monkeypatch):
    ahead = staticmethod(lambda: time.time_ns() + 3_600_000_000_000)
    monkeypatch.setattr(Clock, "own_ns", ahead)
    status, found = ward.doctor()
    assert status == 0
    assert "3600.0 s ahead of the file server's" in found["q: clock"]["text"]


def test_a_lock_that_nobody_can_get_is_found_with_its_holder(ward, monkeypatch):
    monkeypatch.setattr("ddmq.diagnose.symptoms.access._LOCK_SECONDS", 0.05)
    with exclusive(f"{ward.path}/lock", 0):
        found = ward.assert_found("lock", f"held by process {os.getpid()} ")
    assert "messages need no lock" in found["remedy"]
    assert ward.doctor() == (0, {})


def test_settings_that_can_not_be_read_are_found(ward):
    file = ward.path / "ddmq.yaml"
    file.write_text(f"{LAYOUT_LINE}\nmessage_timeout: soon")
    ward.assert_found("settings", "message_timeout is 'soon'")
    file.write_text("priority: 1")
    ward.assert_found("settings", f"it has no line `{LAYOUT_LINE}`; put it back")
    assert ward.doctor("--fix")[0] == 1


def test_nothing_is_mended_in_a_queue_of_a_later_ddmq(ward):
    file = ward.path / "ddmq.yaml"
    file.write_text(file.read_text().replace(LAYOUT_LINE, "layout: 3 (ddmq 1.4.0)"))
    ward.message("work", "garbage")
    (ward.path / "drop").rmdir()
    found = ward.assert_found("layout", "layout 3 needs ddmq 1.4.0 or newer")
    assert "nothing here is for this ddmq to mend" in found["remedy"]
    before = ward.everything()
    assert ward.doctor("--fix")[0] == 1
    assert ward.everything() == before


def test_one_broken_queue_does_not_hide_the_others(ward):
    ward.broker.create_queue("a")
    (ward.root / "a" / "ddmq.yaml").write_text(f"{LAYOUT_LINE}\nnonsense: 1")
    ward.message("work", lease(ward.entry(), -300))
    _, found = ward.doctor()
    assert {"a: settings", "q: expired"} <= set(found)


def test_people_are_told_what_fix_would_do(ward):
    old(ward.message("tmp", new_id()))
    told = ward.plain()
    assert "-> `--fix` removes them" in told
    assert told.endswith("1 found; `--fix` mends 1 of them")
    assert ward.plain("--fix").endswith("all is well")


def test_a_queue_that_is_not_there_is_an_error(ward, capsys):
    assert cli.main(["doctor", str(ward.root), "none"]) == 1
    assert "no such queue" in capsys.readouterr().err


def test_no_message_is_destroyed_whatever_is_wrong(ward):
    for number in range(5):
        ward.broker.publish("q", number)
    ward.broker.reject(ward.broker.consume("q"))
    for seconds in (-300, 20, DAY):
        ward.message("work", lease(ward.entry(), seconds))
    ward.message("work", "garbage")
    (ward.path / "ready" / "999" / "1700000000000000000").mkdir()
    before = sum(ward.broker.view()["q"])
    ward.doctor("--fix")
    assert sum(ward.broker.view()["q"]) >= before
