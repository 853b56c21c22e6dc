"""Each command of the pages for users is run, and prints what the page says.

A block marked `sh` is run by a shell, one marked `python` by Python; what follows in a block marked
`text` is what it prints, where `…` stands for anything. A block whose first lines name a file
(`# process.sh: …`) becomes that file, which the page must make executable. In tables, each piece of code with a command of ddmq in it is
run, one after the other, where ID stands for a message that is in the right state. What is of other
programs is marked `console`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from former import former_root

import ddmq
from ddmq import Broker

pytestmark = pytest.mark.slow
TOP = Path(__file__).parents[2]
DOCS = TOP / "docs"
PAGES = [
    "index",
    "tutorial",
    "first-cluster-run",
    "administrators",
    "coming-from",
    "when-not",
    "cheatsheet",
    "recipes",
    "workflows",
    "pipelines",
    "scratch",
    "shared",
    "troubleshooting",
    "schedulers/slurm",
    "schedulers/pbs",
    "schedulers/sge",
    "schedulers/none",
]
PROGRAMS = {
    "ddmq": "ddmq.cli.main",
    "ddmq-worker": "ddmq.cli.worker",
    "ddmq-submit": "ddmq.cli.submit",
}
#: Runs the first job of the array at once, with the worker of these tests.
SBATCH = """\
script=$(mktemp -p .) && sed 's|exec [^ ]*/ddmq-worker|exec ddmq-worker|' > "$script"
echo Submitted batch job 1
SLURM_JOB_ID=2 SLURM_ARRAY_JOB_ID=1 SLURM_ARRAY_TASK_ID=1 SLURM_SUBMIT_DIR=$PWD \\
    SLURM_CPUS_PER_TASK=2 bash "$script" > slurm-1_1.out 2>&1
exit 0
"""
#: The same for PBS and SGE, as the script has the options of one or the other.
QSUB = """\
script=$(mktemp -p "$PWD") && sed 's|exec [^ ]*/ddmq-worker|exec ddmq-worker|' > "$script"
if grep -q '^#PBS' "$script"; then
    echo '1[].host'
    export PBS_JOBID='1[1].host' PBS_ARRAY_INDEX=1 NCPUS=2 PBS_O_WORKDIR="$PWD"
    cd /
else
    echo 'Your job-array 1.1-20:1 ("ddmq-jobs") has been submitted'
    export JOB_ID=1 SGE_TASK_ID=1 NSLOTS=2
fi
bash "$script" > "$script.log" 2>&1
exit 0
"""
SRUN = """\
while [ "${1#-}" != "$1" ]; do shift; done
exec "$@"
"""
#: A container that is none: the command behind the image.
APPTAINER = """\
while [ "${1%.sif}" = "$1" ]; do shift; done
shift && exec "$@"
"""
ID = r"\b[0-9a-f]{20}\b"
#: The lists of pages in the index.
TOCTREE = re.compile(r"^```\{toctree\}\n.*?^```\n", re.MULTILINE | re.DOTALL)
#: Commands that settle what is leased; all others with an ID take what waits.
SETTLE = ("ack", "nack", "release", "reject", "renew")
#: Commands whose exit status tells of the messages.
TELLS = ("status", "migrate", "results")


class Sandbox:
    """A directory in place of `/scratch` and `/tmp`, with the commands of ddmq on the PATH."""

    def __init__(self, path):
        self.path = path
        """Where the reader of the page is: a block may change that by `cd`."""
        self.scratch, bin_ = path / "scratch", path / "bin"
        self.note = path / "where"
        self.scratch.mkdir()
        bin_.mkdir()
        programs = {"sbatch": SBATCH, "qsub": QSUB, "srun": SRUN}
        programs["apptainer"] = APPTAINER
        for name, module in PROGRAMS.items():
            code = f"import sys; from {module} import main; sys.exit(main())"
            programs[name] = f'exec {sys.executable} -c "{code}" "$@"'
        programs["python3"] = f'exec {sys.executable} "$@"'
        for name, script in programs.items():
            (bin_ / name).write_text(f"#!/bin/sh\n{script}\n")
            (bin_ / name).chmod(0o755)
        (bin_ / "ddmq-publish").symlink_to(TOP / "scripts" / "sh" / "ddmq-publish")
        keep = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_")}
        self.environ = {
            **keep,
            "PATH": f"{bin_}:{os.environ['PATH']}",
            "PYTHONPATH": str(Path(ddmq.__file__).parents[1]),
        }

    def here(self, text):
        return re.sub("/scratch|/tmp(?=/mq)", str(self.scratch), text)

    def type(self, text):
        """Type lines into the reader's shell; return what they print."""
        note = f'\nstatus=$?; pwd > "{self.note}"; exit $status'
        printed = self.run(text.rstrip() + note)
        self.path = Path(self.note.read_text().rstrip("\n"))
        return printed

    def run(self, text, program=("sh", "-eu", "-c"), *, may_end_with=(0,)):
        """Run a text that must succeed; return what it prints."""
        done = subprocess.run(
            [*program, self.here(text)],
            cwd=self.path,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            umask=0o022,
        )
        assert done.returncode in may_end_with, f"{text}\n{done.stdout}{done.stderr}"
        return done.stdout.replace(str(self.scratch), "/scratch")

    def write(self, name, text):
        (self.path / name).write_text(self.here(text))


def prints(pattern, text):
    """Tell whether a text is what a page shows; ids differ, and `…` stands for anything."""
    shown, printed = (re.sub(ID, "ID", each).rstrip() for each in (pattern, text))
    parts = [re.escape(part) for part in shown.split("…")]
    return re.fullmatch(".*".join(parts), printed, re.DOTALL) is not None


def parts_of(page):
    """Yield what is in a page: the language and text of each block, and each row of a table."""
    text = (DOCS / f"{page}.md").read_text()
    text = TOCTREE.sub("", text)
    for found in re.finditer(
        r"^```(\w*)\n(.*?)^```|^(\|[^\n]*)$", text, re.MULTILINE | re.DOTALL
    ):
        yield ("row", found[3]) if found[3] else (found[1], found[2])


def commands_in(row):
    """Return the pieces of code in a row of a table that have a command of ddmq."""
    codes = [code.replace("\\|", "|") for code in re.findall(r"`([^`]+)`", row)]
    return [code for code in codes if re.search(r"(^|[;|&] *)ddmq(-\w+)? ", code)]


@pytest.fixture
def sandbox(tmp_path):
    return Sandbox(tmp_path)


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_shows_is_what_happens(sandbox, page):
    printed, number = None, 0
    for kind, text in parts_of(page):
        named = re.match(r"(?:#!.*\n)?# ([\w.-]+): ", text)
        if kind == "row":
            for command in commands_in(text):
                number += 1
                run_in_table(sandbox, command)
        elif kind == "text":
            assert printed is not None
            assert prints(text, printed), f"{text}\n-- but --\n{printed}"
        elif named:
            sandbox.write(named[1], text)
        elif kind == "sh":
            number += 1
            printed = sandbox.type(text)
        elif kind == "python":
            number += 1
            printed = sandbox.run(text, ["python3", "-c"])
        else:
            assert kind == "console", f"{page}: a block marked {kind!r}"
            assert "ddmq" not in text or page == "index"
    assert number or page == "when-not"


def run_in_table(sandbox, command):
    """Run a command of a table, for which messages wait."""
    root = sandbox.scratch / "mq"
    broker = Broker(root, create=True)
    for queue in ("jobs", "bigmem"):
        broker.create_queue(queue)
        broker.purge(queue)
    (sandbox.path / "files.txt").write_text("a b\nc\nd\n")
    sandbox.write("process.sh", '#!/bin/sh\n: a message: "$1"\n')
    (sandbox.path / "process.sh").chmod(0o755)
    sandbox.write("tasks.py", "from ddmq.hpc import serve\nserve(lambda text: None)\n")
    for number in range(3):
        broker.publish("jobs", f"{number}", durable=False)
    verb = command.split()[1]
    if verb == "wait":
        broker.purge("jobs")
    if " -f " in command:
        shutil.rmtree(root)
    if re.search(r"\bID\b", command):
        if verb in SETTLE:
            [message] = broker.consume("jobs")
            id_ = message.id
        else:
            id_ = broker.peek("jobs")[0].id
        if verb in ("dead", "redrive"):
            broker.cancel("jobs", id_)
        command = re.sub(r"\bID\b", id_, command)
    former = sandbox.scratch / "old"
    if "migrate" in command and not former.exists():
        former_root(former)
    sandbox.run(command, may_end_with=(0, 1, 5) if verb in TELLS else (0,))


@pytest.mark.parametrize(
    ("shown", "printed", "is_it"),
    [
        ("a\n", "a\n", True),
        ("a\n", "ab\n", False),
        ("a…c\n…\n", "abbc\nx\ny\n", True),
        ("a.c", "abc", False),
    ],
)
def test_what_is_printed_is_compared_to_the_letter(shown, printed, is_it):
    assert prints(shown, printed) is is_it


def test_each_page_is_in_the_index_once_and_the_index_has_no_other():
    text = "".join(TOCTREE.findall((DOCS / "index.md").read_text()))
    listed = re.findall(r"^([\w/-]+)$", text, re.MULTILINE)
    found = {path.relative_to(DOCS).with_suffix("") for path in DOCS.rglob("*.md")}
    pages = {str(path) for path in found if path.parts[0] != "decisions"} - {"index"}
    assert sorted(listed) == sorted(pages)


def test_the_cheat_sheet_names_each_command_once_more():
    from ddmq.cli.commands import MODULES

    text = (DOCS / "cheatsheet.md").read_text()
    shown = set(re.findall(r"`ddmq ([a-z]+) ", text))
    assert set(MODULES) - shown == set()
