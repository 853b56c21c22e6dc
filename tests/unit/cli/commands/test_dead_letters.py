"""Dead letters are listed and redriven."""

from __future__ import annotations

import json
import os
import re
import shlex

import pytest
from hpc.inside import run
from terminal import BEFORE, Terminal

from ddmq import Broker
from ddmq.cli.commands.dead_letters import Redrive, redrive
from ddmq.cli.selection import Named
from ddmq.cli.spec import Context
from ddmq.storage.filesystem import FileSystem


def test_dead_letters_are_listed_with_reasons_and_redriven(sh, root):
    sh.ok("publish", root, "testmq", "bad sample")
    message = json.loads(sh.ok("consume", root, "testmq"))
    sh.ok("reject", root, "testmq", message["id"], "--reason", "no such sample")
    told = sh.ok("dead", root, "testmq")
    assert "bad sample" in told
    assert "no such sample" in told
    [letter] = json.loads(sh.ok("dead", root, "testmq", "--format", "json"))
    assert letter["id"] == message["id"]
    assert "ffff: no dead letter" in sh.error("redrive", root, "testmq", "ffff")
    assert sh.ok("redrive", root, "testmq") == "1"
    assert sh.ok("consume", root, "testmq", "--format", "plain") == "bad sample"


@pytest.fixture
def failed(root, clock, tmp_path):
    """Let commands fail, each as its message says; return the ids of the dead letters."""
    broker = Broker(root, create=True, clock=clock)
    ids = [broker.publish("q", text, requeue_limit=1) for text in ("3", "4", "9\n9")]
    command = 'echo "said $DDMQ_MESSAGE" >&2; echo out; exit "${DDMQ_MESSAGE#*\n}"'
    run(root, clock, command, log_dir=str(tmp_path / "logs"))
    return ids


def test_the_paths_of_logs_are_those_of_files(sh, root, failed):
    told = sh.ok("dead", root, "q")
    paths = [
        line.split()[1] for line in told.splitlines() if line.startswith("    log ")
    ]
    assert len(paths) == 6
    assert all(os.path.isfile(path) for path in paths)
    assert {os.path.splitext(path)[1] for path in paths} == {".err", ".out"}


def test_what_nothing_was_printed_to_has_no_path(sh, root, clock, tmp_path):
    Broker(root, create=True, clock=clock).publish("q", "a", requeue_limit=0)
    run(root, clock, "exit 1", log_dir=str(tmp_path / "logs"))
    assert "    log " not in sh.ok("dead", root, "q")


def test_one_is_shown_whole(sh, root, failed):
    told = sh.ok("dead", root, "q", failed[2])
    assert "    | 9\n    | 9\n" in told
    assert "2 failures, 0 losses, priority " in told
    assert told.count("  failed: exit 9 after ") == 1
    assert told.count("  dead: exit 9 after ") == 1
    assert told.count(" on node\n") == 2
    paths = [
        line.split()[1] for line in told.splitlines() if line.startswith("    log ")
    ]
    assert len(paths) == 4
    assert all(os.path.isfile(path) for path in paths)
    assert told.endswith("what it said last\n    | said 9\n    | 9")
    assert failed[1] not in told


def test_a_program_gets_one_with_its_tries(sh, root, failed):
    letter = json.loads(sh.ok("dead", root, "q", failed[0], "--format", "json"))
    assert letter["message"] == "3"
    assert [(each["exit"], each["host"]) for each in letter["tries"]] == [
        (3, "node")
    ] * 2


def bury(broker, number, host, stderr, **end):
    """Make dead letters of one kind."""
    reason = f"exit status {end.get('exit')} on {host}"
    for n in range(number):
        broker.publish("testmq", f"sample {n}")
        note = {"host": host, "stderr": stderr.format(f"sample {n}"), **end}
        broker.reject(broker.consume("testmq"), reason, details=note)


def test_their_kinds_fit_on_a_screen_with_what_redrives_each(sh, root):
    broker = Broker(root)
    bury(broker, 40, "n1", "reading\n{}: bad header\n", exit=2)
    bury(broker, 20, "n2", "{}: bad header", exit=2)
    bury(broker, 1, "n2", "", signal="SIGKILL")
    told = sh.ok("dead", root, "testmq", "--kinds").splitlines()
    assert told[:2] == [
        "testmq: there are 61 dead letters",
        "     60  exit 2: {}: bad header",
    ]
    assert re.fullmatch(" +on 2 hosts; the first one: [0-9a-f]+  sample 0", told[2])
    assert told[3].split() == ["ddmq", "redrive", str(root), "testmq", "--code", "2"]
    assert told[4] == "      1  SIGKILL"
    assert len(told) == 7
    kinds = json.loads(sh.ok("dead", root, "testmq", "-k", "--format", "json"))
    assert [(x["dead"], x["how"], x["hosts"]) for x in kinds] == [
        (60, "exit 2", ["n1", "n2"]),
        (1, "SIGKILL", ["n2"]),
    ]
    for kind, left in zip(kinds, (1, 0)):
        words = shlex.split(kind["redrive"])[1:]
        assert sh.ok(*words) == str(kind["redrives"]) == str(kind["dead"])
        assert len(broker.dead("testmq")) == left
    told = sh.ok("dead", root, "testmq", "--kinds")
    assert told == "testmq: there are 0 dead letters"


def test_of_many_kinds_the_commonest_are_shown(sh, root):
    broker = Broker(root)
    for code in range(1, 10):
        bury(broker, code, "n1", "", exit=code)
    told = sh.ok("dead", root, "testmq", "--kinds").splitlines()
    assert len(told) == 20
    assert told[1].split() == ["9", "exit", "9"]
    assert told[-1] == "      6  of 3 more kinds (-v shows them)"
    assert len(sh.ok("dead", root, "testmq", "-kv").splitlines()) == 28


def test_that_a_command_redrives_others_too_is_said(sh, root):
    broker = Broker(root)
    bury(broker, 9, "n1", "bad header", exit=2)
    bury(broker, 3, "n1", "bad trailer", exit=2)
    told = sh.ok("dead", root, "testmq", "--kinds").splitlines()
    assert told[3].endswith(" --code 2 --reason 'exit status 2 on n1'   # 12 in all")
    assert " ddmq redrive" in told[6]
    assert "#" not in told[6]  # these are named by their ids


def test_kinds_are_of_all_of_them(sh, root):
    assert "--kinds is of all" in sh.wrong("dead", root, "testmq", "ffff", "--kinds")


def test_one_that_is_not_there_is_an_error(sh, root, failed):
    assert "ffff: no dead letter of queue q" in sh.error("dead", root, "q", "ffff")


@pytest.mark.parametrize(
    ("options", "number"),
    [
        (["--code", "3"], 1),
        (["--code", "2-4"], 2),
        (["--code", "1"], 0),
        (["--reason", "exit status 4"], 1),
        (["--reason", "exit"], 3),
        (["--reason", "exit", "--code", "9"], 1),
        (["--reason", "exit status 4", "--code", "9"], 0),
    ],
)
def test_only_those_are_redriven_that_ended_so(sh, root, failed, options, number):
    assert sh.ok("redrive", root, "q", *options) == str(number)
    assert len(Broker(root).dead("q")) == 3 - number


def test_an_empty_reason_does_not_stand_for_all(sh, root, failed):
    assert "--reason is empty" in sh.wrong("redrive", root, "q", "--reason", "")
    assert len(Broker(root).dead("q")) == 3


def test_an_empty_code_does_not_stand_for_all_or_none(sh, root, failed):
    assert "--code is empty" in sh.wrong("redrive", root, "q", "--code", "")


def test_an_empty_id_is_that_of_no_dead_letter(sh, root, failed):
    assert "an id is empty" in sh.wrong("dead", root, "q", "")


def test_what_another_redrives_meanwhile_is_no_error(root, failed, monkeypatch):
    listed = Broker.dead

    def dead(broker, queue):
        letters = listed(broker, queue)
        Broker(root).redrive("q", letters[0].id)
        return letters

    monkeypatch.setattr(Broker, "dead", dead)
    context = Context(FileSystem(), lambda _: None, is_typed=True)
    told = Redrive(str(root), "q", Named(None, None, None), "exit", None)
    assert redrive(told, context).value == {"redriven": 2}
    assert listed(Broker(root), "q") == []


def test_ids_and_the_way_they_ended_must_both_be_so(sh, root, failed):
    assert sh.ok("redrive", root, "q", failed[0], "--code", "3,4") == "1"


def test_a_signal_has_a_code_and_nonsense_has_none(sh, root):
    broker = Broker(root)
    for details in ({"signal": "SIGKILL"}, {"signal": "SIGNO"}, {"exit": "137"}, {}):
        broker.publish("testmq", "a")
        broker.reject(broker.consume("testmq"), "x", details=details)
    assert sh.ok("redrive", root, "testmq", "--code", "137") == "1"
    assert sh("redrive", root, "testmq", "--code", "many")[0] == 2


@pytest.mark.slow
def test_a_terminal_is_told_that_there_are_none(sh, root):
    assert sh("dead", root, "testmq") == (0, "", "")
    assert sh.ok("dead", root, "testmq", "--format", "json") == "[]"
    with Terminal("dead", root, "testmq") as terminal:
        assert terminal.ended() == 0
        assert terminal.lines[len(BEFORE) :] == ["no dead letters"]
