"""Files that commands write for their users: there whole, or as they were."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from ddmq.cli.errors import ends_as_by_ctrl_c
from ddmq.errors import InvalidArgument, StorageError, real_path
from ddmq.settings import show
from ddmq.storage.names import new_token

if TYPE_CHECKING:
    from collections.abc import Iterator

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
#: Bytes of its name that a draft has in its own: 255 are as long as any name may be.
_SHORT = 200


def ordinary(path: str, *, follow: bool) -> str:
    """Return the path of a file that may be written; with `follow`, that which links lead to.

    InvalidArgument: what is there is no ordinary file, as a link is none without `follow`; or the
    current directory, which the path is below, is gone.
    """
    found = path
    try:
        if follow:
            found = real_path(path)
        mode = os.lstat(found).st_mode
    except FileNotFoundError:
        return found
    except InvalidArgument:
        raise
    except ValueError as error:
        raise InvalidArgument(f"{show(path)}: {error}") from error
    except OSError as error:
        raise StorageError(error) from error
    if not stat.S_ISREG(mode):
        raise InvalidArgument(
            f"{found}: no ordinary file, and nothing else is replaced; name another file"
        )
    return found


@contextmanager
def whole_file(path: str) -> Iterator[BinaryIO]:
    """Open a file that gets its name when all is written; an error leaves what was there.

    A signal that ends this process does so, too, and leaves no draft, which may be large.
    """
    directory, name = os.path.split(path)
    short = os.fsdecode(os.fsencode(name)[:_SHORT])
    draft = os.path.join(directory, f".{short}.{new_token()}")
    try:
        with ends_as_by_ctrl_c():
            descriptor = os.open(draft, _NEW, 0o666)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    yield file
                    file.flush()
                    os.fsync(descriptor)
                os.replace(draft, path)
            except BaseException:
                os.unlink(draft)
                raise
    except OSError as error:
        if error.filename in (None, draft):
            error.filename = path
        raise StorageError(error) from error
