"""`ddmq ack`, `nack`, `release`, `reject` and `renew`: messages that are leased."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ddmq import Broker
from ddmq.cli.commands import DELAY, QUEUE, ROOT
from ddmq.cli.spec import NAMES, SECONDS, Command, Reply, group, option, positional
from ddmq.errors import DdmqError, InvalidArgument, LeaseLost

if TYPE_CHECKING:
    from collections.abc import Callable

    from ddmq.cli.spec import Context, Number
    from ddmq.message import Message

_REASON: Any = option("--reason", "why, for its dead letter")


class Leased(NamedTuple):
    """What all these commands are told, and all that `ddmq ack` and `release` can be."""

    root: str = ROOT
    queue: str = QUEUE
    id: list[str] = positional(
        "ids or file names, with commas", NAMES, metavar="ID[,ID...]"
    )


class Nack(NamedTuple):
    """What `ddmq nack` can be told."""

    leased: Leased = group(Leased)
    delay: Number = DELAY
    reason: str | None = _REASON


class Reject(NamedTuple):
    """What `ddmq reject` can be told."""

    leased: Leased = group(Leased)
    reason: str | None = _REASON


class Renew(NamedTuple):
    """What `ddmq renew` can be told."""

    leased: Leased = group(Leased)
    timeout: Number = option("-t --timeout", "seconds from now", SECONDS)


def ack(told: Leased, context: Context) -> Reply:
    """Ack each message."""
    return _settle(told, context, "acked", lambda broker, each: broker.ack(each))


def nack(told: Nack, context: Context) -> Reply:
    """Nack each message."""
    delay, reason = 0 if told.delay is None else told.delay, told.reason or ""

    def settle(broker: Broker, message: Message) -> None:
        broker.nack(message, delay=delay, reason=reason)

    return _settle(told.leased, context, "nacked", settle)


def release(told: Leased, context: Context) -> Reply:
    """Release each message."""
    return _settle(told, context, "released", lambda broker, each: broker.release(each))


def reject(told: Reject, context: Context) -> Reply:
    """Reject each message."""

    def settle(broker: Broker, message: Message) -> None:
        broker.reject(message, told.reason or "")

    return _settle(told.leased, context, "rejected", settle)


def renew(told: Renew, context: Context) -> Reply:
    """Renew the lease of each message."""

    def settle(broker: Broker, message: Message) -> None:
        broker.renew(message, told.timeout)

    return _settle(told.leased, context, "renewed", settle)


def _settle(
    told: Leased,
    context: Context,
    done: str,
    settle: Callable[[Broker, Message], None],
) -> Reply:
    """Settle each message that is still leased; then complain of the others, if any."""
    if "" in told.id:  # an unset variable, say; then nothing is done with the others
        raise InvalidArgument("an id is empty; give that of a message at work")
    broker, ids, lost = Broker(told.root, fs=context.fs), [], []
    for name in told.id:
        try:
            message = broker.leased(told.queue, name)
            settle(broker, message)
            ids.append(message.id)
        except LeaseLost as error:
            lost.append(str(error))
        except DdmqError as error:  # the others would meet the same
            error.args = ("; ".join([str(error), *lost, *_settled(done, ids)]),)
            raise
    if lost:
        raise LeaseLost("; ".join([*lost, *_settled(done, ids)]))
    return Reply({done: ids}, "\n".join(f"{id_}: {done}" for id_ in ids))


def _settled(done: str, ids: list[str]) -> list[str]:
    """Say which messages were settled, where not all of them could be."""
    return [f"{done}: {', '.join(ids)}"] if ids else []


COMMANDS = (
    Command(
        "ack",
        "finish consumed messages",
        "ddmq ack /scratch/mq jobs 2fb0d8c1b1f3add846d6",
        Leased,
        run=ack,
    ),
    Command(
        "nack",
        "say that consumed messages failed: they are tried again, or dead",
        "ddmq nack /scratch/mq jobs 2fb0d8c1b1f3add846d6 --delay 60",
        Nack,
        run=nack,
    ),
    Command(
        "release",
        "give consumed messages back unharmed; it does not count",
        "ddmq release /scratch/mq jobs 2fb0d8c1b1f3add846d6",
        Leased,
        run=release,
    ),
    Command(
        "reject",
        "make consumed messages dead letters at once",
        'ddmq reject /scratch/mq jobs 2fb0d8c1b1f3add846d6 --reason "no such sample"',
        Reject,
        run=reject,
    ),
    Command(
        "renew",
        "prolong the leases of consumed messages",
        "ddmq renew /scratch/mq jobs 2fb0d8c1b1f3add846d6 --timeout 3600",
        Renew,
        run=renew,
    ),
)
