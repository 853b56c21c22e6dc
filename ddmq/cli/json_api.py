"""`ddmq json`: a command given as a JSON object, and answered with one."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from ddmq.cli import commands
from ddmq.cli.errors import how_to_create, one_line, status_of
from ddmq.cli.input import standard_input
from ddmq.cli.selection import SeveralMessages
from ddmq.cli.spec import Command, Context, Reply, from_request, positional
from ddmq.errors import DdmqError, InvalidArgument
from ddmq.settings import show


class Arguments(NamedTuple):
    """What `ddmq json` can be told."""

    request: str | None = positional("standard input by default", is_required=False)


def answer(told: Arguments, context: Context) -> Reply:
    """Answer a request with one JSON object, whatever happens."""
    silent = Context(context.fs, lambda _: None, is_typed=False, is_for_programs=True)
    try:
        text = standard_input() if told.request in (None, "-") else told.request
        command, arguments = read(text or "")
        with how_to_create(arguments._asdict()):
            reply = command.run(arguments, silent)
        value, status, undo = reply.value, reply.status, reply.undo
    except DdmqError as error:
        value = {"error": one_line(error), "type": type(error).__name__}
        if isinstance(error, SeveralMessages):
            value["matches"] = error.matches
        status, undo = status_of(error), None
    plain = json.dumps(value, ensure_ascii=True)
    return Reply(value, plain, status=status, undo=undo)


def read(text: str) -> tuple[Command, Any]:
    """Read `{"cmd": …, "root": …, …}` into a command and its arguments."""
    try:
        request = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"the request is not JSON: {error}") from error
    if not isinstance(request, dict):
        raise InvalidArgument('the request must be a JSON object with a "cmd"')
    name = request.get("cmd")
    if not isinstance(name, str) or name not in commands.MODULES:
        known = ", ".join(commands.MODULES)
        raise InvalidArgument(f"cmd is {show(name)}; it must be one of {known}")
    command = commands.find(name)
    return command, from_request(command, request)


COMMAND = Command(
    "json",
    "run a command given as JSON; answer in JSON, errors too",
    """ddmq json '{"cmd": "publish", "root": "/scratch/mq", "queue": "jobs", "message": "hi"}'""",
    Arguments,
    run=answer,
    format=None,
    needs_answer=True,
)
