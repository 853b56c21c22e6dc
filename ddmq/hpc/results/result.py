"""Exactly one result for each message, however often it ran."""

from __future__ import annotations

import errno
import os
import re
import stat
from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from ddmq.hpc.faults import BadOutput, may_pass
from ddmq.hpc.folder import Folder, reached
from ddmq.settings import MAX_BYTES
from ddmq.storage.names import is_made_id, new_token

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from ddmq.hpc.results.output_names import Reservation
    from ddmq.storage.filesystem import FileSystem

#: Where results are while their command runs, below the output directory.
UNFINISHED = ".ddmq-unfinished"
#: Where it stands which message a name belongs to that a user chose, and since when its result
#: may have it; see `output_names`.
NAMES, KEPT = ".ddmq-names", "kept"
#: What the kernel says where a directory stands that is not empty, or a file would go.
_IN_THE_WAY = (errno.ENOTEMPTY, errno.EEXIST, errno.EISDIR)
_LEADS_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
#: What the kernel says of what is no directory, or not ours to open.
_NOT_OURS = (errno.ENOTDIR, errno.ELOOP, errno.EACCES)
_THEIRS = (
    "no directory of ours that is closed to others (0700), as it was made: somebody put another "
    "one there, or this file system keeps no modes; use another --output-dir"
)
#: What a directory that can't be synced says.
_UNSYNCABLE = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)
#: What it says of a file that may not be written to, or is being run.
_NOT_WRITABLE = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ETXTBSY,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENXIO,
)
#: A FIFO in the place of a file must make nobody wait.
_LOOK = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC
_TOKEN = "[0-9a-f]{16}"


class Unfinished(NamedTuple):
    """The directory of a run in `.ddmq-unfinished`, or the secret one in that, by its name."""

    id: str
    """Of the message."""
    token: str
    """Of the run, which others may know; or one that nobody can guess."""

    @property
    def filename(self) -> str:
        """The name."""
        return f"{self.id}.{self.token}"

    @classmethod
    def parse(cls, name: str) -> Unfinished | None:
        """Read a name; None: ddmq made no such name, and so leaves it alone."""
        id_, _, token = name.partition(".")
        made = is_result(id_) and re.fullmatch(_TOKEN, token)
        return cls(id_, token) if made else None


def is_result(name: str) -> bool:
    """Tell whether this is the id of a message as ddmq makes them, and so names a result.

    Whoever may write to a queue can give a message any other id, as the name of a file that
    its result would replace.
    """
    return is_made_id(name)


class Result:
    """The file or directory that a command makes at `path`, which then becomes `<id>`.

    Where it has a `reservation`, it becomes what that names.

    Each run has a path of its own, so two runs of one message never write to the same file. The
    file that is kept last replaces the one before. Of two directories, the first one stays.

    The command opens its path itself: `.ddmq-unfinished/<id>.<token>/<id>.<secret>/<id>`. Others
    who may write to the output directory can put a link in the place of the first or the second
    directory. But only our user can look into the second one, so nobody else knows the secret.
    Wherever such a link leads, there is no `<id>.<secret>`: the command fails and makes nothing.
    """

    def __init__(
        self,
        directory: str,
        id_: str,
        token: str,
        reservation: Reservation | None = None,
    ) -> None:
        """Make the directories of a run; BadOutput: the name is another message's."""
        self.name = id_ if reservation is None else reservation.name
        """Of what is kept."""
        self._directory = directory
        self._id = id_
        self._reservation = reservation
        self._is_kept = False
        self._run = Unfinished(id_, token)
        self._secret = Unfinished(id_, new_token()).filename
        names = UNFINISHED, self._run.filename, self._secret, id_
        self.path = "/".join((directory, *names))
        with ExitStack() as stack:
            kept = stack.enter_context(Folder.open(directory, make=True))
            unfinished = stack.enter_context(kept.below(UNFINISHED, make=True))
            if reservation is not None:
                reservation.make(kept)
            try:
                unfinished.make_closed(self._run.filename)
                with _ours(unfinished, self._run.filename) as run:
                    run.make_closed(self._secret)
            except OSError:
                _remove_run(unfinished, self._run)
                if reservation is not None:
                    reservation.release(kept, is_over=False)
                raise

    def inside(self, unfinished: Folder) -> Folder:
        """Open the directory in which the command makes it."""
        with _ours(unfinished, self._run.filename) as run:
            return run.below(self._secret)

    def keep(self, *, sync: bool) -> bool:
        """Make what the command wrote the result; False: it wrote nothing.

        With `sync`, a file is on stable storage before its message may be acked. Nothing of
        the run is left in `.ddmq-unfinished` then: nobody looks for leftovers of what was acked.
        Raises BadOutput where the command is to blame, and OSError where the directory is, or
        whoever led the path elsewhere.
        """
        try:
            with Folder.open(self._directory) as kept:
                with kept.below(UNFINISHED) as unfinished:
                    was_made = self._take_out(unfinished, kept, sync=sync)
                    _remove_run(unfinished, self._run)
                if was_made and sync:
                    kept.sync()
                return was_made
        except OSError as error:
            if may_pass(error):
                raise
            try_output(self._directory)  # raises what is wrong with it
            raise self._bad(f"no result: {error.strerror}") from error

    def lines(self) -> Iterator[str]:
        """Yield the lines of what the command wrote, without those that are empty.

        None, if it wrote nothing. BadOutput: what it made has no lines that can be messages.
        """
        with ExitStack() as stack:
            kept = stack.enter_context(Folder.open(self._directory))
            unfinished = stack.enter_context(kept.below(UNFINISHED))
            inside = stack.enter_context(self.inside(unfinished))
            if not self._was_made(inside):
                return
            self._hear_of_late_errors(inside)
            try:
                descriptor = os.open(self._id, _LOOK, dir_fd=inside.descriptor)
            except PermissionError as error:
                raise self._bad("not to be read by its own worker") from error
            stack.callback(os.close, descriptor)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise self._bad("no file, and has no lines")
            file = stack.enter_context(open(descriptor, "rb", closefd=False))
            # One that is too long for any message is cut, and too long all the same.
            for line in iter(partial(file.readline, MAX_BYTES + 3), b""):
                try:
                    text = line.rstrip(b"\r\n").decode()
                except UnicodeDecodeError as error:
                    raise self._bad("no text: it is not UTF-8") from error
                if text:
                    yield text

    def _take_out(self, unfinished: Folder, kept: Folder, *, sync: bool) -> bool:
        """Move the output to where results are; False: the command wrote none."""
        with self.inside(unfinished) as inside:
            if not self._was_made(inside):
                return False
            self._hear_of_late_errors(inside)
            if sync:
                self._sync(inside)
            if self._reservation is not None:
                self._reservation.confirm(kept, sync=sync)
            self._move(inside, kept)
            self._is_kept = True
        return True

    def _was_made(self, inside: Folder) -> bool:
        """Tell whether there is an output; BadOutput: it can be no result."""
        try:
            mode = os.stat(self._id, dir_fd=inside.descriptor).st_mode
        except OSError as error:
            error.filename = self.path
            if error.errno in _LEADS_NOWHERE:
                found = inside.status(self._id)
                if found is not None and stat.S_ISLNK(found.mode):
                    raise self._bad("a symbolic link that leads nowhere") from error
            if error.errno != errno.ENOENT:
                raise
            return False
        self._require_kind(mode)
        return True

    def _require_kind(self, mode: int) -> None:
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise self._bad("neither a file nor a directory")

    def _hear_of_late_errors(self, inside: Folder) -> None:
        """Raise what kept a file from being stored, whether or not its command looked.

        An NFS client sends what was written when the file is closed. Only then is it told that
        the disk is full, and many programs don't look: a shell, or Python at its end. Whoever
        opens the file for writing, and closes it, is told the same.
        """
        try:
            os.close(os.open(self._id, _WRITE, dir_fd=inside.descriptor))
        except OSError as error:
            error.filename = self.path
            if error.errno not in _NOT_WRITABLE:
                raise

    def _sync(self, inside: Folder) -> None:
        """Sync what is there now: it may be something else than a moment ago."""
        try:
            descriptor = os.open(self._id, _LOOK, dir_fd=inside.descriptor)
        except PermissionError as error:
            raise self._bad("not to be read by its own worker") from error
        except OSError as error:
            error.filename = self.path
            raise
        mode = 0
        try:
            mode = os.fstat(descriptor).st_mode
            self._require_kind(mode)
            os.fsync(descriptor)
        except OSError as error:
            error.filename = self.path
            if not stat.S_ISDIR(mode) or error.errno not in _UNSYNCABLE:
                raise
        finally:
            os.close(descriptor)

    def _move(self, inside: Folder, kept: Folder) -> None:
        try:
            inside.move(self._id, kept, self.name)
        except OSError as error:
            if error.errno == errno.EXDEV:
                final = f"{self._directory}/{self.name}"
                raise self._bad(f"on another file system than {final}") from error
            if error.errno == errno.ENOTDIR:
                raise self._bad("a directory, but its result was a file") from error
            if error.errno not in _IN_THE_WAY:
                raise  # else an earlier run made the same directory, and this one goes

    def _bad(self, what: str) -> BadOutput:
        return BadOutput(f"its output {self.path} is {what}")

    def discard(self, *, is_over: bool = False) -> None:
        """Remove what the command wrote; its name is another's to reserve, unless it was kept.

        `is_over`: the message was acked, so that its name needs no reservation any more.
        """
        with suppress(OSError), Folder.open(self._directory) as kept:
            with kept.below(UNFINISHED) as unfinished:
                _remove_run(unfinished, self._run)
            if self._reservation is not None and (is_over or not self._is_kept):
                self._reservation.release(kept, is_over=is_over)


def _ours(unfinished: Folder, name: str) -> Folder:
    """Open the directory of a run: one that is ours and open to nobody else.

    BlockingIOError: another one is in its place, which somebody put there, or this file system
    lets others into what is closed to them. What is in there is not to be trusted.
    """
    path = f"{unfinished.path}/{name}"
    theirs = OSError(errno.EAGAIN, _THEIRS, path)
    try:
        run = unfinished.below(name)
    except OSError as error:
        if error.errno in _NOT_OURS:
            raise theirs from error
        raise
    with ExitStack() as stack:
        stack.callback(run.close)
        known = run.own_status()
        is_open = known.st_mode & (stat.S_IRWXG | stat.S_IRWXO)
        is_ours = known.st_uid == os.geteuid() or known.st_uid == _user_at(unfinished)
        if is_open or not is_ours:
            raise theirs
        stack.pop_all()
    return run


def _user_at(folder: Folder) -> int:
    """Tell as whom the file server knows us, which may take root for nobody."""
    name = f".ddmq-{new_token()}"
    descriptor = folder.new_file(name)
    try:
        return os.fstat(descriptor).st_uid
    finally:
        os.close(descriptor)
        folder.discard(name)


def _remove_run(unfinished: Folder, made: Unfinished) -> None:
    """Remove what is left of a run, if that is ours; what ddmq did not make stays.

    A member can give a directory of ours this name, but has no say in the names in it.
    """
    with suppress(OSError):
        with _ours(unfinished, made.filename) as run:
            secret = re.compile(rf"{re.escape(made.id)}\.{_TOKEN}")
            for name in filter(secret.fullmatch, run.names()):
                run.remove(name)
        unfinished.remove_empty(made.filename)


def try_output(directory: str) -> None:
    """Make a result, as a command would, and keep and remove it."""
    name = f".ddmq-{new_token()}"
    tried = Result(directory, name, new_token())
    try:
        with ExitStack() as stack:
            kept = stack.enter_context(Folder.open(directory))
            unfinished = stack.enter_context(kept.below(UNFINISHED))
            inside = stack.enter_context(tried.inside(unfinished))
            try:
                inside.create(name, b"tried")
                inside.move(name, kept, name)
            finally:
                kept.discard(name)
    finally:
        tried.discard()


def remove_leftovers(directory: str, id_: str) -> None:
    """Remove what killed workers left of earlier runs of a message whose lease is ours.

    While we hold it nobody else does, so no result of another run will ever be kept. That holds
    even for a run that goes on, on a node that was out of reach when its lease expired. What
    another user's worker left is closed to us, and stays.
    """
    with suppress(OSError), reached(directory, UNFINISHED) as unfinished:
        _remove_all(unfinished, unfinished.names(), {id_})


def remove_leftovers_of_dead(directory: str, queue_path: str, fs: FileSystem) -> None:
    """Remove what killed workers left of the dead letters of a queue, which run no more.

    What is unfinished is listed first. A dead letter that is redriven meanwhile, and runs again,
    has another file. Leftovers of messages that are not in this queue stay, since other queues
    may share the directory.
    """
    from ddmq.storage.dead_letters import Dead  # rarely needed

    with suppress(OSError), Folder.open(directory) as kept:
        reserved = _reserved(kept)
        with kept.below(UNFINISHED) as unfinished:
            names = (
                unfinished.names()
            )  # where there is none, whoever needs it complains
            if not names and not reserved:
                return
            letters = map(Dead.parse, fs.listing(f"{queue_path}/dead"))
            ids = {dead.entry.id for dead in letters if dead}
            _remove_all(unfinished, names, ids)
        if reserved:
            with kept.below(NAMES) as held:
                for name, target in reserved.items():
                    id_, state = (*target.split(".", 2), "")[:2]
                    # One whose result may have its name already may be redriven.
                    is_left = id_ in ids and state != KEPT
                    if is_left and held.target_of(name) == target:
                        held.discard(name)


def _reserved(kept: Folder) -> dict[str, str]:
    """Return for each name that is reserved which message and which run of it has it."""
    if kept.status(NAMES) is None:
        return {}
    with kept.below(NAMES) as held:
        return {name: held.target_of(name) for name in held.names()}


def _remove_all(unfinished: Folder, names: list[str], ids: Container[str]) -> None:
    for name in names:
        made = Unfinished.parse(name)
        if made is not None and made.id in ids:
            _remove_run(unfinished, made)
