"""Arguments described once, for the command line and for requests in JSON."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from ddmq.cli.spec import (
    MODE,
    NAMES,
    NUMBER,
    PAIRS,
    SECONDS,
    AddPair,
    Command,
    Help,
    Kind,
    Parser,
    Reply,
    add_arguments,
    arguments_in,
    filled,
    flags_in,
    from_request,
    group,
    option,
    parse_number,
    positional,
    switch,
    switches,
    with_dashes,
    with_values,
)
from ddmq.errors import InvalidArgument


class Shared(NamedTuple):
    """Arguments that several commands have."""

    mode: int | None = option("--mode", "how", MODE)
    only: list[str] | None = option("--only", "which", NAMES, metavar="A[,B]")


class Arguments(NamedTuple):
    """One argument of each kind."""

    root: str = positional("where")
    number: Any = positional("how many", NUMBER, is_required=False, default=7)
    shared: Shared = group(Shared, "what is shared")
    requeue: bool | None = switches(
        ("-r --requeue", "again", True), ("--no-requeue", "never", False)
    )
    big_switch: bool = switch("--big-switch", "on or off")
    set: dict[str, Any] | None = option("--set", "more", PAIRS, action=AddPair)


COMMAND = Command(
    "try", "try it", "ddmq try .", Arguments, run=lambda _, __: Reply({}, "")
)
DEFAULTS = Arguments(
    root=".",
    number=7,
    shared=Shared(mode=None, only=None),
    requeue=None,
    big_switch=False,
    set=None,
)


def typed(*words: str) -> Arguments:
    """Parse a command line."""
    parser = Parser(prog="try", formatter_class=Help, allow_abbrev=False)
    add_arguments(parser, Arguments)
    return filled(Arguments, vars(parser.parse_args(words)))


def requested(**request: Any) -> Any:
    """Read a request."""
    return from_request(COMMAND, request)


def test_what_is_left_out_has_its_default() -> None:
    assert typed(".") == requested(root=".") == DEFAULTS


def test_a_command_line_and_a_request_say_the_same() -> None:
    words = [
        "--mode",
        "2770",
        "--only",
        "a,b",
        "-r",
        "--big-switch",
        "--set",
        "x=1",
        "--set",
        "y-z=[2]",
    ]
    request = {"mode": "2770", "only": "a,b", "requeue": True, "big_switch": True}
    wanted = DEFAULTS._replace(
        number=3,
        shared=Shared(0o2770, ["a", "b"]),
        requeue=True,
        big_switch=True,
        set={"x": 1, "y_z": [2]},
    )
    assert typed(".", "3", *words) == wanted
    assert requested(root=".", number=3, set={"x": 1, "y_z": [2]}, **request) == wanted


def test_the_last_of_several_switches_holds() -> None:
    assert typed(".", "-r").requeue is True
    assert typed(".", "-r", "--no-requeue").requeue is False


@pytest.mark.parametrize(
    ("text", "number"),
    [("3", 3), ("-1", -1), ("1.5", 1.5), ("null", None), ("none", None), ("x", "x")],
)
def test_what_is_no_number_is_left_to_whoever_uses_it(text: str, number: Any) -> None:
    assert parse_number(text) == number


def test_what_can_not_be_read_is_wrong_usage(capsys: pytest.CaptureFixture) -> None:
    for words, why in (
        (["--mode", "rwx", "."], "argument --mode: mode is 'rwx'; it must be octal"),
        (["--set", "a", "."], "argument --set: 'a' is not KEY=VALUE"),
        ([], "the following arguments are required: root"),
        ([".", "--nothing\x1b"], "unrecognized arguments: --nothing\\x1b"),
    ):
        with pytest.raises(SystemExit, match="2"):
            typed(*words)
        told = capsys.readouterr().err
        assert why in told
        assert told.startswith("try: ")
        assert told.endswith("see `try -h`\n")
        assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        ({}, '"root" is missing'),
        ({"root": None}, '"root" is null'),
        ({"root": 7}, "root is 7; see `ddmq try -h`"),
        ({"root": ".", "requeue": "yes"}, "requeue is 'yes'"),
        ({"root": ".", "only": [1]}, "only is "),
        ({"root": ".", "mode": 504}, "mode is 504"),
        ({"root": ".", "mode": "9"}, "must be octal"),
        ({"root": ".", "set": "a=1"}, "set is "),
        (
            {"root": ".", "colour": 1},
            "try has no argument 'colour'; "
            "it has root, number, mode, only, requeue, big_switch, set",
        ),
    ],
)
def test_a_request_that_is_wrong_is_explained(
    request_: dict[str, Any], why: str
) -> None:
    with pytest.raises(InvalidArgument) as raised:
        from_request(COMMAND, request_)
    assert why in str(raised.value)


def test_null_is_a_default_unless_it_is_a_number() -> None:
    nothing = dict.fromkeys(("mode", "only", "requeue", "big_switch", "set"))
    assert requested(root=".", **nothing) == DEFAULTS
    assert requested(root=".", number=None).number is None


def test_names_and_flags_are_told_in_the_order_of_the_help() -> None:
    assert [name for name, _ in arguments_in(Arguments)] == [
        *("root", "number", "mode", "only", "requeue", "big_switch", "set")
    ]
    assert [*flags_in(Arguments)] == [
        *("--mode", "--only", "-r", "--requeue", "--no-requeue"),
        *("--big-switch", "--set"),
    ]


def test_only_known_options_before_two_dashes_get_dashes() -> None:
    words = ["--big_switch=a_b", "--un_known", "a_b", "-b_c", "--big_switch is_text"]
    after = ["--", "--big_switch"]
    assert with_dashes([*words, *after], flags_in(Arguments)) == [
        "--big-switch=a_b",
        *words[1:],
        *after,
    ]


class Watched(NamedTuple):
    """An option whose value may be left out."""

    root: str = positional("where")
    watch: Any = option("-w --watch", "how often", SECONDS, alone=0)


@pytest.mark.parametrize(
    ("words", "written"),
    [
        (["--watch", "mq", "5"], ["--watch=0", "mq", "5"]),
        (["-w", "mq"], ["--watch=0", "mq"]),
        (["mq", "-w", "5m"], ["mq", "-w", "5m"]),
        (["mq", "--watch"], ["mq", "--watch"]),
        (["--", "--watch", "mq"], ["--", "--watch", "mq"]),
    ],
)
def test_a_flag_alone_takes_no_word_that_is_not_its_value(words, written) -> None:
    assert with_values(words, Watched) == written


def test_the_help_names_everything(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit, match="0"):
        typed("-h")
    told = capsys.readouterr().out
    assert "what is shared:\n  --mode MODE" in told
    assert "--only A[,B]" in told
    assert "-r, --requeue" in told
    assert "never" in told


def test_a_kind_accepts_all_of_json_unless_it_says_otherwise() -> None:
    assert all(Kind().accepts(value) for value in (None, 1, "a", [{}]))
