"""What a worker of an Executor runs: where results go, and what is never called."""

from __future__ import annotations

import errno
import os
import shutil
import stat

import pytest

from ddmq.hpc.executor.caller import Caller
from ddmq.hpc.executor.calls import Answer, Call
from ddmq.hpc.functions.serving import Reject, Release

KEY = "0" * 23 + "-" + "0" * 9
CALL = Call(KEY, "json:dumps", [{"a": 1}], {}).message()


@pytest.fixture
def results(tmp_path):
    (tmp_path / "results").mkdir()
    return tmp_path / "results"


@pytest.fixture
def caller(results):
    return Caller("root/queue", str(results), "durable", "json", "json")


def test_a_result_is_a_file_named_by_its_key(caller, results):
    for _ in range(2):  # the second one takes the place of the first
        caller(CALL, 0)
        assert os.listdir(results) == [KEY]
        assert Answer.parse((results / KEY).read_bytes()) == Answer(KEY, '{"a": 1}')


def test_a_link_in_its_place_is_replaced_and_not_followed(caller, results, tmp_path):
    (tmp_path / "mine").write_text("mine")
    (results / KEY).symlink_to(tmp_path / "mine")
    caller(CALL, 0)
    assert (tmp_path / "mine").read_text() == "mine"
    assert not (results / KEY).is_symlink()


@pytest.mark.parametrize(
    "message",
    [None, "text", [], {}, {**CALL, "more": 1}, {"calls": CALL}, {"calls": [CALL, 5]}],
)
def test_what_is_no_call_is_never_tried_again(caller, message):
    with pytest.raises(Reject, match="no call"):
        caller(message, 0)


@pytest.mark.parametrize("key", ["mine", "../mine", "", ".", "a/b", KEY + "\n"])
def test_only_a_key_as_ddmq_makes_them_names_a_result(caller, results, key):
    for message in ({**CALL, "key": key}, {"calls": [CALL, {**CALL, "key": key}]}):
        with pytest.raises(Reject, match="names no result"):
            caller(message, 0)
    assert os.listdir(results) == []


def test_a_pickled_message_is_rejected_and_nothing_unpickled(caller, results):
    with pytest.raises(Reject, match="not started for that"):
        caller({**CALL, "pickle": "Y3Bvc2l4CnN5c3RlbQo="}, 0)
    assert os.listdir(results) == []


def test_what_the_directory_does_not_take_now_is_made_again_later(caller, results):
    slept = []
    caller._clock.sleep = slept.append
    (results / KEY).mkdir()  # what no file can replace
    with pytest.raises(OSError, match="directory"):
        caller(CALL, 0)
    caller._results.create = lambda *_, **__: (_ for _ in ()).throw(OSError(28, "full"))
    with pytest.raises(Release, match=r"is not kept in .*results: full"):
        caller(CALL, 0)
    assert slept == [5.0]


def test_a_directory_that_is_gone_is_told(caller, results):
    shutil.rmtree(results)
    with pytest.raises(FileNotFoundError):
        caller(CALL, 0)


@pytest.mark.parametrize("remade", [False, True])
def test_a_directory_that_is_gone_is_told_by_an_nfs_client_too(caller, results, remade):
    """Which calls it stale, as it calls one that is there while its server comes back."""
    caller._clock.sleep = [].append
    stale = OSError(errno.ESTALE, "stale", f"{results}/file")
    caller._results.create = lambda *_, **__: (_ for _ in ()).throw(stale)
    with pytest.raises(Release, match="stale"):
        caller(CALL, 0)
    results.rename(results.with_name("old"))  # so that no other gets its number
    if remade:
        results.mkdir()
    with pytest.raises(FileNotFoundError, match="was removed"):
        caller(CALL, 0)


def test_of_a_message_that_came_back_only_calls_without_result_go_on(caller, results):
    keys = [KEY[:-1] + str(n) for n in range(3)]
    calls = [{**CALL, "key": key} for key in keys]
    caller(calls[1], 1)
    published = []
    caller._publish = published.extend
    caller({"calls": calls}, 1)
    assert [call.key for call in published] == [keys[0], keys[2]]
    assert os.listdir(results) == [keys[1]]


def test_what_was_given_away_before_and_made_is_not_given_away_again(
    caller, results, monkeypatch
):
    keys = [KEY[:-1] + str(n) for n in range(3)]
    calls = [{**CALL, "key": key} for key in keys]
    caller(calls[1], 0)  # another worker has made it
    published = []
    caller._publish = published.extend

    def at_once(calls, make, publish):
        publish(calls)  # as where the first call takes long

    monkeypatch.setattr("ddmq.hpc.executor.caller.make_together", at_once)
    caller({"calls": calls}, 0)  # it was given back, which counts nothing
    assert [call.key for call in published] == [keys[0], keys[2]]


def test_a_result_is_on_stable_storage_before_its_message_is_acked(
    caller, results, monkeypatch
):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.fstat(fd).st_mode))
    caller({"calls": [CALL, {**CALL, "key": KEY[:-1] + "1"}]}, 0)
    kinds = [stat.S_ISREG(mode) for mode in synced]
    assert kinds == [True, True, False]  # both files, and then their names
    synced.clear()
    Caller("root/queue", str(results), "", "json", "json")(CALL, 0)
    assert synced == []


def test_the_mode_of_a_result_is_as_the_umask_says(caller, results):
    before = os.umask(0o027)
    try:
        caller(CALL, 0)
    finally:
        os.umask(before)
    assert stat.S_IMODE((results / KEY).stat().st_mode) == 0o640
