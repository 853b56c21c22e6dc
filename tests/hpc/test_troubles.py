"""Each message in a boundary of its own: what is wrong with one concerns no other."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest
from hpc.inside import Hurried, run, worker
from support import Calls, open_files

from ddmq import Broker, QueueNotFound, StorageError
from ddmq.cli.worker import status_of
from ddmq.hpc.results.result import UNFINISHED, try_output
from ddmq.hpc.running.guardian import kill_marked
from ddmq.storage.filesystem import FileSystem

#: The message `good` is done when there is a file `go`; any other does what it says.
OTHERS = 'if [ "$0" = good ]; then : < go; else eval "$0"; fi'
QUICK = {"backoff": (0.01,), "wait": 1}


pytestmark = pytest.mark.usefixtures("patience")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A directory for commands, with a pipe that a good message waits for."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo("go")
    return tmp_path


class Beside:
    """Lets the good message go on when something is told of the other one."""

    def __init__(self, caplog, *words):
        self.went_on = False
        self._caplog, self._words = caplog, words

    def __call__(self):
        said = " ".join(record.message for record in self._caplog.records)
        if not self.went_on and all(word in said for word in self._words):
            os.close(os.open("go", os.O_WRONLY))
            self.went_on = True


@pytest.fixture
def both(root, broker, clock, here, caplog):
    """Run a bad message beside a good one, which ends after `words` were said of the bad one."""

    def both(bad, *words, **options):
        broker.publish_many("q", ["good", bad], requeue_limit=0)
        beside = Beside(caplog, *words)
        summary = run(root, clock, OTHERS, step=beside, slots=2, **QUICK, **options)
        assert beside.went_on
        return summary

    return both


# A result


WRITES = "echo result > $DDMQ_OUTPUT"


@pytest.fixture
def refusing_once(monkeypatch):
    """Return a function that makes one call of `os` fail, once or so, for what a command made."""

    def refuse(name, code, times=1):
        function, left = getattr(os, name), [times]

        def call(first, *arguments, **named):
            path = first if isinstance(first, str) else f"/proc/self/fd/{first}"
            held = named.get("dir_fd", named.get("src_dir_fd"))
            path = path if held is None else f"/proc/self/fd/{held}/{path}"
            below = os.path.realpath(path).partition(f"/{UNFINISHED}/")[2]
            if below.count("/") == 2 and left[0]:
                left[0] -= 1
                raise OSError(code, os.strerror(code))
            return function(first, *arguments, **named)

        monkeypatch.setattr(os, name, call)

    return refuse


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("fsync", errno.EIO),
        ("fsync", errno.ENOSPC),
        ("fsync", errno.EDQUOT),
        ("open", errno.EMFILE),
        ("stat", errno.ESTALE),
        ("rename", errno.EIO),
    ],
)
def test_a_result_that_is_not_taken_gives_its_message_back(
    both, refusing_once, broker, name, code
):
    refusing_once(name, code)
    summary = both(
        WRITES, "its result is not kept", os.strerror(code), output_dir="out"
    )
    assert (summary.numbers["acked"], summary.numbers["released"]) == (2, 1)
    assert (summary.numbers["failed"], summary.stopped) == (0, "")
    [name] = set(os.listdir("out")) - {UNFINISHED}
    assert Path("out", name).read_text() == "result\n"
    assert broker.view("q")["q"] == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("ln -s nowhere $DDMQ_OUTPUT", "a symbolic link that leads nowhere"),
        ("mkfifo $DDMQ_OUTPUT", "neither a file nor a directory"),
        ("mkdir $DDMQ_OUTPUT; : > out/$DDMQ_ID", "but its result was a file"),
        ("ln -s $(printf %0300d 0) $DDMQ_OUTPUT", "no result: "),
    ],
)
def test_an_output_that_is_no_result_is_a_failure_of_its_message(
    both, broker, bad, why
):
    summary = both(bad, why, output_dir="out")
    assert (summary.numbers["acked"], summary.numbers["failed"]) == (1, 1)
    [letter] = broker.dead("q")
    assert letter.message == bad
    assert f"its output out/{UNFINISHED}/{letter.id}." in letter.reason
    assert why in letter.reason


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("stat", errno.EACCES),  # a link into somebody else's directory
        ("stat", errno.ELOOP),
        ("rename", errno.EACCES),  # a directory that was made read-only
        ("rename", errno.EPERM),
    ],
)
def test_an_output_that_is_refused_where_others_are_not_is_a_failure_of_its_message(
    both, refusing_once, broker, name, code
):
    refusing_once(name, code)
    summary = both(WRITES, os.strerror(code), output_dir="out")
    assert (summary.numbers["acked"], summary.numbers["failed"]) == (1, 1)
    assert (summary.stopped, summary.broken) == ("", False)
    assert "no result: " in broker.dead("q")[0].reason
    assert set(os.listdir("out")) == {UNFINISHED}


@pytest.mark.parametrize("fails", ["its output", "its nack at first"])
def test_what_failed_after_the_last_look_is_tried_again_before_the_end(
    root, broker, clock, here, refusing, fails
):
    broker.publish("q", "a", requeue_limit=2)
    bad, fs, options = "ln -s nowhere $DDMQ_OUTPUT", None, {"output_dir": "out"}
    if fails == "its nack at first":
        bad, fs = "exit 1", refusing("rename", errno.EIO, "/work/", times=1)
    summary = run(root, clock, f"echo x >> runs; {bad}", fs=fs, **options)
    assert here.joinpath("runs").read_text() == "x\n" * 3
    assert (summary.numbers["failed"], broker.view("q")["q"].dead) == (1, 1)


def test_a_link_that_leads_somewhere_is_a_result(both):
    summary = both("echo x > real; ln -s $PWD/real $DDMQ_OUTPUT", output_dir="out")
    assert summary.numbers["acked"] == 2


@pytest.mark.root("mount a small file system")
def test_an_output_on_another_file_system_is_a_failure(both, broker, here, mounted):
    mounted(here / "out" / UNFINISHED, "size=64k")
    with pytest.raises(OSError, match="Invalid cross-device link"):
        try_output("out")
    both(WRITES, "on another file system", output_dir="out")
    assert "on another file system" in broker.dead("q")[0].reason


def test_a_command_that_could_not_start_leaves_nothing_where_its_output_would_be(
    root, broker, clock, here
):
    broker.publish("q", "x" * 200_000)
    summary = run(root, clock, "true", output_dir="out")
    assert summary.numbers["failed"] == 1
    assert os.listdir(f"out/{UNFINISHED}") == []


def test_a_link_where_outputs_would_be_ends_the_worker(both, broker, here):
    """Whoever may write to the output directory leads no output, and no removal, elsewhere."""
    os.makedirs("out")
    os.mkdir("home")
    swap = f"rmdir out/{UNFINISHED} || mv out/{UNFINISHED} away; ln -s ../home out/{UNFINISHED}"
    summary = both(swap, "its result is not kept", output_dir="out")
    assert (summary.broken, summary.numbers["failed"]) == (True, 0)
    assert f"out/{UNFINISHED}: Not a directory" in summary.stopped
    assert os.listdir("home") == []


@pytest.mark.parametrize("swapped", ["looked at", "opened"])
def test_an_output_that_is_swapped_for_a_fifo_hangs_nobody(
    both, broker, monkeypatch, swapped
):
    """After its worker looked at it, which then opens it, and before."""
    function, name = {"looked at": (os.stat, "stat"), "opened": (os.open, "open")}[
        swapped
    ]
    left = [True]

    def swap(path, *arguments, **named):
        held = named.get("dir_fd")
        inside = os.path.realpath(f"/proc/self/fd/{held}/{path}")
        is_output = held is not None and f"{UNFINISHED}/" in inside
        looked = function(path, *arguments, **named) if name == "stat" else None
        if is_output and left[0] and os.path.isfile(inside):
            left[0] = False
            os.unlink(inside)
            os.mkfifo(inside)
        return function(path, *arguments, **named) if looked is None else looked

    monkeypatch.setattr(os, name, swap)
    summary = both(WRITES, "neither a file nor a directory", output_dir="out")
    assert (summary.numbers["acked"], summary.numbers["failed"]) == (1, 1)
    [letter] = broker.dead("q")
    assert "neither a file nor a directory" in letter.reason


def test_an_id_that_ddmq_did_not_make_names_no_result(root, broker, clock, here):
    """A member gives a message the name of a file that is in the output directory."""
    Path("out").mkdir()
    Path("out", "thesis").write_text("all of it")
    id_ = broker.publish("q", "a")
    [path] = Path(root, "q", "ready").rglob(f"*.{id_}.*")
    path.rename(path.with_name(path.name.replace(id_, "thesis")))
    summary = run(root, clock, f"echo ran > ran; {WRITES}", output_dir="out")
    assert (summary.numbers["failed"], summary.numbers["acked"]) == (1, 0)
    assert "was not made by ddmq, and names no result" in broker.dead("q")[0].reason
    assert Path("out", "thesis").read_text() == "all of it"
    assert not Path("ran").exists()


def test_what_comes_back_later_is_waited_for(root, broker, clock, here, refusing_once):
    refusing_once("fsync", errno.EIO)
    broker.publish("q", "a")
    before = clock.monotonic()
    summary = run(root, clock, WRITES, output_dir="out")
    assert (summary.numbers["acked"], summary.numbers["released"]) == (1, 1)
    assert clock.monotonic() - before >= 10


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_a_directory_that_takes_no_results_ends_the_worker(
    root, broker, clock, here, refusing_once, code
):
    refusing_once("rename", code, times=2)  # this result, and any other
    broker.publish("q", "a")
    summary = run(root, clock, WRITES, output_dir="out")
    assert (summary.broken, summary.left) == (True, 1)
    assert (summary.numbers["released"], summary.numbers["failed"]) == (1, 0)
    assert os.strerror(code) in summary.stopped


def test_what_is_wrong_with_the_directory_of_results_is_no_messages_fault(both, broker):
    bad = "rm -r out; : > out"
    summary = both(bad, "its result is not kept", "out", output_dir="out")
    assert (summary.broken, summary.numbers["failed"]) == (True, 0)
    assert "its result is not kept: out: Not a directory" in summary.stopped
    [message] = broker.consume("q", 2)[-1:]
    assert (message.message, message.requeue_counter) == (bad, 0)


# The start


@pytest.fixture
def full_disk(tmp_path, mounted):
    path = mounted(tmp_path / "tmp", "size=64k")
    (path / "filler").write_bytes(bytes(60 << 10))
    return path


@pytest.mark.root("mount a small file system")
def test_a_full_tmpdir_gives_a_message_back_and_the_others_go_on(
    root, broker, clock, here, full_disk, caplog
):
    broker.publish_many("q", ["good", "x" * 20_000])
    before = open_files()
    beside = Beside(caplog, "No space left")

    def step():
        beside()
        if beside.went_on:
            (full_disk / "filler").unlink(missing_ok=True)

    command = "read -r text; case $text in good*) : < go;; esac"
    options = {"slots": 2, "stdin": True, "spool": str(full_disk)}
    summary = run(root, clock, command, step=step, **options, **QUICK)
    assert (summary.numbers["acked"], summary.numbers["failed"]) == (2, 0)
    assert summary.numbers["released"] >= 1
    assert str(full_disk) in caplog.text
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.root("mount a small file system")
def test_a_log_that_finds_no_room_is_kept_no_further(
    root, broker, clock, here, full_disk, caplog
):
    broker.publish("q", "a")
    options = {"log_dir": "log", "logs": "all", "spool": str(full_disk)}
    script = "head -c 100000 /dev/zero; echo the end >&2"
    summary = run(root, clock, script, **options)
    assert summary.numbers["acked"] == 1
    assert caplog.text.count("an output is kept no further") == 2
    [log] = here.glob("log/**/*.out")
    assert 0 < log.stat().st_size < 10_000


@pytest.mark.parametrize(
    "part", ["node-no-job-{pid}", "node-no-job-{pid}/000", "{log}"]
)
def test_a_link_among_the_logs_puts_none_elsewhere(
    root, broker, clock, here, caplog, part
):
    """Names of logs are no secret: whoever may write there plants them before they are made."""
    os.mkdir("home")
    Path("home", "thesis").write_text("all of it")
    log = f"node-no-job-{os.getpid()}/000/$DDMQ_ID.{int(clock.time() * 1000)}.out"
    planted = "log/" + part.format(pid=os.getpid(), log=log)
    broker.publish("q", "a")
    target = here / "home" / ("thesis" if "ID" in planted else "")
    script = f"mkdir -p $(dirname {planted}); ln -s {target} {planted}; echo planted"
    summary = run(root, clock, script, log_dir="log", logs="all")
    assert summary.numbers["acked"] == 1
    assert os.listdir("home") == ["thesis"]
    assert Path("home", "thesis").read_text() == "all of it"
    assert "its output could not be kept: log/" in caplog.text


def test_a_command_that_is_gone_ends_no_other(root, broker, clock, here, caplog):
    here.joinpath("mine").write_text("#!/bin/sh\nrm mine\n: < go\n")
    here.joinpath("mine").chmod(0o755)
    broker.publish_many("q", ["a", "b"])
    step = Beside(caplog)

    def once_gone():
        if not here.joinpath("mine").exists():
            step()

    summary = run(root, clock, ["./mine"], step=once_gone)
    assert (summary.broken, summary.numbers["acked"]) == (True, 1)
    assert "./mine: No such file" in summary.stopped
    assert broker.consume("q")[0].requeue_counter == 0


@pytest.mark.parametrize("code", [errno.EIO, errno.ETIMEDOUT, errno.ENOTCONN])
def test_a_command_on_a_file_server_that_stands_still_is_waited_for(
    root, broker, clock, monkeypatch, caplog, code
):
    start, left = os.posix_spawnp, [2]

    def refused(*arguments, **named):
        left[0] -= 1
        if left[0] >= 0:
            raise OSError(code, os.strerror(code))
        return start(*arguments, **named)

    monkeypatch.setattr(os, "posix_spawnp", refused)
    broker.publish("q", "exit 0")
    summary = run(root, clock, 'eval "$0"')
    assert (summary.numbers["acked"], summary.broken) == (1, False)
    assert os.strerror(code) in caplog.text


@pytest.mark.parametrize("options", [{"group": True}, {}], ids=str)
def test_a_tmpdir_that_can_not_be_read_any_more_ends_no_worker(
    root, broker, clock, monkeypatch, caplog, options
):
    """Nor does it fail a message: what was kept there is only told."""

    def refused(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "pread", refused)
    broker.publish_many("q", ["echo told", "sleep 0.1"])

    def step():
        if "group" not in options:  # how far is told of what takes long
            clock.advance(11)

    summary = run(root, clock, 'eval "$0"', step=step, slots=2, **options)
    assert (summary.numbers["acked"], summary.stopped) == (2, "")
    assert ("no more of it can be read" in caplog.text) == bool(options)


@pytest.mark.parametrize("code", [errno.EAGAIN, errno.ETIMEDOUT])
def test_what_follows_has_not_failed_where_this_node_can_start_nothing_for_a_while(
    root, broker, clock, here, monkeypatch, caplog, code
):
    start, left = os.posix_spawnp, [10]

    def refused(name, *arguments, **named):
        left[0] -= name == "touch"
        if name == "touch" and left[0] >= 0:
            raise OSError(code, os.strerror(code))
        return start(name, *arguments, **named)

    monkeypatch.setattr(os, "posix_spawnp", refused)
    broker.publish("q", "exit 0")
    summary = run(root, clock, 'eval "$0"', then=("touch", "followed"))
    assert (summary.then_has_failed, summary.then_is_left) == (False, False)
    assert (here / "followed").exists()
    assert os.strerror(code) in caplog.text


# The queue


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        ("rm -r $DDMQ_ROOT/other", "/other: no such queue"),
        ("echo layout: 99 > $DDMQ_ROOT/other/ddmq.yaml", "layout 99 needs"),
        ("echo durable: 7 > $DDMQ_ROOT/other/ddmq.yaml", "it has no line `layout"),
    ],
)
def test_a_message_that_can_not_be_moved_has_failed(both, broker, spoil, why):
    broker.create_queue("other")
    bad = f"{spoil}; exit 7"
    summary = both(bad, "it can't be moved", on_exit={7: "other"})
    assert (summary.numbers["acked"], summary.numbers["failed"]) == (1, 1)
    reason = broker.dead("q")[0].reason
    assert "exit status 7" in reason
    assert "it can't be moved: " in reason
    assert why in reason


@pytest.mark.parametrize(
    ("verb", "where"), [("rename", "/ready/"), ("unlink", "/work/")]
)
def test_without_permission_it_ends_at_once_and_gives_back_what_it_can(
    root, broker, clock, refusing, verb, where
):
    broker.publish_many("q", ["exit 0", "exec sleep 100"], requeue_limit=0)
    fs = refusing(verb, errno.EROFS, where)
    with pytest.raises(StorageError, match="mounted read-only"):
        run(root, clock, 'eval "$0"', fs=fs, slots=2)
    messages = broker.consume("q", 2)
    assert [message.requeue_counter for message in messages] == [0, 0]


def test_what_can_not_be_given_back_keeps_nothing_else_back(
    root, broker, clock, caplog
):
    broker.publish_many("q", ["exit 0", *["exec sleep 100"] * 2], requeue_limit=0)
    refused = []

    def call(_, name, function, arguments):
        """Refuse the first ack, and the first release."""
        first = name in ("unlink", "rename") and name not in refused
        if first and "/work/" in arguments[0]:
            refused.append(name)
            raise OSError(errno.EACCES, os.strerror(errno.EACCES), arguments[0])
        return function(*arguments)

    with pytest.raises(StorageError, match="permission"):
        run(root, clock, 'eval "$0"', fs=FileSystem(Calls(call)), slots=3)
    assert refused == ["unlink", "rename"]
    assert "it comes back when its lease is over" in caplog.text
    assert broker.view("q")["q"] == (1, 1, 0, 0)  # what succeeded is acked


class Unkillable:
    """Lets one command of a worker hang in the kernel, where no signal reaches it."""

    def __init__(self, monkeypatch, text, send=lambda number: None):
        self._patch, self._text, self._send = monkeypatch, text, send
        self.pids = []

    def hang(self, worker):
        begin = worker._settler.begin

        def begun(execution):
            begin(execution)
            if execution.message.message == self._text:
                self.pids.append(execution.command._process.pid)
                execution.command._process._send = self._send

        def kill(mark, *known):
            if not set(known) & set(self.pids):
                kill_marked(mark, *known)

        self._patch.setattr(worker._settler, "begin", begun)
        self._patch.setattr("ddmq.hpc.running.process.kill_marked", kill)

    def end(self):
        for pid in self.pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def refuse_to_send(number):
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


@pytest.mark.parametrize("send", [lambda number: None, refuse_to_send])
def test_a_command_that_can_not_be_killed_keeps_no_message_back(
    root, broker, clock, monkeypatch, caplog, send
):
    broker.publish_many("q", ["exec sleep 101", "exec sleep 100"], requeue_limit=0)
    stuck = Unkillable(monkeypatch, "exec sleep 101", send)
    with Hurried(clock) as signals:
        mine = Broker(root, clock=clock)
        made = worker(mine, root, signals, clock, 'eval "$0"', slots=2, grace=0.0)
        stuck.hang(made)

        def drain():
            signals.drain_requested = (
                len(made._slots.running) == 2 or signals.drain_requested
            )

        signals.step = drain
        if send is refuse_to_send:
            monkeypatch.setattr(made, "_drain", lambda: None)
        summary = made.run()
    stuck.end()
    assert (summary.numbers["released"], summary.numbers["lost"]) == (1, 1)
    assert broker.view("q")["q"] == (1, 1, 0, 0)
    assert [m.message for m in broker.consume("q")] == ["exec sleep 100"]
    assert "is left: it comes back when its lease is over" in caplog.text


def test_a_queue_that_is_deleted_ends_it(root, broker, clock, caplog):
    broker.publish_many("q", ["rm -r $DDMQ_ROOT/q", "exec sleep 100"])
    with pytest.raises(
        QueueNotFound, match="/q: the queue is gone, with all its messages"
    ):
        run(root, clock, 'eval "$0"', slots=2)
    assert caplog.messages == []  # which says it all


class Away:
    """A root that leaves for a second and a half, and answers `code` meanwhile."""

    def __init__(self, root, clock, code):
        self._root, self._away, self._clock = root, root.with_name("away"), clock
        self._code, self._back_at = code, None

    def leave(self):
        self._root.rename(self._away)
        self._back_at = self._clock.monotonic() + 1.5

    def step(self):
        if self._back_at is not None and self._clock.monotonic() >= self._back_at:
            self._away.rename(self._root)
            self._back_at = None

    def call(self, _, name, function, arguments):
        path = str(arguments[0])
        if self._back_at is not None and f"{path}/".startswith(f"{self._root}/"):
            raise OSError(self._code, os.strerror(self._code), path)
        return function(*arguments)


@pytest.mark.parametrize("code", [errno.ENOENT, errno.ESTALE])
@pytest.mark.parametrize("when", ["consume", "is_empty", "ack", "nack", "release"])
def test_while_the_root_is_away_it_waits_and_says_so(
    root, broker, clock, monkeypatch, caplog, when, code
):
    broker.publish("q", {"nack": "exit 1", "release": "exit 75"}.get(when, "exit 0"))
    away = Away(root, clock, code)
    mine = Broker(root, clock=clock, fs=FileSystem(Calls(away.call)))
    method, asked = getattr(mine, when), []

    def ask(*arguments, **named):
        asked.append(when)
        if len(asked) == 1:
            away.leave()
        return method(*arguments, **named)

    monkeypatch.setattr(mine, when, ask)
    options = {"until": "done", "retries": 1, "backoff": (0.01,), "max_messages": 2}
    with Hurried(clock, away.step) as signals:
        summary = worker(mine, root, signals, clock, 'eval "$0"', **options).run()
    assert len(asked) > 1
    assert f"{root}: no ddmq root" in caplog.text
    assert (summary.numbers["lost"], summary.broken) == (0, False)
    assert broker.view("q")["q"].work == 0


class Refused:
    """Lets the file server answer EIO for everything in the root, while that is asked for."""

    def __init__(self, root, *names):
        self.is_on, self.times, self._root, self._names = False, 10**9, root, names

    def call(self, _, name, function, arguments):
        is_there = str(arguments[0]).startswith(f"{self._root}/")
        if self.is_on and self.times and is_there and name in (self._names or (name,)):
            self.times -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(arguments[0]))
        return function(*arguments)


def test_who_ends_while_the_file_server_is_away_claims_no_empty_queue(
    root, broker, clock
):
    """Its status is that of a worker that leaves messages, so that a chain of jobs goes on."""
    broker.publish("q", "exit 0")
    away = Refused(root)
    mine = Broker(root, clock=clock, fs=FileSystem(Calls(away.call)))
    mine.settings("q")
    away.is_on = True

    def step():
        signals.drain_requested = clock.monotonic() - began > 100

    began = clock.monotonic()
    with Hurried(clock, step, pace=5) as signals:
        summary = worker(mine, root, signals, clock, 'eval "$0"').run()
    assert not any(summary.numbers.values())
    assert summary.left is None
    assert status_of(summary) == 5


SUCCEEDS_AT_LAST = "trap 'exit 0' TERM; sleep 600 & wait"


@pytest.mark.parametrize("times", [1, 10**9])
def test_what_can_not_be_given_back_in_the_end_is_left(root, broker, clock, times):
    """Or it is tried again within the grace."""
    broker.publish_many("q", [SUCCEEDS_AT_LAST] * 3)
    refused = Refused(root, "rename")
    refused.times = times

    def step():
        if broker.view("q")["q"].work == 3 and not refused.is_on:
            refused.is_on = signals.drain_requested = True

    mine = Broker(root, clock=clock, fs=FileSystem(Calls(refused.call)))
    with Hurried(clock, step, pace=0.01) as signals:
        known = [0.1] * 20  # so all are taken at once
        summary = worker(mine, root, signals, clock, 'eval "$0"', known, grace=3).run()
    assert (summary.numbers["acked"], summary.left) == (1, 2)
    assert status_of(summary) == 5
    assert broker.view("q")["q"][:2] == ((2, 0) if times == 1 else (0, 2))


def test_what_was_not_started_is_no_loss_where_the_file_server_was_away(
    root, broker, clock, here
):
    """So it is run, even if it may be run only once."""
    broker.publish_many("q", ["good", "true", "true"], requeue_limit=0)
    refused, began = Refused(root), clock.monotonic()

    def step():
        passed = clock.monotonic() - began
        refused.is_on = 9 < passed < 14  # when it gives back what found no slot
        if passed > 15 and not gone:
            gone.append(os.close(os.open("go", os.O_WRONLY)))

    gone = []
    mine = Broker(root, clock=clock, fs=FileSystem(Calls(refused.call)))
    with Hurried(clock, step, pace=5, busy=0.1) as signals:
        known = [0.1] * 20  # so all are taken at once
        made = worker(mine, root, signals, clock, OTHERS, known, until="done")
        summary = made.run()
    assert broker.dead("q") == []
    assert summary.numbers["acked"] == 3


def test_a_worker_ends_at_no_garbage_that_takes_more_than_one_call(
    root, broker, clock, here
):
    """Its slot is free, and nothing is found for a while: that is no empty queue."""
    directory = root / "q" / "ready" / "0" / f"{1:019d}"
    directory.mkdir(parents=True)
    for n in range(300):
        (directory / f"{n:019d}.{n:020x}.0-0").write_bytes(b"")
    (directory / f"{300:019d}.{'b' * 20}.0-0").write_text('{"message": "touch done"}')

    def slow(_, name, function, arguments):
        if name == "rename":
            clock.advance(0.005)
        return function(*arguments)

    summary = run(root, clock, 'eval "$0"', fs=FileSystem(Calls(slow)))
    assert summary.numbers["acked"] == 1
    assert (here / "done").exists()
    assert broker.view("q")["q"] == (0, 0, 0, 300)


@pytest.mark.parametrize("losses", [2, 3])
def test_a_message_that_was_lost_too_often_is_not_even_read(
    root, broker, clock, here, losses
):
    broker.publish("q", "true")
    [path] = (root / "q" / "ready").rglob("*.0-0")
    path.rename(f"{path}"[:-1] + str(losses))
    opened = []

    def watched(_, name, function, arguments):
        if name == "open" and ".0-" in arguments[0]:
            opened.append(arguments[0])
        return function(*arguments)

    summary = run(root, clock, 'eval "$0"', fs=FileSystem(Calls(watched)), retries=2)
    assert bool(opened) == (losses == 2)
    assert summary.numbers["acked"] == (losses == 2)
    assert summary.numbers["failed"] == (losses == 3)
    reasons = [letter.reason for letter in broker.dead("q")]
    assert reasons == ["tried too often: 0 failures, 3 losses"] * (losses == 3)


def test_that_what_commands_print_is_lost_is_told_once(root, broker, clock, caplog):
    broker.publish_many("q", ["a", "b", "c"])
    before = os.dup(1)
    with open("/dev/full", "w") as full:
        os.dup2(full.fileno(), 1)
    try:
        summary = run(root, clock, 'echo "$DDMQ_MESSAGE"', slots=2)
    finally:
        os.dup2(before, 1)
        os.close(before)
    assert summary.numbers["acked"] == 3
    told = (
        "standard output: No space left on device; some of what commands print is lost"
    )
    assert caplog.messages.count(told) == 1
