"""A worker, as a real process with real commands."""

from __future__ import annotations

import os
import re
import signal
import time

import pytest
from acceptance.workers import python, start, until, worked

from ddmq.hpc.running.process import share_of_cores


def test_every_message_is_run_and_acked(root, broker, tmp_path):
    broker.publish_many("jobs", [f"m{n}" for n in range(20)], durable=False)
    done = tmp_path / "done"
    done.mkdir()
    status, _, err = worked("-j", 3, root, "jobs", "--", "touch", f"{done}/{{}}")
    assert status == 0
    assert "20 acked" in err
    assert sorted(os.listdir(done)) == sorted(f"m{n}" for n in range(20))
    assert broker.view("jobs")["jobs"] == (0, 0, 0, 0)


def test_without_a_placeholder_the_text_is_the_last_argument(root, broker):
    broker.publish("jobs", "$(touch /tmp/never); `x` 'y' \"z\" *")
    _, out, _ = worked(root, "jobs", "--", "echo", "-n", "got")
    assert out == "got $(touch /tmp/never); `x` 'y' \"z\" *"


def test_other_braces_stay_as_they_are(root, broker):
    broker.publish("jobs", "a b")
    _, out, _ = worked(root, "jobs", "--", "echo", "{print $1}", "x{}y{}")
    assert out == "{print $1} xa bya b\n"


def test_the_environment_tells_about_the_message(root, broker):
    id_ = broker.publish("jobs", {"a": 1}, requeue_limit=1)
    broker.nack(broker.consume("jobs"))
    code = "import os; print(*(os.environ['DDMQ_' + n] for n in 'ID QUEUE MESSAGE REQUEUE_COUNTER'.split()))"
    _, out, _ = worked(root, "jobs", *python(code))
    assert out == f'{id_} jobs {{"a": 1}} 1\n'


def test_what_is_run_hears_nothing_of_the_chain_of_its_job(root, broker, monkeypatch):
    monkeypatch.setenv(
        "DDMQ_CHAIN_LEFT", "0"
    )  # a job that it submits would go on with that
    monkeypatch.setenv("DDMQ_CHAIN_SCRIPT", "/the/script.sh")
    broker.publish("jobs", "x")
    then = ["--then", "sh -c 'echo then $DDMQ_CHAIN_LEFT $DDMQ_QUEUE'"]
    script = "echo run $DDMQ_CHAIN_LEFT $DDMQ_CHAIN_SCRIPT $DDMQ_QUEUE"
    _, out, _ = worked(*then, root, "jobs", "--", "sh", "-c", script)
    assert out == "run jobs\nthen jobs\n"


def test_variables_are_set_without_a_shell(root, broker):
    broker.publish("jobs", "$(id) `id`")
    variables = ["--env", "GPU={slot0}", "--env", "TEXT={}-{nothing}"]
    script = 'echo "$GPU $TEXT"'
    _, out, _ = worked("-j", 1, *variables, root, "jobs", "--", "sh", "-c", script)
    assert out == "0 $(id) `id`-{nothing}\n"


def test_each_slot_has_a_number_of_its_own_from_0(root, broker):
    broker.publish_many("jobs", ["x"] * 12)
    command = ["-j", 4, "--env", "GPU={slot0}", root, "jobs", "--"]
    _, out, _ = worked(*command, "sh", "-c", "echo $GPU; sleep 0.2")
    assert set(out.split()) == {"0", "1", "2", "3"}


@pytest.mark.parametrize("slots", [1, 2, 5])
def test_each_slot_runs_on_its_share_of_the_cores(root, broker, slots):
    broker.publish_many("jobs", ["x"] * slots * 2)
    code = "import os; print(os.environ['DDMQ_SLOT'], *sorted(os.sched_getaffinity(0)))"
    _, out, _ = worked("-j", slots, "--bind", root, "jobs", *python(code))
    ran = [list(map(int, line.split())) for line in out.splitlines()]
    assert len(ran) == slots * 2
    for slot, *cores in ran:
        assert cores == share_of_cores(slot, slots)


def test_a_text_that_can_be_no_variable_is_a_dead_letter(root, broker):
    broker.publish("jobs", "a\0b")
    status, out, _ = worked("--env", "X={}", "--stdin", root, "jobs", "--", "cat")
    assert (status, out) == (4, "")
    assert "NUL" in broker.dead("jobs")[0].reason


def test_a_text_that_the_locale_can_not_say_arrives_as_utf_8(root, broker, monkeypatch):
    broker.publish("jobs", {"name": "gr\xfcn \u65e5"})
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("PYTHONUTF8", "0")
    script = 'printf "%s|" "$1" "$X" "$DDMQ_FIELD_NAME" | od -An -v -tx1'
    status, out, _ = worked(
        "--env", "X={name}", root, "jobs", "--", "sh", "-c", script, "sh", "{name}"
    )
    assert status == 0
    assert bytes.fromhex(out).decode() == "gr\xfcn \u65e5|" * 3


def test_a_name_that_the_locale_can_not_say_is_told(
    root, broker, tmp_path, monkeypatch
):
    broker.publish("jobs", "\u65e5")
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("PYTHONUTF8", "0")
    status, *_ = worked(
        "--output-dir",
        tmp_path / "out",
        "--output-name",
        "{}",
        root,
        "jobs",
        "--",
        "true",
    )
    assert status == 4
    assert "LC_ALL=C.UTF-8" in broker.dead("jobs")[0].reason


def test_a_failing_command_makes_the_message_dead_at_its_limit(root, broker):
    broker.publish("jobs", "bad", requeue_limit=2)
    broker.publish("jobs", "good", requeue_limit=2)
    status, _, err = worked(
        root, "jobs", *python("import sys; sys.exit(sys.argv[1] == 'bad')")
    )
    assert status == 4
    assert "1 acked, 1 failed" in err  # messages, and not runs
    [letter] = broker.dead("jobs")
    assert (letter.message, letter.failures) == ("bad", 3)
    assert "exit status 1" in letter.reason


def test_messages_that_failed_are_no_failure_of_the_job_where_it_is_told_so(
    root, broker
):
    for text in ("false", "true"):
        broker.publish("jobs", text, requeue_limit=0)
    status, _, err = worked("--exit-zero", root, "jobs", "--", "sh", "-c", "$0")
    assert (status, len(broker.dead("jobs"))) == (0, 1)
    assert "1 acked, 1 failed" in err


def test_a_message_that_succeeds_at_last_has_not_failed(root, broker, tmp_path):
    broker.publish("jobs", "a")
    script = f"[ -e {tmp_path}/tried ] || {{ touch {tmp_path}/tried; exit 1; }}"
    status, _, err = worked(root, "jobs", "--", "sh", "-c", script)
    assert status == 0
    assert "1 acked, 0 failed" in err


def test_system_calls_are_told_only_when_asked_for(root, broker):
    broker.publish("jobs", "a")
    assert "file-system calls" not in worked(root, "jobs", "--", "true")[2]
    _, _, err = worked("-d", root, "jobs", "--", "true")
    assert re.search(
        r"nothing was waiting; 0 acked, .*; [0-9]+ file-system calls: ", err
    )


def test_a_command_that_is_not_there_costs_no_message_anything(root, broker):
    id_ = broker.publish("jobs", "a")
    for is_empty in (False, True):
        status, _, err = worked(root, "jobs", "--", "/no/such/command")
        assert (status, err.count("\n")) == (1, 1)
        assert "/no/such/command is no executable file, seen from here" in err
        if not is_empty:
            [message] = broker.consume("jobs")
            assert (message.id, message.requeue_counter) == (id_, 0)
            broker.ack(message)


def test_a_text_that_can_be_no_argument_is_a_dead_letter(root, broker):
    broker.publish("jobs", "x" * 200_000)
    broker.publish("jobs", "a\0b")
    broker.publish("jobs", "good")
    status, out, _ = worked(root, "jobs", "--", "echo")
    assert (status, out) == (4, "good\n")
    reasons = [letter.reason for letter in broker.dead("jobs")]
    assert "use --stdin" in reasons[0]
    assert "NUL" in reasons[1]


def test_the_lease_is_renewed_while_the_command_runs(root, broker):
    broker.update_settings("jobs", message_timeout=1.2)
    broker.publish("jobs", "slow")
    process = start(root, "jobs", *python("import time; time.sleep(3)"))
    until(lambda: broker.view("jobs")["jobs"].work == 1)
    while process.poll() is None:
        assert broker.consume("jobs") == []
    process.communicate()
    assert process.returncode == 0
    assert broker.view("jobs")["jobs"] == (0, 0, 0, 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_drain_gives_messages_back_uncounted(root, broker, number):
    broker.publish_many("jobs", ["a", "b", "c"])
    process = start("-j", 2, root, "jobs", *python("import time; time.sleep(60)"))
    until(lambda: broker.view("jobs")["jobs"].work == 2)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 5
    assert "2 released" in err
    name = signal.Signals(number).name
    assert f"{name}: nothing more is consumed, and 2 running commands have 10 s" in err
    assert "kills at once" in err
    assert "\nddmq-worker: stopped: it was asked to drain; 0 acked, " in err
    assert err.endswith(", 3 left\n")
    messages = broker.consume("jobs", 5)
    assert [(m.message, m.requeue_counter) for m in messages] == [
        ("a", 0),
        ("b", 0),
        ("c", 0),
    ]


@pytest.mark.parametrize("name", ["USR1", "USR2"])
def test_the_early_warning_does_not_break_a_chain(
    root, broker, monkeypatch, tmp_path, name
):
    sbatch = tmp_path / "sbatch"
    sbatch.write_text(f"#!/bin/sh\nkill -{name} $PPID\necho job 8\n")
    sbatch.chmod(0o755)
    now = int(time.time())
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(now + 3600))
    monkeypatch.setenv("DDMQ_CHAIN_LEFT", "2")
    monkeypatch.setenv("DDMQ_CHAIN_SCRIPT", "/the/script.sh")
    monkeypatch.setenv("DDMQ_CHAIN_COMMAND", str(sbatch))
    broker.publish("jobs", "a")
    process = start("--min-remaining", 7200, root, "jobs", "--", "true")
    _, err = process.communicate()
    assert err.endswith("ddmq-worker: the next job: job 8\n")
    assert process.returncode == 5


def test_what_a_killed_worker_held_comes_back_as_a_loss(root, broker):
    broker.update_settings("jobs", message_timeout=1)
    broker.publish("jobs", "a")
    process = start(root, "jobs", *python("import time; time.sleep(5)"))
    until(lambda: broker.view("jobs")["jobs"].work == 1)
    process.kill()
    process.communicate()
    until(lambda: broker.view("jobs")["jobs"].waiting == 1)
    [message] = broker.consume("jobs")
    assert (message.failures, message.losses) == (0, 1)


def test_a_command_whose_lease_was_lost_is_killed_and_not_acked(root, broker):
    broker.publish("jobs", "a", timeout=3)
    started = root / "started"
    code = f"import time; open({str(started)!r}, 'w'); time.sleep(60)"
    process = start("-j", 1, root, "jobs", *python(code))
    until(started.exists)
    id_ = os.listdir(root / "jobs" / "work")[0].split(".")[3]
    broker.release(broker.leased("jobs", id_))
    [mine] = broker.consume("jobs")
    _, err = process.communicate(timeout=30)
    assert process.returncode == 4
    assert "1 lost" in err
    broker.ack(mine)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["/r", "q"],
        ["/r", "q", "--"],
        ["-j", "0", "/r", "q", "--", "x"],
        ["-j", "x"],
    ],
)
def test_wrong_usage_ends_with_status_2(arguments):
    status, out, err = worked(*arguments)
    assert (status, out) == (2, "")
    assert "ddmq-worker -h" in err


def test_a_missing_queue_is_explained(root, broker):
    status, _, err = worked(root, "nothing", "--", "true")
    assert status == 1
    assert "no such queue" in err
    assert err.endswith(f"; create it with `ddmq create -f {root} nothing`\n")


@pytest.mark.parametrize("text", ["1\n2\n", ""])
def test_a_worker_with_input_of_its_own_creates_root_and_queue(tmp_path, text):
    root, path = tmp_path / "my mq", tmp_path / "numbers.txt"
    path.write_text(text)
    words = ["--from-file", path, root, "jobs", "--", "echo"]
    status, out, err = worked(*words)
    assert (status, out, root.exists()) == (1, "", False)
    assert err.endswith(f"`ddmq create -f '{root}' jobs`, or by -f\n")
    for _ in range(2):
        status, out, err = worked("-f", *words)
        assert (status, out, err.count("Traceback")) == (0, text, 0)
        text = ""
    status, _, err = worked("-f", "--from-file", path, root, "a/b", "--", "echo")
    assert (status, os.listdir(root).count("a")) == (2, 0)
    status, _, err = worked("-f", root, "new", "--", "echo")
    assert (status, "-f needs --from-file" in err) == (2, True)
    other, missing = tmp_path / "other", tmp_path / "number.txt"
    status, _, err = worked("-f", "--from-file", missing, other, "jobs", "--", "echo")
    assert (status, "No such file" in err, other.exists()) == (2, True, False)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--output-dir", "file"], "/file: Not a directory"),
        (["--output-dir", "planted"], "/planted/.ddmq-unfinished: Not a directory"),
        (["--log-dir", "file"], "/file: File exists"),
        (["--log-dir", "fine"], "TMPDIR"),
        (["--stdin"], "TMPDIR"),
        (["--on-exit", "7=queue:other"], "/other: no such queue"),
    ],
)
def test_what_it_will_need_is_tried_before_it_takes_a_message(
    root, broker, tmp_path, monkeypatch, options, why
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "planted").mkdir()
    (tmp_path / "planted" / ".ddmq-unfinished").symlink_to(tmp_path)
    monkeypatch.setenv("TMPDIR", f"{tmp_path}/nowhere")
    id_ = broker.publish("jobs", "a")
    status, out, err = worked(*options, root, "jobs", "--", "touch", "ran")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert options[0] in err or "No such file or directory" in err
    assert why in err
    assert "can't be used" in err
    assert "standard output" not in err
    assert not (tmp_path / "ran").exists()
    [message] = broker.consume("jobs")
    assert (message.id, message.requeue_counter) == (id_, 0)


def test_what_was_tried_leaves_nothing(root, broker, tmp_path):
    options = ["--output-dir", tmp_path / "out", "--log-dir", tmp_path / "log"]
    assert worked(*options, root, "jobs", "--", "true")[0] == 0
    assert os.listdir(tmp_path / "out") == [".ddmq-unfinished"]
    assert os.listdir(tmp_path / "out" / ".ddmq-unfinished") == []
    assert os.listdir(tmp_path / "log") == []


def test_inputs_that_are_dead_letters_are_a_failure_also_when_they_died_before(
    root, broker, tmp_path
):
    path, place = tmp_path / "my files.txt", f"{root} jobs"
    path.write_text("".join(f"{n}\n" for n in range(5)))
    fails = [
        "--retries",
        "0",
        "--no-brake",
        root,
        "jobs",
        "--",
        "sh",
        "-c",
        "exit $(($0 < 3))",
    ]
    ours = ["--from-file", path, *fails]
    hint = f"`ddmq dead {place}` lists them, `ddmq redrive {place}` puts them back"
    status, _, err = worked(*ours)
    assert status == 4
    assert err.endswith(
        f"2 acked, 3 failed, 0 released, 0 moved, 0 lost; {hint_of(hint, 3, 3, path)}"
    )
    # The same again, beside a dead letter that is not ours.
    broker.publish("jobs", "0")
    assert worked(*fails)[0] == 4
    status, _, err = worked(*ours)
    assert status == 4
    assert err.endswith(f"nothing was waiting; {NOTHING}; {hint_of(hint, 4, 3, path)}")
    assert worked("--exit-zero", *ours)[0] == 0
    # Those of others are told, and no failure of this worker.
    status, _, err = worked(root, "jobs", "--", "true")
    assert (status, err.endswith(f"{NOTHING}; 4 dead letters: {hint}\n")) == (0, True)
    broker.redrive("jobs", [x.id for x in broker.dead("jobs") if "-" in x.id])
    status, _, err = worked("--from-file", path, root, "jobs", "--", "true")
    assert status == 0
    assert err.endswith(f"; 1 dead letter: {hint}\n")


NOTHING = "0 acked, 0 failed, 0 released, 0 moved, 0 lost"


def hint_of(hint, number, own, path):
    return f"{number} dead letters ({own} from {path}): {hint}\n"


def test_the_help_shows_examples():
    status, out, _ = worked("-h")
    assert status == 0
    assert "ddmq-worker /scratch/mq jobs -- ./process.sh" in out
    assert "exit status" in out


def test_a_worker_that_fills_the_queue_goes_on_where_one_was_killed(
    root, broker, tmp_path
):
    path = tmp_path / "numbers.txt"
    path.write_text("".join(f"{n}\n" for n in range(12)))
    words = ["--from-file", path, root, "jobs", "--"]
    status, out, _ = worked("--max-messages", "5", *words, "echo")
    assert (status, len(out.split())) == (5, 5)
    status, rest, err = worked("-j", "2", *words, "echo")
    assert (status, len(rest.split())) == (0, 7)
    assert sorted(map(int, (out + rest).split())) == [*range(12)]
    assert "12 lines published before, and not again" in err
    assert "7 acked" in err
    status, out, err = worked(
        "--from-file", tmp_path / "no", root, "jobs", "--", "echo"
    )
    assert (status, out, err.count("\n")) == (2, "", 1)
