"""The claims of a bundle, searched state by state.

A bundle is shared out by a chain of claims; each claim has a range, which is leased. This module
has the rules as small programs. Each `yield` in one of them is one system call, and the server
makes it at once. Between two calls anybody else may act. A client that does not act any more has
crashed, or is suspended: so every state is also a state after a crash.

The search goes through all states that can be reached. In each of them it asks three questions:

* Is each line in exactly one state? It waits in the bundle, or is open in one range, or is a
  message file of its own, or it is over. Only an ack or a purge may make it over.
* Was any name overwritten by a rename?
* If all clients crash now and all leases expire, can a fresh client finish alone? It must deliver
  each line that is not over once, no other line, and leave nothing behind.

`Setup.without` leaves rules out. The search then has to find a counterexample.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import (
    Any,
    NamedTuple,
)

RULES = {
    "draft": "a range is made as a draft in tmp/, and renamed to work/: never created there",
    "look": "who made a claim looks whether the bundle is still there (step 3 of a claim)",
    "link-on-behalf": "who takes over makes the missing claim of the dead; it does not drop the range",
    "files-first": "who takes over moves the detached files before it renames the range",
    "new-holder": "who takes over gives the range a new holder token",
    "unlink-unproven": "a range whose claim is another's is dropped",
    "no-mark-with-d": "no mark is made while a letter is d",
    "file-of-holder": "a detached file is the holder's: its name has the holder token",
    "letter-before-move": "a detached file is moved only after its letter is d",
    "lines-first": "a removal unlinks the lines before the claims",
    "marks-cover": "a bundle is finished if marks cover all its lines; not if each link seen has one",
    "ask-after-enoent": "after ENOENT a client asks whether it was itself; it does not assume so",
    "sweep-by-proof": "a detached file is unlinked because its range was seen with another holder; "
    "not because its range was not seen",
    "sweep-by-claim": "only a range that has the claim counts as that",
    "gone-is-gone": "a range whose bundle is neither in its bucket nor drained is dropped, "
    "and so is the directory",
}

Disk = dict  # the value of each path; of a directory "dir"
Call = tuple
Program = Generator  # yields calls, is sent their answers


class Wrong(Exception):
    """A promise was broken."""


@dataclass(frozen=True)
class Worker:
    """What one worker may still do, and the sizes of its claims."""

    claims: int = 1
    takes: int = 0
    nacks: int = 0
    renews: int = 0
    releases: int = 0
    sizes: tuple[int, ...] = (1,)
    purges: int = 0
    keeps: int = 0


@dataclass(frozen=True)
class Setup:
    """One search: how many lines, who takes part, and what may go wrong how often."""

    lines: int
    clients: tuple[Worker, ...]
    expiries: int = 1
    lost: int = 0
    handles: bool = False
    torn: bool = False
    limit: int = 9
    born: bool = False
    without: frozenset[str] = frozenset()
    states: int = 5_000_000


class Range(NamedTuple):
    """The name of a range. `holder` and `beat` (its renewals) are '' where it waits."""

    first: int
    end: int
    claim: str
    state: str
    losses: int
    holder: str = ""
    beat: str = ""

    def path(self) -> str:
        fields = f"{self.first}-{self.end}.{self.claim}.{self.state}.{self.losses}"
        if self.holder:
            return f"work/R.{fields}.{self.holder}.{self.beat}"
        return f"ready/R.{fields}"

    def letter(self, line: int, letter: str) -> Range:
        i = line - self.first
        return self._replace(state=self.state[:i] + letter + self.state[i + 1 :])

    def having(self, letter: str) -> tuple[int, ...]:
        return tuple(self.first + i for i, c in enumerate(self.state) if c == letter)

    def mark(self) -> str:
        return f"bundle/{self.first}-{self.end}.done"


def parse(path: str) -> Range:
    fields = path.split("/")[1].split(".")[1:]
    first, end = map(int, fields[0].split("-"))
    return Range(first, end, fields[1], fields[2], int(fields[3]), *fields[4:])


def is_range(path: str) -> bool:
    return path.startswith(("work/R.", "ready/R."))


# ---- the disk


def call(disk: Disk, op: str, *args: str) -> tuple[Disk, Any]:
    """One system call: the disk afterwards, and the answer."""
    path = args[-1]
    parent = path.rpartition("/")[0]
    no_parent = parent not in ("ready", "work", "tmp", "") and parent not in disk
    if op == "list":
        if path not in ("ready", "work", "tmp") and path not in disk:
            return disk, "ENOENT"
        return disk, tuple(sorted(p for p in disk if p.rpartition("/")[0] == path))
    if op == "read":
        return disk, disk.get(path, "ENOENT")
    if op in ("create", "mkdir"):
        if no_parent:
            return disk, "ENOENT"
        if path in disk:
            return disk, "EEXIST"
        return {**disk, path: "dir" if op == "mkdir" else args[0]}, "ok"
    if op == "rename":
        old = args[0]
        if old not in disk or no_parent:
            return disk, "ENOENT"
        if disk.get(path) == disk[old] == "dir":
            if any(p.startswith(path + "/") for p in disk):
                return disk, "ENOTEMPTY"
        elif path in disk:
            raise Wrong(f"a rename overwrites {path}")
        return {
            path + p[len(old) :] if p == old or p.startswith(old + "/") else p: value
            for p, value in disk.items()
        }, "ok"
    if path not in disk:
        return disk, "ENOENT"
    if op == "rmdir" and any(p.startswith(path + "/") for p in disk):
        return disk, "ENOTEMPTY"
    return {p: value for p, value in disk.items() if p != path}, "ok"


def live(disk: Disk, lines: int, born: bool) -> tuple[int, ...]:
    """For each line, in how many states it is in which it will be delivered once more."""
    counts = [0] * lines
    there = ("ready/B" in disk and not born) or "bundle/lines" in disk
    ends: dict[int, tuple[int, str]] = {}
    for path, value in disk.items():
        if path.startswith("bundle/") and path[7:].isdigit():
            end, token = value.split(".")
            ends[int(path[7:])] = int(end), token
    at = 0
    while at in ends:
        at = ends[at][0]
    if there:
        for line in range(at, lines):
            counts[line] += 1
    for path in disk:
        if path.startswith(("ready/M.", "work/M.")):
            counts[int(path.split(".")[1])] += 1
        elif is_range(path):
            lease = parse(path)
            if there and ends.get(lease.first) == (lease.end, lease.claim):
                for line in lease.having("o"):
                    counts[line] += 1
            for line in lease.having("d"):
                counts[line] += f"work/F.{line}.{lease.holder}" in disk
    return tuple(counts)


# ---- the rules, as programs


class Me(NamedTuple):
    """Who runs a program: its setup, and a token for it that nobody has used before."""

    setup: Setup
    token: str

    def obeys(self, rule: str) -> bool:
        return rule not in self.setup.without


def do(*request: Any) -> Program:
    """Make a call, and again if its reply was lost."""
    answer = yield request
    while answer == "EIO":
        answer = yield request
    return answer


def bundle_exists(me: Me) -> Program:
    """Look in the bucket first, then for the drained file: it only ever goes that way."""
    if not me.setup.born and (yield "read", "ready/B") != "ENOENT":
        return True
    return (yield "read", "@bundle/lines") != "ENOENT"


def claim(me: Me, first: int, size: int, letter: str) -> Program:
    """Claim lines, beginning where the chain ended when we last knew. Returns the range or None."""
    lines = me.setup.lines
    if (yield "read", "ready/B") == "ENOENT":
        return None
    if first == 0 and not me.setup.born:
        yield from do("mkdir", "bundle")
    end = min(first + size, lines)
    lease = Range(first, end, me.token, letter * (end - first), 0, me.token, "0")
    if me.obeys("draft"):
        yield from do("create", "", f"tmp/{me.token}")
        answer = yield from do("rename", f"tmp/{me.token}", lease.path())
        if answer == "ENOENT" and (yield "read", lease.path()) == "ENOENT":
            return None
    else:
        yield from do("create", "", lease.path())
    while True:
        over = lease.having("x")
        answer = yield from do(
            "create", f"{lease.end}.{me.token}", f"@bundle/{lease.first}", over
        )
        if answer == "ENOENT":
            if not me.setup.born and (yield from bundle_exists(me)):
                yield from do("mkdir", "bundle")
                continue
            yield from do("unlink", lease.path())
            return None
        if answer == "EEXIST":
            answer = yield "read", f"@bundle/{lease.first}"
            if answer == "ENOENT":
                continue
        if answer == "ok" or answer.endswith(f".{me.token}"):
            break
        first = int(answer.split(".")[0])
        if first >= lines:
            yield from do("unlink", lease.path())
            return None
        old, end = lease, min(first + size, lines)
        lease = lease._replace(first=first, end=end, state=letter * (end - first))
        answer = yield from do("rename", old.path(), lease.path())
        if answer == "ENOENT" and (yield "read", lease.path()) == "ENOENT":
            return None
    if me.obeys("look") and not (yield from bundle_exists(me)):
        yield from do("unlink", f"@bundle/{lease.first}")
        yield from do("unlink", lease.path())
        if not me.setup.born:
            yield from do("rmdir", "bundle")
        return None
    if lease.end == lines:
        yield from emptied(me)
    if letter == "x":
        yield from do("rename", lease.path(), lease.mark())
        return None
    return lease


def changed(me: Me, old: Range, new: str, over: tuple[int, ...] = ()) -> Program:
    """Rename our range. Returns where it is now: `new`, another name, or None if it is lost."""
    answer = yield from do("rename", old.path(), new, over)
    if answer == "ok" or not me.obeys("ask-after-enoent"):
        return new
    if (yield "read", new) != "ENOENT" and "/R." in new:
        return new
    names = yield "list", "work"
    for name in names:
        if is_range(name) and parse(name).holder == old.holder:
            return name
    if (yield "read", old.mark()) == "ENOENT" or (
        yield "expired", f"{old.holder}.{old.beat}"
    ):
        return None
    return old.mark()


def ack(me: Me, lease: Range, line: int) -> Program:
    """Returns ("acked", line, what is left or None), or ("lost",)."""
    while True:
        new = lease.letter(line, "x")
        done = not new.having("o") and not (
            new.having("d") and me.obeys("no-mark-with-d")
        )
        path = yield from changed(
            me, lease, new.mark() if done else new.path(), (line,)
        )
        if path is None:
            return ("lost",)
        if path == lease.mark():
            return "acked", line, None
        if parse(path).letter(line, "x") == parse(path):
            return "acked", line, parse(path)
        lease = parse(path)


def detach(me: Me, lease: Range, line: int) -> Program:
    """Give a line back as a message of its own. Returns ("held", what is left) or ("lost",)."""
    token = lease.holder if me.obeys("file-of-holder") else lease.claim
    own = f"work/F.{line}.{token}"
    yield from do("create", "", own)
    if not me.obeys("letter-before-move"):
        yield from do("rename", own, f"ready/M.{line}")
    for letter in "dx":
        while lease.letter(line, letter) != lease:
            new = lease.letter(line, letter)
            over = not new.having("o") and not (
                new.having("d") and me.obeys("no-mark-with-d")
            )
            path = yield from changed(me, lease, new.mark() if over else new.path())
            if path is None:
                if letter == "d":
                    yield from do("unlink", own)
                return ("lost",)
            if path == lease.mark():
                return "held", None
            lease = parse(path)
        if letter == "d" and me.obeys("letter-before-move"):
            yield from do("rename", own, f"ready/M.{line}")
    return "held", lease


def renew(me: Me, lease: Range) -> Program:
    new = lease._replace(beat=str(int(lease.beat) + 1))
    path = yield from changed(me, lease, new.path())
    if path is None:
        return ("lost",)
    return "held", None if path == lease.mark() else parse(path)


def release(me: Me, lease: Range) -> Program:
    yield from do("rename", lease.path(), lease._replace(holder="", beat="").path())
    return ("lost",)


def take(me: Me, path: str) -> Program:
    """Take what waits in a bucket: a range, or the message of one line."""
    if is_range(path):
        lease = parse(path)._replace(holder=me.token, beat="0")
        answer = yield from do("rename", path, lease.path())
        if answer == "ENOENT" and (yield "read", lease.path()) == "ENOENT":
            return None
        return lease
    line = int(path.split(".")[1])
    own = f"work/M.{line}.{me.token}"
    answer = yield from do("rename", path, own)
    if answer == "ENOENT" and (yield "read", own) == "ENOENT":
        return None
    return own


def move_files(me: Me, old: Range) -> Program:
    """Move each detached file of an expired range to where an expired message goes."""
    for line in old.having("d"):
        token = old.holder if me.obeys("file-of-holder") else old.claim
        yield from do("rename", f"work/F.{line}.{token}", f"ready/M.{line}")


def take_over(me: Me, path: str) -> Program:
    """Take over a range whose lease has expired."""
    old = parse(path)

    if me.obeys("files-first"):
        yield from move_files(me, old)
    lease = old._replace(state=old.state.replace("d", "x"))
    if me.obeys("new-holder"):
        lease = lease._replace(holder=me.token, beat="0")
    else:
        lease = lease._replace(beat=lease.beat + me.token)
    answer = yield from do("rename", path, lease.path())
    if answer == "ENOENT" and (yield "read", lease.path()) == "ENOENT":
        return
    if not me.obeys("files-first"):
        yield from move_files(me, old)
    value, link = f"{lease.end}.{lease.claim}", f"@bundle/{lease.first}"
    while True:
        if me.obeys("link-on-behalf"):
            answer = yield from do("create", value, link, lease.having("x"))
        else:
            answer = "EEXIST" if (yield "read", link) != "ENOENT" else "none"
        if answer == "none":
            yield from do("unlink", lease.path())
            return
        if answer == "ENOENT":
            if me.setup.born or not (yield from bundle_exists(me)):
                break
            yield from do("mkdir", "bundle")
            continue
        if answer == "EEXIST":
            answer = yield "read", link
            if answer == "ENOENT":
                continue
            if answer != value and me.obeys("unlink-unproven"):
                yield from do("unlink", lease.path())
                return
        break
    if not (yield from bundle_exists(me)):
        if me.obeys("gone-is-gone"):
            if answer != "ENOENT":
                yield from do("unlink", link)
            yield from do("unlink", lease.path())
            if not me.setup.born:
                yield from do("rmdir", "bundle")
        return
    if not lease.having("o"):
        yield from do("rename", lease.path(), lease.mark())
        return
    if lease.losses < me.setup.limit:
        waiting = lease._replace(losses=lease.losses + 1, holder="", beat="")
        yield from do("rename", lease.path(), waiting.path())
        return
    del value, link, answer, old
    while lease and lease.having("o"):
        result = yield from detach(me, lease, lease.having("o")[0])
        lease = result[1] if result[0] == "held" else None


def drain(me: Me) -> Program:
    """Move the file of a bundle out of its bucket if its chain has reached the end."""
    at = 0
    while at < me.setup.lines:
        value = yield "read", f"@bundle/{at}"
        if value == "ENOENT":
            if me.setup.born and not (yield from bundle_exists(me)):
                break
            return
        at = int(value.split(".")[0])
    yield from emptied(me)


def emptied(me: Me) -> Program:
    """No line waits in the bundle any more: it leaves its bucket."""
    if me.setup.born:
        yield from do("unlink", "ready/B")
    else:
        yield from do("rename", "ready/B", "bundle/lines")


def remove(me: Me) -> Program:
    """Remove the bundle's directory if the bundle is finished, or was never there."""
    names = yield "list", "bundle"
    if names == "ENOENT":
        return
    if me.setup.torn:
        later = yield "list", "bundle"
        if later == "ENOENT":
            return
        names = tuple(n for n in names if n != "bundle/lines") + tuple(
            n for n in later if n == "bundle/lines"
        )
        del later
    spans = sorted(
        tuple(map(int, n[7:-5].split("-"))) for n in names if n.endswith(".done")
    )
    if me.obeys("marks-cover"):
        finished = sum(end - first for first, end in spans) == me.setup.lines
    else:
        links = [int(n[7:]) for n in names if n[7:].isdigit()]
        finished = {first for first, _ in spans} == set(links)
        del links
    if not (finished and "bundle/lines" in names):
        if not me.obeys("gone-is-gone"):
            return
        del names, spans, finished
        if me.setup.born or (yield from bundle_exists(me)):
            return
    answer = yield from do("rename", "bundle", f"tmp/{me.token}")
    if answer == "ENOENT" and (yield "read", f"tmp/{me.token}") == "ENOENT":
        return
    del answer
    yield from clear(me, f"tmp/{me.token}")


def clear(me: Me, path: str) -> Program:
    """Remove what lies in tmp/: of a directory the lines first."""
    while True:
        names = yield "list", path
        if names == "ENOENT":
            return
        if not names:
            answer = yield from do("rmdir", path)
            if answer != "ENOTEMPTY":
                return
            continue
        ends = [n for n in names if n.endswith("lines") == me.obeys("lines-first")]
        yield from do("unlink", (ends or list(names))[0])


def sweep_file(me: Me, path: str) -> Program:
    """Unlink a detached file if it is surely no message: its line's range is another holder's."""
    line, holder = int(path.split(".")[1]), path.split(".")[2]
    for place in ("work", "ready"):
        names = yield "list", place
        if not me.obeys("sweep-by-proof"):
            later = yield "list", place
            names = tuple(n for n in names if n in later)
        for name in names:
            if is_range(name) and parse(name).first <= line < parse(name).end:
                lease = parse(name)
                if lease.holder == holder:
                    return
                if me.obeys("sweep-by-claim"):
                    value = yield "read", f"@bundle/{lease.first}"
                    if value != f"{lease.end}.{lease.claim}":
                        continue
                yield from do("unlink", path)
                return
    if not me.obeys("sweep-by-proof"):
        yield from do("unlink", path)
        return
    names = yield "list", "bundle"
    if names == "ENOENT" or any(
        n.endswith(".done")
        and int(n[7:].split("-")[0]) <= line < int(n[7:-5].split("-")[1])
        for n in names
    ):
        yield from do("unlink", path)


# ---- clients: which program begins next, and what a client believes afterwards

PROGRAMS: dict[str, Any] = {
    f.__name__: f
    for f in (
        claim,
        ack,
        detach,
        renew,
        release,
        take,
        take_over,
        drain,
        remove,
        clear,
        sweep_file,
    )
}


class Client(NamedTuple):
    """A client: what it may still do, how many programs it began, what it holds, what it runs."""

    name: str
    may: Worker
    begun: int = 0
    held: Any | None = None
    point: int = -1
    call: Call | None = None
    handle: str = ""


class State(NamedTuple):
    disk: frozenset[tuple[str, str]]
    clients: tuple[Client, ...]
    expired: frozenset[str]
    expiries: int
    lost: int


class Points:
    """The points at which programs can stand. Two runs that stand alike are one point."""

    def __init__(self) -> None:
        self.runs: list[tuple[Any, tuple[Any, ...]]] = []
        self.index: dict[Any, int] = {}
        self.after: dict[Any, tuple[int, Any]] = {}

    def start(self, name: str, args: tuple[Any, ...]) -> tuple[int, Any]:
        return self._go(((name, args), ()))

    def answer(self, point: int, answer: Any) -> tuple[int, Any]:
        """Returns the next point and its call; or -1 and what the program returned."""
        key = point, answer
        if key not in self.after:
            begin, answers = self.runs[point]
            self.after[key] = self._go((begin, (*answers, answer)))
        return self.after[key]

    def _go(self, run: tuple[Any, tuple[Any, ...]]) -> tuple[int, Any]:
        (name, args), answers = run
        program = PROGRAMS[name](*args)
        try:
            request = next(program)
            for answer in answers:
                request = program.send(answer)
        except StopIteration as end:
            return -1, end.value
        stack, frame = [], program
        while frame is not None and getattr(frame, "gi_frame", None) is not None:
            values = tuple(
                (k, repr(v)) for k, v in sorted(frame.gi_frame.f_locals.items())
            )
            stack.append((frame.gi_code.co_name, frame.gi_frame.f_lasti, values))
            frame = frame.gi_yieldfrom
        key = tuple(stack), repr(request)
        if key not in self.index:
            self.index[key] = len(self.runs)
            self.runs.append(run)
        return self.index[key], request


class Search:
    """Goes through all states of a setup, the nearest first."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.points = Points()
        self.alone: dict[Any, str | None] = {}
        self.lives: dict[Any, tuple[int, ...]] = {}

    def run(self) -> tuple[int, str, list[str]]:
        """Returns how many states there are, what is wrong ('' if nothing), and the way there."""
        clients = tuple(
            Client("abcdef"[i], may) for i, may in enumerate(self.setup.clients)
        )
        names = {("ready/B", "lines")}
        if self.setup.born:
            names |= {("bundle", "dir"), ("bundle/lines", "lines")}
        first = State(
            frozenset(names),
            clients,
            frozenset(),
            self.setup.expiries,
            self.setup.lost,
        )
        came: dict[State, tuple[State, str] | None] = {first: None}
        queue = deque([first])

        def way(state: State, last: list[str]) -> list[str]:
            steps = last
            origin = came[state]
            while origin:
                steps = [origin[1], *steps]
                origin = came[origin[0]]
            return steps

        while queue:
            state = queue.popleft()
            try:
                for label, after in self.successors(state):
                    if after in came:
                        continue
                    came[after] = state, label
                    queue.append(after)
                    wrong = self.fate(after.disk)
                    if wrong:
                        return len(came), wrong, way(after, [])
                    if len(came) >= self.setup.states:
                        return len(came), "too many states", []
            except Wrong as wrong_step:
                return len(came), str(wrong_step), way(state, [str(self.last)])
        return len(came), "", []

    def live(self, disk: frozenset[tuple[str, str]]) -> tuple[int, ...]:
        if disk not in self.lives:
            self.lives[disk] = live(dict(disk), self.setup.lines, self.setup.born)
        return self.lives[disk]

    def successors(self, state: State) -> Any:
        disk = dict(state.disk)
        for number, client in enumerate(state.clients):
            for label, after, _expiry, lost, changed_disk in self.steps(
                state, disk, client
            ):
                clients = (*state.clients[:number], after, *state.clients[number + 1 :])
                if not self.setup.handles:
                    clients = tuple(c._replace(handle="") for c in clients)
                elif "bundle" in disk and "bundle" not in changed_disk:
                    tmp = [
                        p for p in changed_disk if p not in disk and p.count("/") == 1
                    ]
                    clients = tuple(
                        c._replace(handle=tmp[0] if tmp else "")
                        if c.handle == "bundle"
                        else c
                        for c in clients
                    )
                yield (
                    label,
                    state._replace(
                        clients=clients,
                        disk=frozenset(changed_disk.items())
                        if changed_disk is not disk
                        else state.disk,
                        lost=state.lost - lost,
                    ),
                )
        if state.expiries:
            for path in disk:
                if path.startswith("work/") and path[5] in "RM":
                    label = (
                        path.split(".", 5)[-1] if path[5] == "R" else path.split(".")[2]
                    )
                    if label not in state.expired:
                        yield (
                            f"the lease {label} expires",
                            state._replace(
                                expired=state.expired | {label},
                                expiries=state.expiries - 1,
                            ),
                        )

    def steps(self, state: State, disk: Disk, client: Client) -> Any:
        if client.call is None:
            for name, args, may, label in self.choices(state, disk, client):
                me = Me(self.setup, f"{client.name}{client.begun}")
                point, request = self.points.start(name, (me, *args))
                after = client._replace(
                    may=may, begun=client.begun + 1, point=point, call=(name, request)
                )
                yield f"{client.name} begins: {label}", after, None, 0, disk
            return
        name, request = client.call
        if request[0] == "expired":
            yield from self.answered(
                client,
                name,
                request,
                request[1] in state.expired,
                0,
                state.expired,
                disk,
            )
            return
        op, args = request[0], request[1:]
        over: Any = ()
        if isinstance(args[-1], (list, tuple)):
            args, over = args[:-1], args[-1]
        if args[-1].startswith("@"):
            if not (self.setup.handles and client.handle in disk):
                client = client._replace(handle="bundle" if "bundle" in disk else "")
            args = (*args[:-1], (client.handle or "bundle") + args[-1][7:])
        for place in (args,):
            self.last = f"{client.name} {op} {' '.join(place)}"
            changed_disk, answer = call(disk, op, *place)
            if changed_disk is not disk:
                before = self.live(state.disk)
                after = self.live(frozenset(changed_disk.items()))
                for line, (old, new) in enumerate(zip(before, after)):
                    if new > 1:
                        raise Wrong(f"line {line} is in {new} states")
                    if new > old:
                        raise Wrong(f"line {line} was over, and is there again")
                    if new < old and line not in over:
                        raise Wrong(f"line {line} is lost")
            if op == "mkdir" and answer == "ok":
                client = client._replace(handle="bundle")
            request_made = (op, *place)
            yield from self.answered(
                client, name, request_made, answer, 0, state.expired, changed_disk
            )
            if state.lost and changed_disk is not disk:
                yield from self.answered(
                    client, name, request_made, "EIO", 1, state.expired, changed_disk
                )

    def answered(
        self,
        client: Client,
        name: str,
        request: Call,
        answer: Any,
        lost: int,
        expired: frozenset[str],
        new: Disk,
    ) -> Any:
        point, result = self.points.answer(client.point, answer)
        shown = answer if isinstance(answer, str) else repr(answer)
        label = f"{client.name} {' '.join(map(str, request))} = {shown}"
        self.last = label
        if point >= 0:
            yield (
                label,
                client._replace(point=point, call=(name, result)),
                None,
                lost,
                new,
            )
            return
        held: Any = None
        if name in ("claim", "take"):
            held = result
            if isinstance(held, Range) and f"{held.holder}.{held.beat}" not in expired:
                lives = self.live(frozenset(new.items()))
                if not all(lives[line] for line in held.having("o")):
                    raise Wrong(
                        f"{client.name} delivers {held.path()}, of which a line is over"
                    )
        elif result and result[0] == "acked":
            held = result[2]
            if self.live(frozenset(new.items()))[result[1]]:
                raise Wrong(
                    f"{client.name} believes that it acked line {result[1]}, which is not over"
                )
        elif result and result[0] == "held":
            held = result[1]
        if isinstance(held, Range) and not held.having("o"):
            held = None
        yield label, client._replace(point=-1, call=None, held=held), None, lost, new

    def choices(self, state: State, disk: Disk, client: Client) -> Any:
        may, held = client.may, client.held
        if isinstance(held, Range):
            for line in held.having("o"):
                yield "ack", (held, line), may, f"ack of line {line} of {held.path()}"
                if may.nacks:
                    less = replace(may, nacks=may.nacks - 1)
                    yield (
                        "detach",
                        (held, line),
                        less,
                        f"nack of line {line} of {held.path()}",
                    )
            if may.renews:
                less = replace(may, renews=may.renews - 1)
                yield "renew", (held,), less, f"renewal of {held.path()}"
            if may.releases:
                less = replace(may, releases=may.releases - 1)
                yield "release", (held,), less, f"release of {held.path()}"
            return
        if isinstance(held, str):
            yield "clear_message", (held,), may, f"ack of {held}"
            return
        if may.claims or may.purges:
            ends = {0}
            at = 0
            while f"bundle/{at}" in disk:
                at = int(disk[f"bundle/{at}"].split(".")[0])
                ends.add(at)
            for first in sorted(ends):
                if first >= self.setup.lines:
                    continue
                if may.claims:
                    for size in may.sizes:
                        less = replace(may, claims=may.claims - 1)
                        yield (
                            "claim",
                            (first, size, "o"),
                            less,
                            f"claim of {size} from {first}",
                        )
                if may.purges:
                    less = replace(may, purges=may.purges - 1)
                    yield (
                        "claim",
                        (first, self.setup.lines, "x"),
                        less,
                        f"purge from {first}",
                    )
        if may.takes:
            less = replace(may, takes=may.takes - 1)
            for path in sorted(disk):
                if path.startswith(("ready/R.", "ready/M.")):
                    yield "take", (path,), less, f"take {path}"
        if may.keeps:
            less = replace(may, keeps=may.keeps - 1)
            for path in sorted(disk):
                if (
                    path.startswith("work/R.")
                    and path.split(".", 5)[-1] in state.expired
                ):
                    yield "take_over", (path,), less, f"take over {path}"
                if path.startswith("work/F."):
                    yield "sweep_file", (path,), less, f"sweep {path}"
                if path.startswith("tmp/") and path.count("/") == 1:
                    name = "clear" if disk[path] == "dir" else "sweep_draft"
                    yield name, (path,), less, f"clear {path}"
            if "bundle" in disk:
                yield "remove", (), less, "removal"
            if "ready/B" in disk:
                yield "drain", (), less, "drain"

    def fate(self, key: frozenset[tuple[str, str]]) -> str | None:
        """What goes wrong if a fresh client is alone from here on, with all leases expired."""
        if key not in self.alone:
            self.alone[key] = self.finish(dict(key))
        return self.alone[key]

    def finish(self, disk: Disk) -> str | None:
        due = {
            line
            for line, count in enumerate(self.live(frozenset(disk.items())))
            if count
        }
        start, count = disk, 0

        def run(name: str, *args: Any) -> Any:
            nonlocal disk, count
            count += 1
            program = PROGRAMS[name](Me(self.setup, f"z{count}"), *args)
            answer = None
            try:
                while True:
                    request = program.send(answer)
                    if request[0] == "expired":
                        answer = False
                        continue
                    texts = [a.replace("@", "") for a in request if isinstance(a, str)]
                    disk, answer = call(disk, *texts)
            except StopIteration as end:
                return end.value

        delivered: list[int] = []
        try:
            for _ in range(12):
                before = disk
                for path in sorted(disk):
                    if path.startswith("work/R."):
                        run("take_over", path)
                    elif path.startswith("work/M."):
                        run("take_back", path)
                    elif path.startswith("tmp/") and path.count("/") == 1:
                        run("clear", path) if disk.get(path) == "dir" else run(
                            "sweep_draft", path
                        )
                for path in sorted(disk):
                    if path.startswith("work/F."):
                        run("sweep_file", path)
                for path in sorted(disk):
                    held = (
                        run("take", path)
                        if path.startswith(("ready/R.", "ready/M."))
                        else None
                    )
                    if isinstance(held, str):
                        delivered.append(int(held.split(".")[1]))
                        run("clear_message", held)
                    while isinstance(held, Range) and held.having("o"):
                        line = held.having("o")[0]
                        delivered.append(line)
                        result = run("ack", held, line)
                        if result[0] == "lost":
                            return "alone, a client loses its lease"
                        held = result[2]
                while "ready/B" in disk:
                    held = run("claim", 0, 1, "o")
                    if held is None:
                        break
                    while held and held.having("o"):
                        line = held.having("o")[0]
                        delivered.append(line)
                        result = run("ack", held, line)
                        if result[0] == "lost":
                            return "alone, a client loses its lease"
                        held = result[2]
                run("drain")
                run("remove")
                if disk == before or not disk:
                    break
        except Wrong as wrong:
            return f"alone from here, {wrong}"
        purged = {
            line
            for path in start
            if path.startswith("work/R.")
            for line in parse(path).having("x")
        }
        if (
            len(set(delivered)) < len(delivered)
            or not due - purged <= set(delivered) <= due
        ):
            return f"alone from here, a client delivers {delivered}, but {sorted(due)} are due"
        if disk:
            return (
                f"alone from here, a client leaves {', '.join(sorted(disk))} for ever"
            )

        return None


def clear_message(me: Me, path: str) -> Program:
    yield from do("unlink", path, (int(path.split(".")[1]),))


def take_back(me: Me, path: str) -> Program:
    yield from do("rename", path, f"ready/M.{path.split('.')[1]}")


def sweep_draft(me: Me, path: str) -> Program:
    yield from do("unlink", path)


PROGRAMS.update(
    clear_message=clear_message, take_back=take_back, sweep_draft=sweep_draft
)
