"""The other side of `ddmq-worker --persistent`: a function that gets one message after another."""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from ddmq.schedulers import environment

if TYPE_CHECKING:
    from collections.abc import Callable
    from io import TextIOWrapper

#: What a function may ask for besides the message, by the names of its parameters.
_FIELDS = frozenset(
    ("id", "output", "priority", "slot", "failures", "losses", "requeue_counter")
)
#: Characters of a reason. The worker keeps no more, and takes a longer answer for garbage.
_LONGEST_REASON = 1000


class Reject(Exception):
    """Raise it where a message can never succeed: it becomes a dead letter at once."""


class Release(Exception):
    """Raise it where a message is to be tried again later, and is not to blame."""


def serve(function: Callable[..., Any]) -> None:
    """Call a function for each message that `ddmq-worker --persistent` gives this process.

    It gets what was published: a text, or any other JSON value. If it has parameters called `id`,
    `output` (where to write a result, with --output-dir), `priority`, `slot`, `failures`, `losses`
    or `requeue_counter`, it gets these, too. When it returns, the message is acked; what it returns
    is not used. When it raises an exception, the message is nacked, and the traceback goes to
    standard error; `Reject` and `Release` do what their names say.

    Ends when there are no more messages. After SIGTERM it ends when the function has returned.
    Standard input is empty for the function and all that it starts: messages come there.

    Outside of a worker, answers go to standard output, so a command can be tried by hand:
    `echo '{"id": "1", "message": "a.txt"}' | python tasks.py`.
    """
    import inspect  # slow to import

    # The first one gets the message, whatever it is called.
    wanted = _FIELDS.intersection([*inspect.signature(function).parameters][1:])
    ending = _Ending()
    with _requests() as requests, _replies() as replies:
        for line in requests:
            request = json.loads(line)
            given = {name: request.get(name) for name in wanted}
            ending.is_busy = True
            answer = _answer(function, request["message"], given)
            print(json.dumps({"id": request["id"], **answer}), file=replies, flush=True)
            ending.is_busy = False
            if ending.was_asked:
                return


class _Ending:
    """Lets SIGTERM end the process between two messages."""

    def __init__(self) -> None:
        self.is_busy = self.was_asked = False
        signal.signal(signal.SIGTERM, self._asked)

    def _asked(self, *_: object) -> None:
        self.was_asked = True
        if not self.is_busy:
            raise SystemExit(128 + signal.SIGTERM)


def _requests() -> TextIOWrapper:
    """Take standard input for ourselves, and leave an empty one to whoever reads it."""
    descriptor = os.dup(0)
    with open(os.devnull) as empty:
        os.dup2(empty.fileno(), 0)
    return open(descriptor, encoding="utf-8")


def _replies() -> TextIOWrapper:
    """Open what a worker reads answers from; what this process starts does not inherit it."""
    number = environment().get("DDMQ_REPLY_FD")
    if not number:
        return open(os.dup(sys.stdout.fileno()), "w", encoding="ascii")
    descriptor = int(number)
    os.set_inheritable(descriptor, False)  # noqa: FBT003 - positional only
    return open(descriptor, "w", encoding="ascii")


def _answer(
    function: Callable[..., Any], message: Any, given: dict[str, Any]
) -> dict[str, Any]:
    """Call the function, and return what became of the message."""
    try:
        function(message, **given)
    except Reject as error:
        return {"reject": True, "reason": str(error)[:_LONGEST_REASON]}
    except Release as error:
        return {"release": True, "reason": str(error)[:_LONGEST_REASON]}
    except Exception as error:  # noqa: BLE001 - whatever it is, the next message comes
        import traceback  # slow to import

        traceback.print_exc()
        sys.stderr.flush()
        [*_, last] = traceback.format_exception_only(type(error), error)
        return {"nack": True, "reason": last.strip()[:_LONGEST_REASON]}
    finally:
        sys.stdout.flush()
    return {"ack": True}
