"""Template and values make a job script, which goes to sbatch or qsub."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from importlib import resources
from string import Template
from typing import TYPE_CHECKING, NamedTuple

from ddmq.errors import DdmqError
from ddmq.names import new_token

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Seconds before the end when Slurm says so; it looks at its limits every 30 s only.
WARNING = 120
#: Where the scripts of submitted jobs are, below a queue.
DIRECTORY = "jobs"


class SubmitFailed(DdmqError):
    """The scheduler refused a job, or is not there; the text quotes its words."""


class Dialect(NamedTuple):
    """How one scheduler is spoken to: templates of options, `{}` for the value."""

    command: str
    prefix: str
    name: str
    array: str
    slots: str
    time: str
    letter: str
    """An option that is named by a single letter."""
    word: str
    """Any other option."""
    exports: tuple[str, ...] = ()
    """Arguments that hand a variable on, `{}` for NAME=value; none: all are handed on."""
    says_end: bool = False
    """Whether the job is told when it ends."""


DIALECTS: Mapping[str, Dialect] = {
    "slurm": Dialect(
        "sbatch",
        "#SBATCH ",
        name="--job-name={}",
        array="--array=1-{}",
        slots="--cpus-per-task={}",
        time="--time={}",
        letter="-{} {}",
        word="--{}={}",
        says_end=True,
    ),
    "pbs": Dialect(
        "qsub",
        "#PBS ",
        name="-N {}",
        array="-J 1-{}",
        slots="-l select=1:ncpus={}",
        time="-l walltime={}",
        letter="-{} {}",
        word="-l {}={}",
        exports=("-v", "{}"),
    ),
    "sge": Dialect(
        "qsub",
        "#$ ",
        name="-N {}",
        array="-t 1-{}",
        slots="-pe smp {}",
        time="-l h_rt={}",
        letter="-{} {}",
        word="-l {}={}",
        exports=("-v", "{}"),
    ),
}


class Request(NamedTuple):
    """What a job shall be."""

    scheduler: str
    queue: str
    """The name of the queue, which names the job."""
    command: Sequence[str]
    """`ddmq-worker` and all its arguments."""
    workers: int = 1
    slots: int | None = None
    seconds: float | None = None
    options: Sequence[str] = ()
    """KEY=VALUE, or KEY, for the scheduler alone."""
    chain: int = 0
    requeue: bool = False


def rendered(request: Request, script: str) -> str:
    """Return the text of the job script that will be at the path `script`."""
    dialect = DIALECTS[request.scheduler]
    text = (
        resources.files("ddmq.hpc") / "templates" / f"{request.scheduler}.sh"
    ).read_text()
    directives = [dialect.prefix + line for line in _directives(request, dialect)]
    filled = _Template(text).substitute(
        directives="\n".join(directives),
        warning=_warning(request.seconds),
        umask=f"{_umask():04o}",
        chain=_chain(request, script),
        command=shlex.join(_told_its_time(request, dialect)),
    )
    return "\n".join(line for line in filled.split("\n") if line != _NOTHING)


class _Template(Template):
    """A template whose `$` is the shell's."""

    delimiter = "@"


_NOTHING = "# nothing"


def _directives(request: Request, dialect: Dialect) -> list[str]:
    lines = [dialect.name.format(f"ddmq-{request.queue}")]
    if request.workers > 1:
        lines.append(dialect.array.format(request.workers))
    if request.slots is not None:
        lines.append(dialect.slots.format(request.slots))
    if request.seconds is not None:
        lines.append(dialect.time.format(clock(request.seconds)))
    return lines + [_option(dialect, option) for option in request.options]


def _option(dialect: Dialect, option: str) -> str:
    key, equals, value = option.partition("=")
    form = dialect.letter if len(key) == 1 else dialect.word
    return form.format(key, value) if equals else form.split("{}")[0] + key


def clock(seconds: float) -> str:
    """Return HH:MM:SS, as all schedulers read it."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest:02d}"


def _warning(seconds: float | None) -> int:
    """Return when to warn: not at the very beginning of a short job."""
    return WARNING if seconds is None else min(WARNING, int(seconds) // 4)


def _umask() -> int:
    """Return ours: PBS would give the job 0077, and nobody in the group could read its files."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _chain(request: Request, script: str) -> str:
    if not request.chain:
        return _NOTHING
    how = "requeue" if request.requeue else shlex.quote(script)
    return (
        f'export DDMQ_CHAIN_LEFT="${{DDMQ_CHAIN_LEFT:-{request.chain}}}"\n'
        f"export DDMQ_CHAIN_SCRIPT={how} DDMQ_CHAIN_SCHEDULER={request.scheduler}"
    )


def _told_its_time(request: Request, dialect: Dialect) -> list[str]:
    worker, *arguments = request.command
    if dialect.says_end or request.seconds is None:
        return [worker, *arguments]
    return [worker, "--time", clock(request.seconds), *arguments]


def worker_path() -> str:
    """Return the path of `ddmq-worker`: the one beside this Python, else that on the PATH."""
    beside = os.path.join(os.path.dirname(sys.executable), "ddmq-worker")
    found = beside if os.access(beside, os.X_OK) else shutil.which("ddmq-worker")
    return os.path.abspath(found) if found else "ddmq-worker"


def new_script(queue_path: str, queue: str) -> str:
    """Return the path for a new job script of a queue."""
    return f"{queue_path}/{DIRECTORY}/{queue}-{new_token()}.sh"


def write(script: str, text: str) -> None:
    """Keep a job script, for its chain and for whoever wonders what ran."""
    os.makedirs(os.path.dirname(script), exist_ok=True)
    with open(script, "x", encoding="utf-8") as file:
        file.write(text)


def submitted(scheduler: str, script: str, variables: Mapping[str, str]) -> str:
    """Submit a job script with some variables; return what the scheduler says."""
    dialect = DIALECTS[scheduler]
    arguments = [dialect.command]
    for name, value in variables.items():
        arguments += [part.format(f"{name}={value}") for part in dialect.exports]
    return _asked([*arguments, script], variables)


def requeued(job: str) -> str:
    """Ask Slurm to requeue one job or array task."""
    return _asked(["scontrol", "requeue", job], {})


def _asked(arguments: list[str], variables: Mapping[str, str]) -> str:
    """Run a command of the scheduler; return what it prints."""
    try:
        done = subprocess.run(
            arguments,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        raise SubmitFailed(
            f"{arguments[0]}: {error.strerror}; is there a scheduler on this node?"
        ) from error
    if done.returncode != 0:
        words = (done.stderr or done.stdout).strip()
        raise SubmitFailed(f"{arguments[0]} refused: {words}")
    return done.stdout.strip()
