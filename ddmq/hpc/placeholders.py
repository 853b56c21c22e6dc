"""Placeholders in a command's arguments, as GNU parallel has them; pure."""

from __future__ import annotations

import json
import os.path
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_placeholder = re.compile(r"\{([^{}\s]*)\}")
#: What stands for the slot in which a message happens to run.
SLOTS = frozenset(("slot", "slot0"))
_not_in_a_name = re.compile(r"[^A-Za-z0-9]")


def text_of(value: Any) -> str:
    """Return text as it is, and any other JSON value as JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def fields_of(message: Any) -> dict[str, str]:
    """Return the fields of a JSON object as texts; none of any other value."""
    if not isinstance(message, dict):
        return {}
    return {name: text_of(value) for name, value in message.items()}


def names_in(template: str) -> list[str]:
    """Return what stands between the braces of each placeholder in a text."""
    return _placeholder.findall(template)


def without_placeholders(template: str) -> str:
    """Return a text with all placeholders left out."""
    return _placeholder.sub("", template)


def values_of(message: Any, id_: str, slot: int) -> dict[str, str]:
    """Return what each placeholder stands for, by the text between its braces."""
    text = text_of(message)
    name = os.path.basename(text)
    own = {
        "": text,
        ".": os.path.splitext(text)[0],
        "/": name,
        "//": os.path.dirname(text) or ".",
        "/.": os.path.splitext(name)[0],
        "id": id_,
        "slot": str(slot),
        "slot0": str(slot - 1),
    }
    return {**fields_of(message), **own}


def filled(
    command: Sequence[str], values: Mapping[str, str], *, append: bool = True
) -> list[str]:
    """Return the arguments with all placeholders replaced, in one pass.

    Where there is none, the text is appended, unless `append` is false. Braces around
    anything else stay as they are.
    """
    found = False

    def replace(match: re.Match[str]) -> str:
        nonlocal found
        value = values.get(match[1])
        found = found or value is not None
        return match[0] if value is None else value

    arguments = [_placeholder.sub(replace, argument) for argument in command]
    return arguments if found or not append else [*arguments, values[""]]


def filled_for_all(
    command: Sequence[str], values: Sequence[Mapping[str, str]], *, append: bool = True
) -> list[str]:
    """Return the arguments for several messages, which have `values` each.

    An argument in which a placeholder stands for part of a message comes once for each of them.
    Where there is no placeholder, all texts are appended, unless `append` is false.
    """
    if len(values) == 1:
        return filled(command, values[0], append=append)
    arguments: list[str] = []
    found = False
    for argument in command:
        names = {name for name in names_in(argument) if any(name in v for v in values)}
        found = found or bool(names)
        for each in values if names - SLOTS else values[:1]:
            arguments += filled([argument], each, append=False)
    return arguments if found or not append else arguments + [v[""] for v in values]


def variable(name: str) -> str:
    """Return the name of the environment variable for a field: `FIELD_<NAME>`."""
    return f"FIELD_{_not_in_a_name.sub('_', name).upper()}"
