"""A stand-in for a PBS on one machine: `qsub`, `qdel` and `pbsdsh`, without a server.

It does to a job what OpenPBS 23.06 was seen to do, and nothing that it was not seen to do:

- A job starts in the home directory, with a PATH and an environment of its own and umask 0077. Its
  login shell leads a session, and reads the path of a copy of the script from its standard input.
- At the walltime, or by `qdel`, SIGTERM goes to each process of that session, one after the other,
  children before their parents. `kill_delay` later SIGKILL goes to what is left of the session.
- A process that has left the session gets no signal, and outlives the job.
- A job that ends by itself is over with its login shell, whose exit status is the job's.

    python standin.py SPOOL qsub|qdel|pbsdsh [arguments]

All of it is below SPOOL: `kill_delay`, `home/`, and for each job `NUMBER/` with its script and a
directory for each of its array's tasks, or `0` where it is none. There `session` is there once it
runs, `sessions` are those of its `pbsdsh`, and `status` is how it ended.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

#: What a login shell makes of the PATH, at the barest.
PATH = "/bin:/usr/bin"
#: Between the signals to two processes: with hundreds of them, it takes a while.
PAUSE = 0.02
LOOK = 0.02
WITH_VALUES = [f"-{letter}" for letter in "ANJWloejqrvS"]


def main() -> int:
    spool, command, *words = sys.argv[1:]
    return {"qsub": qsub, "qdel": qdel, "pbsdsh": pbsdsh}[command](Path(spool), words)


# Submitting


def options_in(words: list[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Return the values of each option, and the other words."""
    options: dict[str, list[str]] = {}
    left = list(words)
    while left and left[0].startswith("-"):
        word = left.pop(0)
        flag, value = word[:2], word[2:]
        if flag in WITH_VALUES:
            value = value or left.pop(0)
        elif flag != "-V":
            sys.exit(f"qsub: invalid option {word}")
        options.setdefault(flag, []).append(value)
    return options, left


def directives(script: str) -> list[str]:
    """Return the words of the lines that are for PBS, which end with the first command."""
    words = []
    for line in script.splitlines():
        if line.startswith("#PBS "):
            words += shlex.split(line[5:])
        elif line.strip() and not line.startswith("#"):
            break
    return words


def resources(options: dict[str, list[str]]) -> dict[str, str]:
    """Return what is asked for with -l: of two, the last one counts."""
    pairs = (pair for each in options.get("-l", ()) for pair in each.split(","))
    return dict(pair.split("=", 1) for pair in pairs)


def handed_on(options: dict[str, list[str]]) -> dict[str, str]:
    """Return the variables of the last -v, and with -V all."""
    found = dict(os.environ) if "-V" in options else {}
    for word in filter(None, options.get("-v", [""])[-1].split(",")):
        name, equals, value = word.partition("=")
        found[name] = value if equals else os.environ.get(name, "")
    return found


def qsub(spool: Path, words: list[str]) -> int:
    asked, files = options_in(words)
    script = Path(files[0]).read_text() if files else sys.stdin.read()
    options = options_in(directives(script))[0]
    name = Path(files[0]).name if files else "STDIN"
    for flag, values in asked.items():
        # What the command line says takes the place of what the script says.
        options[flag] = options.get(flag, []) + values if flag == "-l" else values
    name = options.get("-N", [name])[-1]
    number = 1
    while True:
        with suppress(FileExistsError):
            (spool / str(number)).mkdir()
            break
        number += 1
    job = spool / str(number)
    (job / "script").write_text(script)
    (job / "script").chmod(0o700)
    array = options.get("-J", [""])[-1]
    first, _, last = array.partition("-")
    tasks = range(int(first), int(last) + 1) if array else [0]
    environ = {
        **handed_on(options),
        "HOME": str(spool / "home"),
        "USER": "somebody",
        "LOGNAME": "somebody",
        "SHELL": "/bin/bash",
        "PATH": PATH,
        "PBS_ENVIRONMENT": "PBS_BATCH",
        "PBS_JOBNAME": name,
        "PBS_O_PATH": os.environ["PATH"],
        "PBS_O_WORKDIR": str(Path.cwd()),
    }
    for task in tasks:
        (job / str(task)).mkdir()
    sys.stdout.write(f"{number}{'[]' if array else ''}.pbs\n")
    sys.stdout.flush()
    for task in tasks:
        own = {"PBS_JOBID": f"{number}{f'[{task}]' if array else ''}.pbs"}
        if array:
            own.update(PBS_ARRAY_INDEX=str(task), PBS_ARRAY_ID=f"{number}[].pbs")
        if os.fork() == 0:
            os.setsid()
            null = os.open(os.devnull, os.O_RDWR)
            for end in range(3):  # whoever reads what qsub says waits for no job
                os.dup2(null, end)
            Job(spool, job / str(task), {**environ, **own}, resources(options)).run()
            os._exit(0)
    return 0


def qdel(spool: Path, words: list[str]) -> int:
    for word in words:
        number, task = re.match(r"(\d+)(?:\[(\d*)\])?", word).groups()
        for place in (spool / number).glob(task or "[0-9]*"):
            (place / "delete").touch()
    return 0


def pbsdsh(spool: Path, words: list[str]) -> int:
    """Start a command on each node, in a session of its own and with nothing of the job's."""
    number, task = re.match(r"(\d+)(?:\[(\d*)\])?", os.environ["PBS_JOBID"]).groups()
    started = []
    for _ in Path(os.environ["PBS_NODEFILE"]).read_text().splitlines():
        started.append(
            subprocess.Popen(
                words[1:] if words[0] == "--" else words,
                env={"PATH": PATH},
                cwd=spool / "home",
                start_new_session=True,
            )
        )
        with open(spool / number / (task or "0") / "sessions", "a") as sessions:
            sessions.write(f"{started[-1].pid}\n")
    return max(each.wait() for each in started)


# Running


class Job:
    """One job, or one task of an array, and what the node does to it."""

    def __init__(
        self, spool: Path, place: Path, environ: dict[str, str], asked: dict[str, str]
    ) -> None:
        self.place = place
        self.kill_delay = float((spool / "kill_delay").read_text())
        hours, minutes, seconds = asked.get("walltime", "1:00:00").split(":")
        self.walltime = int(hours) * 3600 + int(minutes) * 60 + int(seconds)
        chunk = asked.get("select", f"1:ncpus={asked.get('ncpus', 1)}")
        chunks, _, rest = chunk.partition(":")
        inside = dict(pair.split("=") for pair in rest.split(":") if pair)
        (place / "nodes").write_text("localhost\n" * int(chunks))
        (place / "tmp").mkdir()
        self.environ = {
            **environ,
            "NCPUS": inside.get("ompthreads", inside.get("ncpus", "1")),
            "PBS_NODEFILE": str(place / "nodes"),
            "TMPDIR": str(place / "tmp"),
        }

    def run(self) -> None:
        """Start the login shell, wait for its end or the job's, leave nothing in its sessions."""
        os.umask(0o077)  # of the job, and of its .o file
        number, _, _ = self.environ["PBS_JOBID"].partition("[")
        name = f"{self.environ['PBS_JOBNAME']}.o{number.partition('.')[0]}"
        if "PBS_ARRAY_INDEX" in self.environ:
            name += f".{self.environ['PBS_ARRAY_INDEX']}"
        with open(f"{self.environ['PBS_O_WORKDIR']}/{name}", "wb") as out:
            self.shell = subprocess.Popen(
                ["/bin/bash"],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=out,
                env=self.environ,
                cwd=self.environ["HOME"],
                start_new_session=True,
            )
        self.note("session", self.shell.pid)
        self.shell.stdin.write(f"{self.place.parent}/script\n".encode())
        self.shell.stdin.close()
        over = time.monotonic() + self.walltime
        while self.shell.poll() is None:
            if time.monotonic() > over or (self.place / "delete").exists():
                self.end()
                break
            time.sleep(LOOK)
        for session in self.sessions():
            kill_session(session, signal.SIGKILL, 0)
        status = self.shell.wait()
        self.note("status", status if status >= 0 else 256 - status)

    def end(self) -> None:
        """Ask all to end, and wait for them, but not longer than kill_delay."""
        for session in self.sessions():
            kill_session(session, signal.SIGTERM, PAUSE)
        until = time.monotonic() + self.kill_delay
        while any(map(members, self.sessions())) and time.monotonic() < until:
            self.shell.poll()
            time.sleep(LOOK)

    def sessions(self) -> list[int]:
        found = [self.shell.pid]
        with suppress(FileNotFoundError):
            found += map(int, (self.place / "sessions").read_text().split())
        return found

    def note(self, name: str, value: int) -> None:
        """Write a file that is there when it is whole."""
        (self.place / f"{name}.new").write_text(str(value))
        (self.place / f"{name}.new").rename(self.place / name)


def members(session: int) -> dict[int, int]:
    """Return the living processes of a session, and the parent of each."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            stat = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
            if int(stat[3]) == session and stat[0] != b"Z":
                found[int(pid)] = int(stat[1])
    return found


def kill_session(session: int, number: int, pause: float) -> None:
    """Signal those who are in a session now: the tree of its leader, then all others.

    Each one's children come before itself.
    """
    parents = members(session)
    signalled = []

    def signal_below(pid: int) -> None:
        for child in [p for p, parent in parents.items() if parent == pid]:
            signal_below(child)
        if pid not in signalled and pid in parents:
            signalled.append(pid)
            with suppress(ProcessLookupError):
                os.kill(pid, number)
            time.sleep(pause)

    signal_below(session)
    for pid in list(parents):
        if pid not in signalled:
            signalled.append(pid)
            with suppress(ProcessLookupError):
                os.kill(pid, number)


if __name__ == "__main__":
    sys.exit(main())
