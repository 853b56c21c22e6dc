"""`ddmq config`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ddmq import Broker
from ddmq.cli.commands import LOCK_TIMEOUT, ROOT
from ddmq.cli.spec import (
    NAMES,
    PAIRS,
    AddPair,
    Command,
    Reply,
    option,
    parse_seconds,
    positional,
)
from ddmq.errors import InvalidArgument, InvalidSettings
from ddmq.settings import checked, show

if TYPE_CHECKING:
    from ddmq.cli.spec import Context, Number


#: Settings that may be written as 5m or 1h.
_IN_SECONDS = frozenset(("message_timeout", "lock_timeout"))


class Arguments(NamedTuple):
    """What `ddmq config` can be told."""

    root: str = ROOT
    queue: str | None = positional("the queue; none: the root", is_required=False)
    set: dict[str, Any] | None = option(
        "--set", "change a setting", PAIRS, metavar="KEY=VALUE", action=AddPair
    )
    unset: list[str] | None = option(
        "--unset", "give a setting its default back", NAMES, metavar="KEY"
    )
    lock_timeout: Number = LOCK_TIMEOUT


def config(told: Arguments, context: Context) -> Reply:
    """Show or change settings."""
    broker = Broker(told.root, lock_timeout=told.lock_timeout, fs=context.fs)
    changes, unset = told.set or {}, told.unset or []
    for key in _IN_SECONDS & changes.keys():
        if isinstance(changes[key], str):
            changes[key] = parse_seconds(changes[key])
    settings = broker.settings(told.queue)
    try:
        checked(changes, f"{broker.root}/{told.queue or ''}".rstrip("/") + "/ddmq.yaml")
    except InvalidSettings as error:  # of the arguments, not of a file
        raise InvalidArgument(str(error)) from error
    if changes or unset:
        settings = broker.update_settings(told.queue, unset=unset, **changes)
    lines = [f"{key}: {show(value)}" for key, value in settings._asdict().items()]
    return Reply(settings._asdict(), "\n".join(lines))


COMMANDS = (
    Command(
        "config",
        "show the settings of a queue or of the root, or change them",
        "ddmq config /scratch/mq jobs --set message_timeout=1h --unset priority",
        Arguments,
        run=config,
    ),
)
