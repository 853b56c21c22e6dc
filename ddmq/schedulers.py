"""What each batch scheduler is called and can do, as data: one row of a table for each.

To add a scheduler, add a row here, and the template `ddmq/hpc/templates/<name>.sh`. The worker,
`ddmq-submit` and `ddmq report` never ask which scheduler it is. This is also the only module that
reads the environment.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Scheduler(NamedTuple):
    """One batch scheduler.

    What is empty is what this scheduler does not have. In the forms of options, `{}` stands for
    the value.
    """

    name: str
    """As users write it; its template has this name, too."""

    # The environment of its jobs
    sign: str
    """A variable that is set in its jobs, and nowhere else."""
    job: str
    """Holds the id of the job."""
    array: tuple[str, ...]
    """Hold the index within an array: one of these does."""
    processors: tuple[str, ...]
    """Hold the number of allocated processors: the first of these that is there."""
    array_job: str = ""
    """Holds the id of the whole array, where each task has an id of its own."""
    start: str = ""
    """Holds the time when the job began, in seconds since 1970."""
    end: str = ""
    """The same when it ends."""
    memory: str = ""
    """Holds the MiB that the job may use on its node."""
    memory_each: str = ""
    """The same for each of its processors there."""
    on_node: str = ""
    """Holds the number of these processors."""
    restarts: str = ""
    """Holds how often the job was requeued."""

    # Its limits
    warning: str = ""
    """The signal that announces the end of a job and means nothing else."""
    least: float = 0.0
    """Seconds that must remain for another message, where the job is told its end."""

    # How a job is asked for: the command, and options in the script
    command: str = "qsub"
    prefix: str = ""
    """What a line of the script begins with that holds an option."""
    job_name: str = "-N {}"
    tasks: str = ""
    slots: str = ""
    time_option: str = ""
    letter: str = "-{} {}"
    """A user's option that is named by a single letter, and its value."""
    word: str = "-l {}={}"
    """Any other option of a user."""
    backslash: str = "\\"
    """How a backslash is written in the value of an option, in quotes."""
    joined: str = ""
    """How a resource is added to `slots`."""
    chunk: frozenset[str] = frozenset()
    """The resources that are added to `slots`. Any other one is the whole job's."""
    own_slots: str = ""
    """A pattern: a user's option that begins so takes the place of `slots`."""

    # Where what a job prints goes
    logs: tuple[str, ...] = ("{name}.o{job}", "{name}.e{job}")
    """Names of files in the directory of the submission. `job` is the id, in an array with `task`."""
    task: str = ".*"
    """What stands for the tasks of an array behind its id."""
    logs_options: tuple[str, ...] = ("-o {}/", "-e {}/")
    """The options for another directory, which has files with the same names."""
    array_logs_options: tuple[str, ...] = ()
    """The same for an array, where these differ."""
    renames_logs: bool = False
    """Whether the files have other names there."""
    own_logs: str = "-[oejkN]"
    """A pattern: a user's option that begins so may say where they go, or what they are called."""
    own_logs_variable: str = ""
    """The variable by which a user says that, which counts more than the script."""

    # How variables are handed on to a job
    export: str = "-v {}"
    """The option, which on the command line replaces the one in the script."""
    exported: str = ""
    """A variable that tells a job what was handed on to it. Empty: its script tells that."""

    # How a job starts again by itself
    requeue: tuple[str, ...] = ()
    """The command, which gets the job's id."""
    requeued: tuple[str, ...] = ()
    """Options in the script of a job that is to be requeued."""

    # How the script of a job is read again
    asks_slots: str = ""
    """A pattern: what stands before the number of processors."""
    asks_memory: tuple[str, ...] = ()
    """Names that stand before the memory of the whole job."""
    asks_memory_each: tuple[str, ...] = ()
    """The same for each of its processors."""

    # How an `Executor` hears of the jobs that it submitted: of Slurm only
    submitted: str = ""
    """A pattern: what `command` says of a job. Two groups: its id, and its cluster, if any."""
    list_jobs: tuple[str, ...] = ()
    """The command that prints those jobs that wait or run, and no title."""
    jobs_option: str = ""
    """Its option for the jobs in question, with commas between them."""
    cancel_waiting: tuple[str, ...] = ()
    """The command that cancels those jobs that wait; its last words are the jobs in question."""
    cluster_option: str = ""
    """The option of both commands for one of several clusters."""
    forgotten: str = ""
    """What both say of a job that ended long ago."""
    habits: tuple[str, ...] = ()
    """How variables begin by which a user changes what both commands do."""

    @property
    def tells_end(self) -> bool:
        """Whether a job is told when it ends."""
        return bool(self.end)


SLURM = Scheduler(
    "slurm",
    sign="SLURM_JOB_ID",
    job="SLURM_JOB_ID",
    array=("SLURM_ARRAY_TASK_ID",),
    processors=("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"),
    array_job="SLURM_ARRAY_JOB_ID",
    start="SLURM_JOB_START_TIME",
    end="SLURM_JOB_END_TIME",
    memory="SLURM_MEM_PER_NODE",  # neither is there, or it is 0, where it may use all of the node
    memory_each="SLURM_MEM_PER_CPU",
    on_node="SLURM_CPUS_ON_NODE",
    restarts="SLURM_RESTART_COUNT",
    warning="SIGUSR1",  # --signal=B:USR1@120; SIGTERM may be scancel
    least=90.0,  # it looks at its limits about every 30 s only, so the end is not exact
    command="sbatch",
    prefix="#SBATCH ",
    job_name="--job-name={}",
    tasks="--array=1-{}",
    slots="--cpus-per-task={}",
    time_option="--time={}",
    word="--{}={}",
    backslash=r"\\",
    logs=("slurm-{job}.out",),
    task="_*",
    logs_options=("--output={}/slurm-%j.out",),
    array_logs_options=("--output={}/slurm-%A_%a.out",),
    own_logs="-[oeD]|--(output|error|chdir)",
    own_logs_variable="SBATCH_OUTPUT",
    export="--export={}",
    exported="SLURM_EXPORT_ENV",
    requeue=("scontrol", "requeue"),
    requeued=("--requeue", "--open-mode=append"),
    asks_slots="--cpus-per-task=",
    asks_memory=("--mem",),
    asks_memory_each=("--mem-per-cpu",),
    submitted=r"Submitted batch job (\d+)(?: on cluster ([\w.-]+))?",
    list_jobs=("squeue", "-h"),
    jobs_option="-j {}",
    cancel_waiting=("scancel", "--state=PENDING"),
    cluster_option="-M {}",
    forgotten="Invalid job id",
    habits=("SQUEUE_", "SCANCEL_"),
)
PBS = Scheduler(
    "pbs",
    sign="PBS_JOBID",
    job="PBS_JOBID",
    array=("PBS_ARRAY_INDEX", "PBS_ARRAYID"),
    processors=("NCPUS", "PBS_NUM_PPN"),
    prefix="#PBS ",
    tasks="-J 1-{}",
    slots="-l select=1:ncpus={}",
    time_option="-l walltime={}",
    joined=":{}={}",
    # What PBS itself knows of a node or a part of it, and what all sites call accelerators.
    # Most of the resources that a site adds are the whole job's (licenses, file systems). For
    # the rest there is `-o select=…`. PBS refuses what is in the wrong place.
    chunk=frozenset(
        [
            "ncpus",
            "mpiprocs",
            "ompthreads",
            "mem",
            "vmem",
            "hbmem",
            "ngpus",
            "nmics",
            "naccelerators",
            "accelerator",
            "accelerator_model",
            "accelerator_memory",
            "arch",
            "host",
            "vnode",
            "vntype",
            "aoe",
            "eoe",
            "netwins",
        ]
    ),
    own_slots=r"-l\s*'?(\S*,)?select=",
    renames_logs=True,  # PBS Pro: by the id of the job; Torque: not
    asks_slots="ncpus=",
    asks_memory=("mem",),
    asks_memory_each=("pmem",),
)
SGE = Scheduler(
    "sge",
    sign="SGE_TASK_ID",  # other programs set a JOB_ID, too
    job="JOB_ID",
    array=("SGE_TASK_ID",),
    processors=("NSLOTS",),
    prefix="#$ ",
    tasks="-t 1-{}",
    slots="-pe smp {}",
    time_option="-l h_rt={}",
    own_logs="-([oejN]|wd|cwd)",
    asks_slots=r"-pe \S+ ",
    asks_memory_each=("h_vmem", "mem_free"),
)
#: By name.
SCHEDULERS: Mapping[str, Scheduler] = {s.name: s for s in (SLURM, PBS, SGE)}
#: The name of the one that a chain is for that does not say it.
FIRST = SLURM.name


def environment() -> dict[str, str]:
    """Return a copy of this process's environment."""
    return dict(os.environ)


def with_variables(environ: Mapping[str, str], **variables: str) -> dict[str, str]:
    """Return an environment with `DDMQ_<NAME>` for each variable."""
    ours = {f"DDMQ_{name.upper()}": text for name, text in variables.items()}
    return {**environ, **ours}


def without_chain(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment from which a job learns of no chain but that of its own script."""
    return {k: v for k, v in environ.items() if not k.startswith("DDMQ_CHAIN_")}


def detect(environ: Mapping[str, str]) -> Scheduler | None:
    """Return the scheduler whose job this is, None outside of one."""
    found = (s for s in SCHEDULERS.values() if environ.get(s.sign))
    return next(found, None)


def signs_of_jobs() -> list[str]:
    """Return the variables that hold the id of a job, and are set in jobs only."""
    return [each.job for each in SCHEDULERS.values() if each.job == each.sign]


def job_id(environ: Mapping[str, str]) -> str:
    """Return the id of this job, with `_<index>` in an array; empty outside of a job.

    PBS writes brackets into its ids. They do not belong into file names, and are left out.
    """
    scheduler = detect(environ)
    index = _first(environ, scheduler.array) if scheduler is not None else ""
    whole = whole_job_id(environ)
    return f"{whole}_{index}" if index.isdigit() else whole  # SGE: "undefined"


def whole_job_id(environ: Mapping[str, str]) -> str:
    """Return the id that all tasks of an array have in common; empty outside of a job."""
    scheduler = detect(environ)
    if scheduler is None:
        return ""
    found = environ.get(scheduler.array_job) or environ.get(scheduler.job, "")
    number, bracket, rest = found.partition("[")
    return number + rest.partition("]")[2] if bracket else number


def slots(environ: Mapping[str, str]) -> int:
    """Return how many processors this job may use on its node: what was allocated.

    Outside of a job, those that this process may run on.
    """
    scheduler = detect(environ)
    given = _first(environ, scheduler.processors) if scheduler is not None else ""
    if given.isdigit() and int(given) > 0:
        return int(given)
    return len(os.sched_getaffinity(0))


def end_time(environ: Mapping[str, str]) -> float | None:
    """Return when this job ends, in seconds since 1970; None where nobody says."""
    scheduler = detect(environ)
    return None if scheduler is None else _number(environ, scheduler.end)


def start_time(environ: Mapping[str, str]) -> float | None:
    """Return when this job began, in seconds since 1970; None where nobody says."""
    scheduler = detect(environ)
    return None if scheduler is None else _number(environ, scheduler.start)


def memory_kib(environ: Mapping[str, str]) -> float | None:
    """Return how much memory this job may use on its node; None where nobody says."""
    scheduler = detect(environ)
    if scheduler is None:
        return None
    whole = _number(environ, scheduler.memory)
    if not whole:
        each = _number(environ, scheduler.memory_each) or 0.0
        whole = each * (_number(environ, scheduler.on_node) or 1.0)
    return whole * 1024 or None


def least_remaining(environ: Mapping[str, str]) -> float:
    """Return the seconds before this job's end in which no message may start; 0: none are."""
    scheduler = detect(environ)
    if scheduler is None or end_time(environ) is None:
        return 0.0
    return scheduler.least


def warning(environ: Mapping[str, str]) -> str:
    """Return the name of the signal that announces this job's end; empty: none does."""
    scheduler = detect(environ)
    return scheduler.warning if scheduler is not None else ""


def _first(environ: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((environ[name] for name in names if environ.get(name)), "")


def _number(environ: Mapping[str, str], name: str) -> float | None:
    given = environ.get(name, "")
    return float(given) if given.isdecimal() and given.isascii() else None
