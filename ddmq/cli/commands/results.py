"""`ddmq results`."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from ddmq import Broker, InvalidArgument, StorageError
from ddmq.cli.commands import QUEUE, ROOT
from ddmq.cli.spec import TABLE, Command, Reply, option, positional, switch
from ddmq.cli.whole_file import ordinary, whole_file
from ddmq.errors import warn
from ddmq.hpc.folder import Folder
from ddmq.hpc.results.manifest import Row, manifest
from ddmq.printable import printable, quoted

if TYPE_CHECKING:
    from collections.abc import Callable

    from ddmq.cli.spec import Context

_BLOCK = 1 << 20
#: The most results without contents that are named.
_NAMED = 10


class Arguments(NamedTuple):
    """What `ddmq results` can be told."""

    root: str = ROOT
    queue: str = QUEUE
    dir: str | None = positional(
        "the --output-dir of the workers; by default, all those that your workers noted in the "
        "journals",
        is_required=False,
    )
    cat: bool = switch(
        "--cat",
        "write the contents of all results to standard output, in the order of publishing",
    )
    concat: str | None = option(
        "--concat",
        "the same to this file, which is there whole or not at all; -: as --cat",
        metavar="FILE",
    )


def results(told: Arguments, context: Context) -> Reply:
    """List which result belongs to which message, or write the contents of the results."""
    if told.cat and told.concat is not None:
        raise InvalidArgument("give --cat or --concat, not both")
    if told.concat == "-":
        told = told._replace(cat=True, concat=None)
    if told.cat and not context.is_typed:
        raise InvalidArgument("cat is for standard output; give concat and a file")
    if told.cat and context.is_for_programs:
        raise InvalidArgument(
            "--cat writes the results themselves, and has no --format"
        )
    broker = Broker(told.root, fs=context.fs)
    if told.cat or told.concat is not None:
        return _concatenated(told, broker, context)
    broker.settings(told.queue)  # there must be such a queue
    rows = manifest(f"{broker.root}/{told.queue}", told.dir)
    shown = [row._asdict() for row in rows]
    has_several = len({row.directory for row in rows if row.file}) > 1
    lines = [described(row, with_directory=has_several) for row in rows]
    return Reply({"results": shown}, "\n".join(lines), shown=shown)


def described(row: Row, *, with_directory: bool) -> str:
    """Return one row for people."""
    how = row.exit if isinstance(row.exit, str) else f"exit {row.exit}"
    file = f"{row.directory}/{row.file}" if row.file and with_directory else row.file
    return printable(
        f"{row.id}  {how:<8} {row.seconds:>9.2f} s  {file or '-'}  {row.input}"
    )


def _concatenated(told: Arguments, broker: Broker, context: Context) -> Reply:
    """Write the contents of the results, and say which messages have none."""
    # First: a message that is acked meanwhile counts as unfinished; else it would count nowhere.
    counts = broker.view(told.queue)[told.queue]
    rows = manifest(f"{broker.root}/{told.queue}", told.dir)
    write = partial(_write, rows=rows, tell=context.tell)
    if told.concat is None:
        number, unreadable = write(sys.stdout.buffer)
        sys.stdout.buffer.flush()
    else:
        path = ordinary(told.concat, follow=False)
        _require_other(path, rows)
        with whole_file(path) as file:
            number, unreadable = write(file)
    where = f"{quoted(told.root)} {told.queue}"
    unfinished = counts.waiting + counts.work + counts.delayed
    for missing, kind, command in (
        (counts.dead, "dead letter", "dead"),
        (unfinished, "unfinished message", "view"),
        (unreadable, "acked message", "log"),
    ):
        if missing:
            messages = f"{missing:,} {kind}{'s' * (missing > 1)}"
            warn(f"no result of {messages}; see `ddmq {command} {where}`")
    status = 4 if counts.dead else 5 if unfinished else 1 if unreadable else 0
    value = {
        "results": number,
        "dead": counts.dead,
        "unfinished": unfinished,
        "unreadable": unreadable,
    }
    return Reply(value, "" if told.cat else str(number), status=status)


def _write(
    target: BinaryIO, *, rows: list[Row], tell: Callable[[str], None]
) -> tuple[int, int]:
    """Write the contents of results; return how many, and how many acked ones can't be read.

    Other users may write to the directories, too: no link is followed. StorageError: a result that
    was opened can't be read to its end.
    """
    number = unreadable = 0
    folders: dict[str, Folder] = {}
    with ExitStack() as stack:
        for row in rows:
            if row.result != "acked":
                continue
            try:
                source = _opened(row, folders, stack)
            except OSError as error:
                unreadable += 1
                if unreadable <= _NAMED:
                    warn(f"left out: {row.id} {row.file}: {error.strerror}")
                continue
            with source:
                target.writelines(iter(partial(_read, source, row), b""))
            number += 1
            tell(f"{number:,} results")
    return number, unreadable


def _opened(row: Row, folders: dict[str, Folder], stack: ExitStack) -> BinaryIO:
    """Open a result in its directory, which is opened once."""
    if not row.file:
        why = "its command wrote none, or it was removed"
        raise FileNotFoundError(errno.ENOENT, why)
    if row.directory not in folders:
        folder = Folder.open(row.directory)
        folders[row.directory] = stack.enter_context(folder)
    return folders[row.directory].ordinary_file(row.file)


def _read(source: BinaryIO, row: Row) -> bytes:
    try:
        return source.read(_BLOCK)
    except OSError as error:
        error.filename = f"{row.directory}/{row.file}"
        raise StorageError(error) from error


def _require_other(path: str, rows: list[Row]) -> None:
    """Raise InvalidArgument if a path is that of a result."""
    directory, name = os.path.split(os.path.abspath(path))
    real = os.path.realpath(directory)
    for row in rows:
        if row.file == name and os.path.realpath(row.directory) == real:
            raise InvalidArgument(
                f"{path}: it is the result of message {row.id}; name another file"
            )


COMMANDS = (
    Command(
        "results",
        "list which result belongs to which message, by the journals; or write their contents",
        "ddmq results /scratch/mq jobs\n"
        "  ddmq results /scratch/mq jobs --format csv > manifest.csv   # names, not contents\n"
        "  ddmq results /scratch/mq jobs --concat all.txt              # all results in one file",
        Arguments,
        run=results,
        formats=TABLE,
    ),
)
