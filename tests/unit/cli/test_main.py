"""Finding the command, and answering in each format."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys

import pytest
import yaml

from ddmq import Broker, __version__
from ddmq.cli import commands, submit, worker
from ddmq.cli.commands import MODULES
from ddmq.cli.main import main
from ddmq.cli.spec import Reply


def test_long_options_are_accepted_with_underscores(sh, root):
    sh.ok("publish", root, "testmq", "x", "--requeue_limit=4", "--requeue_prio", "2")
    message = json.loads(sh.ok("consume", root, "testmq", "--skip_cleaning"))
    assert (message["requeue_limit"], message["requeue_prio"]) == (4, 2)


def test_a_text_that_looks_like_an_option_follows_two_dashes(sh, root):
    sh.ok("publish", root, "testmq", "--", "--requeue_limit")
    assert sh.ok("consume", root, "testmq", "--format", "plain") == "--requeue_limit"


@pytest.mark.parametrize(
    "words",
    [
        ["publish", "--", "ROOT", "testmq", "-x"],
        ["publish", "-p", "5", "--", "ROOT", "testmq", "-x"],
        ["publish", "-f", "ROOT", "--", "testmq", "-x"],
    ],
)
def test_behind_two_dashes_nothing_is_an_option(sh, root, words):
    sh.ok(*(root if word == "ROOT" else word for word in words))
    assert sh.ok("consume", root, "testmq", "--format", "plain") == "-x"


def test_what_is_too_much_is_told_how_to_write(sh, root):
    told = sh.wrong("publish", root, "testmq", "hello", "world")
    assert "unrecognized arguments: world; quotes keep a text with spaces" in told
    told = sh.wrong("status", root, "testmq", "1f", "2f")
    assert "unrecognized arguments: 2f; quotes" in told
    assert "commas join several ids or queues" in told


@pytest.mark.parametrize("switches", [["-d"], ["-d", "-v"], ["--debug"]])
def test_switches_may_stand_before_the_command(sh, root, switches):
    status, out, err = sh(*switches, "view", root)
    assert status == 0
    assert "testmq" in out
    assert re.search(r"^ddmq: [0-9]+ file-system calls: .*listdir", err, re.MULTILINE)


def test_consume_prints_yaml_and_plain_text_when_asked(sh, root):
    sh.ok("publish", root, "testmq", "a")
    sh.ok("publish", root, "testmq", "b")
    assert (
        yaml.safe_load(sh.ok("consume", root, "testmq", "--format", "yaml"))["message"]
        == "a"
    )
    assert sh.ok("consume", root, "testmq", "--format", "plain") == "b"


@pytest.mark.parametrize("form", ["json", "yaml", "plain"])
def test_what_is_nested_deep_is_printed_in_every_format(sh, root, form):
    deep = "[" * 900 + "]" * 900
    sh.ok("publish", root, "testmq", "--json", deep)
    printed = sh.ok("consume", root, "testmq", "--format", form)
    message = printed if form == "plain" else json.loads(printed)["message"]
    assert json.dumps(message).strip('"') == deep


def test_an_empty_value_of_a_switch_is_wrong_usage(sh, root):
    status, out, err = sh("view", root, "testmq", "-s=")
    assert (status, out, err.count("\n")) == (2, "", 1)


@pytest.mark.parametrize("arguments", [[], ["bogus"], ["publish"], ["view", "-x", "/"]])
def test_wrong_usage_ends_with_status_2(sh, arguments):
    status, out, err = sh(*arguments)
    assert (status, out) == (2, "")
    assert "-h" in err


def test_the_version_and_the_help_are_printed(sh):
    lines = sh.ok("-v").splitlines()
    assert lines[0] == f"ddmq {__version__}"
    names = ["ddmq", "Python", "filelock", "pyyaml", "from"]
    assert [line.split(" ")[0] for line in lines] == names
    assert "exit status" in sh.ok("-h")


@pytest.mark.parametrize("program", [worker, submit])
def test_every_program_prints_the_same_version(sh, capfd, program):
    with pytest.raises(SystemExit) as stop:
        program.main(["--version"])
    printed = capfd.readouterr()
    assert (stop.value.code, printed.err) == (0, "")
    assert printed.out == sh.ok("--version") + "\n"


@pytest.mark.parametrize("command", [*MODULES, "json"])
def test_every_command_has_a_help_page_with_an_example(sh, command):
    text = sh.ok(command, "-h")
    assert "example:" in text
    assert f"ddmq {command}" in text.split("example:")[1]


def test_silent_says_nothing_but_errors(sh, root):
    assert sh.ok("publish", "-s", root, "testmq", "x") == ""
    assert sh.ok("consume", "-s", root, "testmq", "--format", "plain") == "x"
    assert "no such queue" in sh.error("publish", "-s", root, "nothing", "x")


@pytest.mark.parametrize("flag", ["-d", "--debug"])
def test_debug_counts_the_system_calls_by_kind(sh, root, flag):
    status, _, err = sh("publish", root, "testmq", "x", flag)
    assert status == 0
    total, kinds = re.fullmatch(
        r"ddmq: (\d+) file-system calls: (.*)", err[:-1]
    ).groups()
    numbers = {kind: int(number) for kind, number in map(str.split, kinds.split(", "))}
    assert sum(numbers.values()) == int(total)
    assert {"open", "write", "rename"} <= set(numbers)


@pytest.mark.parametrize("words", [["--", "view"], ["-s", "-d"], ["--", "json", "{}"]])
def test_the_command_comes_first(sh, words):
    status, out, err = sh(*words)
    assert (status, out) == (2, "")
    assert "see `ddmq -h`" in err


def test_an_option_of_another_command_is_none(sh, root):
    status, _, err = sh("publish", root, "testmq", "x", "--slowest", "3")
    assert (status, "unrecognized arguments: --slowest;" in err) == (2, True)


@pytest.mark.parametrize(
    "words",
    [
        ["-p", "5", "publish", "ROOT", "testmq", "x"],
        ["--priority=5", "-C", "publish", "ROOT", "testmq", "x"],
        ["--no_durable", "--priority", "5", "publish", "ROOT", "testmq", "x"],
        ["publish", "-p", "5", "ROOT", "testmq", "x"],
        ["publish", "ROOT", "-p", "5", "testmq", "x"],
        ["publish", "ROOT", "testmq", "-p", "5", "x"],
        ["-s", "publish", "ROOT", "testmq", "x", "-p", "5"],
    ],
)
def test_options_may_stand_anywhere(sh, root, words):
    sh.ok(*(word.replace("ROOT", str(root)) for word in words))
    assert (
        json.loads(sh.ok("--format", "json", "consume", root, "testmq"))["priority"]
        == 5
    )


def test_a_value_that_is_the_name_of_a_command_is_none(sh, root):
    sh.ok("create", root, "view")
    assert json.loads(sh.ok("--format", "json", "-n", "view", root)) == {
        "queues": ["testmq", "view"]
    }
    sh.ok("--from-file", os.devnull, "publish", root, "view")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["publsh"], "no command publsh; did you mean publish?"),
        (["veiw", "ROOT"], "did you mean view?"),
        (["publish", "ROOT", "q", "x", "--prioriy", "5"], "did you mean --priority?"),
        (["publish", "ROOT", "q", "x", "--xyzzy"], "unrecognized arguments: --xyzzy;"),
        (["view", "ROOT", "testm"], "did you mean testmq?"),
        (["\x1b[2J"], "no command \\x1b[2J;"),
    ],
)
def test_what_was_meant_is_asked_for(sh, root, words, told):
    status, _, err = sh(*(word.replace("ROOT", str(root)) for word in words))
    assert status == (1 if "testm" in words else 2)
    assert told in err


@pytest.mark.parametrize(
    ("words", "key", "seconds"),
    [
        (["publish", "ROOT", "testmq", "x", "-t", "2h"], "timeout", 7200),
        (["publish", "ROOT", "testmq", "x", "-t", "1:30"], "timeout", 90),
        (["publish", "ROOT", "testmq", "x", "-t", "5.5"], "timeout", 5.5),
    ],
)
def test_seconds_may_be_written_as_minutes_or_hours(sh, root, words, key, seconds):
    sh.ok(*(word.replace("ROOT", str(root)) for word in words))
    assert json.loads(sh.ok("consume", root, "testmq"))[key] == seconds
    request = {"cmd": "wait", "root": str(root), "queue": "testmq", "timeout": "0s"}
    assert "after 0 seconds" in sh("json", json.dumps(request))[1]


@pytest.mark.parametrize("is_terminal", [False, True])
def test_only_on_a_terminal_somebody_watches(sh, root, monkeypatch, is_terminal):
    def run(_, context):
        seen.append(context.is_watched)
        return Reply({}, "")

    seen: list[bool] = []
    command = copy.copy(commands.find("wait"))
    command.run = run
    monkeypatch.setattr(commands, "find", lambda _: command)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    sh.ok("wait", root, "testmq")
    assert seen == [is_terminal]


ID = "0123456789abcdef0123"
#: What commands need besides a root and a queue.
NEEDED = {
    **dict.fromkeys(("ack", "nack", "release", "reject", "renew"), (ID,)),
    **dict.fromkeys(("show", "status", "cancel"), (ID,)),
    "move": (ID, "testmq"),
    **dict.fromkeys(("publish", "forget"), ("x",)),
    "import": ("-",),
    "results": (".",),
    "drain": ("--all",),
    "report": ("--format", "json"),
}
#: Commands that create what is missing if they are given -f.
FORCED = {"create", "publish", "import"}


@pytest.mark.parametrize("name", sorted({*MODULES} - {"check", "migrate"}))
def test_what_is_missing_is_told_with_the_command_that_creates_it(
    sh, root, tmp_path, monkeypatch, name
):
    monkeypatch.chdir(tmp_path)
    by = ", or by -f" if name in FORCED else ""
    if name != "create":
        told = sh.error(name, root, "no ne", *NEEDED.get(name, [])).rstrip()
        assert "no ne: no such queue; queues here: testmq" in told
        assert told.endswith(f"; create it with `ddmq create -f {root} 'no ne'`{by}")
    for missing in ("mq 2", tmp_path / "mq2"):
        told = sh.error(name, missing, "jobs", *NEEDED.get(name, [])).rstrip()
        word = f"'{missing}'" if missing == "mq 2" else missing
        assert told.endswith(
            f": no ddmq root; create it with `ddmq create -f {word} jobs`{by}"
        )
    assert not os.path.exists("mq 2")


def test_programs_that_speak_json_are_told_the_same(sh, root, tmp_path):
    for place, queue in ((root, "none"), (tmp_path / "mq2", "jobs")):
        request = {"cmd": "publish", "root": str(place), "queue": queue, "message": "x"}
        status, out, _ = sh("json", json.dumps(request))
        told = json.loads(out)["error"]
        assert status == 1
        assert told.endswith(f"; create it with `ddmq create -f {place} {queue}`")


def test_only_the_first_of_many_queues_are_named(sh, root):
    sh.ok("create", root, "a,b,c,d,e,f")
    told = sh.error("view", root, "zzz").rstrip()
    assert "; queues here: a, b, c, d, e and 2 more; create" in told


def test_a_root_is_missed_without_what_only_python_can_do(sh, root, tmp_path):
    for words in (["view"], ["publish", "q", "x"]):
        missing = tmp_path / "none"
        told = sh.error(words[0], missing, *words[1:]).rstrip()
        by = " q`, or by -f" if words[0] == "publish" else "`"
        assert told.endswith(
            f"none: no ddmq root; create it with `ddmq create -f {missing}{by}"
        )


def test_root_and_queue_that_were_swapped_are_told(sh, root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words in (["view", "testmq", root], ["publish", "testmq", root, "x"]):
        assert f"but {root} is a root, which comes first" in sh.error(*words)
    for words in (
        ["publish", "-f", "testmq", root, "x"],
        ["create", "-f", "new", root],
        ["import", "-f", "testmq", root, "-"],
    ):
        assert f"but {root} is a root, which comes first" in sh.wrong(*words)
    for words in (["worker", "testmq", root], ["submit", "slurm", "testmq", root]):
        status, _, told = sh(*words, "--", "true")
        assert status == 1
        assert f"but {root} is a root, which comes first" in told
    name = os.path.basename(root)
    assert f"but {name} is a root, which comes first" in sh.error(
        "view", "testmq", name
    )
    # Whoever is in a root may name its queues, which are no roots.
    assert os.listdir(tmp_path) == [name]
    monkeypatch.chdir(root)
    assert "is a root" not in sh.error("view", "none", "testmq")
    told = sh.error("publish", "testmq", ".", "x").rstrip()
    assert told.endswith(f"the root is {root}, and the queue testmq")


@pytest.mark.parametrize("below", ["", "/mq"])
@pytest.mark.parametrize("words", [["view"], ["create", "-f"], ["publish", "-f"]])
def test_a_file_in_place_of_a_root_is_told_and_not_to_be_moved(
    sh, tmp_path, words, below
):
    (tmp_path / "files.txt").touch()
    root, text = f"{tmp_path}/files.txt{below}", ["x"] if "publish" in words else []
    told = sh.error(*words, root, "q", *text)
    assert told.startswith(
        f"ddmq: {root}: no ddmq root: it, or what it is in, is a file"
    )
    assert "move it away" not in told


def test_a_root_that_can_not_be_made_says_why(sh):
    told = sh.error("create", "-f", "/proc/mq", "q")
    assert "none can be made: /proc/mq: No such file or directory" in told
    assert "ddmq create" not in told


def test_a_directory_that_is_gone_is_told(sh, root, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    told = sh.wrong("publish", "-f", "mq", "q", "x")
    assert "the current directory, which is gone" in told
    for words in (
        ["check", "."],
        ["export", root, "testmq", "-o", "x"],
        ["migrate", "old", root],
    ):
        assert "the current directory, which is gone" in sh.wrong(*words)
    told = sh.wrong("submit", "slurm", "mq", "q", "--", "x")
    assert "the current directory, which is gone" in told


def test_the_other_programs_are_commands_too(sh, root, tmp_path):
    assert "nothing was waiting" in sh("worker", root, "testmq", "--", "true")[2]
    sh.ok("publish", root, "testmq", "x")
    assert sh("worker", root, "testmq", "--", "false")[0] == 4
    assert sh("submit", "slurm", root, "testmq")[2].startswith("ddmq-submit: ")
    for name in ("worker", "submit", "help"):
        assert f"{name} is the first word" in sh("-d", name)[2]
    assert "did you mean worker?" in sh("wroker", root, "testmq")[2]


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ([], "usage: ddmq [-h]"),
        (["help"], "usage: ddmq [-h]"),
        (["publish"], "usage: ddmq publish"),
        (["json"], "usage: ddmq json"),
        (["worker"], "usage: ddmq-worker"),
        (["submit"], "usage: ddmq-submit"),
    ],
)
def test_help_is_a_command(capsys, words, shown):
    with pytest.raises(SystemExit) as ended:
        main(["help", *words])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(shown)


@pytest.mark.parametrize(
    ("words", "table"),
    [
        (["log", "ROOT", "testmq", "--compact"], "compacted\n0"),
        (["status", "ROOT", "testmq", "x", "--snakemake"], "state\nfailed"),
    ],
)
def test_what_is_no_list_is_a_table_of_one_line(sh, root, words, table):
    written = [str(root) if word == "ROOT" else word for word in words]
    assert sh.ok(*written, "--format", "csv") == table


def test_two_dashes_can_be_the_value_of_an_option(sh, root):
    id_ = sh.ok("publish", root, "testmq", "a", "--key=--")
    assert sh.ok("publish", root, "testmq", "b", "--key=--") == id_
    sh.ok("publish", root, "testmq", "--key=other", "--", "--key")
    for words, why in (
        (["config", root, "testmq", "--set=--"], "'--' is not KEY=VALUE"),
        (["report", root, "testmq", "--since=--"], "'--' is no time"),
        (["view", root, "--format=--"], "invalid choice: '--'"),
    ):
        status, _, err = sh(*words)
        assert status == 2
        assert why in err


def test_that_something_is_done_is_told_though_its_answer_has_no_room(
    sh, root, monkeypatch
):
    with monkeypatch.context() as patched, open("/dev/full", "w") as full:
        patched.setattr(sys, "stdout", full)
        status, _, err = sh("publish", root, "testmq", "a")
    assert (status, err.count("\n")) == (1, 1)
    assert "No space left on device; all but this answer is done" in err
    assert Broker(root).view("testmq")["testmq"].waiting == 1


@pytest.mark.slow
def test_an_answer_is_whole_or_an_error_where_python_buffers_nothing(root):
    """A write that has no buffer may end in the middle, and say nothing."""
    broker = Broker(root)
    broker.publish_many("testmq", ["x" * 1000] * 200)
    words = [*(sys.executable, "-u", "-m", "ddmq"), *("consume", str(root), "testmq")]
    with subprocess.Popen([*words, "-n", "200"], stdout=subprocess.PIPE) as consumer:
        assert consumer.stdout.read(1) == b"["
    assert consumer.returncode == 1
    assert broker.view("testmq")["testmq"].waiting == 200
