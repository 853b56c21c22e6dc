"""What an argument and a command are: the command line and `ddmq json` are made from it.

The arguments of a command are the fields of a NamedTuple. The default of each field describes
it, so that its name, its type, its flags and its help stand in one place:

    class Arguments(NamedTuple):
        root: str = positional("the directory of the queues")
        priority: Number = option("-p --priority", "0 is first; 999 by default", NUMBER)
        force: bool = switch("-f --force", "create what is missing")
"""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from ddmq.errors import DdmqError, InvalidArgument, did_you_mean
from ddmq.settings import parse_value, show

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from ddmq.storage.filesystem import FileSystem

    #: A number as it was given. Whoever uses it says what is wrong with another value.
    Number = Any

_Fields = TypeVar("_Fields")
_WIDTH = 80


#: The formats of a command; and those of one whose answer is a list of objects that are alike.
FORMATS = ("plain", "json", "yaml")
TABLE = (*FORMATS, "csv")


# To define a NamedTuple takes a sixth of a millisecond at every start, so these are none.


class Context:
    """What a command is given beside its arguments."""

    def __init__(
        self,
        fs: FileSystem,
        tell: Callable[[str], None],
        *,
        is_typed: bool,
        is_watched: bool = False,
        is_for_programs: bool = False,
        is_verbose: bool = False,
    ) -> None:
        self.fs = fs
        #: Shows how far the command is.
        self.tell = tell
        #: Whether somebody typed the arguments, where `-` means standard input.
        self.is_typed = is_typed
        #: Whether anybody sees what `tell` shows.
        self.is_watched = is_watched
        #: Whether the answer is printed as JSON, or in another format for programs.
        self.is_for_programs = is_for_programs
        #: Whether somebody asked to be told more.
        self.is_verbose = is_verbose


class Reply:
    """What a command answers."""

    def __init__(
        self,
        value: Mapping[str, Any],
        plain: str,
        *,
        shown: Any = None,
        status: int = 0,
        undo: Callable[[], None] | None = None,
        is_empty: bool = False,
        rows: Any = None,
        nothing: str = "",
    ) -> None:
        #: As JSON types: all that `ddmq json` prints.
        self.value = value
        #: For people.
        self.plain = plain
        #: What `--format json` and `yaml` print, where that is not `value`.
        self.shown = shown
        self.status = status
        #: What to do when the answer can't be given.
        self.undo = undo
        #: Whether nothing is printed, in any format.
        self.is_empty = is_empty
        #: What `--format csv` prints, where that is not what the others print.
        self.rows = rows
        #: What people are told on a terminal where `plain` is empty.
        self.nothing = nothing


class Command:
    """One command: its name, its help, its arguments, and what it does."""

    def __init__(
        self,
        name: str,
        summary: str,
        example: str,
        arguments: type[Any],
        *,
        run: Callable[[Any, Context], Reply],
        format: str | None = "plain",  # noqa: A002
        needs_answer: bool = False,
        formats: tuple[str, ...] = FORMATS,
    ) -> None:
        self.name = name
        self.summary = summary
        self.example = example
        #: The NamedTuple whose fields describe them.
        self.arguments = arguments
        #: Does it, given such a tuple.
        self.run = run
        #: The format in which it prints unless asked; None where nobody may ask.
        self.format = format
        #: Whether it prints its answer even if it shall be silent.
        self.needs_answer = needs_answer
        #: Those that one may ask for.
        self.formats = formats


class Kind:
    """How the value of an argument is written."""

    def __init__(
        self,
        read: Callable[[str], Any] | None = None,
        accepts: Callable[[Any], bool] = lambda _: True,
        *,
        reads_json: bool = False,
    ) -> None:
        #: Reads it on the command line; InvalidArgument says what is wrong. None: it is the text.
        self.read = read
        #: Tells whether a value of JSON is one.
        self.accepts = accepts
        #: Whether a text in JSON is read as on the command line.
        self.reads_json = reads_json


class Argument:
    """One argument: what is known of it besides its name, which is that of its field."""

    def __init__(
        self,
        kind: Kind,
        *,
        flags: str = "",
        default: Any = None,
        is_required: bool = False,
        switches: Sequence[tuple[str, str, Any]] = (),
        shown: Mapping[str, Any] = {},
    ) -> None:
        self.kind = kind
        #: The flags with spaces between them; empty for a positional argument.
        self.flags = flags
        self.default = default
        self.is_required = is_required
        #: Flags, help and value of each switch, of an argument that is set by switches alone.
        self.switches = switches
        #: What argparse is told of it besides.
        self.shown = shown


class Group:
    """Arguments that several commands share, or that have a title of their own in the help."""

    def __init__(self, fields: type[Any], title: str | None) -> None:
        self.fields = fields
        self.title = title


# How values are written


def parse_number(text: str) -> Number:
    """Read a number; whoever uses it says what is wrong with anything else."""
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return None if text in ("null", "none") else text


def parse_seconds(text: str) -> Number:
    """Read a length of time: a number of seconds, 5m, 1h, or [D-]HH:MM:SS."""
    number = parse_number(text)
    if isinstance(number, str):
        from ddmq.hpc.options import seconds  # rarely needed

        length = seconds(number)
        return int(length) if length == int(length) else length
    return number


def parse_pair(text: str) -> tuple[str, Any]:
    """Read KEY=VALUE, the value as `ddmq.yaml` would have it."""
    key, equals, value = text.partition("=")
    if not equals:
        raise InvalidArgument(f"{text!r} is not KEY=VALUE")
    return key.strip().replace("-", "_"), parse_value(value)


def parse_mode(text: str) -> int:
    """Read an octal mode such as 2770."""
    try:
        return int(text, 8)
    except ValueError as error:
        raise InvalidArgument(
            f"mode is {text!r}; it must be octal, such as 2770"
        ) from error


TEXT = Kind(accepts=lambda value: isinstance(value, str))
ANY = Kind()
NUMBER = Kind(parse_number)
SECONDS = Kind(parse_seconds, reads_json=True)
NAMES = Kind(
    lambda text: text.split(","),
    lambda value: isinstance(value, list) and {*map(type, value)} <= {str},
    reads_json=True,
)
PAIRS = Kind(parse_pair, lambda value: isinstance(value, dict))
#: A number in JSON would be decimal, so it is refused.
MODE = Kind(parse_mode, lambda _: False, reads_json=True)
ON_OR_OFF = Kind(accepts=lambda value: isinstance(value, bool))


class AddPair(argparse.Action):
    """Collects the pairs of an option that may be repeated in one mapping."""

    def __call__(self, _: Any, namespace: Any, values: Any, __: Any = None) -> None:
        """Add the pair that was read."""
        key, value = values
        known = getattr(namespace, self.dest) or {}
        setattr(namespace, self.dest, {**known, key: value})


class ShowVersion(argparse.Action):
    """Prints the versions of ddmq and of what it needs, and ends."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**{**given, "dest": argparse.SUPPRESS, "nargs": 0})

    def __call__(self, parser: Any, *_: Any) -> None:
        """Print them."""
        from ddmq.cli.version import show_version  # rarely needed

        parser.exit(show_version())


# The fields of arguments. Each is described by its default, whatever its type is, hence Any.


def positional(
    help_text: str,
    kind: Kind = TEXT,
    *,
    default: Any = None,
    is_required: bool = True,
    metavar: str | None = None,
    choices: Sequence[str] | None = None,
) -> Any:
    """Describe an argument that has no flag."""
    shown = {"help": help_text, "metavar": metavar, "choices": choices}
    return Argument(kind, default=default, is_required=is_required, shown=shown)


def option(
    flags: str,
    help_text: str,
    kind: Kind = TEXT,
    *,
    default: Any = None,
    metavar: str | None = None,
    choices: Sequence[str] | None = None,
    action: str | type[argparse.Action] = "store",
    alone: Any = None,
) -> Any:
    """Describe an argument whose value follows a flag; `alone` is that of the flag alone."""
    shown: dict[str, Any] = {"help": help_text, "metavar": metavar, "action": action}
    shown["choices"] = choices
    if alone is not None:
        shown.update(nargs="?", const=alone)
    return Argument(kind, flags=flags, default=default, shown=shown)


def switch(flags: str, help_text: str) -> Any:
    """Describe an argument that is False unless its flag is given."""
    return switches((flags, help_text, True), default=False)


def switches(*each: tuple[str, str, Any], default: Any = None) -> Any:
    """Describe an argument that is set by flags alone: for each its flags, help and value."""
    return Argument(ON_OR_OFF, default=default, switches=each)


def group(fields: type[Any], title: str | None = None) -> Any:
    """Describe arguments that are the fields of a NamedTuple of their own."""
    return Group(fields, title)


def arguments_in(fields: Any) -> Iterator[tuple[str, Argument]]:
    """Yield all arguments with their names, in the order in which they are written."""
    for name, field in fields._field_defaults.items():
        if isinstance(field, Group):
            yield from arguments_in(field.fields)
        else:
            yield name, field


def _valued_flags(*fields: Any) -> set[str]:
    """Return the flags of arguments that are followed by a value."""
    return {
        flag
        for each in fields
        for _, argument in arguments_in(each)
        for flag in argument.flags.split()
    }


def flags_in(fields: Any) -> Iterator[str]:
    """Yield all flags of arguments."""
    for _, argument in arguments_in(fields):
        for flags in (argument.flags, *(each[0] for each in argument.switches)):
            yield from flags.split()


def filled(fields: type[_Fields], values: Mapping[str, Any]) -> _Fields:
    """Return arguments with their values; in a group, too, each argument has its own name."""
    described = fields._field_defaults  # type: ignore[attr-defined]
    return fields(
        **{
            name: filled(field.fields, values)
            if isinstance(field, Group)
            else values[name]
            for name, field in described.items()
        }
    )


# The command line


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line and a pointer to the help."""

    #: Options that it hands on to another program.
    others: tuple[str, ...] = ()
    #: What to say where there are too many words.
    hint = ""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse; complain of an empty value, as in `-s=`, where Python 3.9 only fails."""
        try:
            return super().parse_known_args(args, namespace)
        except IndexError:
            self.error("a switch takes no value, and has an empty one after =")

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        """Return the value of an argument, `--` too, as in `--key=--`; Python 3.12 loses that."""
        if action.option_strings and arg_strings == ["--"]:
            value = self._get_value(action, "--")
            self._check_value(action, value)
            return value
        return super()._get_values(action, arg_strings)

    def error(self, message: str) -> NoReturn:
        """Complain, and end with status 2; name the option that may have been meant."""
        unknown, head, words = message.partition("unrecognized arguments: ")
        options = [word for word in words.split() if word.startswith("-")]
        if head and not unknown and not options:
            message += f"; {self.hint}" if self.hint else ""
        if head and not unknown and options:
            # What else is left over is what argparse took their values for.
            message = head + " ".join(options)
            message += self.meant_by(options[0].partition("=")[0])
        from ddmq.printable import printable  # rarely needed

        self.exit(2, f"{self.prog}: {printable(message)}; see `{self.prog} -h`\n")

    def meant_by(self, flag: str) -> str:
        """Return which option of ours may have been meant by one that we have not, or nothing."""
        known = [*self._option_string_actions, *self.others]
        if not flag.startswith("--"):
            near = flag[:2].swapcase()
            return f"; did you mean {near}?" if near in known else ""
        return did_you_mean(flag, [each for each in known if each.startswith("--")])


class Help(argparse.RawDescriptionHelpFormatter):
    """Help as it was written, as wide as the terminal.

    argparse makes one for each argument. Left to itself, that imports `shutil`, and with it
    every compression: ten files, to learn the same width.
    """

    def __init__(self, prog: str) -> None:
        try:
            width = os.get_terminal_size().columns or _WIDTH
        except OSError:  # not a terminal
            width = _WIDTH
        super().__init__(prog, width=width - 2)


def add_arguments(parser: Any, fields: Any) -> None:
    """Add arguments to a parser, or to a group of one."""
    for name, field in fields._field_defaults.items():
        if isinstance(field, Group):
            within = parser.add_argument_group(field.title) if field.title else parser
            add_arguments(within, field.fields)
            continue
        more: dict[str, Any] = {"default": field.default}
        for flags, help_text, value in field.switches:
            more.update(dest=name, help=help_text, action="store_const", const=value)
            parser.add_argument(*flags.split(), **more)
        if field.switches:
            continue
        more.update(field.shown)
        if field.flags:
            more["dest"] = name
        elif not field.is_required:
            more["nargs"] = "?"
        if field.kind.read is not None:
            more["type"] = _as_argparse_reads(field.kind.read)
        parser.add_argument(*(field.flags.split() or [name]), **more)


def _as_argparse_reads(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return `read` such that what it says is wrong becomes wrong usage."""

    def convert(text: str) -> Any:
        try:
            return read(text)
        except DdmqError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return convert


def with_dashes(words: Sequence[str], flags: Iterable[str]) -> list[str]:
    """Write long options up to `--` with dashes, as `--requeue_limit` is accepted too."""
    known = frozenset(flags)
    end = words.index("--") if "--" in words else len(words)
    written = list(words)
    for number, word in enumerate(words[:end]):
        flag, equals, value = word.partition("=")
        dashed = flag.replace("_", "-")
        if dashed[:2] == "--" and dashed in known:
            written[number] = dashed + equals + value
    return written


def with_values(words: Sequence[str], fields: Any) -> list[str]:
    """Write `--flag=VALUE` for a flag alone, where what follows can't be its value."""
    written = list(words)
    for _, argument in arguments_in(fields):
        if "const" not in argument.shown:
            continue
        flags, read = argument.flags.split(), argument.kind.read
        assert read is not None
        for number, (word, following) in enumerate(zip(words, words[1:])):
            if word == "--":
                break
            if word in flags:
                try:
                    read(following)
                except InvalidArgument:
                    written[number] = f"{flags[-1]}={argument.shown['const']}"
    return written


def with_late_dashes(words: Sequence[str], fields: Any) -> list[str]:
    """Write `--` just before the first word that needs it: argparse forgets an earlier one."""
    takes_value = _valued_flags(fields)
    for number, word in enumerate(words):
        if word == "--" and (number == 0 or words[number - 1] not in takes_value):
            later = words[number + 1 :]
            places = (n for n, each in enumerate(later) if each.startswith("-"))
            first = next(places, len(later))
            return [*words[:number], *later[:first], "--", *later[first:]]
    return list(words)


def apart(words: Sequence[str], *fields: Any) -> tuple[list[str], list[str]]:
    """Return the positional words, and the options of these fields with their values."""
    takes_value = _valued_flags(*fields)
    positional, options, left = [], [], list(words)
    while left:
        word = left.pop(0)
        if word == "-" or not word.startswith("-"):
            positional.append(word)
            continue
        options.append(word)
        if word in takes_value and left:
            options.append(left.pop(0))
    return positional, options


# A request in JSON


def from_request(command: Command, request: Mapping[str, Any]) -> Any:
    """Return the arguments of a command that a request in JSON holds; it may have a `cmd`."""
    described = dict(arguments_in(command.arguments))
    for key in request.keys() - {"cmd", *described}:
        allowed = ", ".join(described)
        raise InvalidArgument(
            f"{command.name} has no argument {show(key)}; it has {allowed}"
        )
    values = {}
    for name, argument in described.items():
        kind = argument.kind
        if argument.is_required and name not in request:
            raise InvalidArgument(f'"{name}" is missing')
        value = request.get(name, argument.default)
        if argument.is_required and value is None:
            raise InvalidArgument(f'"{name}" is null')
        if kind.reads_json and isinstance(value, str):
            value = kind.read(value) if kind.read else value
        elif name in request and not kind.accepts(value):
            if value is not None:
                raise InvalidArgument(
                    f"{name} is {show(value)}; see `ddmq {command.name} -h`"
                )
            value = argument.default
        values[name] = value
    return filled(command.arguments, values)
