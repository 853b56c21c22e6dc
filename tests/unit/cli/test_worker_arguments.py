"""What `ddmq-worker` can be told, and how it is typed."""

from __future__ import annotations

import signal

import pytest

from ddmq.cli.spec import filled
from ddmq.cli.worker_arguments import (
    WhichQueue,
    WorkerArguments,
    divided,
    given_to_worker,
    worker_parser,
)
from ddmq.hpc.options import WorkerOptions


def parsed(*words):
    """Return what `ddmq-worker` is told by some options."""
    values = vars(worker_parser().parse_args([*words, "/mq", "jobs"]))
    assert filled(WhichQueue, values) == ("/mq", "jobs")
    return filled(WorkerArguments, values)


def test_only_the_names_of_options_get_dashes():
    arguments = ["--log_dir=my_logs", "my_root", "--", "--a_b=c_d"]
    ours, command = divided(arguments, WorkerArguments)
    assert ours == ["--log-dir=my_logs", "my_root"]
    assert command == ["--a_b=c_d"]


def test_without_two_dashes_there_is_no_command():
    assert divided(["a", "b"], WorkerArguments) == (["a", "b"], [])


def test_the_defaults_are_those_of_a_worker():
    given, wanted = parsed(), WorkerOptions()
    for part in (given.running, given.failing, given.outputs, given.stopping):
        for name, value in part._asdict().items():
            if name not in ("slots", "max_failures"):
                assert value == getattr(wanted, name), name


def test_each_option_is_read_as_what_it_is():
    given = parsed(
        *("-j", "3", "--term-signal", "USR1", "--on-exit", "3=queue:big"),
        *("--on-exit", "4=queue:small", "--backoff", "10,1:00", "--log-limit", "2K"),
        *("--max-failures", "5%", "--until-done", "--min-remaining", "0"),
    )
    assert (given.running.slots, given.running.term_signal) == (3, signal.SIGUSR1)
    assert given.failing.on_exit == {3: "big", 4: "small"}
    assert given.failing.backoff == (10, 60)
    assert given.outputs.log_limit == 2048
    assert given.stopping.max_failures == (None, 0.05)
    assert given.stopping.until == "done"
    assert given.job_end == (None, None, 0)
    assert parsed("--env", "A=1", "--env", "B=2").running.env == {"A": "1", "B": "2"}
    assert parsed("--forever").stopping.until == "forever"
    assert not parsed("--no-brake").stopping.brake


@pytest.mark.parametrize(
    "words", [["-j", "0"], ["--logs", "some"], ["--fatal", "256"], ["--slot", "1"]]
)
def test_what_means_nothing_is_wrong_usage(words, capsys):
    with pytest.raises(SystemExit, match="2"):
        parsed(*words)
    assert "see `ddmq-worker -h`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--on-success", "queue:jobs"], "the next queue must be another one"),
        (["--on-success", "lines:next"], "lines:NAME needs --output-dir"),
    ],
)
def test_what_goes_on_goes_to_another_queue_and_lines_come_from_an_output(
    words, why, capsys
):
    parser = worker_parser()
    with pytest.raises(SystemExit, match="2"):
        given_to_worker(parser, [*words, "/mq", "jobs"], [])
    assert why in capsys.readouterr().err
    told = ["--on-success", "lines:next", "--output-dir", "out", "/mq", "jobs"]
    assert given_to_worker(parser, told, []).on_success == ("lines", "next")


def test_a_name_of_results_needs_their_directory(capsys):
    parser = worker_parser()
    with pytest.raises(SystemExit, match="2"):
        given_to_worker(parser, ["--output-name", "{/}", "/mq", "jobs"], [])
    assert "--output-name needs --output-dir" in capsys.readouterr().err
    told = ["--output-name", "{/}", "--output-dir", "out", "/mq", "jobs"]
    assert given_to_worker(parser, told, []).output_name == "{/}"


@pytest.mark.parametrize("option", ["--group", "--tag"])
def test_what_is_printed_nowhere_is_neither_grouped_nor_tagged(option, capsys):
    parser, told = worker_parser(), [option, "--log-dir", "logs", "/mq", "jobs"]
    with pytest.raises(SystemExit, match="2"):
        given_to_worker(parser, told, [])
    assert option in capsys.readouterr().err
    assert given_to_worker(parser, ["--logs", "none", *told], [])


@pytest.mark.parametrize(
    ("options", "command", "why"),
    [
        (
            ["--batch", "2", "--output-dir", "d"],
            [],
            "--output-dir and --batch don't go",
        ),
        (["--batch", "2", "--tag"], [], "--tag and --batch don't go together"),
        (["--batch", "2", "--persistent"], [], "--persistent and --batch don't go"),
        (["--persistent", "--stdin"], [], "always gives messages on standard input"),
        (["--persistent"], ["p", "--in={/.}"], "{/.} stands for one message"),
        (["--persistent", "--env", "A={}"], [], "--env: {} stands for one message"),
        (["--batch", "2", "--env", "A=x{id}"], [], "--env: {id} stands for one mess"),
    ],
)
def test_what_does_not_go_together_is_wrong_usage(capsys, options, command, why):
    parser = worker_parser()
    with pytest.raises(SystemExit):
        given_to_worker(parser, [*options, "/mq", "jobs"], command)
    assert why in capsys.readouterr().err


def test_a_command_that_stays_may_know_its_slot():
    words = ["--persistent", "/mq", "jobs"]
    assert given_to_worker(worker_parser(), words, ["p", "{slot}", "{x}"]).persistent


def test_what_follows_is_one_argument():
    given = parsed("--then", "sbatch 'a b.sh'", "--then-even-if-dead").stopping
    assert given.then == ("sbatch", "a b.sh")
    assert given.then_even_if_dead


def test_what_follows_dead_letters_must_be_said(capsys):
    with pytest.raises(SystemExit, match="2"):
        given_to_worker(worker_parser(), ["--then-even-if-dead", "/mq", "jobs"], ["x"])
    assert "--then-even-if-dead needs --then COMMAND" in capsys.readouterr().err
