"""Arguments in; plain, JSON or YAML out; exit status."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from ddmq import __version__
from ddmq.boundary import Help, Parser, counted, guarded, one_line, typed
from ddmq.clock import Clock
from ddmq.commands import (
    COMMANDS,
    Argument,
    Command,
    parse_mode,
    parse_pair,
    values_from_json,
)
from ddmq.errors import DdmqError, InvalidArgument
from ddmq.fs import CountedCalls, FileSystem
from ddmq.printable import (
    is_printable,
    printable,
    printable_json,
    printable_lines,
)
from ddmq.settings import dump
from ddmq.source import standard_input

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ddmq.actions import Reply

_PROGRESS_EVERY = 0.5
_VERBOSITY = frozenset(("-v", "--verbose", "-d", "--debug", "-s", "--silent"))
_HELP = """\
a message queue made of files: no server, one directory per queue

  ddmq create -f /scratch/mq jobs          make a queue
  ddmq publish /scratch/mq jobs "Hello"    put a message in
  ddmq consume /scratch/mq jobs            lease the first one
  ddmq ack /scratch/mq jobs ID             done with it
  ddmq view /scratch/mq                    what is in there
"""
_STYLE: dict[str, Any] = {
    "formatter_class": Help,
    "allow_abbrev": False,
}
_EPILOG = """\
exit status: 0 done, 1 an error that is explained, 2 wrong usage,
3 nothing to consume, 130 interrupted
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    arguments = _with_dashes(sys.argv[1:] if argv is None else argv)
    return guarded(
        "ddmq",
        lambda: _run(arguments),
        debug=not {"-d", "--debug"}.isdisjoint(arguments),
    )


def _run(arguments: Sequence[str]) -> int:
    if arguments in (["-v"], ["--version"]):
        _print(f"ddmq {__version__}")
        return 0
    options = _parse(_command_first(arguments))
    _set_up_log(options)
    if not options.debug:
        return _done(options, FileSystem())
    calls = CountedCalls()
    try:
        return _done(options, FileSystem(calls))
    finally:
        print(f"ddmq: {counted(calls.numbers)}", file=sys.stderr)


def _done(options: argparse.Namespace, fs: FileSystem) -> int:
    """Do what the options say, and answer; return the exit status."""
    if options.cmd == "json":
        return _json(options.request, fs)
    command: Command = options.command
    tell = _Teller(Clock())
    given = {"tell": tell, "typed": True, "fs": fs}
    try:
        reply = command.run({**_values(command, options), **given})
    finally:
        tell.clear()
    if not options.silent or command.name == "consume":
        _answer(reply, options.format)
    return reply.status


def _answer(reply: Reply, form: str) -> None:
    """Show a reply. A message that nobody can see is given back."""
    try:
        _show(reply, form)
    except OSError:
        if reply.undo is not None:
            reply.undo()
        raise


def _json(request: str | None, fs: FileSystem) -> int:
    """Answer a request with one JSON object, whatever happens."""
    try:
        text = standard_input() if request in (None, "-") else request
        command, values = values_from_json(_request(text))
        reply = command.run({**values, "fs": fs})
        answer, status = reply.value, reply.status
    except DdmqError as error:
        answer, status = {"error": one_line(error), "type": type(error).__name__}, 1
    _print(json.dumps(answer, ensure_ascii=True))
    return status


def _request(text: str | None) -> Any:
    try:
        return json.loads(text or "")
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"the request is not JSON: {error}") from error


def _show(reply: Reply, form: str) -> None:
    shown = reply.value if reply.shown is None else reply.shown
    if form == "json":
        text = printable_json(shown)
    elif form == "yaml":
        text = dump(shown).rstrip("\n")
        if not is_printable(text):
            text = printable_json(shown)  # which is YAML too
    else:
        text = reply.plain
    if text and (form == "plain" or shown != []):
        _print(text)


def _print(text: str) -> None:
    sys.stdout.flush()
    shown = printable_lines(text)
    sys.stdout.buffer.write(shown.encode("utf-8", "backslashreplace") + b"\n")
    sys.stdout.flush()


def _set_up_log(options: argparse.Namespace) -> None:
    """Let `logging` say more or less; without an option it says warnings."""
    if not (options.verbose or options.debug or options.silent):
        return
    import logging  # slow to import, and rarely needed

    level = logging.ERROR if options.silent else logging.INFO
    logging.basicConfig(
        level=logging.DEBUG if options.debug else level, format="ddmq: %(message)s"
    )


# Arguments


def _command_first(arguments: Sequence[str]) -> list[str]:
    """Move switches that stand before the command behind it: `ddmq -d publish …`."""
    number = next((n for n, a in enumerate(arguments) if a not in _VERBOSITY), 0)
    before, others = arguments[:number], arguments[number:]
    return [*others[:1], *before, *others[1:]]


def _with_dashes(arguments: Sequence[str]) -> list[str]:
    """Write long options with dashes, as `--requeue_limit` is accepted too."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return [_dashed(a) for a in arguments[:end]] + list(arguments[end:])


def _dashed(argument: str) -> str:
    option, equals, value = argument.partition("=")
    dashed = option.replace("_", "-")
    return dashed + equals + value if dashed in _LONG_OPTIONS else argument


_LONG_OPTIONS = frozenset(
    flag
    for command in COMMANDS
    for argument in command.arguments
    for flag in argument.flags
    if flag.startswith("--")
)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    known = {command.name: command for command in COMMANDS}
    command = known.get(arguments[0]) if arguments else None
    if command is None:
        return _top_parser().parse_args(arguments)
    # Options may stand before, between and after the positional arguments.
    return _parser_of(command).parse_intermixed_args(arguments[1:])


def _top_parser() -> argparse.ArgumentParser:
    """Return the parser that shows all commands, and knows `json`."""
    parser = Parser(prog="ddmq", description=_HELP, epilog=_EPILOG, **_STYLE)
    parser.add_argument(
        "-v", "--version", action="version", version=f"ddmq {__version__}"
    )
    commands = parser.add_subparsers(dest="cmd", metavar="COMMAND", required=True)
    for command in COMMANDS:
        commands.add_parser(command.name, help=command.summary)
    json_parser = commands.add_parser(
        "json",
        help="run a command given as a JSON object; answer with one",
        description="Run a command given as a JSON object, and answer with one: errors too.",
        epilog="""example:
  ddmq json '{"cmd": "publish", "root": "/scratch/mq", "queue": "jobs", "message": "hi"}'""",
        **_STYLE,
    )
    json_parser.add_argument("request", nargs="?", help="standard input by default")
    _add_verbosity(json_parser)
    return parser


def _parser_of(command: Command) -> argparse.ArgumentParser:
    parser = Parser(
        prog=f"ddmq {command.name}",
        description=command.summary[0].upper() + command.summary[1:] + ".",
        epilog=f"example:\n  {command.example}",
        **_STYLE,
    )
    for argument in command.arguments:
        _add_argument(parser, argument)
    parser.add_argument(
        "--format",
        choices=("plain", "json", "yaml"),
        default=command.form,
        help=f"how to print; {command.form} by default",
    )
    _add_verbosity(parser)
    parser.set_defaults(cmd=command.name, command=command)
    return parser


def _add_verbosity(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-v", "--verbose", action="store_true", help="say more")
    parser.add_argument(
        "-d",
        "--debug",
        action="store_true",
        help="say everything, and count the system calls",
    )
    parser.add_argument("-s", "--silent", action="store_true", help="say errors only")


def _add_argument(parser: argparse.ArgumentParser, argument: Argument) -> None:
    flags = argument.flags or (argument.name,)
    options: dict[str, Any] = {"help": argument.help, "default": argument.default}
    if argument.flags:
        options["dest"] = argument.name
    elif not argument.required:
        options["nargs"] = "?"
    if argument.metavar:
        options["metavar"] = argument.metavar
    options.update(_KINDS[argument.kind])
    parser.add_argument(*flags, **options)


def _number(text: str) -> Any:
    """Read a number; the broker says what is wrong with anything else."""
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return None if text in ("null", "none") else text


_KINDS: dict[str, dict[str, Any]] = {
    "text": {},
    "any": {},
    "number": {"type": _number},
    "switch": {"action": "store_true", "default": None},
    "off": {"action": "store_false", "default": None},
    "names": {"type": lambda text: text.split(",")},
    "pairs": {"type": typed(parse_pair), "action": "append"},
    "mode": {"type": typed(parse_mode)},
}


def _values(command: Command, options: argparse.Namespace) -> dict[str, Any]:
    values = {a.name: getattr(options, a.name) for a in command.arguments}
    if isinstance(values.get("set"), list):
        values["set"] = dict(values["set"])
    return values


class _Teller:
    """Shows progress in one line of a terminal, and nothing elsewhere."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._shown = clock.monotonic() if sys.stderr.isatty() else float("inf")
        self._width = 0

    def __call__(self, text: str) -> None:
        """Show `text`, unless something was shown a moment ago."""
        if self._clock.monotonic() - self._shown > _PROGRESS_EVERY:
            self._shown = self._clock.monotonic()
            self._write(text)

    def clear(self) -> None:
        """Leave an empty line for what comes next."""
        if self._width:
            self._write("")
            sys.stderr.write("\r")

    def _write(self, text: str) -> None:
        sys.stderr.write("\r" + printable(text).ljust(self._width))
        sys.stderr.flush()
        self._width = len(text)
