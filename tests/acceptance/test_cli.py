"""The command line, as it is typed."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import subprocess
import sys

import pytest
import yaml
from support import in_time

from ddmq import Broker, __version__, cli
from ddmq.commands import COMMANDS
from ddmq.settings import LAYOUT_LINE


class Shell:
    """Runs commands of `ddmq` in this process."""

    def __init__(self, capfd, monkeypatch):
        self._capfd = capfd
        self._monkeypatch = monkeypatch

    def __call__(self, *arguments, stdin=b""):
        """Return exit status, standard output and standard error."""
        self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        try:
            status = cli.main([str(argument) for argument in arguments])
        except SystemExit as stop:
            status = stop.code
        return (status, *self._capfd.readouterr())

    def ok(self, *arguments, **options):
        """Return standard output of a command that must succeed, without its last newline."""
        status, out, err = self(*arguments, **options)
        assert (status, err) == (0, "")
        return out.removesuffix("\n")

    def error(self, *arguments, **options):
        """Return the one line that a command says that must fail with status 1."""
        status, out, err = self(*arguments, **options)
        assert (status, out) == (1, "")
        assert err.startswith("ddmq: ")
        assert err.count("\n") == 1
        return err


@pytest.fixture
def sh(capfd, monkeypatch):
    return Shell(capfd, monkeypatch)


@pytest.fixture
def root(tmp_path, sh):
    sh.ok("create", "-f", tmp_path / "mq", "testmq")
    return tmp_path / "mq"


def test_the_commands_of_the_readme_work_one_after_the_other(sh, tmp_path):
    root = tmp_path / "mq"
    assert sh.ok("create", "-f", root, "testmq") == "testmq: created"
    id_ = sh.ok("publish", root, "testmq", "Hello World!")
    message = json.loads(sh.ok("consume", root, "testmq"))
    assert (message["message"], message["id"]) == ("Hello World!", id_)
    assert sh.ok("ack", root, "testmq", id_) == f"{id_}: acked"
    assert sh("consume", root, "testmq") == (3, "", "")
    sh.ok("publish", root, "testmq", "again")
    counts = {"testmq": {"waiting": 1, "work": 0, "delayed": 0, "dead": 0}}
    assert json.loads(sh.ok("view", root, "--format", "json")) == counts
    sh.ok("purge", root, "testmq")
    sh.ok("delete", root, "testmq")
    assert sh.ok("view", root, "-n") == ""


def test_view_shows_a_table(sh, root):
    sh.ok("publish", root, "testmq", "x")
    head, row = sh.ok("view", root).split("\n")
    assert head.split() == ["queue", "waiting", "work", "delayed", "dead"]
    assert row.split() == ["testmq", "1", "0", "0", "0"]


def test_view_names_only_the_queues_that_are_asked_for(sh, root):
    sh.ok("create", root, "other,third")
    counts = json.loads(sh.ok("view", root, "testmq,other", "--format=json"))
    assert list(counts) == ["testmq", "other"]
    assert sh.ok("view", "-n", root) == "other\ntestmq\nthird"


def test_publish_sets_everything_that_a_message_can_say(sh, root):
    sh.ok(
        *("publish", root, "testmq", "-p", "0", "-t", "5.5", "--no-requeue"),
        *("-l", "3", "--requeue-prio", "7", "-C", "text"),
    )
    message = json.loads(sh.ok("consume", root, "testmq", "-C"))
    wanted = {
        "message": "text",
        "priority": 0,
        "timeout": 5.5,
        "requeue": False,
        "requeue_limit": 3,
        "requeue_prio": 7,
        "requeue_counter": 0,
        "failures": 0,
        "losses": 0,
        "queue": "testmq",
    }
    assert {key: message[key] for key in wanted} == wanted


def test_a_delayed_message_is_not_visible_yet(sh, root):
    sh.ok("publish", root, "testmq", "later", "--delay", "60")
    assert sh("consume", root, "testmq")[0] == 3
    assert json.loads(sh.ok("view", root, "--format", "json"))["testmq"]["delayed"] == 1


def test_a_limit_of_null_overrides_that_of_the_queue(sh, root):
    sh.ok("config", root, "testmq", "--set", "requeue_limit=2")
    sh.ok("publish", root, "testmq", "a")
    sh.ok("publish", root, "testmq", "b", "--requeue-limit", "null")
    limits = [
        message["requeue_limit"]
        for message in json.loads(sh.ok("consume", root, "testmq", "-n", "2"))
    ]
    assert limits == [2, None]


def test_long_options_are_accepted_with_underscores(sh, root):
    sh.ok("publish", root, "testmq", "x", "--requeue_limit=4", "--requeue_prio", "2")
    message = json.loads(sh.ok("consume", root, "testmq", "--skip_cleaning"))
    assert (message["requeue_limit"], message["requeue_prio"]) == (4, 2)


def test_a_text_that_looks_like_an_option_follows_two_dashes(sh, root):
    sh.ok("publish", root, "testmq", "--", "--requeue_limit")
    assert sh.ok("consume", root, "testmq", "--format", "plain") == "--requeue_limit"


def test_standard_input_becomes_one_message_without_its_last_newline(sh, root):
    sh.ok("publish", root, "testmq", "-", stdin="zwei\nZeilen ü\n".encode())
    assert sh.ok("consume", root, "testmq", "--format", "plain") == "zwei\nZeilen ü"


def test_each_line_of_a_file_becomes_a_message(sh, root, tmp_path):
    (tmp_path / "lines").write_bytes(b"one\r\ntwo\n\nthree")
    assert sh.ok("publish", root, "testmq", "--from-file", tmp_path / "lines") == "3"
    texts = sh.ok("consume", root, "testmq", "-n", "9", "--format", "plain")
    assert texts == "one\ntwo\nthree"


def piped(data, *arguments):
    """Run a command with something on its real standard input."""
    command = [sys.executable, "-m", "ddmq", *map(str, arguments)]
    return subprocess.run(command, input=data, capture_output=True)


def test_what_ends_with_a_nul_becomes_a_message_with_all_its_newlines(sh, root):
    files = b"one\ntwo\0./three \0\0four"
    ran = piped(files, "publish", root, "testmq", "--null", "--from-file=-")
    assert (ran.stdout, ran.stderr) == (b"3\n", b"")
    told = json.loads(sh.ok("consume", root, "testmq", "-n", "9"))
    assert [m["message"] for m in told] == ["one\ntwo", "./three ", "four"]


def test_each_line_may_be_a_json_value(sh, root):
    lines = b'{"a": 1}\n[null]\n"\xc3\xbc"\n'
    piped(lines, "publish", root, "testmq", "--json", "--from-file", "-")
    told = json.loads(sh.ok("consume", root, "testmq", "-n", "9"))
    assert [m["message"] for m in told] == [{"a": 1}, [None], "ü"]


@pytest.mark.parametrize("before", [1, 50, 2500])
def test_of_a_file_with_a_bad_line_nothing_is_published(sh, root, before):
    lines = b"1\n" * before + b"{\n"
    ran = piped(lines, "publish", root, "testmq", "--json", "--from-file=-")
    assert ran.returncode == 1
    assert f"line {before + 1}" in ran.stderr.decode()
    assert json.loads(sh.ok("view", root, "--format=json"))["testmq"]["waiting"] == 0


def test_a_file_of_many_lines_becomes_a_few_files_in_order(sh, root, tmp_path):
    texts = [f"line {number}" for number in range(2500)]
    (tmp_path / "lines").write_text("\n".join(texts))
    assert sh.ok("publish", root, "testmq", "--from-file", tmp_path / "lines") == "2500"
    assert sum(len(files) for _, _, files in os.walk(root / "testmq" / "ready")) == 3
    told = sh.ok("consume", root, "testmq", "-n", "2500", "--format", "plain")
    assert told.splitlines() == texts


@pytest.mark.parametrize("switches", [["-d"], ["-d", "-v"], ["--debug"]])
def test_switches_may_stand_before_the_command(sh, root, switches):
    status, out, err = sh(*switches, "view", root)
    assert status == 0
    assert "testmq" in out
    assert re.search(r"^ddmq: [0-9]+ file-system calls: .*listdir", err, re.MULTILINE)


def test_on_a_terminal_publishing_lines_shows_how_far_it_is(root):
    """Without one it says nothing: that is what all other tests see."""
    terminal, end = pty.openpty()
    ddmq = [sys.executable, "-m", "ddmq", "publish", "-f", root, "testmq"]
    with (
        in_time(60),
        subprocess.Popen(
            [*ddmq, "--no-durable", "--from-file", "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=end,
        ) as process,
    ):
        os.close(end)
        written = 0
        while not select.select([terminal], [], [], 0.01)[0]:
            process.stdin.write(b"x\n" * 1000)
            written += 1000
        shown = os.read(terminal, 1 << 16).decode()
        assert process.communicate()[0] == b"%d\n" % written
    os.close(terminal)
    assert re.search(r"\r[0-9,]+,000 messages", shown)


def test_a_json_value_is_published_as_such(sh, root):
    sh.ok("publish", root, "testmq", "--json", '{"a": [1, null]}')
    assert json.loads(sh.ok("consume", root, "testmq"))["message"] == {"a": [1, None]}


def test_consume_prints_an_object_or_a_list(sh, root):
    for text in "abc":
        sh.ok("publish", root, "testmq", text)
    assert json.loads(sh.ok("consume", root, "testmq"))["message"] == "a"
    several = json.loads(sh.ok("consume", root, "testmq", "-n", "2"))
    assert [message["message"] for message in several] == ["b", "c"]


def test_consume_prints_yaml_and_plain_text_when_asked(sh, root):
    sh.ok("publish", root, "testmq", "a")
    sh.ok("publish", root, "testmq", "b")
    assert (
        yaml.safe_load(sh.ok("consume", root, "testmq", "--format", "yaml"))["message"]
        == "a"
    )
    assert sh.ok("consume", root, "testmq", "--format", "plain") == "b"


@pytest.mark.parametrize("size", [900, 2000, 5000])
@pytest.mark.parametrize(
    "how",
    [["TEXT"], ["-"], ["--from-file", "FILE"], ["--from-file", "FILE", "--null"]],
)
def test_what_is_too_large_is_not_published(sh, root, tmp_path, how, size, monkeypatch):
    monkeypatch.setattr("ddmq.source.MAX_BYTES", 4000)  # then it is read no further
    sh.ok("config", root, "testmq", "--set", "max_message_size=1024")
    text = "x" * size
    (tmp_path / "file").write_text(text)
    given = {"TEXT": text, "FILE": tmp_path / "file"}
    arguments = [given.get(each, each) for each in how]
    published = ["publish", root, "testmq", *arguments]
    if size == 900:
        sh.ok(*published, stdin=text.encode())
        return
    told = sh.error(*published, stdin=text.encode())
    assert "publish the path" in told
    assert Broker(root).view("testmq")["testmq"].waiting == 0


@pytest.mark.parametrize("form", ["json", "yaml", "plain"])
def test_what_is_nested_deep_is_printed_in_every_format(sh, root, form):
    deep = "[" * 900 + "]" * 900
    sh.ok("publish", root, "testmq", "--json", deep)
    printed = sh.ok("consume", root, "testmq", "--format", form)
    message = printed if form == "plain" else json.loads(printed)["message"]
    assert json.dumps(message).strip('"') == deep


def test_messages_are_settled_by_id_or_by_file_name(sh, root):
    for text in "abcd":
        sh.ok("publish", root, "testmq", text)
    a, b, c, d = json.loads(sh.ok("consume", root, "testmq", "-n", "4"))
    sh.ok("ack", root, "testmq", f"{a['id']},{b['filename']}")
    sh.ok("nack", root, "testmq", c["id"], "--delay", "60")
    sh.ok("release", root, "testmq", d["id"])
    counts = {"waiting": 1, "work": 0, "delayed": 1, "dead": 0}
    assert json.loads(sh.ok("view", root, "--format", "json"))["testmq"] == counts


def test_an_old_file_name_does_not_settle_a_new_lease(sh, root):
    sh.ok("publish", root, "testmq", "a")
    old = json.loads(sh.ok("consume", root, "testmq"))
    sh.ok("release", root, "testmq", old["id"])
    sh.ok("consume", root, "testmq")
    assert "not at work" in sh.error("ack", root, "testmq", old["filename"])
    assert json.loads(sh.ok("view", root, "--format", "json"))["testmq"]["work"] == 1


def test_dead_letters_are_listed_with_reasons_and_redriven(sh, root):
    sh.ok("publish", root, "testmq", "bad sample")
    message = json.loads(sh.ok("consume", root, "testmq"))
    sh.ok("reject", root, "testmq", message["id"], "--reason", "no such sample")
    told = sh.ok("dead", root, "testmq")
    assert "bad sample" in told
    assert "no such sample" in told
    [letter] = json.loads(sh.ok("dead", root, "testmq", "--format", "json"))
    assert letter["id"] == message["id"]
    assert sh.ok("redrive", root, "testmq", "ffff") == "0"
    assert sh.ok("redrive", root, "testmq") == "1"
    assert sh.ok("consume", root, "testmq", "--format", "plain") == "bad sample"


def test_renew_prolongs_a_lease(sh, root):
    sh.ok("publish", root, "testmq", "a")
    old = json.loads(sh.ok("consume", root, "testmq"))
    sh.ok("renew", root, "testmq", old["id"], "--timeout", "9999")
    [new] = os.listdir(root / "testmq" / "work")
    assert int(new[:13]) - int(old["filename"][:13]) > 9_000_000


def test_purge_can_leave_some_states_alone(sh, root):
    sh.ok("publish", root, "testmq", "a")
    sh.ok("publish", root, "testmq", "b", "--delay", "60")
    sh.ok("purge", root, "testmq", "--only", "delayed")
    counts = json.loads(sh.ok("view", root, "--format", "json"))["testmq"]
    assert (counts["waiting"], counts["delayed"]) == (1, 0)
    assert "states are" in sh.error("purge", root, "testmq", "--only", "everything")


def test_an_empty_value_of_a_switch_is_wrong_usage(sh, root):
    status, out, err = sh("view", root, "testmq", "-s=")
    assert (status, out, err.count("\n")) == (2, "", 1)


def test_several_queues_are_waited_for_in_one_time(sh, root, monkeypatch):
    Broker(root).create_queue("other")
    given = []

    def wait(_, name, timeout, progress):
        given.append((name, timeout))
        return True

    monkeypatch.setattr(Broker, "wait", wait)
    sh.ok("wait", root, "testmq,other", "--timeout", "5")
    assert given[0] == ("testmq", 5)
    assert given[1][0] == "other"
    assert 0 <= given[1][1] < 5


def test_wait_ends_when_the_queue_is_empty_and_gives_up_in_time(sh, root):
    assert sh.ok("wait", root, "testmq") == ""
    sh.ok("publish", root, "testmq", "a")
    assert "1 waiting" in sh.error("wait", root, "testmq", "--timeout", "0")


def test_config_shows_and_changes_settings(sh, root):
    shown = json.loads(sh.ok("config", root, "testmq", "--format", "json"))
    assert shown["message_timeout"] == 600
    sh.ok("config", root, "--set", "message-timeout=60", "--set", "requeue=false")
    sh.ok("config", root, "testmq", "--set", "message_timeout=5")
    shown = json.loads(sh.ok("config", root, "testmq", "--format", "json"))
    assert (shown["message_timeout"], shown["requeue"]) == (5, False)
    assert "message_timeout: 60" in sh.ok(
        "config", root, "testmq", "--unset", "message_timeout"
    )


@pytest.mark.parametrize(
    ("pair", "remedy"),
    [
        ("colour=red", "known are"),
        ("message_timeout=-5", "must be a number of seconds from 1 to"),
        ("message_timeout=0.5", "must be a number of seconds from 1 to"),
        ("max_message_size=1023", "must be an integer of bytes from 1024 to 67108864"),
        ("requeue=maybe", "must be true or false"),
        ("requeue_limit=1.5", "or null for no limit"),
        ("layout=2", "layout is no setting; leave it out"),
    ],
)
def test_a_wrong_setting_is_explained_and_changes_nothing(sh, root, pair, remedy):
    before = (root / "testmq" / "ddmq.yaml").read_bytes()
    told = sh.error("config", root, "testmq", "--set", pair)
    assert remedy in told
    assert "ddmq.yaml" in told
    assert (root / "testmq" / "ddmq.yaml").read_bytes() == before


def test_a_queue_of_a_later_ddmq_is_refused_in_one_line(sh, root):
    file = root / "testmq" / "ddmq.yaml"
    text = file.read_text().replace(LAYOUT_LINE, "layout: 2 (ddmq 1.4.0)")
    file.write_text(text)
    for words in (
        ("publish", "-f", root, "testmq", "a"),
        ("consume", root, "testmq"),
        ("create", "-f", root, "testmq"),
        ("delete", root, "testmq"),
        ("config", root, "testmq", "--set", "priority=1"),
        ("config", root, "testmq", "--unset", "layout"),
        ("log", root, "testmq"),
    ):
        assert sh.error(*words) == (
            f"ddmq: {file}: layout 2 needs ddmq 1.4.0 or newer, and this is ddmq "
            f"{__version__}, which knows layout 1 only; nothing was done: use a newer one\n"
        )
    request = {"cmd": "config", "root": str(root), "queue": "testmq"}
    assert "layout 2 needs ddmq 1.4.0" in sh("json", json.dumps(request))[1]
    assert file.read_text() == text


@pytest.mark.parametrize(
    "name",
    ["../evil", "a/b", ".", "..", "", "x" * 201, "ready", "ddmq.yaml", "-x", "a\nb"],
)
def test_a_bad_queue_name_makes_nothing(sh, tmp_path, name):
    (tmp_path / "mq").mkdir()
    Broker(tmp_path / "mq", create=True)
    before = sorted(tmp_path.rglob("*"))
    for command in (["create"], ["publish"], ["consume"]):
        extra = ["text"] if command == ["publish"] else []
        assert sh(*command, "-f", tmp_path / "mq", "--", name, *extra)[0] == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("command", ["publish", "consume", "view", "create", "dead"])
def test_a_root_that_is_missing_says_to_use_f(sh, tmp_path, command):
    extra = {"publish": ["q", "x"], "view": []}.get(command, ["q"])
    assert "-f" in sh.error(command, tmp_path / "nothing", *extra)
    assert "-f" in sh.error(command, tmp_path, *extra)
    assert not list(tmp_path.iterdir())


def test_f_makes_root_and_queue(sh, tmp_path):
    sh.ok("publish", "-f", tmp_path / "a" / "b", "q", "x")
    assert sh.ok("consume", "-f", tmp_path / "a" / "b", "q", "--format", "plain") == "x"
    assert sh("consume", "-f", tmp_path / "c", "q")[0] == 3


@pytest.mark.parametrize(
    "options",
    [
        ["-p", "-1"],
        ["-p", "1.5"],
        ["-p", "high"],
        ["-t", "0"],
        ["-t", "-1"],
        ["-t", "nan"],
        ["-t", "soon"],
        ["--delay", "-1"],
        ["-l", "-1"],
        ["--requeue-prio", "x"],
    ],
)
def test_a_wrong_argument_publishes_nothing(sh, root, options):
    assert "must be" in sh.error("publish", root, "testmq", *options, "text")
    assert not os.listdir(root / "testmq" / "ready")
    assert not os.listdir(root / "testmq" / "tmp")


def test_a_text_that_is_not_unicode_publishes_nothing(sh, root):
    assert "surrogate" in sh.error("publish", root, "testmq", "\udcff")
    assert "UTF-8" in sh.error("publish", root, "testmq", "-", stdin=b"\xff")
    assert not os.listdir(root / "testmq" / "tmp")


def test_create_twice_succeeds_and_delete_twice_says_why_not(sh, root):
    assert sh.ok("create", root, "testmq") == "testmq: exists"
    sh.ok("delete", root, "testmq")
    assert "no such queue" in sh.error("delete", root, "testmq")


@pytest.mark.parametrize("arguments", [[], ["bogus"], ["publish"], ["view", "-x", "/"]])
def test_wrong_usage_ends_with_status_2(sh, arguments):
    status, out, err = sh(*arguments)
    assert (status, out) == (2, "")
    assert "-h" in err


def test_the_version_and_the_help_are_printed(sh):
    assert sh.ok("-v").startswith("ddmq ")
    assert "exit status" in sh.ok("-h")


@pytest.mark.parametrize("command", [command.name for command in COMMANDS] + ["json"])
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


def test_debug_counts_what_a_request_in_json_costs(sh, root):
    request = {"cmd": "view", "root": str(root)}
    status, out, err = sh("json", json.dumps(request), "-d")
    assert (status, json.loads(out)["testmq"]["waiting"]) == (0, 0)
    assert re.match(r"ddmq: \d+ file-system calls: ", err)


def test_debug_shows_where_an_error_came_from(sh, root):
    status, out, err = sh("publish", "-d", root, "nothing", "x\x1b")
    assert (status, out) == (1, "")
    assert err.count("no such queue") == 2
    assert "Traceback (most recent call last)" in err
    assert 'broker.py", line' in err


def test_json_takes_every_command(sh, root):
    def answer(**request):
        return json.loads(sh.ok("json", json.dumps({"root": str(root), **request})))

    answer(cmd="create", queue="q")
    id_ = answer(cmd="publish", queue="q", message={"a": 1}, priority=0)["id"]
    [message] = answer(cmd="consume", queue="q")["messages"]
    assert (message["id"], message["message"]) == (id_, {"a": 1})
    assert answer(cmd="renew", queue="q", id=id_, timeout=60)
    assert answer(cmd="nack", queue="q", id=[id_]) == {"nacked": [id_]}
    assert answer(cmd="consume", queue="q", number=2)["messages"]
    assert answer(cmd="release", queue="q", id=id_)
    assert answer(cmd="consume", queue="q", skip_cleaning=True)["messages"]
    assert answer(cmd="reject", queue="q", id=id_, reason="why")
    assert answer(cmd="dead", queue="q")["dead"][0]["reason"] == "why"
    assert answer(cmd="redrive", queue="q") == {"redriven": 1}
    assert answer(cmd="view", queue="q")["q"]["waiting"] == 1
    assert answer(cmd="purge", queue="q", only="waiting")["q"]["waiting"] == 1
    assert answer(cmd="clean")["q"]["requeued"] == 0
    assert answer(cmd="wait", queue="q", timeout=0) == {"empty": ["q"]}
    assert answer(cmd="config", queue="q", set={"priority": 3})["priority"] == 3
    assert answer(cmd="config", queue="q", unset="priority")["priority"] == 999
    assert answer(cmd="delete", queue="q") == {"deleted": ["q"]}


def test_json_is_read_from_standard_input(sh, root):
    request = json.dumps({"cmd": "view", "root": str(root)}).encode()
    assert "testmq" in json.loads(sh.ok("json", stdin=request))
    assert "testmq" in json.loads(sh.ok("json", "-", stdin=request))


@pytest.mark.parametrize(
    "request_",
    [
        "",
        "{",
        "[]",
        "3",
        "[" * 100_000,
        '{"cmd": "bogus"}',
        '{"cmd": 5}',
        '{"cmd": "view"}',
        '{"cmd": "view", "root": 7}',
        '{"cmd": "view", "root": "ROOT", "colour": "red"}',
        '{"cmd": "view", "root": "ROOT", "queue": {"a": 1}}',
        '{"cmd": "consume", "root": "ROOT", "queue": "testmq", "number": "many"}',
        '{"cmd": "consume", "root": "ROOT", "queue": "testmq", "number": 0}',
        '{"cmd": "publish", "root": "ROOT", "queue": "testmq"}',
        '{"cmd": "publish", "root": "ROOT", "queue": "testmq", "message": "\\ud800"}',
        '{"cmd": "publish", "root": "ROOT", "queue": "no", "message": "x"}',
        '{"cmd": "create", "root": "ROOT", "queue": "q", "mode": "rwx"}',
        '{"cmd": "create", "root": "ROOT", "queue": "q", "mode": "0"}',
    ],
)
def test_json_answers_nonsense_with_one_object(sh, root, request_):
    status, out, err = sh("json", request_.replace("ROOT", str(root)))
    assert (status, err) == (1, "")
    assert json.loads(out)["error"]


def test_json_says_when_there_is_nothing_to_consume(sh, root):
    request = {"cmd": "consume", "root": str(root), "queue": "testmq"}
    status, out, _ = sh("json", json.dumps(request))
    assert (status, json.loads(out)) == (3, {"messages": []})


def test_a_reader_that_has_seen_enough_causes_no_traceback(root):
    broker = Broker(root)
    broker.publish_many("testmq", ["x" * 1000] * 200, durable=False)
    code = f"import sys; from ddmq.cli import main; sys.exit(main({['consume', str(root), 'testmq', '-n', '200']!r}))"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""


def test_an_interrupted_command_ends_with_status_130(sh, root, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Broker, "wait", interrupted)
    assert sh("wait", root, "testmq")[0] == 130


def test_a_file_that_is_not_there_is_named(sh, root, tmp_path):
    told = sh.error("publish", root, "testmq", "--from-file", tmp_path / "none")
    assert "none" in told


def test_a_queue_for_a_group_gets_its_mode_despite_the_umask(sh, tmp_path):
    before = os.umask(0o077)
    try:
        sh.ok("create", "-f", "--mode", "2770", tmp_path / "mq", "q")
        sh.ok("publish", tmp_path / "mq", "q", "x")
    finally:
        os.umask(before)
    modes = {p.stat().st_mode & 0o7777 for p in (tmp_path / "mq" / "q").rglob("*/*")}
    assert modes <= {0o2770, 0o660}
    assert "octal" in sh("create", "--mode", "rwx", tmp_path / "mq", "q")[2]
