"""The function side of a command that stays."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import ddmq

FUNCTION = """
from ddmq.hpc import Reject, Release, serve
def work({first}{more}):
    {body}
serve(work)
"""


@pytest.fixture
def served(tmp_path):
    """Return a function that serves some requests, and returns answers and the process."""

    def served(body, *requests, first="message", more="", reply=True):
        code = FUNCTION.format(body=body, first=first, more=more)
        lines = "".join(json.dumps(request) + "\n" for request in requests)
        replies = tmp_path / "replies"
        environ = {"PYTHONPATH": str(Path(ddmq.__file__).parents[1])}
        with open(replies, "w") as file:
            if reply:
                environ["DDMQ_REPLY_FD"] = str(file.fileno())
            done = subprocess.run(
                [sys.executable, "-c", code],
                input=lines,
                capture_output=True,
                text=True,
                env=environ,
                pass_fds=[file.fileno()],
                check=False,
            )
        said = replies.read_text() if reply else done.stdout
        return [json.loads(line) for line in said.splitlines()], done

    return served


def request(message, **more):
    return {"id": "1", "message": message, **more}


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ("return 5", {"ack": True}),
        ("raise Reject('no')", {"reject": True, "reason": "no"}),
        ("raise Release('busy')", {"release": True, "reason": "busy"}),
        ("{}['a']", {"nack": True, "reason": "KeyError: 'a'"}),
        ("raise SystemExit(3)", None),
    ],
)
def test_what_a_function_does_is_the_answer(served, body, answer):
    answers, done = served(body, request("a"))
    assert answers == ([{"id": "1", **answer}] if answer else [])
    assert done.returncode == (0 if answer else 3)
    assert ("Traceback" in done.stderr) == bool(answer and "nack" in answer)


def test_one_message_comes_after_the_other_failed(served):
    answers, _ = served("1 / message", request(0), request(1))
    assert ["nack" in answers[0], "ack" in answers[1]] == [True, True]


def test_a_function_gets_what_its_parameters_are_called(served):
    given = request({"x": [1]}, output="/out", slot=3, losses=1)
    answers, _ = served(
        "assert (message, output, slot, losses) == ({'x': [1]}, '/out', 3, 1)",
        given,
        more=", output, slot, losses=None",
    )
    assert answers == [{"id": "1", "ack": True}]


def test_the_first_parameter_gets_the_message_whatever_it_is_called(served):
    answers, _ = served("assert id == 'a'", request("a"), first="id")
    assert answers == [{"id": "1", "ack": True}]


def test_what_it_prints_is_no_answer(served):
    answers, done = served("print('hello')", request("a"))
    assert (len(answers), done.stdout) == (1, "hello\n")


def test_it_can_be_tried_by_hand(served):
    answers, _ = served("pass", request("a"), reply=False)
    assert answers == [{"id": "1", "ack": True}]


def test_what_it_starts_can_not_answer(served):
    body = "import subprocess; subprocess.run(['sh', '-c', 'echo x >&$DDMQ_REPLY_FD'], check=True)"
    answers, _ = served(body, request("a"))
    assert "nack" in answers[0]


def test_what_it_starts_does_not_take_its_messages(served):
    body = "import subprocess; assert subprocess.run(['cat'], check=True, stdout=-1).stdout == b''"
    answers, _ = served(body, request("a"), request("b"))
    assert [answer["ack"] for answer in answers] == [True, True]


@pytest.mark.parametrize("name", ["Reject", "Release", "ValueError"])
def test_a_long_reason_is_cut_so_that_the_answer_is_heard(served, name):
    [answer], _ = served(f"raise {name}('x' * 100_000)", request("a"))
    assert len(answer["reason"]) == 1000


def test_a_signal_ends_it_after_the_message(served):
    body = "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"
    answers, done = served(body, request("a"), request("b"))
    assert answers == [{"id": "1", "ack": True}]
    assert done.returncode == 0


def test_a_signal_ends_it_at_once_where_it_waits():
    environ = {"PYTHONPATH": str(Path(ddmq.__file__).parents[1])}
    words = [
        sys.executable,
        "-c",
        FUNCTION.format(body="pass", first="message", more=""),
    ]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(words, text=True, env=environ, **pipes) as process:
        print(json.dumps(request("a")), file=process.stdin, flush=True)
        assert json.loads(process.stdout.readline())["ack"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) in (
            0,
            128 + signal.SIGTERM,
        )  # a moment after its answer: 0
