"""Job scripts: made from a template, kept as a record, and given to sbatch or qsub."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import sys
from contextlib import suppress
from pkgutil import get_data
from string import Template
from typing import IO, TYPE_CHECKING, NamedTuple

from ddmq.errors import DdmqError, InvalidArgument, StorageError, warn
from ddmq.hpc.folder import Folder, reached
from ddmq.schedulers import SCHEDULERS, environment, without_chain
from ddmq.storage.filesystem import FileSystem
from ddmq.storage.layout import JOBS
from ddmq.storage.names import new_token

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ddmq.schedulers import Scheduler

#: Seconds before the end when Slurm says so; it looks at its limits every 30 s only.
WARNING = 120
#: What a line of `ddmq-submit` has in it that says where the output of its jobs goes.
LOGS_GO = "what the jobs print goes"
#: Seconds after which a script, or the mark of a chain, is of no use to anybody.
_KEPT = 90 * 86400
#: Stands in a script for the sum of its text, while that is taken. No argument of a command can
#: hold it, and so nothing else in a script does.
_NO_SUM = "\0"
_MAX_SCRIPT = 4 << 20
#: Seconds after which a command that has ended is believed to print nothing more.
_SILENCE = 0.5
#: So much is told of what the scheduler says: bytes.
_MOST_WORDS = 4000
#: What ddmq puts into `jobs/`: scripts, and marks of chains.
_OURS = re.compile(r"ddmq-[0-9a-f]{16}\.sh|after-.*-[0-9]+", re.DOTALL)


class SubmitFailed(DdmqError):
    """The scheduler refused a job, or is not there; the text quotes its words."""


class MaybeSubmitted(SubmitFailed):
    """The scheduler's command failed in a way that does not tell whether there is a job now."""


class Request(NamedTuple):
    """What a job shall be."""

    scheduler: str
    """Its name."""
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
    logs: str = ""
    """The directory for what the jobs print. Empty: the one of the submission."""
    chain: int = 0
    requeue: bool = False


# The script


def rendered(request: Request, script: str) -> str:
    """Return the text of the job script that will be at the path `script`."""
    scheduler = SCHEDULERS[request.scheduler]
    told = list(request.worker)
    warning = max(WARNING, int(request.grace) + WARNING // 2)
    if request.seconds is not None:
        warning = min(warning, int(request.seconds) // 4)  # a short job must begin
        if not scheduler.tells_end:
            told += ["--time", clock(request.seconds)]
    # Ours: PBS would give the job 0077, and nobody in the group could read its files.
    umask = os.umask(0)
    os.umask(umask)
    template = get_data("ddmq.hpc", f"templates/{scheduler.name}.sh") or b""
    filled = _Template(template.decode()).substitute(
        directives="\n".join(
            scheduler.prefix + option for option in _options(request, scheduler)
        ),
        warning=warning,
        umask=f"{umask:04o}",
        chain=_chain(request, scheduler, script) if request.chain else "",
        command=" ".join(map(quoted, [*told, *request.arguments])),
    )
    return filled.replace(_NO_SUM, _sum(filled.encode()))


def quoted(word: str) -> str:
    """Return a word as bash reads it, in one line: SGE looks for directives in every line."""
    if word.isprintable():
        return shlex.quote(word)
    escaped = []
    for character in word:
        if character in "\\'":
            escaped.append(f"\\{character}")
        elif character.isprintable():
            escaped.append(character)
        else:
            escaped += [f"\\x{byte:02x}" for byte in os.fsencode(character)]
    return f"$'{''.join(escaped)}'"


class _Template(Template):
    """A template whose `$` is the shell's."""

    delimiter = "@"


def _options(request: Request, scheduler: Scheduler) -> list[str]:
    """Return the options in the script: ours, then the user's, since the last one wins."""
    theirs = {option: _option(scheduler, option) for option in request.options}
    ours = [scheduler.job_name.format(_name(request))]
    if request.workers > 1:
        ours.append(scheduler.tasks.format(request.workers))
    if request.logs:
        options = request.workers > 1 and scheduler.array_logs_options
        ours += [
            each.format(request.logs) for each in options or scheduler.logs_options
        ]
    own = scheduler.own_slots
    if request.slots is not None and not (
        own and any(re.match(own, line) for line in theirs.values())
    ):
        # PBS wants the resources of a chunk in the same option as the processors, each once.
        joined = dict(
            o.split("=", 1) for o in request.options if _is_joined(scheduler, o)
        )
        processors = joined.pop(scheduler.asks_slots.rstrip("="), request.slots)
        resources_ = "".join(map(scheduler.joined.format, joined, joined.values()))
        ours.append(scheduler.slots.format(processors) + resources_)
        theirs = {o: line for o, line in theirs.items() if not _is_joined(scheduler, o)}
    if request.seconds is not None:
        ours.append(scheduler.time_option.format(clock(request.seconds)))
    if request.requeue:
        ours += scheduler.requeued
    lines = [theirs[option] for option in request.options if option in theirs]
    variables = [value for line in lines for value in _variables(line)]
    if scheduler.exported or not variables:
        return ours + lines
    # Only the last option that hands variables on counts: so there is one, for all of them.
    alone = [scheduler.export.format(shlex.quote(value)) for value in variables]
    whole = scheduler.export.format(shlex.quote(",".join(variables)))
    return [*ours, *(line for line in lines if line not in alone), whole]


def _name(request: Request) -> str:
    """Return what the jobs are called."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", f"ddmq-{request.queue}")


def logs_of(request: Request, said: str) -> str:
    """Return where what the jobs print goes: paths with `*` for what is not known yet.

    `said` is what the scheduler said of the jobs. Empty: the user's own options say where.
    """
    scheduler = SCHEDULERS[request.scheduler]
    if has_own_logs(request):
        return ""
    if request.logs and scheduler.renames_logs:
        return f"{request.logs}/"
    found = re.search(scheduler.submitted or r"(\d+)", said)
    job = found[1] if found else "*"
    if request.workers > 1:
        job += scheduler.task
    directory = request.logs or "."
    with suppress(FileNotFoundError):  # the current directory is gone
        directory = os.path.abspath(directory)
    names = (each.format(name=_name(request), job=job) for each in scheduler.logs)
    return " and ".join(f"{directory}/{name}" for name in names)


def has_own_logs(request: Request) -> bool:
    """Tell whether the user's own options may say where what the jobs print goes."""
    scheduler = SCHEDULERS[request.scheduler]
    given = (_option(scheduler, option) for option in request.options)
    return bool(environment().get(scheduler.own_logs_variable)) or any(
        re.match(scheduler.own_logs, line) for line in given
    )


def _is_joined(scheduler: Scheduler, option: str) -> bool:
    """Tell whether an option of the user's is a resource that is added to the processors."""
    key, equals, _ = option.partition("=")
    return bool(equals) and key in scheduler.chunk


def _option(scheduler: Scheduler, option: str) -> str:
    """Return an option as the scheduler writes it, quoted as a shell would have it."""
    if option.startswith("-"):
        return option
    key, equals, value = option.partition("=")
    form = scheduler.letter if len(key) == 1 else scheduler.word
    if not equals:
        return form.split("{}")[0] + key
    return form.format(key, shlex.quote(value).replace("\\", scheduler.backslash))


def _variables(option: str) -> list[str]:
    """Return what an option of a script hands on with -v, to PBS or SGE."""
    try:
        words = shlex.split(option)
    except ValueError:  # a quote is open: the scheduler will say so
        return []
    following = [after for word, after in zip(words, words[1:]) if word == "-v"]
    attached = [word[2:] for word in words if re.match("-v(?!erify$).", word)]
    return following + attached


def checked_option(text: str) -> str:
    """Return an option for the scheduler; InvalidArgument where it is none."""
    if not text.partition("=")[0].strip() or not text.isprintable():
        raise InvalidArgument(f"{text!r} is no option; write KEY=VALUE, or KEY")
    return text


def clock(seconds: float) -> str:
    """Return HH:MM:SS, as all schedulers read it."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest:02d}"


def _chain(request: Request, scheduler: Scheduler, script: str) -> str:
    """Return the lines that tell a job of its chain."""
    how = "requeue" if request.requeue else quoted(script)
    name = os.path.splitext(os.path.basename(script))[0]
    command = scheduler.requeue[0] if request.requeue else scheduler.command
    path = shutil.which(command, path=environment().get("PATH"))
    known = path and f"export DDMQ_CHAIN_COMMAND={quoted(os.path.abspath(path))}\n"
    return (known or "") + (
        f'export DDMQ_CHAIN_LEFT="${{DDMQ_CHAIN_LEFT:-{request.chain}}}"\n'
        f"export DDMQ_CHAIN_SCRIPT={how}\n"
        f"export DDMQ_CHAIN_ID={name} DDMQ_CHAIN_SCHEDULER={scheduler.name}\n"
        f"export DDMQ_CHAIN_SUM={_NO_SUM}\n"
    )


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
    return f"{queue_path}/{JOBS}/ddmq-{new_token()}.sh"


def open_jobs(queue_path: str, fs: FileSystem) -> Folder:
    """Open the directory of scripts; it is made for all who share the queue."""
    with reached(*os.path.split(queue_path), calls=fs.calls) as queue:
        shared = queue.own_status().st_mode & 0o7777
        return queue.below(JOBS, make=True, mode=shared)


def write(script: str, text: str, fs: FileSystem) -> None:
    """Keep a job script as a record, for its chain and for whoever wonders what ran.

    Whoever may write to the queue may change it, so it is never what is submitted. What ddmq
    made there long before, by the file server's clock, is removed.
    """
    try:
        with open_jobs(os.path.dirname(os.path.dirname(script)), fs) as jobs:
            name = os.path.basename(script)
            jobs.create(name, text.encode())
            made = jobs.status(name)
            for other in filter(_OURS.fullmatch, jobs.names()):
                found = jobs.status(other)
                if found and made and found.age(made.modified_ns) > _KEPT:
                    remove = jobs.remove_empty if found.is_directory else jobs.discard
                    remove(other)
    except OSError as error:
        raise StorageError(error) from error


def forget(script: str, fs: FileSystem) -> None:
    """Remove a script that was not submitted."""
    queue_path = os.path.dirname(os.path.dirname(script))
    with suppress(OSError), open_jobs(queue_path, fs) as jobs:
        jobs.discard(os.path.basename(script))


def unchanged(script: str, sum_: str, fs: FileSystem) -> bytes:
    """Return the text of a job script that is as we submitted it.

    Whoever may write to the queue can swap the script at any moment. He can't change its sum,
    which the running job knows, nor what we have read. Raises SubmitFailed.
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


class Script(NamedTuple):
    """What is submitted."""

    text: bytes
    path: str = ""
    """Where the user has it. Empty: the text is ours. Then the scheduler gets it on its standard
    input, so that nobody can change it on its way."""


def users_script(path: str) -> Script:
    """Return a script that the user keeps somewhere: whom he lets write there is his affair."""
    try:
        with open(path, "rb") as file:
            return Script(file.read(_MAX_SCRIPT), path)
    except OSError:  # for the scheduler to complain of
        return Script(b"", path)


def require(scheduler: str) -> None:
    """Raise SubmitFailed where the scheduler's command is missing."""
    command = SCHEDULERS[scheduler].command
    if shutil.which(command, path=environment().get("PATH")) is None:
        raise SubmitFailed(
            f"{command} is not on the PATH: submit where {scheduler} is, on a login node "
            "say, or look at the job script with --dry-run"
        )


def submitted(
    scheduler: str, script: Script, variables: Mapping[str, str], command: str = ""
) -> str:
    """Submit a job script, handing some variables on; return what the scheduler says.

    Without variables, the job is told nothing of the chain that this process may be in: else it
    would take itself for the next one of that. `command` is the path of its command where it was
    submitted before; if that is nothing here, the PATH says where it is.
    """
    row, environ = SCHEDULERS[scheduler], environment()
    arguments = [_program(command, row.command)]
    if variables:
        arguments += _handing_on(row, script, variables, environ)
    else:
        environ = without_chain(environ)
    if script.path:
        arguments.append(script.path)
    given = b"" if script.path else script.text
    return _asked(arguments, {**environ, **variables}, given)


def requeued(scheduler: Scheduler, job: str, command: str = "") -> None:
    """Let a job or array task start again; `command` is the path of what does that, if known."""
    program, *words = scheduler.requeue
    _asked([_program(command, program), *words, job], environment())


def _program(path: str, name: str) -> str:
    return path if os.access(path, os.X_OK) else name


def _handing_on(
    scheduler: Scheduler,
    script: Script,
    variables: Mapping[str, str],
    environ: Mapping[str, str],
) -> list[str]:
    """Return the arguments that hand variables on, with all that this job was handed.

    A job whose script says `--export=NONE` would count its chain from the start for ever.
    """
    if scheduler.exported:
        before = environ.get(scheduler.exported, "ALL")
    else:
        mark = scheduler.prefix.strip()
        lines = (x.split(maxsplit=1) for x in os.fsdecode(script.text).splitlines())
        found = (v for x in lines if x[:1] == [mark] for v in _variables(x[-1]))
        before = ",".join(dict.fromkeys(found))
    words = [w for w in before.split(",") if w.upper() not in ("", "NONE", "NIL")]
    kept = [word for word in words if word.partition("=")[0] not in variables]
    pairs = [f"{name}={value}" for name, value in variables.items()]
    all_ = ",".join([*kept, *pairs])
    return [part.format(all_) for part in scheduler.export.split()]


def _asked(arguments: list[str], environ: Mapping[str, str], given: bytes = b"") -> str:
    """Run a command of the scheduler, `given` on its standard input; return what it prints.

    What it says on standard error is a warning, or all that it says.
    """
    name = arguments[0]
    try:
        status, printed, complained = _run(arguments, environ, given)
    except OSError as error:
        raise SubmitFailed(
            f"{name}: {error.strerror}; is there a scheduler on this node?"
        ) from error
    except KeyboardInterrupt:
        warn(
            f"interrupted: {name} may have done it or not; look at your jobs before you "
            "try again"
        )
        raise
    if status == 0:
        if printed and complained:
            warn(f"{name} says: {' '.join(complained.splitlines())}")
        return printed or complained
    words = "; ".join(filter(None, (complained, printed))) or "it said nothing"
    if status < 0:
        how = f"was ended by signal {-status}, and may have done it or not"
    elif printed:  # only who has done it has something to say there
        how = f"ended with status {status}, and may have done it or not"
    else:
        raise SubmitFailed(f"{name} refused: {words}")
    raise MaybeSubmitted(f"{name} {how}: {words}")


def _run(
    arguments: list[str], environ: Mapping[str, str], given: bytes
) -> tuple[int, str, str]:
    """Run a command; return its status, and what it printed on its two outputs.

    It has ended when its process has: what it leaves in the background may keep the pipes.
    """
    import subprocess  # only needed here, as is threading
    from threading import Thread

    pipe = subprocess.PIPE
    with subprocess.Popen(
        arguments, env=dict(environ), stdin=pipe, stdout=pipe, stderr=pipe
    ) as process:
        try:
            # A thread, since `communicate` gives nothing more once it was late. It may wait for
            # ever where the pipe is held and nobody reads.
            input_, process.stdin = process.stdin, None
            Thread(target=_give, args=(input_, given), daemon=True).start()
            while True:
                has_ended = process.poll() is not None
                try:
                    outputs = process.communicate(timeout=_SILENCE)
                except subprocess.TimeoutExpired as late:
                    if has_ended:
                        outputs = late.stdout or b"", late.stderr or b""
                        break
                else:
                    break
        except BaseException:
            process.kill()
            raise
    printed, complained = map(_words, outputs)
    return process.returncode, printed, complained


def _give(pipe: IO[bytes], data: bytes) -> None:
    """Write to a pipe, as far as anybody reads it, and close it."""
    with suppress(OSError), pipe:
        pipe.write(data)


def _words(data: bytes) -> str:
    """Return what was printed; of very much, the beginning and the end."""
    if len(data) > _MOST_WORDS:
        half = _MOST_WORDS // 2
        data = data[:half] + b" ... " + data[-half:]
    return os.fsdecode(data).strip()
