"""Names that users choose for results: which are allowed, and which message has each one."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from ddmq.hpc.faults import BadOutput
from ddmq.hpc.folder import Folder
from ddmq.hpc.placeholders import filled, names_in
from ddmq.hpc.results.result import KEPT, NAMES
from ddmq.printable import is_printable, printable
from ddmq.storage.names import new_token

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Bytes that a name may have in nearly all file systems.
_LONGEST = 255
#: How often a name is looked for that others reserve and give back at the same time.
_TRIES = 8


def name_for(template: str, values: Mapping[str, str]) -> str:
    """Return the name of a message's result; BadOutput: it would be none.

    The text of a message is somebody else's. So its result may be in the output directory and
    nowhere else, be no hidden file there, and have a name that a terminal shows as it is.
    """
    for name in names_in(template):
        if name not in values:
            raise BadOutput(
                f"it has no field {{{name}}}, which --output-name {template} asks for"
            )
    [name] = filled([template], values, append=False)
    fault = _fault(name)
    if fault:
        raise BadOutput(
            f"its result can't be named {printable(name[:80])!r}, which {fault}; "
            f"--output-name is {template}, and {{/}} is the last part of a path"
        )
    return name


def _fault(name: str) -> str:
    if not name:
        return "is empty"
    if "/" in name or "\0" in name:
        return "holds a slash or a NUL"
    if name.startswith("."):
        return "begins with a dot"
    if not is_printable(name) or "\n" in name or "\t" in name:
        return "holds characters that can't be seen"
    try:
        length = len(os.fsencode(name))
    except UnicodeEncodeError:
        return "can't be written in this locale (start the worker with LC_ALL=C.UTF-8)"
    if length > _LONGEST:
        return f"has over {_LONGEST} bytes"
    return ""


class Reservation:
    """The right of a message to a name in the output directory: the first that reserves it has it.

    `.ddmq-names/<name>` is a symbolic link that leads nowhere. Its target is `<id>.<run>` while
    the message runs, and `<id>.kept` from the moment on at which its result is about to have the
    name. Only then may a file of that name be its own, of a run that died before the ack. The
    reservation goes with the ack: from then on the file is in the way of all others.
    """

    def __init__(self, name: str, id_: str, token: str) -> None:
        self.name = name
        self._id = id_
        self._mine = f"{id_}.{token}"
        self._is_confirmed = False

    def make(self, kept: Folder) -> None:
        """Reserve the name; BadOutput: another message has it, or there is such a file."""
        with kept.below(NAMES, make=True) as names:
            self._reserve(kept, names)

    def _reserve(self, kept: Folder, names: Folder) -> bool:
        """Reserve the name; False: an earlier run has done so, and may have kept its result."""
        for _ in range(_TRIES):
            id_, _, state = names.target_of(self.name).partition(".")
            if not id_:
                if names.elect(self.name, self._mine):
                    break
            elif id_ != self._id:
                raise self._taken(f"is that of message {id_}")
            elif state == KEPT:
                return False
            elif f"{id_}.{state}" != self._mine:  # by a run that died or lost its lease
                self._put(names, self._mine)
            else:
                break
        else:
            raise self._taken("can't be reserved, since something is in the way")
        if kept.status(self.name) is not None:
            self._withdraw(names)
            raise self._taken("is there already")
        return True

    def _taken(self, what: str) -> BadOutput:
        return BadOutput(
            f"the name of its result, {self.name!r}, {what}; "
            "each message needs a name of its own: see --output-name"
        )

    def confirm(self, kept: Folder, *, sync: bool) -> None:
        """Note that a file of this name is ours; BadOutput: somebody else reserved it meanwhile.

        With `sync`, a message that a power cut brings back knows its own result again.
        """
        with kept.below(NAMES, make=True) as names:
            if self._reserve(kept, names):
                self._put(names, f"{self._id}.{KEPT}")
                self._is_confirmed = True
                if sync:
                    names.sync()

    def _put(self, names: Folder, target: str) -> None:
        draft = f".{new_token()}"
        names.elect(draft, target)
        names.move(draft, names, self.name)

    def release(self, kept: Folder, *, is_over: bool) -> None:
        """Give the name back, if this run has it; where the message is over, in any case."""
        with suppress(OSError), kept.below(NAMES) as names:
            if is_over or (self._is_confirmed and kept.status(self.name) is None):
                names.discard(self.name)  # also where it was confirmed in vain
            else:
                self._withdraw(names)

    def _withdraw(self, names: Folder) -> None:
        if names.target_of(self.name) == self._mine:
            names.discard(self.name)


def try_names(directory: str) -> None:
    """Reserve a name that nobody has, and give it back; OSError: names can't be reserved there."""
    name = f".{new_token()}"
    with Folder.open(directory) as kept, kept.below(NAMES, make=True) as names:
        names.elect(name, name)
        target = names.target_of(name)
        names.discard(name)
    if target != name:
        raise OSError(
            errno.ENOTSUP,
            "it keeps no symbolic links, by which names are reserved; leave out --output-name",
            f"{directory}/{NAMES}",
        )
