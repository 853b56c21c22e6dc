"""Names that users choose for results: which are allowed, and which message has each one."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from ddmq.hpc.faults import BadOutput
from ddmq.hpc.folder import Folder
from ddmq.hpc.placeholders import filled, names_in
from ddmq.hpc.results.result import KEPT, NAMES
from ddmq.printable import is_printable, printable
from ddmq.storage.names import new_token

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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


class Holder(NamedTuple):
    """Which message has a name: the target of the link `.ddmq-names/<name>`."""

    id: str
    state: str
    """The token of the run that reserved the name, or `kept`."""
    home: str
    """Which queue the message was in; empty: unknown."""

    @property
    def target(self) -> str:
        """The text of the link."""
        return ".".join(filter(None, self))

    @classmethod
    def parse(cls, target: str) -> Holder:
        """Read the target of a link; without one, all is empty."""
        id_, state, home, *_ = [*target.split(".", 2), "", ""]
        return cls(id_, state, home)


class NameTaken(BadOutput):
    """Another message has reserved the name, and may not have finished."""

    def __init__(self, text: str, name: str, holder: Holder) -> None:
        super().__init__(text)
        self.name = name
        self.holder = holder


@lru_cache(16)
def home_of(queue_path: str) -> str:
    """Return what no other queue has that shares an output directory; empty: unknown.

    Two nodes may have different queues at the same path. Where one queue has two paths, what one
    worker reserved is not freed by the other.
    """
    from hashlib import sha256  # rarely needed

    try:
        inode = os.stat(queue_path).st_ino
    except OSError:
        return ""
    path = os.path.realpath(queue_path)
    return sha256(os.fsencode(f"{inode} {path}")).hexdigest()[:16]


def free_if_gone(
    directory: str, taken: NameTaken, home: str, status_of: Callable[[str], str]
) -> bool:
    """Free a name whose message was in this queue and will not run again; tell whether it is free.

    A killed worker leaves such a name, and the message was purged or became a dead letter since.
    In a sticky directory, only the user of that worker can free it.
    """
    holder = taken.holder
    if not home or holder.home != home:
        return False
    over = (
        {"acked", "unknown"} if holder.state == KEPT else {"acked", "unknown", "dead"}
    )
    if status_of(holder.id) not in over:
        return False
    with Folder.open(directory) as kept, kept.below(NAMES) as names:
        if names.target_of(taken.name) == holder.target:
            names.discard(taken.name)
        return names.target_of(taken.name) != holder.target


class Reservation:
    """The right of a message to a name in the output directory: the first that reserves it has it.

    `.ddmq-names/<name>` is a symbolic link that leads nowhere. Its target is `<id>.<run>.<home>`
    while the message runs, and `<id>.kept.<home>` from the moment on at which its result is about
    to have the name. Only then may a file of that name be its own, of a run that died before the ack. The
    reservation goes with the ack: from then on the file is in the way of all others.
    """

    def __init__(self, name: str, id_: str, token: str, home: str = "") -> None:
        self.name = name
        self._mine = Holder(id_, token, home)
        self._is_confirmed = False

    def make(self, kept: Folder) -> None:
        """Reserve the name; BadOutput: another message has it, or there is such a file."""
        with kept.below(NAMES, make=True) as names:
            self._reserve(kept, names)

    def _reserve(self, kept: Folder, names: Folder) -> bool:
        """Reserve the name; False: an earlier run has done so, and may have kept its result."""
        for _ in range(_TRIES):
            holder = Holder.parse(names.target_of(self.name))
            if not holder.id:
                if names.elect(self.name, self._mine.target):
                    break
            elif holder.id != self._mine.id:
                text = self._told(f"is that of message {holder.id}")
                raise NameTaken(text, self.name, holder)
            elif holder.state == KEPT:
                return False
            elif holder != self._mine:  # by a run that died or lost its lease
                self._put(names, self._mine)
            else:
                break
        else:
            raise BadOutput(
                self._told("can't be reserved, since something is in the way")
            )
        if kept.status(self.name) is not None:
            self._withdraw(names)
            raise BadOutput(self._told("is there already"))
        return True

    def _told(self, what: str) -> str:
        return (
            f"the name of its result, {self.name!r}, {what}; "
            "each message needs a name of its own: see --output-name"
        )

    def confirm(self, kept: Folder, *, sync: bool) -> None:
        """Note that a file of this name is ours; BadOutput: somebody else reserved it meanwhile.

        With `sync`, a message that a power cut brings back knows its own result again.
        """
        with kept.below(NAMES, make=True) as names:
            if self._reserve(kept, names):
                self._put(names, self._mine._replace(state=KEPT))
                self._is_confirmed = True
                if sync:
                    names.sync()

    def _put(self, names: Folder, holder: Holder) -> None:
        draft = f".{new_token()}"
        names.elect(draft, holder.target)
        names.move(draft, names, self.name)

    def release(self, kept: Folder, *, is_over: bool) -> None:
        """Give the name back, if this run has it; where the message is over, if any run has it.

        From the ack on, another message may have freed the name and reserved it.
        """
        with suppress(OSError), kept.below(NAMES) as names:
            of_any_run = is_over or (  # or confirmed in vain
                self._is_confirmed and kept.status(self.name) is None
            )
            self._withdraw(names, of_any_run=of_any_run)

    def _withdraw(self, names: Folder, *, of_any_run: bool = False) -> None:
        holder = Holder.parse(names.target_of(self.name))
        if holder == self._mine or (of_any_run and holder.id == self._mine.id):
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
