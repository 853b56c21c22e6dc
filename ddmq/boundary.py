"""The one error boundary of all commands."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from ddmq.errors import DdmqError

if TYPE_CHECKING:
    from collections.abc import Callable

_INTERRUPTED = 130


def guarded(program: str, run: Callable[[], int], *, debug: bool = False) -> int:
    """Run a program within the one error boundary; return its exit status."""
    try:
        return run()
    except DdmqError as error:
        if debug:
            raise
        print(f"{program}: {one_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def one_line(error: DdmqError) -> str:
    """Return the text of an error without line breaks."""
    return " ".join(str(error).splitlines())
