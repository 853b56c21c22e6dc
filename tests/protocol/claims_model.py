"""The claims of a bundle, searched state by state.

A bundle is shared out by a chain of claims; each claim has a range, which is leased. This module
has the rules as small programs. Each `yield` in one of them is one system call, and the server
makes it at once. Between two calls anybody else may act. A client that does not act any more has
crashed, or is suspended: so every state is also a state after a crash.

A line that its consumer has not started has the letter `t`, and one that it may have started has
`o`. If the consumer dies, the first counts no loss, and the second counts one.

The search goes through all states that can be reached. In each of them it asks these questions:

* Is each line in exactly one state? It waits in the bundle, or is open in one range, or is a
  message file of its own, or it is over. Only an ack or a purge may make it over.
* Was any name overwritten by a rename?
* Does a line that was started by a client that died count a loss, when it waits again? Does no
  other line count one, unless the disk took no file for it?
* If all clients crash now and all leases expire, can a fresh client finish alone? It must deliver
  each line that is not over once, no other line, and leave nothing behind.

`Setup.without` leaves rules out. The search then has to find a counterexample.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

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
    "start-first": "a line is started on disk before its command runs",
    "never-again": "nothing gives a line that was started the letter t again",
    "fewer-leave": "if a range that is taken over has lines of both kinds, the fewer of them leave it",
    "unstarted-apart": "a line that is detached and was not started has the letter u, not d",
}

Disk = dict  # the value of each path; of a directory "dir"
Call = tuple
Program = Generator  # yields calls, is sent their answers


class Wrong(Exception):
    """A promise was broken."""


@dataclass(frozen=True)
class Worker:
    """What one worker may still do, and the letters of the lines that it claims."""

    claims: int = 1
    takes: int = 0
    nacks: int = 0
    renews: int = 0
    releases: int = 0
    letters: tuple[str, ...] = ("o",)
    starts: int = 0
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
    full: bool = False
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
            return f"work/R.{fields}{self.lease}"
        return f"ready/R.{fields}"

    @property
    def lease(self) -> str:
        return f".{self.holder}.{self.beat}"

    def letter(self, line: int, letter: str) -> Range:
        i = line - self.first
        return self._replace(state=self.state[:i] + letter + self.state[i + 1 :])

    def having(self, letters: str) -> tuple[int, ...]:
        return tuple(self.first + i for i, c in enumerate(self.state) if c in letters)

    def back(self, losses: int) -> Range:
        state = self.state.replace("t", "o")
        return self._replace(state=state, losses=losses, holder="", beat="")

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


class Line(NamedTuple):
    """What the disk says of one line."""

    states: int = 0
    """In how many states it is in which it will be delivered once more."""
    place: str = ""
    """`waits`; or its letter in a range that is leased; or `alone`: it is leased as a message."""
    losses: int = 0


def look(disk: Disk, lines: int, born: bool) -> tuple[Line, ...]:
    found = [Line()] * lines
    there = ("ready/B" in disk and not born) or "bundle/lines" in disk
    ends: dict[int, tuple[int, str]] = {}
    for path, value in disk.items():
        if path.startswith("bundle/") and path[7:].isdigit():
            end, token = value.split(".")
            ends[int(path[7:])] = int(end), token
    at = 0
    while at in ends:
        at = ends[at][0]

    def add(line: int, place: str, losses: int) -> None:
        found[line] = Line(found[line].states + 1, place, losses)

    for line in range(at, lines if there else 0):
        add(line, "waits", 0)
    for path in disk:
        place = "waits" if path.startswith("ready/") else ""
        if path.startswith(("ready/M.", "work/M.")):
            add(int(path.split(".")[1]), place or "alone", int(path.split(".")[2]))
        elif is_range(path):
            lease = parse(path)
            made = there and ends.get(lease.first) == (lease.end, lease.claim)
            for line, letter in enumerate(lease.state, lease.first):
                file = f"work/F.{line}.{lease.holder}"
                if made if letter in "ot" else letter in "du" and file in disk:
                    add(line, place or letter, lease.losses)
    return tuple(found)


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


def claim(me: Me, first: int, letters: str) -> Program:
    """Claim lines, beginning where the chain ended when we last knew. Returns the range or None."""
    lines = me.setup.lines
    if (yield "read", "ready/B") == "ENOENT":
        return None
    if first == 0 and not me.setup.born:
        yield from do("mkdir", "bundle")
    end = min(first + len(letters), lines)
    lease = Range(first, end, me.token, letters[: end - first], 0, me.token, "0")
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
        old, end = lease, min(first + len(letters), lines)
        lease = lease._replace(first=first, end=end, state=letters[: end - first])
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
    if letters[0] == "x":
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


def name_of(me: Me, lease: Range) -> str:
    """The name of our range; if no line is left, that of the mark that its claim is over."""
    left = lease.having("otdu" if me.obeys("no-mark-with-d") else "ot")
    return lease.path() if left else lease.mark()


def letter(
    me: Me, lease: Range, line: int, new: str, over: tuple[int, ...] = ()
) -> Program:
    """Give a line another letter. Returns what is left or None; or "lost"."""
    while lease.letter(line, new) != lease:
        name = name_of(me, lease.letter(line, new))
        path = yield from changed(me, lease, name, over)
        if path is None:
            return "lost"
        if path == lease.mark():
            return None
        lease = parse(path)
    return lease


def ack(me: Me, lease: Range, line: int) -> Program:
    """Returns ("acked", line, what is left or None), or ("lost",)."""
    left = yield from letter(me, lease, line, "x", (line,))
    return ("lost",) if left == "lost" else ("acked", line, left)


def start(me: Me, lease: Range, line: int) -> Program:
    """Note that a line is started. Returns ("held", our range) or ("lost",)."""
    left = yield from letter(me, lease, line, "o")
    return ("lost",) if left == "lost" else ("held", left)


def detach(me: Me, lease: Range, line: int, losses: int) -> Program:
    """Give a line back as a message of its own. Returns ("held", what is left) or ("lost",)."""
    token = lease.holder if me.obeys("file-of-holder") else lease.claim
    own, message = f"work/F.{line}.{token}", f"ready/M.{line}.{losses}"
    apart = "u" if line in lease.having("t") and me.obeys("unstarted-apart") else "d"
    if (yield from do("create", "", own)) == "ENOSPC":
        return "held", lease
    if not me.obeys("letter-before-move"):
        yield from do("rename", own, message)
    lease = yield from letter(me, lease, line, apart)
    if lease == "lost":
        yield from do("unlink", own)
    elif lease and me.obeys("letter-before-move"):
        yield from do("rename", own, message)
    if isinstance(lease, Range):
        lease = yield from letter(me, lease, line, "x")
    return ("lost",) if lease == "lost" else ("held", lease)


def renew(me: Me, lease: Range) -> Program:
    new = lease._replace(beat=str(int(lease.beat) + 1))
    path = yield from changed(me, lease, new.path())
    if path is None:
        return ("lost",)
    return "held", None if path == lease.mark() else parse(path)


def release(me: Me, lease: Range) -> Program:
    yield from do("rename", lease.path(), lease.back(lease.losses).path())
    return ("lost",)


def take(me: Me, path: str, letter: str) -> Program:
    """Take what waits in a bucket: a range, or the message of one line."""
    if is_range(path):
        lease = parse(path)._replace(holder=me.token, beat="0")
        lease = lease._replace(state=lease.state.replace("o", letter))
        answer = yield from do("rename", path, lease.path())
        if answer == "ENOENT" and (yield "read", lease.path()) == "ENOENT":
            return None
        return lease
    own = path.replace("ready", "work") + f".{me.token}"
    answer = yield from do("rename", path, own)
    if answer == "ENOENT" and (yield "read", own) == "ENOENT":
        return None
    return own


def move_files(me: Me, old: Range) -> Program:
    """Move each detached file of an expired range to where an expired message goes."""
    for line in old.having("du"):
        token = old.holder if me.obeys("file-of-holder") else old.claim
        losses = old.losses + (line in old.having("d"))
        yield from do("rename", f"work/F.{line}.{token}", f"ready/M.{line}.{losses}")


def take_over(me: Me, path: str) -> Program:
    """Take over a range whose lease has expired."""
    old = parse(path)
    if me.obeys("files-first"):
        yield from move_files(me, old)
    lease = old._replace(state=old.state.replace("d", "x").replace("u", "x"))
    if not me.obeys("never-again"):
        lease = lease._replace(state=lease.state.replace("o", "t"))
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
    if not lease.having("ot"):
        yield from do("rename", lease.path(), lease.mark())
        return
    lost = old.having("o")
    if answer == "ok":  # the claim was missing: nobody received the lines
        alone, lost = (), ()
    elif lease.losses >= me.setup.limit:
        alone = lease.having("ot")
    else:
        alone = min(lease.having("o"), lease.having("t"), key=len)
    if not me.obeys("fewer-leave"):
        alone = ()
    del value, link, answer, old
    for line in alone:
        result = yield from detach(me, lease, line, lease.losses + (line in lost))
        if result[0] == "lost" or not result[1]:
            return
        lease = result[1]
    count = any(line in lost for line in lease.having("ot"))
    yield from do("rename", lease.path(), lease.back(lease.losses + count).path())


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


def clear_message(me: Me, path: str) -> Program:
    yield from do("unlink", path, (int(path.split(".")[1]),))


def take_back(me: Me, path: str) -> Program:
    yield from do("rename", path, path.replace("work", "ready").rpartition(".")[0])


def sweep_draft(me: Me, path: str) -> Program:
    yield from do("unlink", path)


# ---- clients: which program begins next, and what a client believes afterwards


class Client(NamedTuple):
    """A client: what it may still do, how many programs it began, what it holds, what it runs."""

    name: str
    may: Worker
    begun: int = 0
    held: Any | None = None
    point: int = -1
    call: Call | None = None
    handle: str = ""


#: Whether a line was started since it waited: not; nobody knows; a client knows that it was.
NOT, MAYBE, SURELY = 0, 1, 2


class State(NamedTuple):
    disk: frozenset[tuple[str, str]]
    clients: tuple[Client, ...]
    started: tuple[int, ...]
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
        program = globals()[name](*args)
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
        self.looks: dict[Any, tuple[Line, ...]] = {}

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
            (NOT,) * self.setup.lines,
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

    def look(self, disk: frozenset[tuple[str, str]]) -> tuple[Line, ...]:
        if disk not in self.looks:
            self.looks[disk] = look(dict(disk), self.setup.lines, self.setup.born)
        return self.looks[disk]

    def successors(self, state: State) -> Any:
        disk = dict(state.disk)
        for number, client in enumerate(state.clients):
            for label, after, lost, new in self.steps(state, disk, client):
                clients = (*state.clients[:number], after, *state.clients[number + 1 :])
                if not self.setup.handles:
                    clients = tuple(c._replace(handle="") for c in clients)
                elif "bundle" in disk and "bundle" not in new:
                    tmp = [p for p in new if p not in disk and p.count("/") == 1]
                    clients = tuple(
                        c._replace(handle=tmp[0] if tmp else "")
                        if c.handle == "bundle"
                        else c
                        for c in clients
                    )
                key = state.disk if new is disk else frozenset(new.items())
                started = self.started(state, key, client, after)
                yield (
                    label,
                    state._replace(
                        clients=clients,
                        disk=key,
                        started=started,
                        lost=state.lost - lost,
                    ),
                )
        if state.expiries:
            for path in disk:
                if path.startswith("work/") and path[5] in "RM":
                    label = (
                        path.split(".", 5)[-1] if path[5] == "R" else path.split(".")[3]
                    )
                    if label not in state.expired:
                        yield (
                            f"the lease {label} expires",
                            state._replace(
                                expired=state.expired | {label},
                                expiries=state.expiries - 1,
                            ),
                        )

    def started(
        self,
        state: State,
        new: frozenset[tuple[str, str]],
        client: Client,
        after: Client,
    ) -> tuple[int, ...]:
        """Tell of each line whether it was started; Wrong: it waits again with a wrong count."""
        started = list(state.started)
        program = client.call[0] if client.call else ""
        if new is not state.disk:
            lines = zip(self.look(state.disk), self.look(new))
            for line, (old, now) in enumerate(lines):
                if now.place == "o":
                    started[line] = max(started[line], MAYBE)
                elif now.place == "waits" != old.place:
                    counted = now.losses > old.losses
                    given_back = program in ("detach", "release")
                    if started[line] == SURELY and not counted and not given_back:
                        raise Wrong(
                            f"line {line} was started, and its loss not counted"
                        )
                    if started[line] == NOT and counted and not self.setup.full:
                        raise Wrong(f"line {line} was not started, and counts a loss")
                if now.place in ("waits", ""):
                    started[line] = NOT
        runs: tuple[int, ...] = ()
        if isinstance(after.held, Range) and not after.call:
            runs = after.held.having("o")
        elif "start-first" in self.setup.without and not client.call:
            runs = after.held.having("t") if after.call[0] == "start" else ()
        if runs and any(path.endswith(after.held.lease) for path, _ in new):
            for line in runs:
                started[line] = SURELY
        return tuple(started)

    def steps(self, state: State, disk: Disk, client: Client) -> Any:
        if client.call is None:
            for name, args, may, label in self.choices(state, disk, client):
                if may is None:
                    continue
                me = Me(self.setup, f"{client.name}{client.begun}")
                point, request = self.points.start(name, (me, *args))
                after = client._replace(
                    may=may, begun=client.begun + 1, point=point, call=(name, request)
                )
                yield f"{client.name} begins: {label}", after, 0, disk
            return
        name, request = client.call
        expired = state.expired
        if request[0] == "expired":
            answer = request[1] in expired
            yield self.answered(client, name, request, answer, 0, expired, disk)
            return
        op, args = request[0], request[1:]
        over: Any = ()
        if isinstance(args[-1], (list, tuple)):
            args, over = args[:-1], args[-1]
        if args[-1].startswith("@"):
            if not (self.setup.handles and client.handle in disk):
                client = client._replace(handle="bundle" if "bundle" in disk else "")
            args = (*args[:-1], (client.handle or "bundle") + args[-1][7:])
        self.last = f"{client.name} {op} {' '.join(args)}"
        new, answer = call(disk, op, *args)
        if new is not disk:
            lines = zip(self.look(state.disk), self.look(frozenset(new.items())))
            for line, (before, after) in enumerate(lines):
                if after.states > 1:
                    raise Wrong(f"line {line} is in {after.states} states")
                if after.states > before.states:
                    raise Wrong(f"line {line} was over, and is there again")
                if after.states < before.states and line not in over:
                    raise Wrong(f"line {line} is lost")
        if op == "mkdir" and answer == "ok":
            client = client._replace(handle="bundle")
        made = (op, *args)
        yield self.answered(client, name, made, answer, 0, expired, new)
        if state.lost and new is not disk:
            yield self.answered(client, name, made, "EIO", 1, expired, new)
        if state.lost and self.setup.full and args[-1].startswith("work/F."):
            yield self.answered(client, name, made, "ENOSPC", 1, expired, disk)

    def answered(
        self,
        client: Client,
        name: str,
        request: Call,
        answer: Any,
        lost: int,
        expired: frozenset[str],
        new: Disk,
    ) -> tuple[str, Client, int, Disk]:
        point, result = self.points.answer(client.point, answer)
        shown = answer if isinstance(answer, str) else repr(answer)
        label = f"{client.name} {' '.join(map(str, request))} = {shown}"
        self.last = label
        if point >= 0:
            return label, client._replace(point=point, call=(name, result)), lost, new
        held: Any = None
        if name in ("claim", "take"):
            held = result
            if isinstance(held, Range) and f"{held.holder}.{held.beat}" not in expired:
                lines = self.look(frozenset(new.items()))
                if not all(lines[line].states for line in held.having("ot")):
                    raise Wrong(
                        f"{client.name} delivers {held.path()}, of which a line is over"
                    )
        elif result and result[0] == "acked":
            held = result[2]
            if self.look(frozenset(new.items()))[result[1]].states:
                raise Wrong(
                    f"{client.name} believes that it acked line {result[1]}, which is not over"
                )
        elif result and result[0] == "held":
            held = result[1]
        if isinstance(held, Range) and not held.having("ot"):
            held = None
        return label, client._replace(point=-1, call=None, held=held), lost, new

    def choices(self, state: State, disk: Disk, client: Client) -> Any:
        may, held = client.may, client.held

        def less(what: str) -> Worker | None:
            """What the client may do after this; None: not even this."""
            left = getattr(may, what)
            return replace(may, **{what: left - 1}) if left else None

        if isinstance(held, Range):
            for line in held.having("ot"):
                text = f"of line {line} of {held.path()}"
                if line in held.having("o"):
                    yield "ack", (held, line), may, f"ack {text}"
                else:
                    yield "start", (held, line), less("starts"), f"start {text}"
                nacked = held, line, held.losses
                yield "detach", nacked, less("nacks"), f"nack {text}"
            yield "renew", (held,), less("renews"), f"renewal of {held.path()}"
            yield "release", (held,), less("releases"), f"release of {held.path()}"
            return
        if isinstance(held, str):
            yield "clear_message", (held,), may, f"ack of {held}"
            return
        ends = {0}
        at = 0
        while f"bundle/{at}" in disk:
            at = int(disk[f"bundle/{at}"].split(".")[0])
            ends.add(at)
        for first in sorted(ends - {self.setup.lines}):
            for letters in may.letters:
                text = f"claim {letters} from {first}"
                yield "claim", (first, letters), less("claims"), text
            rest = "x" * self.setup.lines
            yield "claim", (first, rest), less("purges"), f"purge from {first}"
        for path in sorted(disk):
            if path.startswith(("ready/R.", "ready/M.")):
                letter = may.letters[0][-1]
                yield "take", (path, letter), less("takes"), f"take {path}"
        keeps = less("keeps")
        for path in sorted(disk):
            if path.startswith("work/R.") and path.split(".", 5)[-1] in state.expired:
                yield "take_over", (path,), keeps, f"take over {path}"
            if path.startswith("work/F."):
                yield "sweep_file", (path,), keeps, f"sweep {path}"
            if path.startswith("tmp/") and path.count("/") == 1:
                name = "clear" if disk[path] == "dir" else "sweep_draft"
                yield name, (path,), keeps, f"clear {path}"
        if "bundle" in disk:
            yield "remove", (), keeps, "removal"
        if "ready/B" in disk:
            yield "drain", (), keeps, "drain"

    def fate(self, key: frozenset[tuple[str, str]]) -> str | None:
        """What goes wrong if a fresh client is alone from here on, with all leases expired."""
        if key not in self.alone:
            self.alone[key] = self.finish(dict(key))
        return self.alone[key]

    def finish(self, disk: Disk) -> str | None:
        due = {
            line
            for line, found in enumerate(self.look(frozenset(disk.items())))
            if found.states
        }
        start, count = disk, 0

        def run(name: str, *args: Any) -> Any:
            nonlocal disk, count
            count += 1
            program = globals()[name](Me(self.setup, f"z{count}"), *args)
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

        def finish_all(held: Any) -> None:
            if isinstance(held, str):
                delivered.append(int(held.split(".")[1]))
                run("clear_message", held)
            while isinstance(held, Range) and held.having("o"):
                line = held.having("o")[0]
                delivered.append(line)
                result = run("ack", held, line)
                if result[0] == "lost":
                    raise Wrong("a client loses its lease")
                held = result[2]

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
                    if path.startswith(("ready/R.", "ready/M.")):
                        finish_all(run("take", path, "o"))
                while "ready/B" in disk:
                    held = run("claim", 0, "o")
                    if held is None:
                        break
                    finish_all(held)
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
