"""The command `ddmq-worker`."""

from __future__ import annotations

import gc
import os
import sys
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from ddmq import Broker, schedulers
from ddmq.cli.errors import counted, guarded, how_to_create
from ddmq.cli.spec import filled
from ddmq.cli.standard_error import StandardError
from ddmq.cli.worker_arguments import (
    JobEnd,
    WhichQueue,
    WorkerArguments,
    divided,
    given_to_worker,
    worker_parser,
)
from ddmq.clock import Clock
from ddmq.errors import DdmqError
from ddmq.hpc.faults import told
from ddmq.hpc.options import WorkerOptions
from ddmq.printable import printable, quoted
from ddmq.storage.filesystem import CountedCalls, FileSystem

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ddmq.hpc.limits import Deadline
    from ddmq.hpc.running.stream import Output
    from ddmq.hpc.worker import QueueProgress, Summary

BROKEN = 1
SOME_FAILED = 4
DRAINED = 5
#: Bytes that are read at once.
_BLOCK = 1 << 20


class DeadLetters(NamedTuple):
    """The dead letters of the queue when a worker ends."""

    number: int = 0
    own: int = 0
    """Those that are lines of its `--from-file`."""
    file: str = ""
    """The name of that file."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the worker; return its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    return guarded("ddmq-worker", lambda: _run(words))


def _run(words: list[str]) -> int:
    ours, command = divided(words, WorkerArguments)
    parser = worker_parser()
    values = vars(given_to_worker(parser, ours, command))
    if not command:
        parser.error("put the command last, after --")
    which, given = filled(WhichQueue, values), filled(WorkerArguments, values)
    calls = CountedCalls()
    with StandardError() as stderr:
        has_force = bool(given.filling.from_file) and not given.filling.force
        try:
            with how_to_create(values, has_force=has_force):
                summary, letters = _work(
                    which, given, command, calls=calls, stderr=stderr.output
                )
        except OSError as error:
            # Of this node: all others were explained where they came from.
            why = told(error)
            if isinstance(error, FileNotFoundError) and error.filename is None:
                # os.getcwd says so
                why = "the current directory is gone: `cd` to another one"
            raise DdmqError(f"it can't go on: {why}") from error
        stderr.is_hurried = bool(summary.stopped)
        _tell(summary, letters, which, calls if given.saying.debug else None)
        if not summary.stopped and sys.stderr.isatty():
            _tell_what_others_hold(which)
        if (summary.left != 0 or summary.then_is_left) and summary.at_end:
            _continue_chain(which)
    return status_of(summary, letters.own, exit_zero=given.saying.exit_zero)


def _tell(
    summary: Summary,
    letters: DeadLetters,
    which: WhichQueue,
    calls: CountedCalls | None,
) -> None:
    """Say what was done, and that the queue has dead letters, in one line."""
    said = ", ".join(f"{number} {what}" for what, number in summary.numbers.items())
    if summary.stopped:
        left = "nobody knows how many" if summary.left is None else summary.left
        said = f"stopped: {summary.stopped}; {said}, {left} left"
    elif not any(summary.numbers.values()):
        said = f"nothing was waiting; {said}"
    if summary.then_is_left:
        said += "; --then is left to the next worker"
    if letters.number:
        from ddmq.cli.commands import dead_hint  # rarely needed

        own = f" ({letters.own:,} from {letters.file})" if letters.own else ""
        said += f"; {dead_hint(letters.number, *which, own)}"
    if calls is not None:
        said += f"; {counted(calls.numbers)}"
    print(f"ddmq-worker: {printable(said)}", file=sys.stderr)


def _continue_chain(which: WhichQueue) -> None:
    from ddmq.hpc import chain  # slow to import, and rarely needed

    queue_path = f"{os.path.abspath(which.root)}/{which.queue}"
    job = chain.continue_chain(queue_path, schedulers.environment())
    if job is not None:
        print(f"ddmq-worker: the next job: {printable(job)}", file=sys.stderr)


def _tell_what_others_hold(which: WhichQueue) -> None:
    """Tell the user that not all is done: a worker that was killed may hold the rest."""
    from ddmq.cli.commands import at_work  # only needed here

    with suppress(DdmqError):
        found = Broker(which.root, clean=False).overview(which.queue)[which.queue]
        if found.counts.work:
            place = f"{quoted(which.root)} {quoted(which.queue)}"
            print(
                f"ddmq-worker: {at_work(found)} elsewhere: `ddmq doctor {place}` says whether "
                "somebody has it; --until-done waits for it",
                file=sys.stderr,
            )


def _work(
    which: WhichQueue,
    given: WorkerArguments,
    command: list[str],
    *,
    calls: CountedCalls,
    stderr: Output,
) -> tuple[Summary, DeadLetters]:
    from ddmq.hpc.worker import work  # help and wrong usage need nothing of it

    gc.freeze()  # imported modules stay to the end: no collection need look at them
    clock, environ, fs = Clock(), schedulers.environment(), FileSystem(calls)
    unpublished, copy, key = given.filling.from_file, "", None
    broker: Broker | None = None
    with ExitStack() as stack:

        def read(path: str) -> str:
            nonlocal copy
            from ddmq.cli.input import readable_twice  # rarely needed

            # What a pipe holds is read once, whatever comes after.
            copy = copy or stack.enter_context(readable_twice(path))
            return copy

        def opened() -> Broker:
            nonlocal unpublished, key, broker
            if given.filling.force:
                if unpublished is not None:
                    read(unpublished)  # if it does not exist, no root is created
                which.create_missing(fs=fs, clock=clock)
            broker = Broker(which.root, fs=fs, clock=clock)
            broker.settings(which.queue)  # an error here is the user's to mend
            if unpublished is not None:
                lines = read(unpublished)
                key = publish_once(broker, which.queue, lines, name=unpublished)
                unpublished = None  # even if it has other lines when all is tried again
            return broker

        def progress() -> QueueProgress | None:
            if not given.saying.progress:
                return None
            from ddmq.cli.worker_progress import WorkerProgress  # rarely needed

            shown = WorkerProgress(which.root, which.queue, clock, sys.stderr)
            stack.callback(shown.close)
            return shown

        summary = work(
            opened,
            which.queue,
            command,
            options=worker_options(given, environ),
            deadline=deadline_of(given.job_end, environ, clock),
            environ=environ,
            clock=clock,
            fs=fs,
            progress=progress,
            stderr=stderr,
            until_exit=True,
        )
    letters = DeadLetters()
    with suppress(DdmqError):  # the work is done all the same
        if broker is not None and (number := broker.count_dead(which.queue)):
            own = 0 if key is None else broker.count_dead(which.queue, key)
            letters = DeadLetters(number, own, given.filling.from_file or "")
    return summary, letters


def publish_once(broker: Broker, queue: str, path: str, *, name: str = "") -> str:
    """Publish each line of a file, unless the same lines were published so before; return the key.

    So the same command may be started again, or in each task of an array. `name` is what the user
    calls the file.
    """
    from hashlib import sha256

    from ddmq.cli.input import messages, readable_twice  # rarely needed

    is_new = False

    def lines(copy: str) -> Iterator[Any]:
        nonlocal is_new
        is_new = True
        yield from messages(copy, as_json=False, null=False, tell=lambda _: None)

    with readable_twice(path) as copy:
        found = sha256()
        with open(copy, "rb") as file:
            for block in iter(lambda: file.read(_BLOCK), b""):
                found.update(block)
        key = f"lines {found.hexdigest()[:32]}"
        number = broker.publish_many(queue, lines(copy), key=key)
    said = f"{number} {'line' if number == 1 else 'lines'} published"
    if not is_new:
        said += " before, and not again"
    print(f"ddmq-worker: {printable(name or path)}: {said}", file=sys.stderr)
    return key


def deadline_of(given: JobEnd, environ: dict[str, str], clock: Clock) -> Deadline:
    """Return when the job ends: the earliest time that the scheduler or the user says."""
    from ddmq.hpc.worker import deadline_from

    return deadline_from(
        environ,
        clock,
        time=given.time,
        at=given.deadline,
        min_remaining=given.min_remaining,
    )


def worker_options(given: WorkerArguments, environ: dict[str, str]) -> WorkerOptions:
    """Return what the worker is told. The scheduler says how many slots if the user does not."""
    running, outputs, stopping = given.running, given.outputs, given.stopping
    failures, share = stopping.max_failures
    if running.slots is None:
        running = running._replace(slots=schedulers.slots(environ))
    if outputs.log_dir is not None:
        outputs = outputs._replace(log_dir=os.path.abspath(outputs.log_dir))
    if outputs.output_dir is not None:
        outputs = outputs._replace(output_dir=os.path.abspath(outputs.output_dir))
    values: dict[str, Any] = {}
    for part in (running, given.succeeding, given.failing, outputs, stopping):
        values.update(part._asdict())
    values.update(max_failures=failures, max_failed_share=share)
    return WorkerOptions(**values, spool=environ.get("TMPDIR", "/tmp"))


def status_of(summary: Summary, own_dead: int = 0, *, exit_zero: bool = False) -> int:
    """Return the exit status that tells what became of the messages.

    `own_dead` lines of `--from-file` are dead letters: they failed, whichever worker ran them.
    With `exit_zero`, messages that failed are no failure of the job.
    """
    if summary.broken:
        return BROKEN
    if summary.left != 0 or summary.braked or summary.then_is_left:
        return DRAINED
    if summary.then_has_failed:
        return SOME_FAILED
    numbers = summary.numbers
    some_failed = numbers["failed"] or numbers["lost"] or own_dead
    return SOME_FAILED if some_failed and not exit_zero else 0
