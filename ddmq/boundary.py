"""What all commands share at their edge: one error boundary, one way to complain."""

from __future__ import annotations

import argparse
import io
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from ddmq.errors import DdmqError
from ddmq.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_INTERRUPTED = 130
_WIDTH = 80


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line and a pointer to the help."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse; complain of an empty value, as in `-s=`, where Python 3.9 only fails."""
        try:
            return super().parse_known_args(args, namespace)
        except IndexError:
            self.error("a switch takes no value, and has an empty one after =")

    def error(self, message: str) -> NoReturn:
        """Complain, and end with status 2."""
        self.exit(2, f"{self.prog}: {printable(message)}; see `{self.prog} -h`\n")


class Help(argparse.RawDescriptionHelpFormatter):
    """Help as it was written, as wide as the terminal.

    argparse makes one for each argument. Left to itself, that imports `shutil`, and with it
    every compression: ten files, to learn the same width.
    """

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_width() - 2)


def _width() -> int:
    try:
        return os.get_terminal_size().columns or _WIDTH
    except OSError:  # not a terminal
        return _WIDTH


def typed(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return `read` as argparse wants it: what it says is wrong becomes wrong usage."""

    def convert(text: str) -> Any:
        try:
            return read(text)
        except DdmqError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return convert


def guarded(program: str, run: Callable[[], int], *, debug: bool = False) -> int:
    """Run a program within the one error boundary; return its exit status."""
    _check_streams(program)
    try:
        return run()
    except DdmqError as error:
        if debug:
            _print_origin(error)
        print(f"{program}: {one_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:  # whoever read our output has seen enough
        _print_nothing_more()
        return 1
    except OSError as error:  # all others were explained where they came from
        _print_nothing_more()
        print(f"{program}: standard output: {error.strerror}", file=sys.stderr)
        return 1


def _print_origin(error: BaseException) -> None:
    """Print where an error came from: as Python does, but no line of its text is a line of ours."""
    from traceback import format_tb  # slow to import, and rarely needed

    if error.__cause__ is not None:
        _print_origin(error.__cause__)
    frames = "".join(format_tb(error.__traceback__))
    said = f"{type(error).__name__}: {one_line(error)}"
    print(f"Traceback (most recent call last):\n{frames}{said}", file=sys.stderr)


def _check_streams(program: str) -> None:
    """Do nothing at all when nobody could be told; without standard error, say less."""
    if sys.stdout is None:
        raise SystemExit(f"{program}: standard output is closed; nothing was done")
    if sys.stderr is None:
        sys.stderr = io.StringIO()


def _print_nothing_more() -> None:
    """Let Python write what is still in its buffer to nowhere, when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def one_line(error: BaseException) -> str:
    """Return the text of an error without line breaks, and with nothing a terminal obeys."""
    return printable(" ".join(str(error).splitlines()))


def counted(numbers: Mapping[str, int]) -> str:
    """Tell how many system calls were made, by kind."""
    most_first = sorted(numbers.items(), key=lambda item: -item[1])
    kinds = ", ".join(f"{kind} {number}" for kind, number in most_first)
    return f"{sum(numbers.values())} file-system calls: {kinds or 'none'}"
