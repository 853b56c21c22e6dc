"""Template and values make a job script, which goes to sbatch or qsub."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import suppress
from importlib import resources
from string import Template
from typing import TYPE_CHECKING, NamedTuple

from ddmq.errors import DdmqError, InvalidArgument, StorageError
from ddmq.fs import FileSystem
from ddmq.hpc.folder import Folder, reached
from ddmq.names import new_token
from ddmq.scheduler import environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

#: Seconds before the end when Slurm says so; it looks at its limits every 30 s only.
WARNING = 120
#: Where the scripts of submitted jobs are, below a queue.
DIRECTORY = "jobs"
#: Seconds after which a script, or the mark of a chain, is of no use to anybody.
_KEPT = 90 * 86400
#: What stands in a script for the sum of its text, when that is taken: no argument of a command,
#: and so nothing else in a script, can hold it.
_NO_SUM = "\0"
_MAX_SCRIPT = 4 << 20
#: What ddmq puts into `jobs/`: scripts, and marks of chains.
_OURS = re.compile(r"ddmq-[0-9a-f]{16}\.sh|after-.*-[0-9]+", re.DOTALL)
_SELECT = re.compile(r"-l\s*'?(\S*,)?select=")
#: What PBS itself knows of a node or a part of it, and what all sites call accelerators.
#: Any other resource is the whole job's: most of those that a site adds are (licenses, file
#: systems), and for the rest there is `-o select=…`. PBS refuses what is in the wrong place.
_CHUNK = frozenset(
    (
        *("ncpus", "mpiprocs", "ompthreads", "mem", "vmem", "hbmem", "ngpus", "nmics"),
        *("naccelerators", "accelerator", "accelerator_model", "accelerator_memory"),
        *("arch", "host", "vnode", "vntype", "aoe", "eoe", "netwins"),
    )
)


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
    joined: str = ""
    """How a resource is added to `slots`; empty: each has a line of its own."""
    chunk: frozenset[str] = frozenset()
    """Resources that are added; any other one is the whole job's."""
    exports: tuple[str, ...] = ()
    """Arguments that hand variables on, `{}` for NAME=value,…; they replace a directive."""
    exported: str = ""
    """Where a job finds what was handed on to it; empty: in the directives of its script."""
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
        exports=("--export={}",),
        exported="SLURM_EXPORT_ENV",
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
        joined=":{}={}",
        chunk=_CHUNK,
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
    worker: Sequence[str]
    """The words that start `ddmq-worker`."""
    arguments: Sequence[str]
    """All its arguments."""
    workers: int = 1
    slots: int | None = None
    seconds: float | None = None
    grace: float = 0.0
    """Seconds that the worker gives its commands to end."""
    options: Sequence[str] = ()
    """KEY=VALUE, KEY, or a line that begins with a dash, for the scheduler alone."""
    chain: int = 0
    requeue: bool = False


# The script


def rendered(request: Request, script: str) -> str:
    """Return the text of the job script that will be at the path `script`."""
    dialect = DIALECTS[request.scheduler]
    template = resources.files("ddmq.hpc") / "templates" / f"{request.scheduler}.sh"
    filled = _Template(template.read_text(encoding="utf-8")).substitute(
        directives="\n".join(dialect.prefix + d for d in _directives(request, dialect)),
        warning=_warning(request),
        umask=f"{_umask():04o}",
        chain=_chain(request, script),
        command=" ".join(map(quoted, _told_its_time(request, dialect))),
    )
    return filled.replace(_NO_SUM, _sum(filled.encode()))


def quoted(word: str) -> str:
    """Return a word as bash reads it, in one line: SGE looks for directives in every line."""
    if word.isprintable():
        return shlex.quote(word)
    return "$'" + "".join(map(_escaped, word)) + "'"


def _escaped(character: str) -> str:
    if character in "\\'":
        return f"\\{character}"
    if character.isprintable():
        return character
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(character))


class _Template(Template):
    """A template whose `$` is the shell's."""

    delimiter = "@"


def _directives(request: Request, dialect: Dialect) -> list[str]:
    """Return ours, then the user's: the last one wins."""
    lines = [dialect.name.format(_job_name(request.queue))]
    if request.workers > 1:
        lines.append(dialect.array.format(request.workers))
    joined: list[str] = []
    if request.slots is not None and not _selects(request, dialect):
        joined = [option for option in request.options if _is_joined(dialect, option)]
        resources_ = "".join(_resource(dialect, option) for option in joined)
        lines.append(dialect.slots.format(request.slots) + resources_)
    if request.seconds is not None:
        lines.append(dialect.time.format(clock(request.seconds)))
    if request.requeue:
        lines += ["--requeue", "--open-mode=append"]
    alone = [_option(dialect, o) for o in request.options if o not in joined]
    return lines + _handing_on_at_once(dialect, alone)


def _handing_on_at_once(dialect: Dialect, lines: list[str]) -> list[str]:
    """Return directives of which one hands on all variables, since the last of several wins."""
    if dialect.exported:
        return lines
    variables = [value for line in lines for value in _variables(line)]
    lines = [line for line in lines if line not in map(_handing_on, variables)]
    return [*lines, _handing_on(",".join(variables))] if variables else lines


def _handing_on(variables: str) -> str:
    return f"-v {shlex.quote(variables)}"


def _variables(directive: str) -> list[str]:
    """Return what a directive hands on with -v, to PBS or SGE."""
    try:
        words = shlex.split(directive)
    except ValueError:  # a quote is open: the scheduler will say so
        return []
    following = [after for word, after in zip(words, words[1:]) if word == "-v"]
    attached = [word[2:] for word in words if re.match("-v(?!erify$).", word)]
    return following + attached


def _job_name(queue: str) -> str:
    """Return a name that every scheduler accepts."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", f"ddmq-{queue}")


def _is_joined(dialect: Dialect, option: str) -> bool:
    """Tell whether PBS wants this resource in the same breath as the processors."""
    key, equals, _ = option.partition("=")
    return bool(equals) and key in dialect.chunk


def _selects(request: Request, dialect: Dialect) -> bool:
    """Tell whether the user writes the `select` of PBS himself."""
    directives = (_option(dialect, option) for option in request.options)
    return bool(dialect.joined) and any(map(_SELECT.match, directives))


def _resource(dialect: Dialect, option: str) -> str:
    key, _, value = option.partition("=")
    return dialect.joined.format(key, value)


def _option(dialect: Dialect, option: str) -> str:
    """Return an option as the scheduler writes it, quoted as a shell would have it."""
    if option.startswith("-"):
        return option
    key, equals, value = option.partition("=")
    form = dialect.letter if len(key) == 1 else dialect.word
    return form.format(key, shlex.quote(value)) if equals else form.split("{}")[0] + key


def checked_option(text: str) -> str:
    """Return an option for the scheduler; InvalidArgument where it is none."""
    if not text.partition("=")[0].strip() or not text.isprintable():
        raise InvalidArgument(f"{text!r} is no option; write KEY=VALUE, or KEY")
    return text


def clock(seconds: float) -> str:
    """Return HH:MM:SS, as all schedulers read it."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest:02d}"


def _warning(request: Request) -> int:
    """Return when to warn: before the grace, and not at the beginning of a short job."""
    warning = max(WARNING, int(request.grace) + WARNING // 2)
    return (
        warning if request.seconds is None else min(warning, int(request.seconds) // 4)
    )


def _umask() -> int:
    """Return ours: PBS would give the job 0077, and nobody in the group could read its files."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _chain(request: Request, script: str) -> str:
    """Return the lines that tell a job of its chain, if it is of one."""
    if not request.chain:
        return ""
    how = "requeue" if request.requeue else quoted(script)
    name = os.path.splitext(os.path.basename(script))[0]
    command = "scontrol" if request.requeue else DIALECTS[request.scheduler].command
    path = shutil.which(command, path=environment().get("PATH"))
    known = path and f"export DDMQ_CHAIN_COMMAND={quoted(os.path.abspath(path))}\n"
    return (known or "") + (
        f'export DDMQ_CHAIN_LEFT="${{DDMQ_CHAIN_LEFT:-{request.chain}}}"\n'
        f"export DDMQ_CHAIN_SCRIPT={how}\n"
        f"export DDMQ_CHAIN_ID={name} DDMQ_CHAIN_SCHEDULER={request.scheduler}\n"
        f"export DDMQ_CHAIN_SUM={_NO_SUM}\n"
    )


def _told_its_time(request: Request, dialect: Dialect) -> list[str]:
    if dialect.says_end or request.seconds is None:
        return [*request.worker, *request.arguments]
    return [*request.worker, "--time", clock(request.seconds), *request.arguments]


def worker_words() -> list[str]:
    """Return the words that start `ddmq-worker` as `ddmq-submit` was started."""
    archive = getattr(__spec__.loader, "archive", None)  # ddmq.pyz
    if archive is None:
        return [worker_path()]
    return [sys.executable, os.path.abspath(archive), "worker"]


def worker_path() -> str:
    """Return the path of `ddmq-worker`: the one beside this Python, else that on the PATH."""
    beside = os.path.join(os.path.dirname(sys.executable), "ddmq-worker")
    found = beside if os.access(beside, os.X_OK) else shutil.which("ddmq-worker")
    return os.path.abspath(found) if found else "ddmq-worker"


# Its file


def new_script(queue_path: str) -> str:
    """Return the path for a new job script of a queue."""
    return f"{queue_path}/{DIRECTORY}/ddmq-{new_token()}.sh"


def open_jobs(queue_path: str, fs: FileSystem) -> Folder:
    """Open the directory of scripts; it is made for all who share the queue."""
    with reached(*os.path.split(queue_path), calls=fs.calls) as queue:
        shared = fs.calls.fstat(queue.descriptor).st_mode & 0o7777
        return queue.below(DIRECTORY, make=True, mode=shared)


def write(script: str, text: str, fs: FileSystem) -> None:
    """Keep a job script, for its chain and for whoever wonders what ran: it is a record.

    Whoever may write to the queue may change it, so it is never what is submitted.
    """
    try:
        with open_jobs(os.path.dirname(os.path.dirname(script)), fs) as jobs:
            name = os.path.basename(script)
            jobs.fs.create_own(f"./{name}", text.encode(), sync=False)
            _forget_old(jobs, name)
    except OSError as error:
        raise StorageError(error) from error


def forget(script: str, fs: FileSystem) -> None:
    """Remove a script that was not submitted."""
    queue_path = os.path.dirname(os.path.dirname(script))
    with suppress(OSError), open_jobs(queue_path, fs) as jobs:
        jobs.fs.discard(f"./{os.path.basename(script)}")


def _forget_old(jobs: Folder, new: str) -> None:
    """Remove what ddmq made long before the file `new`, by the file server's clock."""
    made = jobs.fs.status(f"./{new}")
    for name in filter(_OURS.fullmatch, jobs.names()):
        found = jobs.fs.status(f"./{name}")
        if found and made and found.age(made.modified_ns) > _KEPT:
            remove = jobs.fs.rmdir if found.is_directory else jobs.fs.unlink
            with suppress(OSError):
                remove(f"./{name}")


def unchanged(script: str, sum_: str, fs: FileSystem) -> bytes:
    """Return the text of a job script that is as we submitted it.

    Who may write to the queue may swap the script at any moment, but neither its sum, which
    the running job knows, nor what we have read. Raises SubmitFailed.
    """
    try:
        data = fs.read(script, _MAX_SCRIPT)
    except OSError as error:
        raise SubmitFailed(f"{script}: {error.strerror}; the chain ends") from error
    summed = data.replace(sum_.encode(), _NO_SUM.encode())
    if _NO_SUM.encode() in data or _sum(summed) != sum_:
        raise SubmitFailed(
            f"{script} was changed since it was submitted, and is not submitted again; "
            "submit a new job, and ask who changes the queue"
        )
    return data


def _sum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# The scheduler


def require(scheduler: str) -> None:
    """Raise SubmitFailed where the scheduler's command is missing."""
    command = DIALECTS[scheduler].command
    if shutil.which(command, path=environment().get("PATH")) is None:
        raise SubmitFailed(
            f"{command} is not on the PATH: submit where {scheduler} is, on a login node "
            "say, or look at the job script with --dry-run"
        )


class Script(NamedTuple):
    """What is submitted."""

    text: bytes
    path: str = ""
    """Where the user has it. Empty: it is a text of ours, which the scheduler gets on standard input,
    so that nobody can change it on its way."""


def users_script(path: str) -> Script:
    """Return a script that the user keeps somewhere: whom he lets write there is his affair."""
    try:
        with open(path, "rb") as file:
            return Script(file.read(_MAX_SCRIPT), path)
    except OSError:  # for the scheduler to complain of
        return Script(b"", path)


def submitted(
    scheduler: str, script: Script, variables: Mapping[str, str], command: str = ""
) -> str:
    """Submit a job script, handing some variables on; return what the scheduler says.

    `command` is the path of its command where it was submitted before; if that is nothing
    here, the PATH says where it is.
    """
    dialect, environ = DIALECTS[scheduler], environment()
    program = _program(command, dialect.command)
    arguments = [program, *_handed_on(dialect, script, variables, environ)]
    if script.path:
        arguments.append(script.path)
    given = b"" if script.path else script.text
    return _asked(arguments, {**environ, **variables}, given)


def _program(path: str, name: str) -> str:
    return path if os.access(path, os.X_OK) else name


def _handed_on(
    dialect: Dialect,
    script: Script,
    variables: Mapping[str, str],
    environ: Mapping[str, str],
) -> list[str]:
    """Return the arguments that hand variables on, with all that this job was handed.

    A job whose script says `--export=NONE` would count its chain from the start for ever.
    """
    if not variables:
        return []
    if dialect.exported:
        before = environ.get(dialect.exported, "ALL")
    else:
        before = ",".join(dict.fromkeys(_directed(dialect, script.text)))
    words = [w for w in before.split(",") if w.upper() not in ("", "NONE", "NIL")]
    kept = [word for word in words if word.partition("=")[0] not in variables]
    pairs = [f"{name}={value}" for name, value in variables.items()]
    return [part.format(",".join([*kept, *pairs])) for part in dialect.exports]


def _directed(dialect: Dialect, text: bytes) -> Iterator[str]:
    """Yield what the directives of a job script hand on."""
    for line in os.fsdecode(text).splitlines():
        prefix, *rest = line.split(maxsplit=1) or [""]
        if prefix == dialect.prefix.strip():
            yield from _variables("".join(rest))


def requeued(job: str, command: str = "") -> None:
    """Ask Slurm to requeue one job or array task; `command` is the path of `scontrol`."""
    _asked([_program(command, "scontrol"), "requeue", job], environment())


def _asked(arguments: list[str], environ: Mapping[str, str], given: bytes = b"") -> str:
    """Run a command of the scheduler, `given` on its standard input; return what it prints."""
    try:
        done = subprocess.run(
            arguments,
            env=dict(environ),
            input=given,
            capture_output=True,
            check=False,
        )
    except OSError as error:
        raise SubmitFailed(
            f"{arguments[0]}: {error.strerror}; is there a scheduler on this node?"
        ) from error
    if done.returncode != 0:
        words = os.fsdecode(done.stderr or done.stdout).strip()
        raise SubmitFailed(f"{arguments[0]} refused: {words}")
    return os.fsdecode(done.stdout).strip()
