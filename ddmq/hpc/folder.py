"""A directory that others may write to, held open: what is in it is used by name, never by path.

A check by path and a use by path may meet two different files, where somebody else may rename
what is in between. So a directory that the user named is opened once for each piece of work,
and what is below it relative to that, no link followed. It is closed again at once: after a
file server has forgotten it, or somebody has put another one in its place, the next piece of
work meets what is there then.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO

from ddmq.directories import GONE
from ddmq.fs import FileSystem

if TYPE_CHECKING:
    from types import TracebackType

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
#: A FIFO that somebody planted makes nobody wait: hence O_NONBLOCK.
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC
#: Calls whose path may be relative to an open directory.
_RELATIVE = frozenset(
    (
        *("open", "lstat", "stat", "unlink", "mkdir", "rmdir", "mknod"),
        *("symlink", "readlink", "utime", "chmod", "access"),
    )
)
#: Directories in each other that are removed; what is deeper was made to exhaust somebody.
_DEEPEST = 100


class Folder:
    """An open directory, to be closed by `with`, which also names it in errors.

    `fs` is the file system as seen from there: its paths are `./NAME`.
    """

    def __init__(self, descriptor: int, path: str, calls: Any = os) -> None:
        self.descriptor = descriptor
        self.path = os.path.normpath(path)
        self.calls = calls
        self.fs = FileSystem(_Here(calls, descriptor))

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
        made = False
        try:
            try:
                found = self._opened(name)
            except FileNotFoundError:
                if not make:
                    raise
                made = self.fs.mkdir(f"./{name}")
                found = self._opened(name)
        except OSError as error:
            error.filename = f"{self.path}/{name}"
            raise
        folder = Folder(found, f"{self.path}/{name}", self.calls)
        if made and mode is not None:
            try:
                self.calls.fchmod(found, mode)
            except OSError:
                folder.close()
                raise
        return folder

    def _opened(self, name: str) -> int:
        flags = _DIRECTORY | os.O_NOFOLLOW
        return int(self.calls.open(name, flags, dir_fd=self.descriptor))

    def __enter__(self) -> Folder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
        if isinstance(error, OSError):
            name = str(error.filename)
            if name == "." or name.startswith("./"):
                error.filename = os.path.normpath(f"{self.path}/{name}")

    def close(self) -> None:
        """Let go of it."""
        self.calls.close(self.descriptor)

    def new_file(self, name: str, flags: int = 0) -> int:
        """Make a file that nobody made before; return its descriptor, to write to."""
        return int(self.fs.calls.open(f"./{name}", _NEW | flags, 0o666))

    def ordinary_file(self, name: str) -> BinaryIO:
        """Open a file for reading; OSError: it is a link, a FIFO, a device or a directory."""
        descriptor = self.fs.calls.open(f"./{name}", _READ)
        if stat.S_ISREG(self.calls.fstat(descriptor).st_mode):
            return open(descriptor, "rb")
        self.calls.close(descriptor)
        raise OSError(errno.EINVAL, "not an ordinary file", f"./{name}")

    def move(self, name: str, target: Folder, new: str) -> None:
        """Move what nobody else moves to a directory in which `new` may exist.

        A rename that an NFS client sent twice may answer that `name` is gone: it was moved.
        """
        both = {"src_dir_fd": self.descriptor, "dst_dir_fd": target.descriptor}
        try:
            self.calls.rename(name, new, **both)
        except OSError as error:
            error.filename, error.filename2 = f"{self.path}/{name}", None
            if error.errno not in GONE or self.fs.exists(f"./{name}"):
                raise

    def remove(self, name: str, depth: int = _DEEPEST) -> None:
        """Remove a file, or a directory with all that is in it; where we may not, leave it.

        Of a link only the link goes.
        """
        with suppress(OSError):
            self.fs.calls.unlink(f"./{name}")
            return
        if depth == 0:
            return
        with suppress(OSError):
            with self.below(name) as inner:
                for each in inner.names():
                    inner.remove(each, depth - 1)
            self.fs.calls.rmdir(f"./{name}")

    def names(self) -> list[str]:
        """List it afresh."""
        names: list[str] = self.fs.calls.listdir(".")
        return names


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

    def listdir(self, path: str | int) -> Any:
        """List a directory through a descriptor of its own: one that was held may be stale."""
        if isinstance(path, int):
            return self._calls.listdir(path)
        flags = _DIRECTORY | os.O_NOFOLLOW
        descriptor = self._calls.open(path, flags, dir_fd=self._descriptor)
        try:
            return self._calls.listdir(descriptor)
        except OSError as error:
            error.filename = path
            raise
        finally:
            self._calls.close(descriptor)

    def rename(self, source: str, target: str, **_: None) -> None:
        """Rename within the directory."""
        here = self._descriptor
        self._calls.rename(source, target, src_dir_fd=here, dst_dir_fd=here)
