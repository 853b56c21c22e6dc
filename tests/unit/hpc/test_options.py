"""How a worker's options are written on a command line."""

from __future__ import annotations

import signal

import pytest

from ddmq.errors import InvalidArgument
from ddmq.hpc import options


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("90", 90),
        ("0.5", 0.5),
        ("2:00", 120),
        ("1:00:00", 3600),
        ("2-00:00:30", 172830),
        ("90s", 90),
        ("5m", 300),
        ("1h", 3600),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("2d", 172800),
    ],
)
def test_times_are_read_as_schedulers_write_them(text, value):
    assert options.seconds(text) == value


@pytest.mark.parametrize("text", ["", "x", "1:2:3:4", "-1", "nan", "inf", "1-x", ":"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(InvalidArgument, match="no time"):
        options.seconds(text)


@pytest.mark.parametrize("text", ["²", "٣", "9" * 5000, "-1", "1.0", ""])
@pytest.mark.parametrize(
    "read",
    [
        *(options.number, options.positive, options.size, options.signal_number),
        *(options.code, lambda text: options.codes(f"1,{text}-3")),
    ],
)
def test_what_is_no_whole_number_is_refused(read, text):
    with pytest.raises(InvalidArgument):
        read(text)


def test_a_moment_is_a_number_or_a_date():
    assert options.moment("1700000000") == 1.7e9
    assert options.moment("2023-11-14T22:13:20+00:00") == 1.7e9
    with pytest.raises(InvalidArgument, match="no time"):
        options.moment("soon")


def test_exit_statuses_are_lists_with_ranges():
    assert options.codes("2,64-66,") == {2, 64, 65, 66}
    assert options.codes("") == frozenset()
    for text in ("x", "256", "-1", "1-x"):
        with pytest.raises(InvalidArgument, match="no exit status"):
            options.codes(text)


def test_sizes_have_units():
    assert (options.size("10"), options.size("10k")) == (10, 10240)
    assert options.size("2G") == 2 << 30
    for text in ("", "K", "1.5M", "10KB"):
        with pytest.raises(InvalidArgument, match="no size"):
            options.size(text)


def test_signals_have_names_and_numbers():
    assert options.signal_number("term") == signal.SIGTERM
    assert options.signal_number("SIGUSR1") == signal.SIGUSR1
    assert options.signal_number("9") == signal.SIGKILL
    for text in ("NOPE", "999", ""):
        with pytest.raises(InvalidArgument, match="no signal"):
            options.signal_number(text)


def test_a_limit_is_a_number_or_a_share():
    assert options.limit("3") == (3, None)
    assert options.limit("3%") == (None, 0.03)
    for text in ("", "0", "101%", "x%", "-1"):
        with pytest.raises(InvalidArgument, match="neither"):
            options.limit(text)


def test_a_queue_to_move_to_has_a_proper_name():
    assert options.on_exit("137=queue:bigmem") == (137, "bigmem")
    assert options.on_exit("timeout=queue:slow") == ("timeout", "slow")
    for text in ("137", "137=bigmem", "x=queue:a", "1=queue:../a", "1=queue:"):
        with pytest.raises(InvalidArgument):
            options.on_exit(text)


def test_what_goes_on_is_the_message_or_the_lines_of_its_output():
    assert options.on_success("queue:b") == ("queue", "b")
    assert options.on_success("lines:b") == ("lines", "b")
    for text in ("b", "queue", "queue:", "words:b", "lines:../b"):
        with pytest.raises(InvalidArgument):
            options.on_success(text)


@pytest.mark.parametrize("text", ["{/.}.gz", "{id}", "run-{sample}_{//}"])
def test_the_name_of_a_result_stands_for_its_message(text):
    assert options.output_name(text) == text


@pytest.mark.parametrize(
    "text", ["x.gz", "", "{slot}", "{id}-{slot0}", "a/{/}", "/{/}", ".{/}", "../{/}"]
)
def test_a_name_that_is_no_messages_own_or_leads_elsewhere_is_refused(text):
    with pytest.raises(InvalidArgument):
        options.output_name(text)


def test_a_variable_has_a_name_and_a_value():
    assert options.variable("A_1=b={slot0} c") == ("A_1", "b={slot0} c")
    assert options.variable("A=") == ("A", "")


@pytest.mark.parametrize(
    "text", ["", "A", "=b", "1A=b", "A B=c", "A-B=c", "DDMQ_RUN=x"]
)
def test_what_is_no_variable_or_ours_is_refused(text):
    with pytest.raises(InvalidArgument, match=r"NAME=VALUE|set by ddmq"):
        options.variable(text)


def test_a_command_is_split_as_a_shell_does_and_run_by_none():
    words = options.command_line("sbatch 'my job.sh' $x {}")
    assert words == ("sbatch", "my job.sh", "$x", "{}")


@pytest.mark.parametrize("text", ["", " ", "''", "a 'b", "a\0b"])
def test_what_is_no_command_is_refused(text):
    with pytest.raises(InvalidArgument, match="no command"):
        options.command_line(text)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"slots": 3, "timeout": 0.5, "backoff": (1, 2.5), "retries": 0},
        {"fatal": {2}, "on_exit": {137: "big"}, "env": {"A": "{slot}"}},
        {"on_exit": {"timeout": "slow"}, "timeout": 1},
        {"output_dir": "out", "output_name": "{id}.gz", "until": "done", "logs": "all"},
        {"max_failures": 5.0, "then": ("sbatch", "collect.sh"), "log_limit": 1},
    ],
)
def test_what_a_program_may_give(given):
    told = options.WorkerOptions(**given)
    assert told.checked("q") is told


@pytest.mark.parametrize(
    "given",
    [
        *({"slots": n} for n in (0, -1, 1.5, True, "2")),
        *({"timeout": n} for n in (-1, "5m", float("nan"), float("inf"))),
        *({"wait": None}, {"retries": -1}, {"max_messages": 0}, {"log_limit": 0}),
        *({"backoff": 5}, {"backoff": ("5",)}, {"fatal": [2]}, {"fatal": {-1}}),
        *({"max_failures": 0}, {"until": "ever"}, {"logs": "some"}, {"log_dir": ""}),
        *({"then": "sbatch"}, {"then": ("",)}, {"env": {"DDMQ_ID": "1"}}),
        {"on_exit": {"timeout": "slow"}},
        {"on_exit": {"late": "slow"}, "timeout": 1},
        *({"env": {"a b": "1"}}, {"on_exit": {300: "q"}}, {"on_exit": {1: "a/b"}}),
        *({"output_dir": "out", "output_name": "all"}, {"output_name": "{id}"}),
    ],
)
def test_what_no_command_line_could_say_is_refused(given):
    with pytest.raises(InvalidArgument):
        options.WorkerOptions(**given).checked("q")
