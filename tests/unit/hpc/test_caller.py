"""What a worker of an Executor runs: where results go, and what is never called."""

from __future__ import annotations

import os
import shutil
import stat

import pytest

from ddmq.hpc.caller import Caller
from ddmq.hpc.calls import Answer, Call
from ddmq.hpc.serving import Reject, Release

ID = "0" * 20
CALL = Call("k", "json:dumps", [{"a": 1}], {}).message()


@pytest.fixture
def results(tmp_path):
    (tmp_path / "results").mkdir()
    return tmp_path / "results"


@pytest.fixture
def caller(results):
    return Caller(str(results), "durable", "json", "json", "json.encoder")


def test_a_result_is_a_file_named_after_its_message(caller, results):
    for _ in range(2):  # the second one takes the place of the first
        caller(CALL, ID)
        assert os.listdir(results) == [ID]
        assert Answer.parse((results / ID).read_bytes()) == Answer("k", '{"a": 1}')


def test_a_link_in_its_place_is_replaced_and_not_followed(caller, results, tmp_path):
    (tmp_path / "mine").write_text("mine")
    (results / ID).symlink_to(tmp_path / "mine")
    caller(CALL, ID)
    assert (tmp_path / "mine").read_text() == "mine"
    assert not (results / ID).is_symlink()


@pytest.mark.parametrize("message", [None, "text", [], {}, {**CALL, "more": 1}])
def test_what_is_no_call_is_never_tried_again(caller, message):
    with pytest.raises(Reject, match="no call"):
        caller(message, ID)


@pytest.mark.parametrize("id_", ["mine", "../mine", "", ".", "a/b", ID + "\n"])
def test_only_an_id_as_ddmq_makes_them_names_a_result(caller, results, id_):
    with pytest.raises(Reject, match="names no result"):
        caller(CALL, id_)
    assert os.listdir(results) == []


def test_a_pickled_message_is_rejected_and_nothing_unpickled(caller, results):
    with pytest.raises(Reject, match="not started for that"):
        caller({**CALL, "pickle": "Y3Bvc2l4CnN5c3RlbQo="}, ID)
    assert os.listdir(results) == []


def test_what_the_directory_does_not_take_now_is_made_again_later(caller, results):
    slept = []
    caller._sleep = slept.append
    (results / ID).mkdir()  # what no file can replace
    with pytest.raises(OSError, match="directory"):
        caller(CALL, ID)
    caller._results.create = lambda *_, **__: (_ for _ in ()).throw(OSError(28, "full"))
    with pytest.raises(Release, match="is not kept in .*results: full"):
        caller(CALL, ID)
    assert slept == [5.0]


def test_a_directory_that_is_gone_is_told(caller, results):
    shutil.rmtree(results)
    with pytest.raises(FileNotFoundError):
        caller(CALL, ID)


def test_the_mode_of_a_result_is_as_the_umask_says(caller, results):
    before = os.umask(0o027)
    try:
        caller(CALL, ID)
    finally:
        os.umask(before)
    assert stat.S_IMODE((results / ID).stat().st_mode) == 0o640
