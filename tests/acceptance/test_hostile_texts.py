"""What members of a group write where others look: no terminal obeys it, no command fails."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import pytest
import yaml
from support import in_time

from ddmq import Broker, InvalidArgument
from ddmq.cli import main as cli
from ddmq.cli.commands import MODULES
from ddmq.storage.workers import WorkerName

#: Moves the cursor, sets the title, erases, turns text round, and makes up a line.
HOSTILE = (
    "\x1b]0;x\x07\x1b[2J\x9b1m\x7f\u202egpj\u2066\u200f\x85\u2028\r\nFORGED\rFORGED"
)
TURNS = ["LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"]
#: Runs commands one after the other, and says before each which it is.
RUNNER = """
import json, sys
from ddmq.cli import main as cli
from ddmq.cli.worker import main as worker
for name, *words in json.loads(sys.argv[1]):
    print("COMMAND", name, flush=True)
    try:
        worker(words) if name == "worker" else cli.main([name, *words])
    except SystemExit:
        pass
    sys.stdout.flush()
"""


def is_obeyed(character):
    return (
        (unicodedata.category(character) == "Cc" and character != "\n")
        or unicodedata.bidirectional(character) in TURNS
        or character in "\u200e\u200f\u061c\u2028\u2029"
    )


def dead_letter(queue, number, note, message=b'{"message": "x"}'):
    """Plant a dead letter with a note; return its id."""
    id_ = f"{number:020x}"
    token = f"{number:016x}"
    (queue / "dead" / f"5.{10**18}.{id_}.1-0.{token}.failed").write_bytes(message)
    (queue / "dead" / f"{id_}.{token}.failed.note").write_bytes(note)
    return id_


def hostile_worker(place):
    """Plant a worker whose host, job and messages are hostile."""
    place.mkdir()
    now, shown = int(time.time() * 1000), "".join(f"%{x:02X}" for x in HOSTILE.encode())
    job, host = shown[:39], shown[:63]
    counts = "4-4.1-1-0-0.1000.2048.7"
    name = f"{1:016x}.{now}.working.60.{now}.{counts}.{job}.{host}"
    assert WorkerName.parse(name)
    (place / name).touch()
    run = {"slot": 1, "id": HOSTILE, "started": 1.0, "text": HOSTILE}
    (place / f"{1:016x}.slots").write_text(json.dumps([run]))
    (place / HOSTILE).touch()


@pytest.fixture
def root(tmp_path):
    """A root in which everything that a member can write is hostile."""
    root = tmp_path / "mq"
    broker = Broker(root, create=True)
    queue = root / "q"
    for name in ("q", "full", "broken"):
        broker.create_queue(name)
    for message in (HOSTILE, {HOSTILE: [HOSTILE]}) * 6:
        broker.publish("q", message)
        broker.publish("full", message)
    broker.reject(broker.consume("q"), HOSTILE, details={"stderr": HOSTILE})
    broker.publish("q", HOSTILE, priority=0)
    note = dict.fromkeys(("reason", "job", "log", "stderr", "host", HOSTILE), HOSTILE)
    note["logged"] = "err"
    dead_letter(queue, 1, json.dumps({**note, "time": 1}).encode())
    for place in ("work", "delayed", "dead", "tmp", "drop", "ready", "ready/0"):
        (queue / place).mkdir(exist_ok=True)
        (queue / place / HOSTILE).write_bytes(b"\xff")
        os.utime(queue / place / HOSTILE, (1, 1))
    run = {"id": HOSTILE, "start": 1.0, "duration": 1.0, "result": HOSTILE, "exit": 0}
    run.update(signal=HOSTILE, host=HOSTILE, job=HOSTILE, slot=0, peak_kib=1, cpu=0.0)
    (queue / "journal").mkdir()
    line = json.dumps({**run, "log": HOSTILE, "text": HOSTILE}) + "\n"
    line += json.dumps({**run, "log": "", "text": HOSTILE, "result": "acked"}) + "\n"
    line += (
        json.dumps({**run, "log": HOSTILE, "id": f"{1:020x}", "logged": "err"}) + "\n"
    )
    (queue / "journal" / f"{HOSTILE}.jsonl").write_text(line)
    hostile_worker(queue / "workers")
    with (root / "broken" / "ddmq.yaml").open("a") as file:
        file.write(json.dumps(HOSTILE) + ": 1\n")
    (root / HOSTILE).mkdir()
    return root


@pytest.fixture
def _locked(root):
    """Let somebody hold a lock, who does not tell the truth."""
    holder = {"host": os.uname().nodename, "pid": 1, "job": HOSTILE, "since": 0}
    with (root / "full" / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        json.dump(holder, file)
        file.flush()
        yield


def _former(tmp_path):
    """Make a queue of ddmq 0.9 that others wrote to."""
    queue = tmp_path / "former" / "q"
    (queue / "work").mkdir(parents=True, exist_ok=True)
    (queue / "ddmq.yaml").write_text(json.dumps({HOSTILE: HOSTILE}))
    (queue / HOSTILE).write_text(HOSTILE)
    (queue / "1.0000000001.ddmq00").write_text(HOSTILE)
    return queue.parent


def commands(root, tmp_path):
    """Return calls of all commands, in which something hostile is told."""
    calls = [
        (name, root, *words, "--format", form)
        for form in ("plain", "json", "yaml")
        for name, *words in (
            *(["view"], ["dead", "q"], ["log", "q"], ["doctor", "q"]),
            ["dead", "q", "--kinds"],
            ["workers", "q", "--all"],
            *(["peek", "q"], ["show", "q", f"{1:020x}"]),
            ["status", "q", f"{1:020x},{HOSTILE}", "-v"],
            *(["consume", "q"], ["consume", "full", "-n", "2"]),
        )
    ]
    settling = ("ack", "nack", "release", "reject", "renew", "redrive", "show")
    calls += [(name, root, "q", HOSTILE) for name in settling]
    at_once = ("--lock-timeout", "0")
    calls += [
        ("view", root, "--names"),
        ("view", root, HOSTILE),
        ("ack", root, "q", HOSTILE, "-d"),
        ("publish", root, "q", "x", "--priority", HOSTILE),
        ("publish", root, "q", "x", "--key", HOSTILE),
        ("forget", root, "q", HOSTILE),
        ("publish", root, "q", "--from-file", tmp_path / HOSTILE),
        ("config", root, "broken"),
        ("config", root, "q", "--set", f"{HOSTILE}={HOSTILE}"),
        ("config", root, "full", "--set", "priority=1", *at_once),
        ("create", root, HOSTILE),
        ("delete", root, HOSTILE),
        ("purge", root, "full", *at_once),
        ("purge", root, "q", "--only", HOSTILE),
        ("clean", root, "q"),
        *(("export", root, name, "--work") for name in ("q", "full", HOSTILE)),
        ("export", root, "q", "-o", tmp_path / HOSTILE / HOSTILE),
        ("import", root, "q", tmp_path / HOSTILE),
        ("move", root, "q", HOSTILE, "full"),
        ("move", root, "q", "x", HOSTILE),
        *(("drain", root, "q", option, HOSTILE) for option in ("--host", "--job")),
        ("cancel", root, "q", HOSTILE),
        ("cancel", root, "q", "x,nowhere"),
        ("pause", root, "full,q"),
        *(("view", root, "--format", form) for form in ("plain", "json", "yaml")),
        ("resume", root, "full,q"),
        ("resume", root, f"full,q,{HOSTILE}"),
        ("wait", root, "q", "--timeout", "0"),
        ("results", root, "q", tmp_path),
        *(("report", root, "q", "--format", form) for form in ("json", "yaml", "csv")),
        *(("report", root, "q", "-o", tmp_path / n) for n in ("r.html", HOSTILE)),
        ("report", root, f"q,{HOSTILE}", "--since", HOSTILE),
        *(("dead", root, "q", f"{1:020x}", "--format", f) for f in ("plain", "yaml")),
        ("results", root, "q", tmp_path, "--format", "csv"),
        ("results", root, "q", tmp_path / HOSTILE),
        *(("migrate", "-f", _former(tmp_path), tmp_path / n) for n in ("new", HOSTILE)),
        ("migrate", "-f", _former(tmp_path), tmp_path / "new", HOSTILE),
        ("check", tmp_path / HOSTILE),
        ("log", root, "q", "--text", ""),
        ("doctor", root, "full"),
        ("doctor", root, "full", "--purged-after", "1"),
        ("doctor", root, "q", "--fix"),
        ("worker", root, "q", "-j1", "--retries", "0", "--", "false"),
        ("worker", root, "full", "-j1", "--log-dir", tmp_path / HOSTILE, "--", "true"),
    ]
    request = {"root": str(root), "queue": "q"}
    calls += [("json", json.dumps({"cmd": c, **request})) for c in ("dead", "log")]
    calls += [("json", json.dumps({"cmd": "doctor", **request, "queue": ["q"]}))]
    return [*calls, ("json", json.dumps({"cmd": HOSTILE}))]


def on_a_terminal(calls):
    """Run commands on a terminal; return all that came there, by command."""
    terminal, end = pty.openpty()
    words = json.dumps([[str(word) for word in call] for call in calls])
    with subprocess.Popen(
        [sys.executable, "-c", RUNNER, words], stdout=end, stderr=end
    ) as process:
        os.close(end)
        shown = b""
        while True:
            try:
                shown += os.read(terminal, 1 << 16)
            except OSError:  # all have closed it
                break
    os.close(terminal)
    assert process.returncode == 0
    return shown.decode().replace("\r\n", "\n").split("COMMAND ")[1:]


@pytest.mark.slow
@pytest.mark.usefixtures("_locked")
def test_whatever_members_write_no_terminal_obeys_it(root, tmp_path):
    calls = commands(root, tmp_path)
    assert {call[0] for call in calls} >= {*MODULES, "worker"}
    with in_time(120):
        told = on_a_terminal(calls)
    assert len(told) == len(calls)
    for call, text in zip(calls, told):
        text = re.sub(r"\r *\r|\r[0-9a-z:, ]+", "", text)  # progress, in place
        assert [c for c in text if is_obeyed(c)] == [], (call, text)
        assert ("Traceback" in text) == ("-d" in call), (call, text)
        # Where a message is all that is printed, its lines are its own.
        is_alone = call[0] == "consume" and call[-1] == "plain" and "-n" not in call
        assert is_alone or "\nFORGED" not in text, (call, text)
    assert sum("FORGED" in text for text in told) > 25
    for call, text in zip(calls, told):  # and a program reads what was written
        if call[0] == "consume" and call[-1] != "plain":
            read = {"json": json.loads, "yaml": yaml.safe_load}[call[-1]]
            value = read(text.partition("\n")[2])
            for each in value if isinstance(value, list) else [value]:
                assert each["message"] in (HOSTILE, {HOSTILE: [HOSTILE]}), call


@pytest.mark.parametrize("form", ["json", "yaml"])
@pytest.mark.parametrize(
    "text", ["a\u202eb", "\x7f", "a\x9bb", "\u2028", "a\u200fb: c"]
)
def test_a_text_that_is_escaped_is_the_same_to_a_program(broker, capfd, text, form):
    broker.publish("q", text)
    assert cli.main(["consume", broker.root, "q", "--format", form]) == 0
    shown = capfd.readouterr().out
    assert [c for c in shown if is_obeyed(c)] == []
    assert yaml.safe_load(shown)["message"] == text


NOTES = [
    *(b"", b"{", b"[]", b"null", b"\xff", b'"text"', b"7", b"[" * 60_000, b"{}" * 40_000),
    *(b'{"time": %s}' % time for time in (b"1e300", b"NaN", b"Infinity", b"-1", b"1e999")),
    *(b'{"time": %s}' % time for time in (b'"now"', b"[1]", b"{}", b"true", b"9" * 5000)),
    b'{"time": %s1%s}' % (b"[" * 900, b"]" * 900),
    b'{"reason": {"a": NaN}, "log": [1], "job": {}, "stderr": 7}',
    b'{"reason": [[[]]], "log": 1e300, "job": true, "stderr": ["a"]}',
    b'{"reason": "\\ud800", "stderr": "\\udc9b\\u0000"}',
]  # fmt: skip


@pytest.fixture
def broker(tmp_path):
    broker = Broker(tmp_path / "mq", create=True)
    broker.create_queue("q")
    return broker


def test_notes_that_are_nonsense_are_unknown_and_fail_no_command(broker, capfdbinary):
    queue = broker.root + "/q"
    ids = [dead_letter(Path(queue), n, note) for n, note in enumerate(NOTES)]
    requests = [["dead", broker.root, "q", "--format", x] for x in ("json", "yaml")]
    requests += [["dead", broker.root, "q"], ["doctor", broker.root]]
    requests.insert(0, ["dead", broker.root, "q", "--kinds"])
    requests += [
        ["json", json.dumps({"cmd": "dead", "root": broker.root, "queue": "q"})]
    ]
    told = []
    for request in requests:
        assert cli.main(request) in (0, 1), request
        out, err = capfdbinary.readouterr()
        assert err == b""
        told.append(out.decode())
    kinds, *told = told
    assert not re.search(r"nan|inf|e\+?300|\[\[", kinds)
    as_json = json.loads(told[0], parse_constant=pytest.fail)
    assert [letter["id"] for letter in as_json] == ids
    assert all(isinstance(letter["reason"], str) for letter in as_json)
    assert yaml.safe_load(told[1])[0]["id"] == ids[0]
    assert json.loads(told[4], parse_constant=pytest.fail)["dead"] == as_json
    assert not re.search(r"nan|inf|e\+?300|\[\[", told[2])


def test_a_note_is_read_no_further_than_notes_are_long(broker):
    queue = Path(broker.root) / "q"
    dead_letter(queue, 1, b'{"reason": "long"}' + b" " * (1 << 16))
    dead_letter(queue, 2, b'{"reason": "endless"}')
    with next(queue.glob("dead/*2.failed.note")).open("r+b") as file:
        file.truncate(1 << 40)
    start = time.monotonic()
    assert [letter.note for letter in broker.dead("q")] == [{}, {}]
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("details", [{"a": "x" * (1 << 16)}, {"a": float("nan")}])
def test_no_note_is_written_that_nobody_would_read(broker, details):
    broker.publish("q", "a")
    message = broker.consume("q")
    with pytest.raises(InvalidArgument, match="details"):
        broker.reject(message, "why", details=details)
    broker.ack(message)
