"""How an Executor writes down what it wants of workers."""

from __future__ import annotations

import pytest

from ddmq import DdmqError, InvalidArgument
from ddmq.hpc.crew import Crew, words_of


def test_options_are_written_as_on_a_command_line():
    given = {"workers": 20, "j": 16, "time": "1:00:00", "min_remaining": 5.5}
    given.update(option=["account=abc", "mem=4G"], dry_run=True)
    assert words_of(given) == [
        *("--workers", "20", "-j", "16", "--time", "1:00:00"),
        *("--min-remaining", "5.5", "--option", "account=abc", "--option", "mem=4G"),
        "--dry-run",
    ]


@pytest.mark.parametrize("name", ["--workers", "a b", "", "a=b", "1"])
def test_what_is_no_option_is_refused(name):
    with pytest.raises(InvalidArgument, match="no option"):
        words_of({name: 1})


@pytest.mark.slow
def test_what_the_submission_says_is_told(broker, root, tmp_path):
    crew = Crew(str(root), "q", str(tmp_path))
    with pytest.raises(DdmqError, match=r"no job was submitted: .*is no time"):
        crew.start(["true"], None, {"time": "5"})
    assert not crew.are_started
