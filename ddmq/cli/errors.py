"""The one error boundary of all commands."""

from __future__ import annotations

import io
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ddmq.errors import (
    IN_PYTHON,
    DdmqError,
    InvalidArgument,
    QueueNotFound,
    RootNotFound,
    creates,
)
from ddmq.storage.layout import may_be_queue
from ddmq.storage.names import SETTINGS_FILE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

WRONG_USAGE = 2
_INTERRUPTED = 130
#: The first descriptor that is no standard stream.
_FIRST_OF_OURS = 3


def guarded(program: str, run: Callable[[], int], *, debug: bool = False) -> int:
    """Run a program within the one error boundary; return its exit status."""
    if sys.stdout is None:  # nobody could be told
        raise SystemExit(f"{program}: standard output is closed; nothing was done")
    with _whole_answers():
        return _guarded(program, run, debug=debug)


def _guarded(program: str, run: Callable[[], int], *, debug: bool) -> int:
    if sys.stderr is None:
        sys.stderr = io.StringIO()  # the exit status says enough
        # Nothing that is opened later gets the number of a standard stream that is closed.
        while (descriptor := os.open(os.devnull, os.O_RDWR)) < _FIRST_OF_OURS:
            pass
        os.close(descriptor)
    try:
        return _flushed(run)
    except DdmqError as error:
        if debug:
            _print_origin(error)
        print(f"{program}: {one_line(error)}", file=sys.stderr)
        for line in getattr(error, "lines", ()):  # what to choose from
            print(f"  {line}", file=sys.stderr)
        return status_of(error)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:  # whoever read our output has seen enough
        _print_nothing_more()
        return 1
    except OSError as error:  # all others were explained where they came from
        _print_nothing_more()
        print(f"{program}: standard output: {error.strerror}", file=sys.stderr)
        return 1


@contextmanager
def ends_as_by_ctrl_c() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end this process as Ctrl-C does: by an exception, so that it tidies up."""
    import signal  # slow to import, and rarely needed

    taken = [
        number
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) == signal.SIG_DFL
    ]
    for number in taken:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def _whole_answers() -> Iterator[None]:
    """Let standard output have a buffer, also where Python is told to have none.

    Without one, a write may end in the middle, at a full disk or a closed pipe, and say nothing.
    """
    given = sys.stdout
    if not isinstance(getattr(given, "buffer", None), io.RawIOBase):
        yield
        return
    descriptor, encoding, errors = given.fileno(), given.encoding, given.errors
    with open(
        descriptor, "w", encoding=encoding, errors=errors, closefd=False
    ) as sys.stdout:
        try:
            yield
        finally:
            sys.stdout = given


def _flushed(run: Callable[[], int]) -> int:
    """Run a program; what it printed is written, or an OSError, however it ends."""
    try:
        status = run()
    except OSError:
        raise
    except BaseException:  # after a help page, for one
        sys.stdout.flush()
        raise
    sys.stdout.flush()
    return status


def swapped(queues: object, *, any_name: bool = True) -> str:
    """Return what to add to an error where a root stands in place of a queue, or nothing.

    Without `any_name` only what can be no queue is looked at.
    """
    # In a root, each queue is such a directory.
    any_name = any_name and not os.path.exists(SETTINGS_FILE)
    names = [queues] if isinstance(queues, str) else queues
    for name in names if isinstance(names, list) else []:
        if ("/" in name or any_name) and os.path.exists(f"{name}/{SETTINGS_FILE}"):
            return f"; but {name} is a root, which comes first, and then the queue"
    return ""


@contextmanager
def how_to_create(
    named: Mapping[str, Any], *, has_force: bool = False
) -> Iterator[None]:
    """Let the error of a missing root or queue say how to create what the user named.

    `named` are the arguments of the command. `has_force`: it creates what is missing if it is
    given -f.
    """
    try:
        yield
    except (QueueNotFound, RootNotFound) as error:
        root, queues = named.get("root"), named.get("queue", named.get("queues"))
        how = swapped(queues) if error.root else ""
        if error.root and not how:
            if not isinstance(root, str) or os.path.realpath(root) != error.root:
                root = error.root
            if isinstance(error, QueueNotFound):
                names = [error.queue]
            else:
                given = [queues] if isinstance(queues, str) else queues or []
                names = [name for name in given if may_be_queue(name)]
            how = f"; create it with {creates(root, *names)}"
            how += ", or by -f" if has_force else ""
        error.args = (str(error).replace(error.how, how, 1),)
        raise


def status_of(error: DdmqError) -> int:
    """Return the exit status for an error: an argument that can't be used is wrong usage."""
    return WRONG_USAGE if isinstance(error, InvalidArgument) else 1


def _print_origin(error: BaseException) -> None:
    """Print where an error came from: as Python does, but no line of its text is a line of ours."""
    from traceback import format_tb  # slow to import, and rarely needed

    cause = getattr(error, "cause", error.__cause__)
    if cause is not None:
        _print_origin(cause)
    parts = error.__traceback__, *getattr(error, "traces", ())
    frames = "".join(line for part in parts for line in format_tb(part))
    said = f"{type(error).__name__}: {one_line(error)}"
    print(f"Traceback (most recent call last):\n{frames}{said}", file=sys.stderr)


def _print_nothing_more() -> None:
    """Let Python write what is still in its buffer to nowhere, when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def one_line(error: BaseException) -> str:
    """Return the text of an error without line breaks, and with nothing a terminal obeys."""
    from ddmq.printable import printable  # rarely needed

    return printable(" ".join(str(error).replace(IN_PYTHON, "").splitlines()))


def counted(numbers: Mapping[str, int]) -> str:
    """Tell how many system calls were made, by kind."""
    most_first = sorted(numbers.items(), key=lambda item: -item[1])
    kinds = ", ".join(f"{kind} {number}" for kind, number in most_first)
    return f"{sum(numbers.values())} file-system calls: {kinds or 'none'}"
