"""Functions that another process calls: found there by module and name, and served."""

from __future__ import annotations

import importlib
import os
import re
import signal
import sys
from typing import TYPE_CHECKING, Any

from ddmq.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable

#: Without `__`: what Python itself gives every function and class is no function of a module.
_part = r"(?!\w*__)[A-Za-z_]\w*"
_name = re.compile(rf"({_part}(?:\.{_part})*):({_part}(?:\.{_part})*)", re.ASCII)
#: How a program of `python -c` begins: Python has it look for modules in the current directory
#: first, and whoever may write there would be run. `sys` is within Python itself.
_PATHS = "import sys; n = int(sys.argv[1]) + 2; sys.path[:] = sys.argv[2:n]; del sys.argv[1:n]\n"
_START = "from ddmq.hpc.functions.calling import main; main(*sys.argv[1:])"


def name_of(function: Callable[..., Any]) -> str:
    """Return `module:name` of a function, by which any process finds it.

    InvalidArgument says what to do where none does: for a lambda, what another function has
    inside, and what is defined in the program that was started.
    """
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str):
        raise InvalidArgument(
            f"{function!r:.100} has no name by which another process finds it; "
            "define a function with `def` in a module, and give that"
        )
    full = f"{module}:{name}"
    if "<" in name:
        raise InvalidArgument(
            f"{full} can't be found by another process; define it with `def` at the top of "
            "a module"
        )
    if module == "__main__":
        raise InvalidArgument(
            f"{full} is in the program that was started, which no other process imports; "
            f"put it into a module of its own: tasks.py, and `from tasks import {name}`"
        )
    if function_named(full) is not function:
        raise InvalidArgument(
            f"{full} is another function than this one; give each a name of its own at the "
            "top of its module"
        )
    return full


def function_named(name: str) -> Callable[..., Any]:
    """Import a module, and return the function of it; InvalidArgument: there is none.

    Only what the module itself defines counts, and nothing that it imports.
    """
    match = _name.fullmatch(name)
    if match is None:
        raise InvalidArgument(f"{name!r:.100} is not module:function")
    try:
        found: Any = importlib.import_module(match[1])
    except ImportError as error:
        raise InvalidArgument(f"{name}: {error}") from error
    for part in match[2].split("."):
        found = getattr(found, part, None)
    is_its_own = getattr(found, "__module__", None) == match[1]
    if not (is_its_own and getattr(found, "__qualname__", None) == match[2]):
        raise InvalidArgument(f"{name}: the module defines no such function")
    if not callable(found):
        raise InvalidArgument(f"{name} can't be called")
    function: Callable[..., Any] = found
    return function


def command_for(name: str, *words: str) -> list[str]:
    """Return a command that serves a function to `ddmq-worker --persistent`.

    With `words`, it is what makes the function from them.
    """
    return program(_START, name, *words)


def program(code: str, *words: str) -> list[str]:
    """Return the command of a program, which has `sys`, and words in its `sys.argv`.

    It looks for modules where this process does, wherever it starts, and nowhere else.
    """
    paths = [os.path.abspath(path) for path in sys.path]
    return [sys.executable, "-c", _PATHS + code, str(len(paths)), *paths, *words]


def main(name: str, *words: str) -> None:
    """Serve a function, as `command_for` says."""
    from ddmq.hpc.functions.serving import serve

    function = function_named(name)
    serve(function(*words) if words else function)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it ends, and is not to be disturbed
