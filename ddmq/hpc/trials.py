"""Try what a worker will need, before it takes a message that would suffer."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ddmq.errors import DdmqError
from ddmq.hpc.result import try_output
from ddmq.hpc.stream import filled_file
from ddmq.hpc.trouble import told

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ddmq.broker import Broker
    from ddmq.hpc.options import Options


def try_all(options: Options, broker: Broker) -> None:
    """Try each directory and queue that the options name; DdmqError: what can't be used."""
    if options.output_dir is not None:
        with _explained(f"--output-dir {options.output_dir}"):
            try_output(options.output_dir)
    logs = options.log_dir is not None and options.logs != "none"
    if options.log_dir is not None and logs:
        with _explained(f"--log-dir {options.log_dir}"):
            os.makedirs(options.log_dir, exist_ok=True)
            os.close(filled_file(options.log_dir, b"tried"))
    if options.stdin or logs:
        with _explained(f"TMPDIR {options.spool}"):
            os.close(filled_file(options.spool, b"tried"))
    for code, queue in options.on_exit.items():
        with _explained(f"--on-exit {code}=queue:{queue}"):
            broker.move([], queue)  # moves nothing, and opens it


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DdmqError(f"{what} can't be used: {told(error)}") from error
    except DdmqError as error:
        raise DdmqError(f"{what} can't be used: {error}") from error
