"""The command `ddmq`: find the command, parse, run, answer."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ddmq.cli import commands
from ddmq.cli.errors import counted, guarded, how_to_create, swapped
from ddmq.cli.spec import (
    Context,
    Help,
    Parser,
    ShowVersion,
    add_arguments,
    arguments_in,
    filled,
    flags_in,
    with_dashes,
    with_late_dashes,
    with_values,
)
from ddmq.clock import Clock
from ddmq.errors import InvalidArgument, did_you_mean
from ddmq.settings import dump
from ddmq.storage.filesystem import CountedCalls, FileSystem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ddmq.cli.spec import Command, Reply

_HELP = """\
a message queue made of files: no server, one directory per queue

  ddmq create -f /scratch/mq jobs          make a queue
  ddmq publish /scratch/mq jobs "Hello"    put a message in
  ddmq consume /scratch/mq jobs            lease the first one
  ddmq ack /scratch/mq jobs ID             done with it
  ddmq view /scratch/mq                    what is in there
"""
_EPILOG = """\
exit status: 0 done, 1 an error that is explained, 2 wrong usage,
3 nothing to consume, 130 interrupted; of status: 0 acked, 3 unknown,
4 dead, 5 still to be done; of wait --progress: 4 some are dead

Where seconds are asked for, 90, 5m, 1h30m, 2d and 2:00:00 are times.
"""


#: What else may be the first word.
PROGRAMS = {
    "worker": "run a command for each message, as `ddmq-worker` does",
    "submit": "submit batch jobs that do so, as `ddmq-submit` does",
    "help": "show this, or the help of a command",
}
#: How much any command says: for each switch its flags, and its help.
_VERBOSITY = {
    "verbose": (("-v", "--verbose"), "say more"),
    "debug": (("-d", "--debug"), "say everything, and count the system calls"),
    "silent": (("-s", "--silent"), "say errors only"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["worker"]:
        from ddmq.cli.worker import main as worker

        return worker(words[1:])
    if words[:1] == ["submit"]:
        from ddmq.cli.submit import main as submit

        return submit(words[1:])
    if words[:1] == ["help"]:
        of_what = [word for word in words[1:2] if word != "help"]
        return main([*of_what, "--help"])
    debug = not {"-d", "--debug"}.isdisjoint(words)
    return guarded("ddmq", lambda: _run(words), debug=debug)


def _run(words: list[str]) -> int:
    command, others = _found(words)
    # Options may stand before, between and after the positional arguments.
    written = with_dashes(others, flags_in(command.arguments))
    written = with_values(written, command.arguments)
    written = with_late_dashes(written, command.arguments)
    values = vars(parser_of(command).parse_intermixed_args(written))
    if any(values[name] for name in _VERBOSITY):
        import logging  # slow to import, and rarely needed

        level = logging.ERROR if values["silent"] else logging.INFO
        level = logging.DEBUG if values["debug"] else level
        logging.basicConfig(level=level, format="ddmq: %(message)s")
    calls = CountedCalls() if values["debug"] else None
    fs = FileSystem(calls) if calls else FileSystem()
    try:
        try:
            told = filled(command.arguments, values)
            is_plain = values.get("format", "plain") == "plain"
            with _progress() as show:
                context = Context(
                    fs,
                    show or (lambda _: None),
                    is_typed=True,
                    is_watched=show is not None,
                    is_for_programs=not is_plain,
                    is_verbose=bool(values["verbose"]),
                )
                known = dict(arguments_in(command.arguments))
                has_force = known.get("force") is commands.FORCE and not values["force"]
                with how_to_create(values, has_force=has_force):
                    reply = command.run(told, context)
        except InvalidArgument as error:
            meant = swapped(values.get("queue"), any_name=False)
            error.args = (f"{error}{meant}",)
            raise
        if command.needs_answer or not values["silent"]:
            _answer(reply, values.get("format", "plain"))
        return reply.status
    finally:
        if calls:
            print(f"ddmq: {counted(calls.numbers)}", file=sys.stderr)


def _found(words: list[str]) -> tuple[Command, list[str]]:
    """Find the command; return it and the words around it, as in `ddmq -d publish …`."""
    switches = [flag for flags, _ in _VERBOSITY.values() for flag in flags]
    place = next((n for n, word in enumerate(words) if word not in switches), 0)
    if words and words[place].startswith("-"):
        place = _after_options(words, place)
    name, others = words[place : place + 1], words[:place] + words[place + 1 :]
    if name == ["json"]:
        from ddmq.cli import json_api  # no other command needs it

        return json_api.COMMAND, others
    if not name or name[0] not in commands.MODULES:
        parser = top_parser()
        if name and not name[0].startswith("-"):
            if name[0] in PROGRAMS:
                parser.error(f"{name[0]} is the first word, before all options")
            known = (*commands.MODULES, "json", *PROGRAMS)
            parser.error(f"no command {name[0]}{did_you_mean(name[0], known)}")
        parser.parse_args([*name, *others])  # shows the help, or complains
        parser.error("the command comes first")
    return commands.find(name[0]), others


def _after_options(words: list[str], place: int) -> int:
    """Return the place of the command behind options of its own, as in `ddmq -p 5 publish`."""
    for number, word in enumerate(words[place:], place):
        if word in commands.MODULES and _are_options(
            words[:number], commands.find(word)
        ):
            return number
    return place


def _are_options(words: list[str], command: Command) -> bool:
    """Tell whether some words are options of a command, with their values."""
    takes_value = {
        flag
        for _, argument in arguments_in(command.arguments)
        for flag in argument.flags.split()
    }
    takes_value |= {"--format"}
    known = {*flags_in(command.arguments), *takes_value}
    known |= {flag for flags, _ in _VERBOSITY.values() for flag in flags}
    left = with_dashes(words, known)
    while left:
        flag, equals, _ = left.pop(0).partition("=")
        if flag not in known or (flag in takes_value and not equals and not left):
            return False
        if flag in takes_value and not equals:
            left.pop(0)
    return True


@contextmanager
def _progress() -> Iterator[Callable[[str], None] | None]:
    """Yield what shows on a terminal how far a command is; None: nobody would see it."""
    if not sys.stderr.isatty():
        yield None
        return
    from ddmq.cli.progress import ProgressLine

    line = ProgressLine(sys.stderr, Clock())
    try:
        yield line.show
    finally:
        line.clear()


def top_parser() -> Parser:
    """Return the parser that shows all commands."""
    from ddmq.cli import json_api
    from ddmq.cli.completion import SHELLS, ShowCompletion

    parser = Parser(
        prog="ddmq",
        description=_HELP,
        epilog=_EPILOG,
        formatter_class=Help,
        allow_abbrev=False,
    )
    parser.add_argument(
        "-v",
        "--version",
        action=ShowVersion,
        help="show the version, also of what ddmq needs, and end",
    )
    parser.add_argument(
        "--completion",
        choices=SHELLS,
        action=ShowCompletion,
        help="show what lets a shell complete words, and end",
    )
    shown = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in [*map(commands.find, commands.MODULES), json_api.COMMAND]:
        shown.add_parser(command.name, help=command.summary, add_help=False)
    for name, summary in PROGRAMS.items():
        shown.add_parser(name, help=summary, add_help=False)
    return parser


def parser_of(command: Command) -> Parser:
    """Return the parser of one command."""
    parser = Parser(
        prog=f"ddmq {command.name}",
        description=command.summary[0].upper() + command.summary[1:] + ".",
        epilog=f"example:\n  {command.example}",
        formatter_class=Help,
        allow_abbrev=False,
    )
    parser.hint = (
        "quotes keep a text with spaces in one, and commas join several ids or queues"
    )
    add_arguments(parser, command.arguments)
    if command.format is not None:
        parser.add_argument(
            "--format",
            choices=command.formats,
            default=command.format,
            help=f"how to print; {command.format} by default",
        )
    for flags, help_text in _VERBOSITY.values():
        parser.add_argument(*flags, action="store_true", help=help_text)
    return parser


def _answer(reply: Reply, form: str) -> None:
    """Print a reply. A message that nobody can see is given back."""
    shown: Any = reply.value if reply.shown is None else reply.shown
    if form == "plain":
        text = reply.plain
        if not text and reply.nothing and sys.stdout.isatty():
            text = reply.nothing
    elif reply.is_empty or (form == "csv" and not shown):
        text = ""
    elif form == "csv":
        rows = shown if reply.rows is None else reply.rows
        text = _as_csv([rows] if isinstance(rows, dict) else rows)
    else:
        text = _as_json_or_yaml(shown, form)
    try:
        if text:
            _print(text)
    except (OSError, KeyboardInterrupt) as error:
        if reply.undo is not None:
            reply.undo()
        elif isinstance(error, OSError) and not reply.status:
            error.strerror = f"{error.strerror}; all but this answer is done"
        raise


def _as_json_or_yaml(shown: Any, form: str) -> str:
    """Return a value in one line of JSON, or as YAML; what a terminal obeys is escaped."""
    from ddmq.printable import is_printable, printable_json  # rarely needed

    if form == "yaml":
        text = dump(shown).rstrip("\n")
        if is_printable(text):
            return text
    return printable_json(shown)  # which is YAML too


def _as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return objects that are alike as a table, each in one line, below their members' names."""
    import csv  # rarely needed
    import io

    from ddmq.printable import printable

    table = io.StringIO()
    writer = csv.DictWriter(table, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        cells = {k: "" if v is None else printable(v) for k, v in row.items()}
        writer.writerow(cells)
    return table.getvalue().removesuffix("\n")


def _print(text: str) -> None:
    sys.stdout.flush()
    if not text.isprintable():  # a line break is not, which most answers have none of
        from ddmq.printable import printable_lines

        text = printable_lines(text)
    sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace") + b"\n")
    sys.stdout.flush()
