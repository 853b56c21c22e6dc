"""A disk that may lose what was not synced: a recording of system calls, and its ruins.

What is on stable storage after a power cut is modelled as strictly as POSIX allows. A
directory is a set of slots, each a name and the file that it names. An entry is stable
once its own directory is synced, a content once its file is: nothing else makes them so.
"""

from __future__ import annotations

import itertools
import os
import random
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple, Union

from support import Calls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Choose = Callable[[Sequence[Any]], Any]

#: What survived: directories by name, and files with their content.
Tree = dict[str, Union[bytes, "Tree"]]
#: How the content of a symbolic link begins here; its target follows.
LINK = b"\0link to "
_Slot = tuple[int, str]


class Named(NamedTuple):
    """One system call changed what some slots name."""

    slots: dict[_Slot, int | None]


class Written(NamedTuple):
    """A file has a new content."""

    node: int
    data: bytes


class Synced(NamedTuple):
    """A file or a directory is on stable storage."""

    node: int


class Told(NamedTuple):
    """The caller was told that something is done."""

    what: str


class Recording:
    """All that clients do below a directory, from its state at the beginning."""

    def __init__(self, directory: str) -> None:
        self._base = directory
        self._new = itertools.count(1)
        self._now: dict[int, dict[str, int]] = {0: {}}
        self._content: dict[int, bytes] = {}
        self._open: dict[int, tuple[int, int]] = {}
        self.events: list[Named | Written | Synced | Told] = []
        self._scan(directory, 0)
        self.first_names = {
            (node, name): child
            for node, entries in self._now.items()
            for name, child in entries.items()
        }
        self.first_content = dict(self._content)
        self.directories = set(self._now)

    def calls(self) -> Calls:
        """Return system calls that are done and recorded."""

        def call(_: int, name: str, do: Callable[..., Any], arguments: Any) -> Any:
            result = do(*arguments)
            record = getattr(self, f"_{name}_", None)
            if record is not None:
                record(result, *arguments)
            return result

        return Calls(call)

    def told(self, what: str) -> None:
        """Record that the caller was told so."""
        self.events.append(Told(what))

    def _scan(self, path: str, node: int) -> None:
        for entry in os.scandir(path):
            child = self._now[node][entry.name] = next(self._new)
            if entry.is_symlink():
                self._content[child] = LINK + os.readlink(entry.path).encode()
            elif entry.is_dir():
                self._now[child] = {}
                self._scan(entry.path, child)
            else:
                with open(entry.path, "rb") as file:
                    self._content[child] = file.read()

    def _slot(self, path: str) -> _Slot:
        *above, name = os.path.relpath(path, self._base).split("/")
        node = 0
        for part in above:
            node = self._now[node][part]
        return node, name

    def _found(self, path: str) -> int:
        if path == self._base:
            return 0
        node, name = self._slot(path)
        return self._now[node][name]

    def _name(self, slots: dict[_Slot, int | None]) -> None:
        for (node, name), child in slots.items():
            if child is None:
                self._now[node].pop(name)
            else:
                self._now[node][name] = child
        self.events.append(Named(slots))

    def _open_file(self, path: str, flags: int) -> int:
        if flags & os.O_CREAT:
            self._mknod_(None, path)
        return self._found(path)

    def _open_(self, descriptor: int, path: str, flags: int, *_: int) -> None:
        self._open[descriptor] = self._open_file(path, flags), 0

    def _close_(self, _: None, descriptor: int) -> None:
        self._open.pop(descriptor)

    def _write_(self, written: int, descriptor: int, data: bytes) -> None:
        node, at = self._open[descriptor]
        old, end = self._content[node], at + written
        self._content[node] = old[:at] + data[:written] + old[end:]
        self._open[descriptor] = node, end
        self.events.append(Written(node, self._content[node]))

    def _fsync_(self, _: None, descriptor: int) -> None:
        self.events.append(Synced(self._open[descriptor][0]))

    def _mknod_(self, _: None, path: str, *__: int) -> None:
        node = next(self._new)
        self._content[node] = self.first_content[node] = b""
        self._name({self._slot(path): node})

    def _symlink_(self, _: None, target: str, path: str) -> None:
        """Note a link, which is on disk as soon as its name is: its target is no content."""
        node = next(self._new)
        self._content[node] = self.first_content[node] = LINK + target.encode()
        self._name({self._slot(path): node})

    def _mkdir_(self, _: None, path: str, *__: int) -> None:
        node = next(self._new)
        self._now[node] = {}
        self.directories.add(node)
        self._name({self._slot(path): node})

    def _rename_(self, _: None, source: str, target: str) -> None:
        self._name({self._slot(source): None, self._slot(target): self._found(source)})

    def _unlink_(self, _: None, path: str) -> None:
        self._name({self._slot(path): None})

    _rmdir_ = _unlink_


class Cut:
    """The power is cut after so many events of a recording."""

    def __init__(self, recording: Recording, at: int, *, ordered: bool) -> None:
        self._directories = recording.directories
        events = recording.events[:at]
        self.told = [event.what for event in events if isinstance(event, Told)]
        self._contents = {
            node: _contents(node, data, events)
            for node, data in recording.first_content.items()
        }
        first = recording.first_names
        self._names = _in_order(first, events) if ordered else [_any(first, events)]

    def trees(self, most: int, seed: int) -> Iterator[Tree]:
        """Yield what may be left: every possibility, or about so many at random."""
        every = _every(self._tree)
        yield from itertools.islice(every, most)
        if next(every, None) is not None:
            chance = random.Random(seed)
            yield from (self._tree(chance.choice) for _ in range(most))

    def _tree(self, choose: Choose) -> Tree:
        entries: dict[int, list[tuple[str, Sequence[int | None]]]] = {}
        for (node, name), values in self._once(choose(self._names), choose).items():
            entries.setdefault(node, []).append((name, values))

        def grown(node: int) -> Tree:
            tree: Tree = {}
            for name, values in entries.get(node, []):
                child = choose(values)
                if child in self._directories:
                    tree[name] = grown(child)
                elif child is not None:
                    tree[name] = choose(self._contents[child])
            return tree

        return grown(0)

    def _once(
        self, names: dict[_Slot, list[int | None]], choose: Choose
    ) -> dict[_Slot, Sequence[int | None]]:
        """Let a directory that was moved be in one place, as a check of the disk does.

        That is the later one, which the directory itself names as the one above it.
        """
        slots = Counter(n for values in names.values() for n in values)
        moved = {n for n in self._directories if slots[n] > 1}
        found: dict[_Slot, Sequence[int | None]] = dict(names)
        placed: set[int | None] = set()
        for slot in reversed(names):
            if moved.intersection(names[slot]):
                node = choose(names[slot])
                found[slot] = [None if node in placed else node]
                placed |= moved & {node}
        return found


def _every(make: Callable[[Choose], Tree]) -> Iterator[Tree]:
    """Yield what comes of each combination of choices that `make` has."""
    script: list[int] | None = []
    while script is not None:
        picks = _Picks(script)
        yield make(picks)
        script = picks.following()


class _Picks:
    """Choices made as a script says, and after its end the first of each."""

    def __init__(self, script: list[int]) -> None:
        self._script = script
        self._made: list[tuple[int, int]] = []

    def __call__(self, options: Sequence[Any]) -> Any:
        at = len(self._made)
        pick = self._script[at] if at < len(self._script) else 0
        self._made.append((pick, len(options)))
        return options[pick]

    def following(self) -> list[int] | None:
        """Return the next script; None when there is no other combination."""
        made = self._made
        while made and made[-1][0] + 1 == made[-1][1]:
            made.pop()
        if not made:
            return None
        *before, last = (pick for pick, _ in made)
        return [*before, last + 1]


def _any(
    first: dict[_Slot, int], events: Sequence[Any]
) -> dict[_Slot, list[int | None]]:
    """Return what each slot may name: what it did when it was synced, or anything since."""
    values: dict[_Slot, list[int | None]] = {slot: [n] for slot, n in first.items()}
    for event in events:
        if isinstance(event, Named):
            for slot, node in event.slots.items():
                values.setdefault(slot, [None]).append(node)
        elif isinstance(event, Synced):
            for slot, since in values.items():
                if slot[0] == event.node:
                    del since[:-1]
    return {slot: list(dict.fromkeys(since)) for slot, since in values.items()}


def _in_order(
    first: dict[_Slot, int], events: Sequence[Any]
) -> list[dict[_Slot, list[int | None]]]:
    """Return the states of all slots where renames reach the disk in order."""
    states: list[dict[_Slot, list[int | None]]] = [{s: [n] for s, n in first.items()}]
    least, last = 0, dict[int, int]()
    for event in events:
        if isinstance(event, Named):
            last.update({node: len(states) for node, _ in event.slots})
            changed: dict[_Slot, list[int | None]] = {
                slot: [node] for slot, node in event.slots.items()
            }
            states.append({**states[-1], **changed})
        elif isinstance(event, Synced):
            least = max(least, last.get(event.node, 0))
    return states[least:]


def _contents(node: int, first: bytes, events: Sequence[Any]) -> list[bytes]:
    """Return what a file may hold: what was synced, all since, a part, or zeros."""
    found = [first]
    for event in events:
        if isinstance(event, Written) and event.node == node:
            data, half = event.data, len(event.data) // 2
            hole = bytes(len(data) - half)
            found += [data[:half], data[:half] + hole, bytes(half) + hole, data]
        elif event == Synced(node):
            del found[:-1]
    return list(dict.fromkeys(found))


def put(tree: Tree, path: str) -> None:
    """Make a directory of what is left."""
    os.mkdir(path)
    for name, held in tree.items():
        if isinstance(held, dict):
            put(held, f"{path}/{name}")
        elif held.startswith(LINK):
            os.symlink(held[len(LINK) :].decode(), f"{path}/{name}")
        else:
            with open(f"{path}/{name}", "wb") as file:
                file.write(held)


def frozen(tree: Tree) -> frozenset[tuple[str, Any]]:
    """Return the same as a value that can be compared quickly."""
    return frozenset(
        (name, frozen(held) if isinstance(held, dict) else held)
        for name, held in tree.items()
    )
