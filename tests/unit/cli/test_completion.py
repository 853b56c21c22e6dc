"""What is committed for shells and for `man` tells what the parsers know."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ddmq.cli import commands, json_api
from ddmq.cli.completion import SHELLS, completion
from ddmq.cli.main import parser_of
from ddmq.cli.submit import submit_parser
from ddmq.cli.worker_arguments import worker_parser

MAN = Path(__file__).parents[3] / "packaging" / "man"
STALE = "`tox -e completion` makes it anew"
COMMANDS = [*map(commands.find, commands.MODULES), json_api.COMMAND]


def flags_of(parser):
    return {flag for action in parser._actions for flag in action.option_strings}


@pytest.mark.parametrize("command", COMMANDS, ids=[each.name for each in COMMANDS])
def test_bash_knows_each_flag_of_each_command_and_no_other(command):
    text = completion("bash")
    [known] = re.findall(
        rf"^_shtab_ddmq_{command.name}_option_strings=\((.*)\)$", text, re.MULTILINE
    )
    assert set(known.split()) == flags_of(parser_of(command)), STALE


def test_bash_knows_each_flag_of_the_other_programs_and_no_other():
    text = completion("bash")
    for prefix, flags in (
        ("ddmqworker", flags_of(worker_parser())),
        ("ddmqsubmit", flags_of(submit_parser()) | flags_of(worker_parser())),
    ):
        pattern = rf"^_shtab_{prefix}_option_strings=\((.*)\)$"
        [known] = re.findall(pattern, text, re.MULTILINE)
        assert set(known.split()) == flags, STALE


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_knows_each_command_and_each_long_flag(shell):
    text = completion(shell)
    words = set(re.findall(r"[\w-]+", text.replace("\\", "")))
    assert {each.name for each in COMMANDS} - words == set(), STALE
    parsers = [*map(parser_of, COMMANDS), worker_parser(), submit_parser()]
    flags = {flag for parser in parsers for flag in flags_of(parser)}
    told = {flag.lstrip("-") for flag in flags if flag.startswith("--")}
    assert told - {word.lstrip("-") for word in words} == set(), STALE


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["ddmq", "mig"], ["migrate"]),
        (["ddmq", "wor"], ["workers", "worker"]),
        (["ddmq", "worker", "--until"], ["--until-done"]),
        (["ddmq", "submit", "sl"], ["slurm"]),
        (["ddmq", "help", "migr"], ["migrate"]),
        (["ddmq", "publish", "--skip-i"], ["--skip-invalid"]),
        (["ddmq", "view", "--format", "y"], ["yaml"]),
        (["ddmq-worker", "--until"], ["--until-done"]),
        (["ddmq-submit", "--until"], ["--until-done"]),
        (["ddmq-submit", "sl"], ["slurm"]),
    ],
    ids=lambda value: "-".join(value),
)
def test_bash_completes_a_word(words, expected):
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash")
    ask = (
        'eval "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
        'how=$(complete -p "$1"); how=${how##*-F }; "${how%% *}" "$1" "${@: -1}"; '
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        [bash, "-c", ask, "bash", completion("bash"), *words],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout.split(), done.stderr) == (expected, "")


def test_ddmq_prints_what_a_shell_evaluates(sh):
    for shell in SHELLS:
        assert sh.ok("--completion", shell) == completion(shell).removesuffix("\n")
    assert "invalid choice: 'tcsh'" in sh.wrong("--completion", "tcsh")


def test_the_pages_for_man_tell_each_flag():
    for name, parsers in (
        ("ddmq", [*map(parser_of, COMMANDS)]),
        ("ddmq-worker", [worker_parser()]),
        ("ddmq-submit", [submit_parser(), worker_parser()]),
    ):
        text = re.sub(r"\\f\w|\\", "", (MAN / f"{name}.1").read_text())
        flags = {flag for parser in parsers for flag in flags_of(parser)}
        missing = {f for f in flags if not re.search(rf"{f}(?![\w-])", text)}
        assert missing <= {"-h", "--help"}, STALE
