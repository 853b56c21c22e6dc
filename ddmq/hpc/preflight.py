"""The checks before the first message: a worker tries all that it will need."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ddmq.errors import DdmqError
from ddmq.hpc.faults import told
from ddmq.hpc.placeholders import names_in
from ddmq.hpc.results.result import try_output
from ddmq.hpc.running.stream import filled_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ddmq.broker import Broker
    from ddmq.hpc.options import WorkerOptions

#: Files that are open for a command that stays: two outputs, its input, its answers.
_FILES_OF_ONE = 4
#: Those that a worker opens later on for itself, and for the start of a command.
_OTHER_FILES = 24
#: Why there is no such program; what else goes wrong may pass.
_NOT_THERE = (
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EACCES,
    errno.ELOOP,
    errno.ENAMETOOLONG,
)


def check_all(options: WorkerOptions, broker: Broker) -> None:
    """Try each directory and queue that the options name; DdmqError: what can't be used."""
    if options.output_dir is not None:
        with _explained(f"--output-dir {options.output_dir}"):
            try_output(options.output_dir)
            if options.output_name is not None:
                from ddmq.hpc.results.output_names import try_names  # rarely needed

                try_names(options.output_dir)
    if options.log_dir is not None and options.has_logs:
        with _explained(f"--log-dir {options.log_dir}"):
            os.makedirs(options.log_dir, exist_ok=True)
            os.close(filled_file(options.log_dir, b"tried"))
    if options.stdin or options.has_logs or options.group:
        with _explained(f"TMPDIR {options.spool}"):
            os.close(filled_file(options.spool, b"tried"))
    if options.persistent:
        _check_room(options.slots)
    for code, queue in options.on_exit.items():
        with _explained(f"--on-exit {code}=queue:{queue}"):
            broker.move([], queue)  # moves nothing, and opens it
    if options.on_success is not None:
        with _explained(f"--on-success {':'.join(options.on_success)}"):
            broker.move([], options.on_success.queue)
    for program in options.then[:1]:
        if why := missing(program):
            raise DdmqError(f"--then {program} can't be used: {why}")


def check_command(command: Sequence[str], options: WorkerOptions) -> None:
    """Raise DdmqError where a worker's program is not here; one that messages name may be."""
    program = command[0]
    if why := missing(program):
        if "PATH" in options.env and "/" not in program:
            why += "; --env PATH is for what the command starts: name its path"
        raise DdmqError(why)


def missing(program: str) -> str:
    """Say why a program can't be run from here; empty: it can, or only messages will tell.

    It is looked for as the system does that starts it. Where its server does not answer, the
    start will tell.
    """
    first, *others = program.split() or [""]
    if _is_here(program):
        return ""
    if names_in(program) and (not others or names_in(first) or not _is_here(first)):
        return ""
    is_path = "/" in program
    where = "seen from here, where it will run" if is_path else "on the PATH"
    why = f"{program or repr('')} is no executable file, {where}; name one, or `chmod +x` it"
    if others and _is_here(first):
        why += f"; {first} is one, so leave out the quotes around it and its arguments"
    elif not is_path and _is_here(f"./{program}"):
        why += f"; ./{program} is one"
    return why


def _is_here(program: str) -> bool:
    """Tell whether an executable file has this path, or this name on the PATH."""
    places = [""] if "/" in program else os.get_exec_path()
    return any(_is_executable(os.path.join(place, program)) for place in places)


def _is_executable(path: str) -> bool:
    try:
        is_file = stat.S_ISREG(os.stat(path).st_mode)
    except OSError as error:
        return error.errno not in _NOT_THERE
    return is_file and os.access(path, os.X_OK)


def _check_room(slots: int) -> None:
    """Refuse more commands that stay than can be held open at once."""
    needed, most = slots * _FILES_OF_ONE + _OTHER_FILES, os.sysconf("SC_OPEN_MAX")
    has = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    if has + needed > most:
        raise DdmqError(
            f"{slots} commands that stay need {has + needed} open files, and `ulimit -n` is "
            f"{most}: raise it, or run fewer with -j"
        )


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DdmqError(f"{what} can't be used: {told(error)}") from error
    except DdmqError as error:
        raise DdmqError(f"{what} can't be used: {error}") from error
