"""Make shell completion and man pages from the parsers: `tox -e completion`.

    python packaging/completion.py

It writes `ddmq/cli/completion/ddmq.{bash,zsh,fish}`, which `ddmq --completion SHELL` prints, and
`packaging/man/*.1`. What it writes is committed, so that neither the wheel nor its users need what
makes it (shtab and argparse-manpage).
"""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import shtab
from build_manpages.manpage import Manpage

from ddmq.cli import commands, json_api
from ddmq.cli.completion import SHELLS
from ddmq.cli.main import PROGRAMS, parser_of, top_parser
from ddmq.cli.submit import submit_parser
from ddmq.cli.worker_arguments import worker_parser

if TYPE_CHECKING:
    from collections.abc import Iterator

TOP = Path(__file__).resolve().parents[1]
COMPLETION = TOP / "ddmq" / "cli" / "completion"
MAN = TOP / "packaging" / "man"
#: The arguments whose values are directories, and files.
DIRECTORIES = ("root", "old", "new", "dir", "dir2", "output_dir", "log_dir")
_ADVICE = r"^# (AUTOMATICALLY GENERATED|Usage:|\d\) |See also:|   ).*\n"
FILES = ("from_file", "output", "file", "worker")


def main() -> None:
    """Write all of them."""
    # Help is as wide as the terminal, which differs.
    os.environ["COLUMNS"] = "80"
    for shell in SHELLS:
        texts = [completion(parser, shell) for parser in (ddmq(), worker(), submit())]
        path = COMPLETION / f"ddmq.{shell}"
        path.write_text("\n".join(texts), encoding="utf-8")
    MAN.mkdir(exist_ok=True)
    for parser in (ddmq(with_programs=False), worker(), submit()):
        page = str(Manpage(with_commands_told(parser)))
        (MAN / f"{parser.prog}.1").write_text(undated(page), encoding="utf-8")


def ddmq(*, with_programs: bool = True) -> argparse.ArgumentParser:
    """Return the parser of `ddmq` with those of all its commands.

    The programs that are its commands, too, are whole there only `with_programs`.
    """
    parser = argparse.ArgumentParser(prog="ddmq", description=top_parser().description)
    parser.epilog = top_parser().epilog
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("-v", "--version", action="store_true", help="show the version")
    parser.add_argument(
        "--completion", choices=SHELLS, help="print what completes words in a shell"
    )
    each = parser.add_subparsers(dest="command", metavar="COMMAND")
    for command in [*map(commands.find, commands.MODULES), json_api.COMMAND]:
        own = parser_of(command)
        each.add_parser(
            command.name,
            help=command.summary,
            description=own.description,
            epilog=own.epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            parents=[own],
            add_help=False,
        )
    for name, make in (("worker", worker), ("submit", submit)):
        parents = [make()] if with_programs else []
        each.add_parser(name, help=PROGRAMS[name], parents=parents, add_help=False)
    known = [*commands.MODULES, json_api.COMMAND.name, *PROGRAMS]
    of_help = each.add_parser("help", help=PROGRAMS["help"])
    of_help.add_argument("about", nargs="?", choices=known, metavar="COMMAND")
    return parser


def worker() -> argparse.ArgumentParser:
    """Return the parser of `ddmq-worker`."""
    return worker_parser()


def submit() -> argparse.ArgumentParser:
    """Return the parser of `ddmq-submit`, with the options that it passes on."""
    parser = submit_parser()
    known = set(parser._option_string_actions)
    passed_on = parser.add_argument_group("for each worker")
    for action in worker_parser()._actions:
        if action.option_strings and known.isdisjoint(action.option_strings):
            passed_on._add_action(action)
    return parser


def completion(parser: argparse.ArgumentParser, shell: str) -> str:
    """Return what completes a program's words in a shell."""
    for action in actions_in(parser):
        if action.dest in DIRECTORIES:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
        elif action.dest in FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    prefix = parser.prog.replace("-", "")
    text = str(shtab.complete(parser, shell=shell, root_prefix=prefix))
    # Its comments tell of files, and of how this was made; `#compdef` is zsh's own.
    text = re.sub(_ADVICE, "", text, flags=re.MULTILINE).strip()
    made = f"# Completion of {parser.prog}, made by packaging/completion.py."
    kept, _, rest = text.rpartition(f"#compdef {parser.prog}\n")
    first = f"#compdef {parser.prog}\n" if rest != text else ""
    assert not kept
    return f"{first}{made}\n\n{rest.strip()}\n"


def actions_in(parser: argparse.ArgumentParser) -> Iterator[Any]:
    """Yield the arguments of a parser, and of those below it."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from actions_in(inner)


def with_commands_told(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Give a parser what its man page says besides its arguments."""
    text = "a message queue made of files: no server, one directory per queue"
    parser.man_short_description = text  # type: ignore[attr-defined]
    return parser


def undated(page: str) -> str:
    """Return a man page without the day on which it was made."""
    head = r'^(\.TH \S+ "1").*$'
    return re.sub(head, r'\1 "" "ddmq" "ddmq"', page, flags=re.MULTILINE)


if __name__ == "__main__":
    main()
