"""`ddmq dead` and `ddmq redrive`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ddmq import Broker
from ddmq.cli.commands import QUEUE, ROOT, logs_of
from ddmq.cli.spec import NAMES, Command, Kind, Reply, option, positional, switch
from ddmq.clock import date
from ddmq.errors import DdmqError, InvalidArgument
from ddmq.printable import printable, printable_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ddmq.cli.spec import Context
    from ddmq.hpc.journal import Run
    from ddmq.seen import DeadLetter

#: Kinds of dead letters that fit on a terminal.
_KINDS = 6
#: Lines of what a command said last, where all dead letters are listed.
_LAST_LINES = 5


class Dead(NamedTuple):
    """What `ddmq dead` can be told."""

    root: str = ROOT
    queue: str = QUEUE
    id: str | None = positional(
        "this one alone, and all that is known of it; all by default, in short",
        is_required=False,
    )
    kinds: bool = switch(
        "-k --kinds", "what they died of, in few lines, and what redrives each kind"
    )


def dead(told: Dead, context: Context) -> Reply:
    """List dead letters, or show all that is known of one."""
    if told.id == "":
        raise InvalidArgument("the id is empty; leave it out to list all dead letters")
    broker = Broker(told.root, fs=context.fs)
    letters = broker.dead(told.queue)
    if told.kinds:
        if told.id is not None:
            raise InvalidArgument("--kinds is of all dead letters, not of one")
        return _kinds(broker, told.queue, letters, context)
    if told.id is None:
        shown = [letter.as_dict() for letter in letters]
        plain = "\n".join(map(described, letters))
        return Reply({"dead": shown}, plain, shown=shown, nothing="no dead letters")
    found = [letter for letter in letters if letter.id == told.id]
    if not found:
        raise DdmqError(
            f"{told.id}: no dead letter of queue {told.queue}; "
            "`ddmq dead ROOT QUEUE` lists them"
        )
    tries = tries_of(broker, told.queue, told.id)
    shown = [
        {**letter.as_dict(), "tries": [run._asdict() for run in tries]}
        for letter in found
    ]
    plain = "\n".join(in_full(letter, tries) for letter in found)
    return Reply({"dead": shown}, plain, shown=shown[0] if len(shown) == 1 else shown)


def _kinds(
    broker: Broker, queue: str, letters: Sequence[DeadLetter], context: Context
) -> Reply:
    """Tell of dead letters by how their commands ended, and what these said last."""
    from ddmq.hpc.report.gather import Gatherer, over_hosts, redriving  # rarely needed

    gatherer = Gatherer()
    for letter in letters:
        gatherer.add_letter(queue, letter)
    found = gatherer.gathered()
    rows: list[dict[str, Any]] = []
    lines: list[str] = []
    for kind, group in over_hosts(found):
        command, meant = redriving(kind, group, found, broker.root)
        hosts = sorted(x.host for x, _ in found.groups if x._replace(host="") == kind)
        row = {
            "dead": group.letters,
            "how": kind.how,
            "line": kind.line,
            "hosts": hosts,
            "id": group.ids[0],
            "text": group.text,
            "redrive": command,
            "redrives": meant,
        }
        rows.append(row)
        where = f"{len(hosts)} hosts" if len(hosts) > 1 else hosts[0] or "no host"
        others = f"   # {meant:,} in all" if meant > group.letters else ""
        lines += [
            f"{group.letters:>7,}  {kind.how}{': ' * bool(kind.line)}{kind.line}",
            f"         on {where}; the first one: {group.ids[0]}  {group.text}",
            f"         {command}{others}",
        ]
    if len(rows) > _KINDS and not context.is_verbose:
        left = sum(row["dead"] for row in rows[_KINDS:])
        more = f"{left:>7,}  of {len(rows) - _KINDS:,} more kinds (-v shows them)"
        lines = [*lines[: 3 * _KINDS], more]
    are = (
        "is 1 dead letter"
        if len(letters) == 1
        else f"are {len(letters):,} dead letters"
    )
    lines.insert(0, f"{queue}: there {are}")
    return Reply({"kinds": rows}, "\n".join(map(printable, lines)), shown=rows)


def tries_of(broker: Broker, queue: str, id_: str) -> list[Run]:
    """Return what workers noted of each run for a message, the first run first."""
    return all_tries_of(broker, queue, [id_])[id_]


def all_tries_of(
    broker: Broker, queue: str, ids: Iterable[str]
) -> dict[str, list[Run]]:
    """Return the same for several messages."""
    from ddmq.hpc import journal  # only this needs it

    tries: dict[str, list[Run]] = {id_: [] for id_ in ids}
    for run in journal.read(f"{broker.root}/{queue}"):
        if run.id in tries:
            tries[run.id].append(run)
    for runs in tries.values():
        runs.sort(key=lambda run: run.start)
    return tries


def described(letter: DeadLetter) -> str:
    """Tell the most important of a dead letter, what its command said last included."""
    message = letter.message
    text = message if isinstance(message, str) else printable_json(message)
    lines = [f"{letter.id}  {text}", f"    {_reason(letter)}"]
    said = _texts_in(letter)
    lines += [f"    job {said['job']}"] if said.get("job") else []
    logs = logs_of(said.get("log", ""), said.get("logged", ""))
    lines += [f"    log {path}" for path in logs]
    lines += [f"    | {x}" for x in said.get("stderr", "").splitlines()[-_LAST_LINES:]]
    return "\n".join(map(printable, lines))


def in_full(letter: DeadLetter, tries: Iterable[Run]) -> str:
    """Tell all that is known of a dead letter: its message, each try, what was said last."""
    counted = f"{letter.failures} failures, {letter.losses} losses"
    lines = [letter.id, f"    {_reason(letter)}"]
    lines += [f"    {counted}, priority {letter.priority}"]
    lines += whole(letter.message, tries)
    said = _texts_in(letter)
    if said.get("stderr"):
        lines += ["what it said last"]
        lines += [f"    | {line}" for line in said["stderr"].splitlines()]
    return "\n".join(map(printable, lines))


def whole(message: Any, tries: Iterable[Run]) -> list[str]:
    """Return lines with all of a message, and with what workers noted of it."""
    text = message if isinstance(message, str) else printable_json(message)
    lines = ["message", *(f"    | {line}" for line in text.splitlines() or [""])]
    return lines + history(tries)


def history(tries: Iterable[Run]) -> list[str]:
    """Return lines with what workers noted of each run for a message."""
    from ddmq.hpc.journal import how, where  # only this needs it

    lines = []
    for run in tries:
        lines += [
            f"{date(run.start)}  {run.result}: {how(run)} after {run.duration:.2f} s "
            f"on {where(run)}"
        ]
        lines += [f"    log {path}" for path in logs_of(run.log, run.logged)]
    return lines


def _reason(letter: DeadLetter) -> str:
    from ddmq.untrusted import moment  # rarely needed

    time = moment(letter.note.get("time"))
    return letter.reason if time is None else f"{letter.reason}, {date(time)}"


def _texts_in(letter: DeadLetter) -> dict[str, str]:
    return {key: v for key, v in letter.note.items() if isinstance(v, str)}


def _codes(text: str) -> frozenset[int]:
    from ddmq.hpc.options import codes  # rarely needed

    return codes(text)


class Redrive(NamedTuple):
    """What `ddmq redrive` can be told."""

    root: str = ROOT
    queue: str = QUEUE
    id: list[str] | None = positional(
        "only these; all by default", NAMES, is_required=False, metavar="ID[,ID...]"
    )
    reason: str | None = option(
        "--reason", "only those whose reason holds this text", metavar="TEXT"
    )
    code: frozenset[int] | None = option(
        "--code",
        "only those whose command ended so: 1,64-70; 128 + n stands for signal n",
        Kind(_codes, lambda _: False, reads_json=True),
        metavar="CODES",
    )


def redrive(told: Redrive, context: Context) -> Reply:
    """Put dead letters back into the queue."""
    if told.reason == "":  # an unset variable, say, which all reasons hold
        raise InvalidArgument("--reason is empty; leave it out to redrive all")
    if told.code is not None and not told.code:
        raise InvalidArgument("--code is empty; leave it out to redrive all")
    broker, ids = Broker(told.root, fs=context.fs), told.id
    is_chosen = told.reason is not None or told.code is not None
    if is_chosen:
        ids = [
            letter.id
            for letter in broker.dead(told.queue)
            if (ids is None or letter.id in ids)
            and (told.reason is None or told.reason in letter.reason)
            and (told.code is None or _code_of(letter.note) in told.code)
        ]
    # Of those that we chose, somebody else may have redriven some meanwhile.
    number = broker.redrive(told.queue, ids, even_if_gone=is_chosen)
    return Reply({"redriven": number}, str(number))


def _code_of(note: Any) -> int | None:
    """Return the exit status that a note tells, as shells have it; None: it tells none."""
    import signal  # slow to import, and rarely needed

    status, name = note.get("exit"), note.get("signal")
    if isinstance(name, str) and name in signal.Signals.__members__:
        return 128 + signal.Signals[name]
    return status if type(status) is int else None


COMMANDS = (
    Command(
        "dead",
        "list dead letters, with the reasons, or show one whole",
        "ddmq dead /scratch/mq jobs\n"
        "  ddmq dead /scratch/mq jobs --kinds   # what they died of, and what redrives them\n"
        "  ddmq dead /scratch/mq jobs 51cae176361033054412-13   # each try, and its logs",
        Dead,
        run=dead,
    ),
    Command(
        "redrive",
        "put dead letters back in line, their counts at zero",
        "ddmq redrive /scratch/mq jobs\n"
        "  ddmq redrive /scratch/mq jobs --code 137             # killed: with more memory",
        Redrive,
        run=redrive,
    ),
)
