"""A directory that others may write to, held open: what is in it is used by name, never by path.

A check by path and a use by path may meet two different files, where somebody else may rename
what is in between. So a directory that the user named is opened once for each piece of work.
What is below it is opened relative to it, and no link is followed.

The directories of a root (`ddmq.storage.directories`) are held for as long as a process lives,
and opened again where they are found to be others. Here nothing may be opened again: what was
checked is what is used. Each is closed after its piece of work, and the next one opens what is
there then.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO

from ddmq.storage.directories import GONE
from ddmq.storage.filesystem import FileSystem

if TYPE_CHECKING:
    from ddmq.storage.filesystem import Status

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
#: A FIFO that somebody planted makes nobody wait: hence O_NONBLOCK.
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC
#: Calls whose path may be relative to an open directory.
_RELATIVE = frozenset(
    [
        "open",
        "lstat",
        "unlink",
        "mkdir",
        "rmdir",
        "mknod",
        "symlink",
        "readlink",
        "utime",
        "access",
    ]
)


class Folder:
    """An open directory, to be closed by `with`, which also names it in errors.

    All that its methods take is a name in it.
    """

    def __init__(self, descriptor: int, path: str, calls: Any = os) -> None:
        self.descriptor = descriptor
        self.path = os.path.normpath(path)
        self._calls = calls
        #: As seen from here: a path is `./NAME`.
        self._fs = FileSystem(_Here(calls, descriptor))

    @classmethod
    def open(cls, path: str, *, make: bool = False, calls: Any = os) -> Folder:
        """Open a directory that the user named: it may be a link, which he made."""
        try:
            return cls(calls.open(path, _DIRECTORY), path, calls)
        except FileNotFoundError:
            if not make:
                raise
        os.makedirs(path, exist_ok=True)
        return cls(calls.open(path, _DIRECTORY), path, calls)

    def below(
        self, name: str, *, make: bool = False, mode: int | None = None
    ) -> Folder:
        """Open a directory in this one; NotADirectoryError: it is anything else, or a link.

        One that is made has a `mode` that the umask does not touch.
        """
        path, made = f"{self.path}/{name}", False
        flags = _DIRECTORY | os.O_NOFOLLOW
        try:
            try:
                found = self._calls.open(name, flags, dir_fd=self.descriptor)
            except FileNotFoundError:
                if not make:
                    raise
                made = self._fs.mkdir(f"./{name}")
                found = self._calls.open(name, flags, dir_fd=self.descriptor)
        except OSError as error:
            error.filename = path
            raise
        folder = Folder(found, path, self._calls)
        if made and mode is not None:
            try:
                self._calls.fchmod(found, mode)
            except OSError:
                folder.close()
                raise
        return folder

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()
        _, error, _ = raised
        if isinstance(error, OSError):
            name = str(error.filename)
            if name == "." or name.startswith("./"):
                error.filename = os.path.normpath(f"{self.path}/{name}")

    def close(self) -> None:
        """Let go of it."""
        self._calls.close(self.descriptor)

    # What is in it

    def names(self) -> list[str]:
        """List it through a descriptor of its own: one that was held may be stale."""
        descriptor = self._fs.calls.open(".", _DIRECTORY | os.O_NOFOLLOW)
        try:
            names: list[str] = self._calls.listdir(descriptor)
        except OSError as error:
            error.filename = "."
            raise
        finally:
            self._calls.close(descriptor)
        return names

    def own_status(self) -> os.stat_result:
        """Tell the owner and mode of the directory itself."""
        found: os.stat_result = self._calls.fstat(self.descriptor)
        return found

    def status(self, name: str) -> Status | None:
        """Tell what a name stands for, no link followed; None: it is gone."""
        return self._fs.status(f"./{name}")

    def ordinary_file(self, name: str) -> BinaryIO:
        """Open a file for reading; OSError: it is a link, a FIFO, a device or a directory."""
        descriptor = self._fs.calls.open(f"./{name}", _READ)
        if stat.S_ISREG(self._calls.fstat(descriptor).st_mode):
            return open(descriptor, "rb")
        self._calls.close(descriptor)
        raise OSError(errno.EINVAL, "not an ordinary file", f"./{name}")

    # Making

    def new_file(self, name: str, mode: int = 0o666) -> int:
        """Make a file that nobody made before; return its descriptor, to write to."""
        return int(self._fs.calls.open(f"./{name}", _NEW, mode))

    def create(
        self, name: str, data: bytes, *, sync: bool = False, mode: int | None = None
    ) -> None:
        """Write a file whose name only we can know, since 64 random bits or more are in it."""
        self._fs.create_own(f"./{name}", data, sync=sync, mode=mode)

    def make_closed(self, name: str) -> None:
        """Make a directory for us alone, unless a request that was sent twice has made it.

        It inherits group and set-group-ID bit from this one, and so does what is made in it.
        """
        with suppress(FileExistsError):
            self._fs.calls.mkdir(f"./{name}", 0o700)

    def target_of(self, name: str) -> str:
        """Return what a link says; empty: there is no such link."""
        try:
            return str(self._fs.calls.readlink(f"./{name}"))
        except OSError as error:
            if error.errno not in (*GONE, errno.EINVAL):
                raise
            return ""

    def elect(self, name: str, candidate: str) -> bool:
        """Tell whether `candidate` is elected: it is the first that is put under this name."""
        return self._fs.elect(f"./{name}", candidate)

    def move(self, name: str, target: Folder, new: str) -> None:
        """Move what nobody else moves to a directory in which `new` may exist.

        A rename that an NFS client sent twice may answer that `name` is gone: it was moved.
        """
        both = {"src_dir_fd": self.descriptor, "dst_dir_fd": target.descriptor}
        try:
            self._calls.rename(name, new, **both)
        except OSError as error:
            error.filename, error.filename2 = f"{self.path}/{name}", None
            if error.errno not in GONE or self._fs.exists(f"./{name}"):
                raise

    def renew(self, name: str) -> None:
        """Set the times of a file to now, if we may; of a link, its own."""
        with suppress(OSError):
            self._fs.calls.utime(f"./{name}", None, follow_symlinks=False)

    def sync(self) -> None:
        """Put its names on stable storage."""
        self._fs.sync_directory(".")

    # Removing

    def discard(self, name: str) -> None:
        """Remove a file, if that is possible."""
        self._fs.discard(f"./{name}")

    def remove_empty(self, name: str) -> None:
        """Remove a directory, if it is empty and we may."""
        self._fs.rmdir(f"./{name}")

    def remove(self, name: str) -> None:
        """Remove a file, or a directory with all that is in it, as far as that is possible.

        Of a link only the link goes.
        """
        with suppress(OSError):
            self._fs.unlink(f"./{name}")
            return
        with suppress(OSError):
            self._fs.remove_tree(f"./{name}")


def reached(path: str, *names: str, make: bool = False, calls: Any = os) -> Folder:
    """Open a directory by way of those above it: only `path` may be a link, the user's own."""
    folder = Folder.open(path, make=make, calls=calls)
    for name in names:
        with folder:
            folder = folder.below(name, make=make)
    return folder


class _Here:
    """System calls whose relative paths begin at a directory that is open."""

    def __init__(self, calls: Any, descriptor: int) -> None:
        self._calls = calls
        self._descriptor = descriptor

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._calls, name)
        if name not in _RELATIVE:
            return function

        def call(*arguments: Any, **named: Any) -> Any:
            if named.get("dir_fd") is None:
                named["dir_fd"] = self._descriptor
            return function(*arguments, **named)

        return call

    def rename(
        self,
        source: str,
        target: str,
        *,
        src_dir_fd: int | None = None,
        dst_dir_fd: int | None = None,
    ) -> None:
        """Rename here, unless a directory is named for each."""
        source_at = self._descriptor if src_dir_fd is None else src_dir_fd
        target_at = self._descriptor if dst_dir_fd is None else dst_dir_fd
        self._calls.rename(source, target, src_dir_fd=source_at, dst_dir_fd=target_at)
