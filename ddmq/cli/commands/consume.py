"""`ddmq consume`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from ddmq import Broker
from ddmq.cli.commands import QUEUE, ROOT, SKIP_CLEANING
from ddmq.cli.spec import NUMBER, Command, Reply, option
from ddmq.errors import DdmqError
from ddmq.printable import printable, text_of

if TYPE_CHECKING:
    from ddmq.cli.spec import Context, Number
    from ddmq.message import Message

NOTHING_TO_CONSUME = 3
#: Messages that one call leases, after which an interrupt is obeyed.
_AT_ONCE = 500


class Arguments(NamedTuple):
    """What `ddmq consume` can be told."""

    root: str = ROOT
    queue: str = QUEUE
    number: Number = option("-n --number", "up to so many at once", NUMBER)
    skip_cleaning: bool = SKIP_CLEANING


def consume(told: Arguments, context: Context) -> Reply:
    """Lease messages and show them."""
    number = 1 if told.number is None else told.number
    broker = Broker(told.root, clean=not told.skip_cleaning, fs=context.fs)
    if isinstance(number, int) and number > 1:
        messages = _many(broker, told.queue, number)
    else:
        messages = broker.consume(told.queue, number)
    shown = [message.as_dict() for message in messages]
    if not messages:
        return Reply(
            {"messages": []},
            "",
            shown=[],
            status=NOTHING_TO_CONSUME,
            is_empty=told.number is None,  # who wants one gets no list
        )
    texts = [text_of(each.message) for each in messages]
    return Reply(
        {"messages": shown},
        texts[0] if number == 1 else "\n".join(map(printable, texts)),
        shown=shown if number > 1 else shown[0],
        undo=partial(broker.release, messages),
    )


def _many(broker: Broker, queue: str, number: int) -> list[Message]:
    """Lease messages, some at a time; who is interrupted gives all of them back.

    An interrupt waits until those of one call are known. To block the signal would not do: another
    thread, such as one that keeps house, would receive it for us.
    """
    import signal  # slow to import, and rarely needed

    messages: list[Message] = []
    interrupts: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    if before != signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda number, _: interrupts.append(number))
    try:
        while len(messages) < number and not interrupts:
            wanted = min(number - len(messages), _AT_ONCE)
            try:
                found = broker.consume(queue, wanted)
            except DdmqError:
                if not messages:
                    raise
                break  # the next call meets it again
            messages += found
            if len(found) < wanted:
                break
    finally:
        signal.signal(signal.SIGINT, before)
    if interrupts:
        broker.release(messages)
        raise KeyboardInterrupt
    return messages


COMMANDS = (
    Command(
        "consume",
        "lease the first message and print it; exit status 3 when there is none",
        "ddmq consume /scratch/mq jobs --format plain",
        Arguments,
        run=consume,
        format="json",
        needs_answer=True,
    ),
)
