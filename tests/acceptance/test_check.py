"""`ddmq check` with real processes: on this file system, and on some that lie."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from support import in_full

from ddmq.cli import main as cli
from ddmq.diagnose.check import probes, session, storm
from ddmq.diagnose.check.session import Place, check
from ddmq.storage.filesystem import FileSystem

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def records(tmp_path, monkeypatch):
    """Let the records go where we can see that they go away."""
    path = tmp_path / "records"
    path.mkdir()
    monkeypatch.setenv("TMPDIR", str(path))
    monkeypatch.setattr("tempfile.tempdir", str(path))
    yield path
    assert list(path.iterdir()) == []


@pytest.fixture
def directory(tmp_path):
    path = tmp_path / "scratch"
    path.mkdir()
    yield path
    assert list(path.iterdir()) == []


@pytest.fixture
def brief(monkeypatch):
    """Check with less of everything."""
    monkeypatch.setattr(storm, "MESSAGES", 20)
    monkeypatch.setattr(storm, "KILLS", 2)
    monkeypatch.setattr(session, "_LEASE", 1.0)
    monkeypatch.setattr(session, "_LEAD", 0.05)
    monkeypatch.setattr(probes, "NAMES", 100)
    monkeypatch.setattr(probes, "_EARLY_SECONDS", 0.1)


class Lying:
    """System calls of which some do not say the truth."""

    def __init__(self, **lies):
        self._lies = lies

    def __getattr__(self, name):
        real = getattr(os, name)
        lie = self._lies.get(name)
        if lie is None:
            return real
        return lambda *given, **named: lie(real, *in_full(name, given, named))


def found_by(directory, *, flock=None, patience=20, **lies):
    """Return levels and texts of what a check finds where calls lie."""
    place = Place(str(directory), patience=patience, fs=FileSystem(Lying(**lies)))
    if flock is not None:
        place = place._replace(flock=flock)
    return check(place, {}, None, lambda _: None)


def levels(report):
    return {finding.name: finding.level for finding in report.findings}


def bad(report):
    return {finding.name for finding in report.findings if finding.level == "bad"}


def test_this_file_system_is_safe_and_nothing_is_left(directory, capsys):
    assert cli.main(["check", str(directory)]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1].startswith(f"SAFE: {directory} keeps what ddmq needs")
    assert "0 lost, 0 acked twice" in " ".join(out.split())
    assert "won by both" not in out


def test_programs_get_the_figures(directory, capsys, brief):
    assert cli.main(["check", "--format", "json", str(directory)]) == 0
    told = json.loads(capsys.readouterr().out)
    figures = {finding["name"]: finding["figures"] for finding in told["findings"]}
    assert told["safe"] is True
    assert figures["race: rename"]["names"] == probes.NAMES
    assert figures["messages"]["published"] >= 2 * 20 - 2 * 2
    assert figures["messages"]["kills"] == 2 * 2
    assert figures["listing"]["median"] < 1
    assert figures["space"]["bytes"] > 0


def test_two_paths_to_one_directory_are_checked_together(directory, tmp_path, brief):
    (tmp_path / "other").symlink_to(directory)
    report = check(
        Place(str(directory), str(tmp_path / "other")), {}, None, lambda _: None
    )
    assert report.is_safe
    assert "by both mounts" in report.verdict()


# File systems that lie


def rename_that_always_wins(rename, source, target):
    try:
        rename(source, target)
    except FileNotFoundError:
        if "/race-" not in source:
            raise


def test_two_winners_of_one_rename_are_found(directory, brief):
    report = found_by(directory, rename=rename_that_always_wins)
    assert "race: rename" in bad(report)
    assert report.verdict().startswith("NOT SAFE")
    assert "won by both" in str(report)
    assert "are not there" in " ".join(str(report).split())


def rename_that_copies(rename, source, target):
    """Rename as an object store does: so slowly that two can do it."""
    if "/race-" not in source:
        rename(source, target)
        return
    os.stat(source)
    with open(target, "xb"):
        time.sleep(0.002)
    try:
        os.unlink(source)
    except FileNotFoundError:
        return


def test_a_rename_that_copies_and_deletes_is_found(directory, brief):
    assert "race: rename" in bad(found_by(directory, rename=rename_that_copies))


def mkdir_that_always_wins(mkdir, path, *mode):
    try:
        mkdir(path, *mode)
    except FileExistsError:
        if "/race-" not in path:
            raise


def test_two_winners_of_one_mkdir_are_found(directory, brief):
    assert bad(found_by(directory, mkdir=mkdir_that_always_wins)) == {"race: mkdir"}


def open_that_ignores_excl(open_, path, flags, *mode):
    if "/race-create" in path:
        flags &= ~os.O_EXCL
    return open_(path, flags, *mode)


def test_two_winners_of_one_exclusive_create_are_found(directory, brief):
    assert bad(found_by(directory, open=open_that_ignores_excl)) == {"race: create"}


def stale_listing(part):
    def listdir(real, path):
        return [] if part in path else real(path)

    return listdir


@pytest.mark.parametrize(("part", "name"), [("/pong", "listing"), ("/talk", "")])
def test_listings_that_never_change_are_found(directory, brief, part, name):
    report = found_by(directory, patience=0.3, listdir=stale_listing(part))
    assert not report.is_safe
    assert name in {"", *bad(report)}


def rename_that_misses(rename, source, target):
    if source.endswith("/listed/007"):
        raise FileNotFoundError(errno.ENOENT, "gone", source)
    rename(source, target)


def test_a_rename_that_does_not_find_what_a_listing_showed_is_found(directory, brief):
    assert "rename" in bad(found_by(directory, rename=rename_that_misses))


def open_that_remembers_what_was_missing(open_, path, flags, *mode):
    if path.endswith("/early-open/name"):
        raise FileNotFoundError(errno.ENOENT, "cached", path)
    return open_(path, flags, *mode)


def test_a_name_that_stays_missing_is_found(directory, brief):
    report = found_by(directory, open=open_that_remembers_what_was_missing)
    assert bad(report) == {"early look-up"}


def test_a_name_that_is_missing_until_its_directory_is_opened_is_all_right(
    directory, brief
):
    opened = set()

    def forgetful(open_, path, flags, *mode):
        opened.add(path)
        if path.endswith("/early-open/name") and os.path.dirname(path) not in opened:
            raise FileNotFoundError(errno.ENOENT, "cached", path)
        return open_(path, flags, *mode)

    report = found_by(directory, open=forgetful)
    assert levels(report)["early look-up"] == "ok"
    assert report.is_safe


def refuse(code):
    def flock(descriptor, how):
        raise OSError(code, os.strerror(code))

    return flock


@pytest.mark.parametrize(
    ("flock", "words"),
    [
        (lambda descriptor, how: None, "keeps nobody out"),
        (refuse(errno.ENOSYS), "can't be locked"),
        (refuse(errno.EWOULDBLOCK), "stays locked"),
    ],
)
def test_locks_that_do_not_lock_are_noted_and_break_nothing(
    directory, brief, flock, words
):
    report = found_by(directory, flock=flock)
    assert levels(report)["locks"] == "note"
    assert words in " ".join(str(report).split())
    assert report.is_safe
    assert re.search("see the (note|[0-9]+ notes)", report.verdict())


def fsync_of_files_only(fsync, descriptor):
    import stat

    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    fsync(descriptor)


def test_directories_that_can_not_be_synced_are_noted(directory, brief):
    report = found_by(directory, fsync=fsync_of_files_only)
    assert levels(report)["fsync"] == "note"


def test_a_disk_that_fails_is_said_and_nothing_is_left(directory, brief):
    def fail(fsync, descriptor):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    report = found_by(directory, fsync=fail)
    assert not report.is_safe
    assert os.strerror(errno.EIO) in str(report)


def claims_that_two_win(rename, source, target):
    """Let a competitor's rename of a message that is gone succeed, with a copy of it."""
    try:
        rename(source, target)
    except FileNotFoundError:
        if "/ready/" not in source or "/storm/work/" not in target:
            raise
        name = os.path.basename(source)
        work = os.path.dirname(target)
        for other in os.listdir(work):
            if name in other:
                shutil.copyfile(f"{work}/{other}", target)
                return
        raise


def test_messages_that_two_consumers_get_are_found(directory, brief, monkeypatch):
    monkeypatch.setattr(storm, "MESSAGES", 150)
    report = found_by(directory, rename=claims_that_two_win)
    assert bad(report) == {"messages"}
    assert report.findings[-1].figures["consumed_twice"] > 0


def unlink_that_forgets(unlink, path):
    """Acks that are not kept: what was acked comes back."""
    if "/mq/storm/work/" not in path:
        unlink(path)


def test_messages_that_come_back_are_found(directory, brief):
    report = found_by(directory, patience=3, unlink=unlink_that_forgets)
    assert bad(report) == {"messages"}
    figures = report.findings[-1].figures
    assert figures["acked_twice"] + figures["left"] > 0


def rename_that_loses(rename, source, target):
    rename(source, target)
    if "/ready/" in target and "/mq/storm/tmp/" in source and target.endswith("0-0"):
        os.unlink(target)


def test_messages_that_are_lost_are_found(directory, brief):
    report = found_by(directory, rename=rename_that_loses)
    assert bad(report) == {"messages"}
    assert report.findings[-1].figures["lost"] > 0


# Several nodes, and untimely ends


def started(*arguments, **environ):
    return subprocess.Popen(
        [sys.executable, "-m", "ddmq", "check", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **environ},
        text=True,
        start_new_session=True,
    )


def ended(process):
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def until(claim):
    deadline = time.monotonic() + 30
    while not claim():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def srun(rank, size=2):
    return {
        "SLURM_JOB_ID": "17",
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NUM_TASKS": str(size),
        "SLURM_PROCID": str(rank),
    }


def test_processes_of_one_srun_find_each_other_and_one_reports(directory):
    processes = [started(directory, **srun(rank, 3)) for rank in (2, 1, 0)]
    results = [ended(process) for process in processes]
    assert [(status, err) for status, _, err in results] == [(0, "")] * 3
    third, second, first = (out for _, out, _ in results)
    assert (third, second) == ("", "")
    assert "SAFE" in first


def test_clients_that_nobody_launched_find_each_other_when_told_to(directory):
    processes = [started(directory, "--clients", 2) for _ in range(2)]
    results = [ended(process) for process in processes]
    assert [status for status, _, _ in results] == [0, 0]
    assert sum("SAFE" in out for _, out, _ in results) == 1


def test_who_waits_in_vain_says_so_and_checks_alone(directory):
    status, out, _ = ended(started(directory, "--timeout", 1, **srun(1)))
    assert status == 0
    assert "No other client came within 1 seconds" in out
    assert "SAFE" in out


def test_a_job_of_many_tasks_that_did_not_use_srun_is_alone(directory):
    status, out, _ = ended(started(directory, SLURM_NTASKS="8", SLURM_PROCID="0"))
    assert status == 0
    assert "another on" in out


@pytest.mark.parametrize(
    ("number", "after"),
    [
        (signal.SIGINT, 0.0),
        (signal.SIGINT, 0.8),
        (signal.SIGINT, 2.4),
        (signal.SIGTERM, 0.8),
        (signal.SIGHUP, 2.4),
    ],
)
def test_an_interrupted_check_leaves_nothing_and_nobody_behind(
    directory, number, after
):
    process = started(directory)
    until(lambda: list(directory.iterdir()))
    time.sleep(after)
    process.send_signal(number)
    assert ended(process)[::2] == (130, "")
    # Its pipes are closed, so whoever had them is gone, too; the fixtures look for files.


def test_processes_of_a_check_that_was_killed_end_by_themselves(tmp_path, records):
    (tmp_path / "killed").mkdir()
    process = started(tmp_path / "killed")
    until(lambda: list((tmp_path / "killed").rglob("storm")))  # its last step
    time.sleep(0.3)
    process.kill()
    assert ended(process)[0] == -signal.SIGKILL  # communicate waits for all of them
    for left in (*records.iterdir(), *(tmp_path / "killed").iterdir()):
        long_ago = time.time() - 2 * 86400
        os.utime(left, (long_ago, long_ago))
    assert cli.main(["check", str(tmp_path / "killed")]) == 0
    assert list((tmp_path / "killed").iterdir()) == []


def test_a_check_that_died_lately_may_be_somebody_elses_and_stays(tmp_path, brief):
    (tmp_path / ".ddmq-check-1").mkdir()
    assert check(Place(str(tmp_path)), {}, None, lambda _: None).is_safe
    assert (tmp_path / ".ddmq-check-1").is_dir()
