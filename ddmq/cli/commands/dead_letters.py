"""`ddmq dead` and `ddmq redrive`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ddmq import Broker
from ddmq.cli.commands import QUEUE, ROOT, logs_of
from ddmq.cli.selection import Named, Selection, in_letters
from ddmq.cli.spec import Command, Kind, Reply, group, option, switch
from ddmq.clock import date
from ddmq.errors import InvalidArgument, MessageNotFound
from ddmq.printable import printable, text_of

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
    named: Named = group(Named)
    kinds: bool = switch(
        "-k --kinds", "what they died of, in few lines, and what redrives each kind"
    )


def dead(told: Dead, context: Context) -> Reply:
    """List dead letters, or show all that is known of some."""
    broker = Broker(told.root, fs=context.fs)
    letters = broker.dead(told.queue)
    if told.kinds:
        if told.named != Named(None, None, None):
            raise InvalidArgument("--kinds is of all dead letters, not of one")
        return _kinds(broker, told.queue, letters, context)
    look = in_letters(lambda: letters)
    ids = Selection(broker, told.queue, look, "dead letter").ids(told.named)
    if ids is None:
        shown = [letter.as_dict() for letter in letters]
        plain = "\n".join(map(described, letters))
        return Reply({"dead": shown}, plain, shown=shown, nothing="no dead letters")
    missing = [id_ for id_ in ids if all(id_ != letter.id for letter in letters)]
    if missing:
        raise MessageNotFound(
            f"{', '.join(missing)}: no dead letter of queue {told.queue}; "
            "`ddmq dead ROOT QUEUE` lists them"
        )
    found = [letter for letter in letters if letter.id in ids]
    shown, plain = whole_letters(broker, told.queue, found)
    return Reply({"dead": shown}, plain, shown=shown[0] if len(shown) == 1 else shown)


def whole_letters(
    broker: Broker, queue: str, letters: Sequence[DeadLetter]
) -> tuple[list[dict[str, Any]], str]:
    """Return all that is known of dead letters, for programs and for people."""
    tries = all_tries_of(broker, queue, [letter.id for letter in letters])
    values = [
        {**letter.as_dict(), "tries": [run._asdict() for run in tries[letter.id]]}
        for letter in letters
    ]
    return values, "\n".join(in_full(letter, tries[letter.id]) for letter in letters)


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
    for kind, alike in over_hosts(found):
        command, meant = redriving(kind, alike, found, broker.root)
        hosts = sorted(x.host for x, _ in found.groups if x._replace(host="") == kind)
        row = {
            "dead": alike.letters,
            "how": kind.how,
            "line": kind.line,
            "hosts": hosts,
            "id": alike.ids[0],
            "text": alike.text,
            "redrive": command,
            "redrives": meant,
        }
        rows.append(row)
        where = f"{len(hosts)} hosts" if len(hosts) > 1 else hosts[0] or "no host"
        others = f"   # {meant:,} in all" if meant > alike.letters else ""
        lines += [
            f"{alike.letters:>7,}  {kind.how}{': ' * bool(kind.line)}{kind.line}",
            f"         on {where}; the first one: {alike.ids[0]}  {alike.text}",
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
    lines = [f"{letter.id}  {text_of(letter.message)}", f"    {_reason(letter)}"]
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
    text = text_of(message).splitlines() or [""]
    lines = ["message", *(f"    | {line}" for line in text)]
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
    named: Named = group(Named)
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
    broker = Broker(told.root, fs=context.fs)
    look = in_letters(lambda: broker.dead(told.queue))
    ids = Selection(broker, told.queue, look, "dead letter").ids(told.named)
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
        "  ddmq dead /scratch/mq jobs 51cae176361033054412-13   # each try, and its logs\n"
        "  ddmq dead /scratch/mq jobs --text 'sample 17'",
        Dead,
        run=dead,
    ),
    Command(
        "redrive",
        "put dead letters back in line, their counts at zero",
        "ddmq redrive /scratch/mq jobs\n"
        "  ddmq redrive /scratch/mq jobs --code 137             # killed: with more memory\n"
        "  ddmq redrive /scratch/mq jobs --text 'sample 17'     # this one alone",
        Redrive,
        run=redrive,
    ),
)
