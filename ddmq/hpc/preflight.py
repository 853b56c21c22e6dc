"""The checks before the first message: a worker tries all that it will need."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ddmq.errors import DdmqError
from ddmq.hpc.faults import told
from ddmq.hpc.result import try_output
from ddmq.hpc.stream import filled_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ddmq.broker import Broker
    from ddmq.hpc.options import WorkerOptions

#: Files that are open for a command that stays: two outputs, its input, its answers.
_FILES_OF_ONE = 4
#: Those that a worker opens later on for itself, and for the start of a command.
_OTHER_FILES = 24


def check_all(options: WorkerOptions, broker: Broker) -> None:
    """Try each directory and queue that the options name; DdmqError: what can't be used."""
    if options.output_dir is not None:
        with _explained(f"--output-dir {options.output_dir}"):
            try_output(options.output_dir)
            if options.output_name is not None:
                from ddmq.hpc.output_names import try_names  # rarely needed

                try_names(options.output_dir)
    logs = options.log_dir is not None and options.logs != "none"
    if options.log_dir is not None and logs:
        with _explained(f"--log-dir {options.log_dir}"):
            os.makedirs(options.log_dir, exist_ok=True)
            os.close(filled_file(options.log_dir, b"tried"))
    if options.stdin or logs or options.group:
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
    if options.then:
        _require_program(options.then[0])


def _require_program(name: str) -> None:
    """Raise DdmqError where `--then` names no program of this node."""
    places = [""] if "/" in name else [f"{each}/" for each in os.get_exec_path()]
    paths = [place + name for place in places]
    if not any(os.path.isfile(path) and os.access(path, os.X_OK) for path in paths):
        where = "here" if "/" in name else "on the PATH of this node"
        raise DdmqError(
            f"--then {name} can't be used: no executable file {where}; name one, or "
            "`chmod +x` it"
        )


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
