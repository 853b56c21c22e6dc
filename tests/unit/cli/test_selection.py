"""Five commands find messages in the same ways: by id, its beginning, a key, or a text."""

from __future__ import annotations

import json
from itertools import product

import pytest
from hpc.inside import run

from ddmq import Broker
from ddmq.storage.filesystem import CountedCalls, FileSystem

COMMANDS = ("dead", "show", "status", "redrive", "cancel")
#: The exit status of each where it finds one dead letter.
FOUND = {"status": 4}


@pytest.fixture
def one(root):
    """Make dead letters of twelve lines of a bundle and of one message; return its id."""
    broker = Broker(root)
    broker.publish_many("testmq", [f"sample {n}" for n in range(12)], key="run")
    id_ = broker.publish("testmq", "sample 17", key="k")
    broker.publish("testmq", "sample 1", key="same text, longer elsewhere")
    broker.publish("testmq", {"a": 1})
    broker.reject(broker.consume("testmq", 20), "bad")
    return id_


def ways(id_):
    """Return how one message may be named, on the command line and in JSON."""
    return [
        ((id_,), {"id": id_}),
        ((id_[:12],), {"id": [id_[:12]]}),
        (("--key", "k"), {"key": "k"}),
        (("--text", "sample 17"), {"text": "sample 17"}),
        (("--text", "ple 17"), {"text": "ple 17"}),
    ]


@pytest.mark.parametrize(
    ("command", "way"),
    # A part of the text is not enough to cancel a message.
    [each for each in product(COMMANDS, range(5)) if each != ("cancel", 4)],
)
def test_one_message_is_found(sh, root, one, command, way):
    words, members = ways(one)[way]
    before = len(Broker(root).dead("testmq"))
    status, out, err = sh(command, root, "testmq", *words)
    assert (status, err) == (FOUND.get(command, 0), "")
    assert (one in out) == (command in ("dead", "show", "cancel"))
    if command == "redrive":
        assert Broker(root).find("testmq", one).state == "waiting"
        assert len(Broker(root).dead("testmq")) == before - 1
        Broker(root).reject(Broker(root).consume("testmq"))
    request = {"cmd": command, "root": str(root), "queue": "testmq", **members}
    status, out, _ = sh("json", json.dumps(request))
    assert status == FOUND.get(command, 0)
    assert one in out or json.loads(out) == {"redriven": 1}


@pytest.mark.parametrize(
    ("words", "number", "listed"),
    [
        (("{bundle}-",), 12, 12),
        (("--key", "run"), 12, 12),
        (("--text", "ample"), 14, 14),
        (("--text", "sample 1"), 2, 2),  # the whole text counts more than a part of it
    ],
)
@pytest.mark.parametrize("command", COMMANDS)
def test_several_are_listed_and_nothing_is_changed(
    sh, root, one, command, words, number, listed
):
    before = Broker(root).dead("testmq")
    bundle = next(x.id for x in before if x.id.endswith("-11")).partition("-")[0]
    words = [word.format(bundle=bundle) for word in words]
    status, out, err = sh(command, root, "testmq", *words)
    said, *lines = err.splitlines()
    assert (status, out, len(lines)) == (1, "", listed)
    assert f"{number} " in said
    assert "nothing was changed" in said
    assert all("  dead  sample " in line for line in lines)
    assert Broker(root).dead("testmq") == before
    named = {"--key": "key", "--text": "text"}.get(words[0], "id")
    request = {"cmd": command, "root": str(root), "queue": "testmq", named: words[-1]}
    status, out, _ = sh("json", json.dumps(request))
    reply = json.loads(out)
    assert (status, reply["type"]) == (1, "SeveralMessages")
    assert len(reply["matches"]) == listed
    assert reply["matches"][0].keys() == {"id", "state", "text"}


def test_a_message_is_not_cancelled_in_place_of_one_that_was_acked(sh, root):
    broker = Broker(root)
    broker.publish("testmq", "sample 17")
    id_ = broker.publish("testmq", "sample 170")
    broker.ack(broker.consume("testmq"))
    status, _, err = sh("cancel", root, "testmq", "--text", "sample 17")
    said, line = err.splitlines()
    assert (status, line) == (1, f"  {id_}  waiting  sample 170")
    assert "no message with exactly the text 'sample 17', and 1 with this in" in said
    assert "nothing was changed: give the id of one" in said
    assert broker.status("testmq", id_) == {id_: "waiting"}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_text_in_place_of_an_id_says_which_option_is_meant(
    sh, root, one, command, caplog
):
    said = sh.error(command, root, "testmq", "sample 17")
    assert said.endswith("to find a message by its text, give --text 'sample 17'\n")
    assert one in sh("show", root, "testmq", "--text", "sample 17")[1]
    _, _, said = sh(command, root, "testmq", "nowhere")  # which may be the id of one
    assert "give --text nowhere" in said + caplog.text


@pytest.mark.parametrize("command", COMMANDS)
def test_what_nobody_has_is_an_error(sh, root, one, command):
    assert "nothing was published with key 'x'" in sh.error(
        command, root, "testmq", "--key", "x"
    )
    said = sh.error(command, root, "testmq", "--text", "not there")
    assert "with the text 'not there'" in said
    assert "--text is empty" in sh.wrong(command, root, "testmq", "--text", "")
    assert "an id is empty" in sh.wrong(command, root, "testmq", "")
    said = sh.wrong(command, root, "testmq", one, "--key", "k")
    assert "an id, --key or --text, and only one of them" in said


@pytest.mark.parametrize("command", ["show", "status", "cancel"])
def test_something_must_be_named(sh, root, command):
    assert "name a message" in sh.wrong(command, root, "testmq")


def test_an_unknown_id_is_an_error_of_redrive(sh, root, one):
    unknown = "f" * 20
    said = sh.error("redrive", root, "testmq", f"{one},{unknown}")
    assert said.startswith(f"ddmq: {unknown}: no dead letter of queue testmq")
    assert "nothing was changed" in said
    assert Broker(root).find("testmq", one).state == "dead"
    request = {"cmd": "redrive", "root": str(root), "queue": "testmq", "id": unknown}
    status, out, _ = sh("json", json.dumps(request))
    assert (status, json.loads(out)["type"]) == (1, "MessageNotFound")


def test_a_message_of_any_state_is_found_by_its_text_and_its_beginning(sh, root):
    broker = Broker(root)
    broker.publish("testmq", "held")
    broker.consume("testmq")
    broker.publish("testmq", {"file": "waits"})
    broker.publish("testmq", "later", delay=1000)
    broker.publish_many("testmq", [f"line {n}x" for n in range(12)])
    for text, state in (("held", "work"), ("waits", "waiting"), ("later", "delayed")):
        assert sh("status", root, "testmq", "--text", text)[:2] == (5, f"{state}\n")
    found = json.loads(
        sh.ok("show", root, "testmq", "--text", "line 3x", "--format", "json")
    )
    assert found["message"] == "line 3x"
    assert found["id"] in sh.ok("show", root, "testmq", found["id"][:-1] + "3")
    held = json.loads(
        sh.ok("show", root, "testmq", "--text", "held", "--format", "json")
    )
    assert sh("status", root, "testmq", held["id"][:10])[:2] == (5, "work\n")


def test_what_a_worker_acked_is_found_by_its_text(sh, root, clock):
    Broker(root, create=True, clock=clock).publish("q", "good")
    run(root, clock, "true")
    assert sh("status", root, "q", "--text", "good")[:2] == (0, "acked\n")
    assert "a worker noted of it: acked" in sh.error("show", root, "q", "--text", "goo")
    assert "with the text" in sh.error("cancel", root, "q", "--text", "good")


@pytest.mark.parametrize("state", ["waiting", "dead"])
def test_a_whole_id_costs_no_look_for_others(root, state, one, monkeypatch):
    from ddmq.cli.main import main

    counted = []
    make = FileSystem.__init__

    def count(self, calls=None, *rest):
        calls = calls or CountedCalls()
        counted.append(calls)
        make(self, calls, *rest)

    if state == "waiting":
        Broker(root).redrive("testmq", [one])
    monkeypatch.setattr(FileSystem, "__init__", count)
    main(["status", str(root), "testmq", one])
    by_command = sum(sum(calls.numbers.values()) for calls in counted)
    counted.clear()
    Broker(root).status("testmq", one)
    by_broker = sum(sum(calls.numbers.values()) for calls in counted)
    assert by_command == by_broker
