"""System calls and their manners, on real files."""

from __future__ import annotations

import errno
import os
import stat
import time

import pytest
from support import Calls, counting, failing, losing_reply, remembering_missing

from ddmq.storage.filesystem import CountedCalls, FileSystem, Status

fs = FileSystem()


@pytest.fixture
def here(tmp_path):
    return str(tmp_path)


@pytest.fixture
def _strict_umask(umask):
    umask(0o077)


def mode_of(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


def short_writes(most):
    def call(_, name, function, arguments):
        if name == "write":
            arguments = (arguments[0], arguments[1][:most])
        return function(*arguments)

    return FileSystem(Calls(call))


def test_a_rename_moves_a_file(tmp_path):
    (tmp_path / "a").write_text("x")
    assert fs.rename(f"{tmp_path}/a", f"{tmp_path}/b") is True
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


def test_a_rename_whose_reply_was_lost_did_happen(tmp_path):
    (tmp_path / "a").touch()
    assert FileSystem(losing_reply(0)).rename(f"{tmp_path}/a", f"{tmp_path}/b") is True


@pytest.mark.parametrize("code", [errno.ENOENT, errno.ESTALE])
def test_a_rename_of_what_is_gone_did_not_happen(here, code):
    assert FileSystem(failing(0, code)).rename(f"{here}/a", f"{here}/b") is False


def test_a_rename_into_a_missing_directory_names_the_directory(tmp_path):
    (tmp_path / "a").touch()
    with pytest.raises(FileNotFoundError) as caught:
        fs.rename(f"{tmp_path}/a", f"{tmp_path}/gone/b")
    assert caught.value.filename == f"{tmp_path}/gone"
    assert (tmp_path / "a").exists()


def test_another_nodes_removal_of_the_target_directory_means_that_it_is_missing(here):
    calls = Calls(lambda *_: (_ for _ in ()).throw(OSError(errno.ESTALE, "stale")))
    with pytest.raises(FileNotFoundError):
        FileSystem(calls).rename(f"{here}/a", f"{here}/gone/b")


def test_a_rename_that_is_refused_raises(tmp_path):
    (tmp_path / "a").touch()
    (tmp_path / "b").mkdir()
    with pytest.raises(IsADirectoryError):
        fs.rename(f"{tmp_path}/a", f"{tmp_path}/b")


def test_an_unlink_tells_whether_there_was_a_file(tmp_path):
    (tmp_path / "a").touch()
    assert fs.unlink(f"{tmp_path}/a") is True
    assert fs.unlink(f"{tmp_path}/a") is False
    assert FileSystem(failing(0, errno.ESTALE)).unlink(f"{tmp_path}/a") is False


def test_an_unlink_that_is_refused_raises(here):
    with pytest.raises(OSError, match=r"directory|permitted"):
        fs.unlink(here)


def test_a_name_exists_or_not(tmp_path):
    (tmp_path / "link").symlink_to("nowhere")
    assert fs.exists(f"{tmp_path}/link") is True
    assert fs.exists(f"{tmp_path}/b") is False


def test_nothing_is_said_of_names_in_a_missing_directory(here):
    with pytest.raises(FileNotFoundError):
        fs.exists(f"{here}/gone/a")


def test_the_directory_is_opened_before_a_name_is_looked_up(tmp_path):
    calls = counting()
    FileSystem(calls).exists(f"{tmp_path}/a")
    assert calls.made.index("open") < calls.made.index("lstat")


def test_a_status_tells_files_directories_and_links_apart(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to(tmp_path)
    file, link = fs.status(f"{tmp_path}/file"), fs.status(f"{tmp_path}/link")
    assert (file.is_file, file.is_directory, file.size) == (True, False, 5)
    assert (link.is_file, link.is_directory) == (False, False)
    assert fs.status(str(tmp_path)).is_directory
    assert fs.status(f"{tmp_path}/gone") is None


def test_a_status_that_is_refused_raises(here):
    with pytest.raises(PermissionError):
        FileSystem(failing(0, errno.EACCES)).status(here)


def test_a_listing_leaves_hidden_names_out(tmp_path):
    for name in ("a", "b", ".nfs000", ".a.swp"):
        (tmp_path / name).touch()
    assert sorted(fs.listing(str(tmp_path))) == ["a", "b"]
    assert sorted(fs.hidden(str(tmp_path))) == [".a.swp", ".nfs000"]


def test_what_is_no_directory_is_not_listed(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("file", "link"):
        with pytest.raises(NotADirectoryError) as caught:
            fs.listing(f"{tmp_path}/{name}")
        assert caught.value.filename == f"{tmp_path}/{name}"
    with pytest.raises(FileNotFoundError):
        fs.listing(f"{tmp_path}/gone")


def test_a_directory_that_another_node_removed_is_missing(tmp_path):
    path = tmp_path / "a"
    path.mkdir()

    def call(_, name, function, arguments):
        if name != "listdir":
            return function(*arguments)
        if path.exists():
            path.rmdir()
        raise OSError(errno.ESTALE, "stale", arguments[0])

    with pytest.raises(FileNotFoundError) as caught:
        FileSystem(Calls(call)).listing(str(path))
    assert caught.value.filename == str(path)


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("name", ["listdir", "rename", "readlink", "fstat"])
def test_what_is_there_is_not_called_gone_though_it_is_said_to_be_stale(
    tmp_path, refusing, name, times
):
    """It is asked about again, or the error is raised: ESTALE proves nothing."""
    (tmp_path / "a").touch()
    (tmp_path / "l").symlink_to("target")
    here = str(tmp_path)
    fs = refusing(name, errno.ESTALE, times=times)
    ask = {
        "listdir": lambda: sorted(fs.listing(here)) == ["a", "l"],
        "rename": lambda: fs.rename(f"{here}/a", f"{here}/b"),
        "readlink": lambda: fs.named_by(f"{here}/l") == "target",
        "fstat": lambda: fs.is_alive(f"{here}/a"),
    }[name]
    if times == 2 and name in ("listdir", "readlink"):
        with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
            ask()
    assert ask()


@pytest.mark.parametrize("call", ["lstat", "open"])
@pytest.mark.parametrize("ask", ["status", "named_by", "exists"])
def test_a_server_that_calls_all_stale_is_not_believed_that_a_name_is_gone(
    tmp_path, refusing, call, ask
):
    """What it says of a name must not be taken for proof while the listing above shows it."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "l").symlink_to("target")
    fs = refusing(call, errno.ESTALE, str(tmp_path / "a"), times=9)
    link = f"{tmp_path}/a/l"
    if (call, ask) not in (
        ("open", "status"),
        ("lstat", "named_by"),
        ("lstat", "exists"),
    ):
        with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
            getattr(fs, ask)(link)
    assert getattr(FileSystem(), ask)(link)
    (tmp_path / "a" / "l").unlink()
    assert not getattr(refusing(call, errno.ESTALE, link), ask)(link)


def test_what_nobody_may_list_is_not_called_gone(tmp_path):
    """Only a listing could prove it, of a directory that we may pass through."""

    def call(_, name, function, arguments):
        if name == "lstat":
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), arguments[0])
        if name == "open":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), arguments[0])
        return function(*arguments)

    with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
        FileSystem(Calls(call)).status(f"{tmp_path}/a")


def test_a_listing_that_is_refused_raises(here, refusing):
    with pytest.raises(PermissionError):
        refusing("listdir", errno.EACCES).listing(here)


@pytest.mark.parametrize("sync", [True, False])
def test_a_new_file_holds_all_the_data(tmp_path, sync):
    data = os.urandom(100_000)
    fs.create(f"{tmp_path}/a", data, sync=sync)
    assert (tmp_path / "a").read_bytes() == data


def test_a_new_file_is_synced_only_where_that_is_asked(tmp_path):
    for sync in (True, False):
        calls = counting()
        FileSystem(calls).create(f"{tmp_path}/{sync}", b"x", sync=sync)
        assert ("fsync" in calls.made) is sync


def test_short_writes_are_completed(tmp_path):
    data = os.urandom(1000)
    short_writes(7).create(f"{tmp_path}/a", data, sync=False)
    assert (tmp_path / "a").read_bytes() == data


def test_what_exists_is_never_overwritten(tmp_path):
    (tmp_path / "a").write_text("old")
    (tmp_path / "link").symlink_to("target")
    for name in ("a", "link"):
        with pytest.raises(FileExistsError):
            fs.create(f"{tmp_path}/{name}", b"new", sync=False)
    assert (tmp_path / "a").read_text() == "old"
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("mode", [None, 0o660])
def test_of_names_that_only_we_can_know_no_file_is_made_exclusively(tmp_path, mode):
    """Else an NFS server keeps something else in its times for a while."""

    def call(_, name, function, arguments):
        if name == "open":
            flags.append(arguments[1])
        if name == "mknod":
            raise PermissionError(errno.EPERM, "no special files here")
        return function(*arguments)

    flags: list[int] = []
    watched = FileSystem(Calls(call))
    watched.create_own(f"{tmp_path}/a", b"data", sync=False, mode=mode)
    watched.touch(f"{tmp_path}/b", mode)
    watched.birth_ns(f"{tmp_path}/c")
    assert len(flags) == 3
    assert not any(flag & os.O_EXCL for flag in flags)
    assert all(flag & os.O_NOFOLLOW for flag in flags)
    assert (tmp_path / "a").read_bytes() == b"data"
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_a_name_that_was_guessed_makes_nobody_wait_and_leads_nowhere(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("target")
    for name in ("pipe", "link"):
        with pytest.raises(OSError, match=name):
            fs.create_own(f"{tmp_path}/{name}", b"data", sync=False)
    assert not (tmp_path / "target").exists()


@pytest.mark.usefixtures("_strict_umask")
def test_the_umask_decides_on_a_new_file_unless_a_mode_is_given(here):
    fs.create(f"{here}/a", b"", sync=False)
    fs.create(f"{here}/b", b"", sync=False, mode=0o664)
    assert (mode_of(f"{here}/a"), mode_of(f"{here}/b")) == (0o600, 0o664)


@pytest.mark.parametrize("call", ["fchmod", "write", "fsync", "close"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_file_that_could_not_be_written_is_not_there(tmp_path, refusing, call, code):
    full = refusing(call, code, done=call == "close")
    with pytest.raises(OSError, match=os.strerror(code)) as caught:
        full.create(f"{tmp_path}/a", b"data", sync=True, mode=0o600)
    assert caught.value.filename == f"{tmp_path}/a"
    assert caught.value.errno == code
    assert list(tmp_path.iterdir()) == []


def test_discarding_never_fails(tmp_path):
    (tmp_path / "a").touch()
    fs.discard(f"{tmp_path}/a")
    fs.discard(f"{tmp_path}/a")
    fs.discard(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 200_000])
def test_a_file_is_read_to_its_end(tmp_path, size):
    data = os.urandom(size)
    (tmp_path / "a").write_bytes(data)
    assert fs.read(f"{tmp_path}/a", 10**6) == data


@pytest.mark.parametrize(
    ("data", "reads"),
    [
        (b'{"message":1}\n', 1),
        (b'{"message":1}', 2),
        (b'{"message":\n{"a":1}\n}\n', 2),
        (b"", 1),
        (b"x" * 65_534 + b"}\n", 2),  # as long as one call reads: there may be more
        (b"x" * 65_534 + b"}\n" + b"y" * 99, 3),
    ],
    ids=["whole", "no end", "lines", "empty", "a chunk", "longer"],
)
def test_what_ends_as_a_whole_file_does_is_read_by_one_call(tmp_path, data, reads):
    (tmp_path / "a").write_bytes(data)
    calls = CountedCalls()
    assert FileSystem(calls).read(f"{tmp_path}/a", 10**6, b"}\n") == data
    assert calls.numbers["read"] == reads


def test_a_file_of_several_lines_is_read_on_after_any_of_them(tmp_path):
    """A call may return less than there is, on some file systems, and before a bad block."""

    def call(_, name, function, arguments):
        if name == "read":
            return function(arguments[0], min(arguments[1], 20))
        return function(*arguments)

    data = b'{"message":\n{"a":1}\n}\n'
    assert data[:20].endswith(b"}\n")
    (tmp_path / "a").write_bytes(data)
    assert FileSystem(Calls(call)).read(f"{tmp_path}/a", 10**6, b"}\n") == data


def test_no_more_is_read_than_asked_for_and_a_little(tmp_path):
    (tmp_path / "a").write_bytes(bytes(10**6))
    assert 100_000 <= len(fs.read(f"{tmp_path}/a", 100_000)) < 200_000


def test_nobody_waits_for_a_fifo(tmp_path):
    os.mkfifo(tmp_path / "a")
    assert fs.read(f"{tmp_path}/a") == b""


def test_no_link_is_read(tmp_path):
    (tmp_path / "secret").write_text("x")
    (tmp_path / "a").symlink_to("secret")
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        fs.read(f"{tmp_path}/a")


def test_a_directory_is_not_read(here):
    with pytest.raises(IsADirectoryError) as caught:
        fs.read(here)
    assert caught.value.filename == here


@pytest.mark.parametrize("call", ["open", "read"])
def test_a_file_that_was_just_replaced_is_opened_again(tmp_path, refusing, call):
    (tmp_path / "a").write_text("new")
    assert refusing(call, errno.ESTALE, times=2).read(f"{tmp_path}/a") == b"new"


@pytest.mark.parametrize("call", ["open", "read"])
def test_a_file_that_stays_stale_is_given_up(tmp_path, refusing, call):
    (tmp_path / "a").write_text("new")
    with pytest.raises(OSError, match=os.strerror(errno.ESTALE)) as caught:
        refusing(call, errno.ESTALE).read(f"{tmp_path}/a")
    assert caught.value.filename == f"{tmp_path}/a"


def test_a_file_that_was_looked_for_before_it_was_made_is_read(tmp_path):
    (tmp_path / "a").write_text("x")
    calls = remembering_missing(f"{tmp_path}/a")
    assert FileSystem(calls).read(f"{tmp_path}/a") == b"x"


def test_a_directory_is_made_once(here):
    assert fs.mkdir(f"{here}/a") is True
    assert fs.mkdir(f"{here}/a") is False


def test_a_directory_in_one_that_another_node_removed_is_not_made(here, refusing):
    with pytest.raises(FileNotFoundError):
        refusing("mkdir", errno.ESTALE).mkdir(f"{here}/a")
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        refusing("mkdir", errno.ENOSPC).mkdir(f"{here}/a")


@pytest.mark.usefixtures("_strict_umask")
def test_a_directory_can_have_a_mode_that_the_umask_forbids(tmp_path):
    assert fs.mkdir_with_mode(f"{tmp_path}/a", 0o2770, f"{tmp_path}/draft") is True
    assert mode_of(tmp_path / "a") == 0o2770
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_directory_in_use_is_not_replaced(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "message").touch()
    assert fs.mkdir_with_mode(f"{tmp_path}/a", 0o2770, f"{tmp_path}/draft") is False
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a" / "message").exists()


def test_a_directory_that_can_not_be_put_in_place_leaves_no_draft(tmp_path):
    (tmp_path / "file").touch()
    for place in ("file", "gone/a"):
        with pytest.raises((NotADirectoryError, FileNotFoundError)):
            fs.mkdir_with_mode(f"{tmp_path}/{place}", 0o770, f"{tmp_path}/draft")
        assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_only_an_empty_directory_is_removed(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert fs.rmdir(f"{tmp_path}/a") is False
    assert fs.rmdir(f"{tmp_path}/a/b") is True
    assert fs.rmdir(f"{tmp_path}/a") is True
    assert fs.rmdir(f"{tmp_path}/a") is False


def test_a_directory_is_synced_and_closed(here):
    calls, before = counting(), os.listdir("/proc/self/fd")
    FileSystem(calls).sync_directory(here)
    assert calls.made == ["open", "fsync"]
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.EBADF])
def test_a_file_system_that_syncs_no_directories_is_used_all_the_same(
    here, refusing, code
):
    fs = refusing("fsync", code)
    fs.sync_directory(here)
    assert fs.calls.made == ["open", "fsync"]


def test_a_directory_that_is_gone_needs_no_sync(here):
    fs.sync_directory(f"{here}/gone")


def test_a_sync_that_failed_is_told(here, refusing):
    with pytest.raises(OSError, match=os.strerror(errno.EIO)) as caught:
        refusing("fsync", errno.EIO).sync_directory(here)
    assert caught.value.filename == here
    with pytest.raises(PermissionError):
        refusing("open", errno.EACCES).sync_directory(here)


NOW = 1_700_000_000 * 10**9
OLD, HOUR = NOW - 40 * 10**9, 3600 * 10**9


@pytest.mark.parametrize(
    ("modified", "changed", "age"),
    [
        pytest.param(OLD, OLD, 40, id="both"),
        pytest.param(OLD, NOW, 0, id="moved, or of a time somebody set"),
        pytest.param(-(2**60), NOW, 0, id="being made exclusively"),
        pytest.param(NOW + 10**9, OLD, -1, id="written after we looked at the clock"),
        pytest.param(NOW + HOUR + 1, OLD, 40, id="set to the future"),
        pytest.param(2**62, NOW - 7 * HOUR, 7 * 3600, id="of a time that is none"),
        pytest.param(OLD, NOW + 9 * HOUR, -9 * 3600, id="the server was set back"),
    ],
)
def test_a_file_is_as_old_as_the_younger_of_its_times(modified, changed, age):
    assert Status(0, 0, modified, changed).age(NOW) == age


@pytest.mark.real_times
def test_nobody_can_make_a_file_look_older_than_it_is(tmp_path):
    (tmp_path / "a").touch()
    os.utime(tmp_path / "a", (1, 1))
    for found in (fs.status(f"{tmp_path}/a"), fs.status_when_opened(f"{tmp_path}/a")):
        assert found.modified_ns == 10**9
        assert abs(found.age(time.time_ns())) < 60


@pytest.mark.real_times
def test_a_directory_that_is_touched_is_stamped_by_the_file_system(tmp_path):
    os.utime(tmp_path, (1, 1))
    before = time.time_ns()
    stamped = fs.touched_ns(str(tmp_path))
    assert -0.1 < (stamped - before) / 1e9 < 60
    assert list(tmp_path.iterdir()) == []


def test_a_touch_reads_what_the_server_has_and_follows_no_link(tmp_path):
    """An NFS client drops what it remembers of a directory when that is opened."""
    calls = counting()
    FileSystem(calls).touched_ns(str(tmp_path))
    assert calls.made == ["utime", "open", "fstat"]
    (tmp_path / "there").mkdir()
    os.utime(tmp_path / "there", (1, 1))
    (tmp_path / "link").symlink_to("there")
    with pytest.raises(NotADirectoryError):
        fs.touched_ns(f"{tmp_path}/link")
    assert os.stat(tmp_path / "there").st_mtime == 1


def test_a_birth_is_stamped_by_the_file_system_and_leaves_nothing(tmp_path):
    stamped = fs.birth_ns(f"{tmp_path}/a")
    assert abs(stamped - time.time_ns()) < 60 * 10**9
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [errno.EEXIST, errno.EIO])
def test_the_first_candidate_is_elected_and_knows_it(here, code):
    calls = losing_reply(0, ("symlink",), code)
    assert FileSystem(calls).elect(f"{here}/mark", "first") is True
    assert fs.elect(f"{here}/mark", "second") is False
    assert fs.elect(f"{here}/mark", "first") is True


def test_what_is_no_link_elects_nobody(tmp_path):
    (tmp_path / "mark").touch()
    assert fs.elect(f"{tmp_path}/mark", "first") is False


def test_who_hears_of_a_link_that_is_not_there_tries_again(here):
    """As a GlusterFS may tell both who make one link at once."""
    calls = failing(0, errno.EEXIST)
    assert FileSystem(calls).elect(f"{here}/mark", "first") is True


def test_where_there_are_no_links_the_first_file_elects(here, refusing):
    linkless = refusing("symlink", errno.EPERM)
    assert linkless.elect(f"{here}/mark", "first") is True
    assert linkless.elect(f"{here}/mark", "second") is False


def test_who_made_the_link_asks_nobody(here, refusing):
    assert refusing("readlink", errno.EIO).elect(f"{here}/mark", "first") is True


def test_a_link_that_can_not_be_read_for_a_moment_is_asked_for_again(here):
    assert fs.elect(f"{here}/mark", "first") is True
    stale = FileSystem(losing_reply(0, ("readlink",), errno.ESTALE))
    assert stale.elect(f"{here}/mark", "second") is False
    assert stale.calls.made.count("readlink") == 2


def test_an_election_that_failed_is_told(here, refusing):
    with pytest.raises(OSError, match=os.strerror(errno.EIO)) as caught:
        refusing("symlink", errno.EIO).elect(f"{here}/mark", "first")
    assert (caught.value.filename, caught.value.filename2) == (f"{here}/mark", None)


def test_only_a_file_system_that_is_known_is_believed_at_once():
    fs = FileSystem()
    assert fs.is_prompt(os.makedev(8, 1))
    assert fs.is_prompt(os.stat("/dev/shm").st_dev)
    assert not fs.is_prompt(os.stat("/proc").st_dev)
    assert not fs.is_prompt(os.makedev(0, 0xFFFFF))


@pytest.mark.parametrize(
    ("code", "is_alive"),
    [(errno.ENODATA, True), (errno.EIO, True), (errno.ESTALE, False), (0, True)],
)
def test_an_open_that_a_client_answers_itself_proves_nothing(here, code, is_alive):
    """As on GlusterFS, which asks the server for the attribute of a file."""
    open(f"{here}/a", "x").close()
    asked = []

    def call(_, name, function, arguments):
        if name != "getxattr":
            return function(*arguments)
        asked.append(arguments[1])
        if code:
            raise OSError(code, os.strerror(code))
        return b""

    class Slow(FileSystem):
        def is_prompt(self, device):
            return False

    assert Slow(Calls(call)).is_alive(f"{here}/a") == is_alive
    assert asked == ["user.ddmq"] * (1 if is_alive else 2)
    del asked[:]
    assert FileSystem(Calls(call)).is_alive(f"{here}/a")
    assert asked == []


def test_a_file_that_is_only_held_open_is_not_alive(here):
    open(f"{here}/a", "x").close()

    def call(_, name, function, arguments):
        result = function(*arguments)
        if name == "open" and not arguments[1] & os.O_DIRECTORY:
            os.unlink(f"{here}/a")
        return result

    assert not FileSystem(Calls(call)).is_alive(f"{here}/a")


def test_a_directory_is_required_until_a_listing_shows_that_it_is_gone(here, refusing):
    """Else its queue would be called gone, for which a worker kills its commands."""
    directory = f"{here}/a"
    os.mkdir(directory)
    with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
        refusing("lstat", errno.ESTALE, directory, times=9).require_directory(directory)
    os.rmdir(directory)
    with pytest.raises(FileNotFoundError):
        refusing("lstat", errno.ESTALE, directory, times=9).require_directory(directory)
