"""The commands of `ddmq`: the list of them, and the arguments that several have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from ddmq.cli.spec import NAMES, SECONDS, option, positional, switch
from ddmq.clock import span
from ddmq.errors import DdmqError, InvalidArgument, InvalidSettings
from ddmq.settings import show

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ddmq import Broker, Overview
    from ddmq.cli.spec import Command, Number
    from ddmq.storage.then import FollowUp

_Result = TypeVar("_Result")

#: The module of each command, in the order of the help. No other module is imported to run it.
MODULES = {
    "view": "view",
    "workers": "workers",
    "peek": "peek",
    "show": "peek",
    "status": "status",
    "create": "queues",
    "delete": "queues",
    "publish": "publish",
    "forget": "publish",
    "consume": "consume",
    "ack": "settle",
    "nack": "settle",
    "release": "settle",
    "reject": "settle",
    "renew": "settle",
    "move": "transfer",
    "cancel": "cancel",
    "pause": "pause",
    "resume": "pause",
    "drain": "workers",
    "purge": "queues",
    "clean": "queues",
    "export": "export",
    "import": "export",
    "migrate": "migrate",
    "dead": "dead_letters",
    "log": "log",
    "results": "results",
    "report": "report",
    "redrive": "dead_letters",
    "wait": "wait",
    "config": "config",
    "check": "diagnose",
    "doctor": "diagnose",
}


def find(name: str) -> Command:
    """Return a command, given its name."""
    # As importlib would, which alone is several files to open.
    module = getattr(__import__(__name__, fromlist=[MODULES[name]]), MODULES[name])
    commands: tuple[Command, ...] = module.COMMANDS
    return next(command for command in commands if command.name == name)


ROOT: Any = positional("the directory of the queues, on storage all clients share")
QUEUE: Any = positional("the name of the queue")
QUEUES: Any = positional("one queue, or several with commas", NAMES)
ANY_QUEUES: Any = positional(
    "queues, with commas; all by default", NAMES, is_required=False
)
FORCE: Any = switch("-f --force", "create and initiate what is missing")
SKIP_CLEANING: Any = switch("-C --skip-cleaning", "leave the housekeeping to others")
LOCK_TIMEOUT: Any = option(
    "--lock-timeout",
    "seconds to wait for the lock; the setting lock_timeout by default",
    SECONDS,
    metavar="S",
)
DELAY: Any = option("--delay", "seconds until it is visible", SECONDS)


def in_each(
    broker: Broker,
    names: Iterable[str],
    act: Callable[[str], _Result],
    done: str,
    *,
    even_broken: bool = False,
) -> dict[str, _Result]:
    """Do something with queues, once all are known to be well; return what it gave for each.

    Nothing is done where one is missing. Where it fails later on, the error tells with which
    queues it was `done` before.
    """
    names, results = list(dict.fromkeys(names)), {}
    for name in names if len(names) > 1 else ():
        try:
            broker.settings(name)
        except InvalidSettings:
            if not even_broken:
                raise
    for name in names:
        try:
            results[name] = act(name)
        except DdmqError as error:
            if results:
                error.args = (f"{error}; {done} before: {', '.join(results)}",)
            raise
    return results


def at_work(found: Overview) -> str:
    """Say how many messages are at work, and what is known of those that nobody renews."""
    text, unrenewed = f"{found.counts.work} at work", found.unrenewed
    if unrenewed.age is None or unrenewed.back_in is None:
        return text
    age, back_in = span(unrenewed.age), span(unrenewed.back_in)
    return f"{text} ({unrenewed.number} not renewed for {age}, back in {back_in})"


def dead_hint(number: int, root: str, queue: str, which: str = "") -> str:
    """Say how many dead letters a queue has, and what lists and redrives them.

    `which` says more about them. Empty: the queue has none.
    """
    if not number:
        return ""
    from ddmq.printable import quoted  # rarely needed

    place = f"{quoted(root)} {quoted(queue)}"
    letters = "dead letter" if number == 1 else "dead letters"
    return (
        f"{number:,} {letters}{which}: `ddmq dead {place}` lists them, "
        f"`ddmq redrive {place}` puts them back"
    )


def follow_ups_of(broker: Broker, queue: str) -> list[FollowUp]:
    """Return what is to be run when a queue is done: `ddmq-worker --then`."""
    return broker.with_follow_ups(queue, lambda each: each.all())


def positive(value: Number) -> int:
    """Return a number of things that was given, at least 1; InvalidArgument otherwise."""
    if isinstance(value, int) and value > 0:
        return value
    raise InvalidArgument(f"{show(value)} is no positive number")


def logs_of(path: str, logged: str) -> list[str]:
    """Return the paths of the logs that a worker saved of a run."""
    return [f"{path}.{kind}" for kind in ("out", "err") if kind in logged.split()]
