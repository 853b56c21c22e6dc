"""What `ddmq-submit` makes of what it is told."""

from __future__ import annotations

import pytest

from ddmq import Counts, InvalidArgument
from ddmq.cli import submit
from ddmq.cli.spec import filled
from ddmq.cli.worker_arguments import JobEnd


def job(*words):
    """Return what a job is like, as it is typed."""
    values = submit.submit_parser().parse_args(["slurm", "/mq", "jobs", *words])
    return filled(submit.TheJob, vars(values))


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ([], 1),
        (["--workers", "7"], 7),
        (["--workers", "7", "--max-workers", "5"], 5),
        (["--workers", "auto"], 13),
        (["--workers", "auto", "-j", "4"], 4),
        (["--workers", "auto", "--max-workers", "2"], 2),
    ],
)
def test_so_many_workers_are_asked_for(words, wanted):
    counts = Counts(waiting=120, work=50, delayed=5, dead=9)
    assert submit.workers_for(job(*words), counts) == wanted


def test_auto_asks_for_one_at_least_and_a_hundred_at_most():
    auto = job("--workers", "auto")
    assert submit.workers_for(auto, Counts(0, 0, 0, 0)) == 1
    assert submit.workers_for(auto, Counts(10**6, 0, 0, 0)) == 100


def test_a_job_too_short_for_any_message_is_refused(tmp_path):
    for end, seconds in (
        (JobEnd(None, None, 600.0), "600"),
        (JobEnd(None, None, 50.0), "50"),
    ):
        with pytest.raises(InvalidArgument, match=f"less than {seconds} s remain"):
            submit.refuse_without_end(
                "slurm", job("--time", "0:00:50"), end, str(tmp_path), 0
            )
    end, asked = JobEnd(None, None, 40.0), job("--time", "0:00:50")
    submit.refuse_without_end("slurm", asked, end, str(tmp_path), 9)
    with pytest.raises(InvalidArgument, match="more than 50s, or shorten"):
        submit.refuse_without_end("slurm", asked, end, str(tmp_path), 10)


def test_a_chain_needs_a_time_where_no_scheduler_tells_it(tmp_path):
    chain, never = job("--chain", "2"), JobEnd(None, None, None)
    submit.refuse_without_end("slurm", chain, never, str(tmp_path), 10)
    with pytest.raises(InvalidArgument, match="--chain needs --time: pbs"):
        submit.refuse_without_end("pbs", chain, never, str(tmp_path), 10)
    known = never._replace(deadline=2e9)
    submit.refuse_without_end("pbs", chain, known, str(tmp_path), 10)


def test_a_program_must_be_there_unless_a_message_names_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.sh").touch(mode=0o700)
    for program in ("./run.sh", "run.sh", "/no/such", "./{}", "anything"):
        submit.refuse_missing(program)
    with pytest.raises(InvalidArgument, match="chmod"):
        submit.refuse_missing("./none.sh")


def test_options_for_the_scheduler_are_kept_in_order():
    assert job("-o", "q=long", "--option", "mem=4G").options == ["q=long", "mem=4G"]
    assert job().options == []


@pytest.mark.parametrize(
    "words", [["--time", "30"], ["--workers", "0"], ["--chain", "-1"]]
)
def test_what_means_nothing_is_wrong_usage(words, capsys):
    with pytest.raises(SystemExit, match="2"):
        job(*words)
    assert "see `ddmq-submit -h`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "seconds"), [("2h", 7200), ("1h30m", 5400), ("1:30:00", 5400)]
)
def test_a_time_limit_has_a_unit(text, seconds):
    assert submit._time(text) == seconds
    with pytest.raises(InvalidArgument, match="no time"):
        submit._time("90")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--wrokers", "2", "--", "x"], "--wrokers; did you mean --workers?;"),
        (["--retires", "2", "--", "x"], "--retires; did you mean --retries?;"),
        (["-J", "2", "--", "x"], "-J; did you mean -j?;"),
        (["./run.sh"], "put the command last, after --: -- ./run.sh;"),
    ],
)
def test_it_knows_its_own_options_and_those_of_workers(capsys, words, told):
    with pytest.raises(SystemExit, match="2"):
        submit.main(["slurm", "/mq", "jobs", *words])
    said = capsys.readouterr().err
    assert said.startswith("ddmq-submit: ")
    assert told in said
