"""`ddmq-submit` with schedulers that are executables on the PATH, and the job scripts."""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hpc.fakes import fake_commands

import ddmq
from ddmq import Broker
from ddmq.cli import submit as submit_cli
from ddmq.hpc import chain, submit

SCRIPTS = sorted((Path(__file__).parents[2] / "scripts").glob("*/*.sh"))
SCHEDULERS = ["slurm", "pbs", "sge"]
ZEROS = "0" * 64
COMMAND = ["--", "./process.sh", "{} 'x' \"y\" $z; `w`", "-o", "--", ZEROS + "'"]


@pytest.fixture
def broker(tmp_path):
    broker = Broker(tmp_path / "mq", create=True)
    broker.create_queue("jobs")
    return broker


@pytest.fixture
def fake(tmp_path, monkeypatch):
    return fake_commands(tmp_path, monkeypatch)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Be in a directory where there is a ./process.sh."""
    program = tmp_path / "process.sh"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    return program


def run(capsys, *arguments):
    status = submit_cli.main([str(a) for a in arguments])
    return (status, *capsys.readouterr())


def dry(capsys, name, broker, *options, command=COMMAND):
    status, out, _ = run(
        capsys, name, broker.root, "jobs", "--dry-run", *options, *command
    )
    assert status == 0
    return out


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_script_ends_in_the_worker_with_every_argument_whole(capsys, broker, name):
    options = ["-j", 16, "--no-brake", "--backoff", "1,2", "--time", "2:00:00"]
    options.append("--exit-zero")
    out = dry(capsys, name, broker, *options)
    last = shlex.split(out.splitlines()[-1])
    assert "--no-brake" in last
    assert last[0] == "exec"
    assert last[last.index("--") :] == COMMAND
    assert last[last.index("-j") + 1] == "16"
    assert last[last.index("--backoff") + 1] == "1,2"
    assert "--exit-zero" in last[: last.index("--")]
    assert [broker.root, "jobs"] == last[last.index("--") - 2 : last.index("--")]


ODD = [
    *(
        "a\n#$ -q evil",
        "#PBS -q evil\n",
        "\n#SBATCH -q evil",
        "x\n# nothing\ny",
        "# nothing",
    ),
    *(
        ZEROS,
        "",
        "\t\r\x0b\x1b[31m\u2028",
        "it's $'\\n' \\",
        "\udcff\udc80ab",
        "ö\nö",
        "!x",
    ),
    *("\nexport DDMQ_CHAIN_SUM=" + ZEROS + "\n", "@command", "${HOME}\n"),
]


@pytest.mark.parametrize("chained", [[], ["--chain", 2, "--time", "1:00:00"]])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_no_argument_is_more_than_an_argument(
    capsys, broker, fake, here, tmp_path, name, chained
):
    """Nothing in it is a directive, a line or a sum of the script, and it comes through whole."""
    worker = tmp_path / "a worker\n#$ -q evil"
    worker.write_text('#!/bin/sh\nprintf "%s\\0" "$@"\n')
    worker.chmod(0o755)
    got = [fake("sbatch"), fake("qsub")][name != "slurm"]
    options = ["--worker", worker, *chained]
    words = ["--", "./process.sh", *ODD]
    assert run(capsys, name, broker.root, "jobs", *options, *words)[0] == 0
    script = got.given()
    assert not re.search("^#.*evil", script, re.MULTILINE)
    assert script.count(ZEROS) == 2
    where = dict.fromkeys(("SLURM_SUBMIT_DIR", "PBS_O_WORKDIR"), str(tmp_path))
    done = subprocess.run(
        ["/bin/bash"], input=script.encode(), env=where, capture_output=True, check=True
    )
    passed = [os.fsdecode(word) for word in done.stdout.split(b"\0")[:-1]]
    assert passed[passed.index("--") :] == words


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        (
            "slurm",
            {
                "#SBATCH --array=1-20",
                "#SBATCH --cpus-per-task=16",
                "#SBATCH --time=26:00:00",
                "#SBATCH --signal=B:USR1@120",
                "#SBATCH -A abc",
                "#SBATCH --mem=4gb",
                "#SBATCH -q long",
                "#SBATCH --exclusive",
            },
        ),
        (
            "pbs",
            {
                "#PBS -J 1-20",
                "#PBS -l select=1:ncpus=16:mem=4gb",
                "#PBS -l walltime=26:00:00",
                "#PBS -l place=excl",
                "#PBS -W umask=022",
                "#PBS -q long",
            },
        ),
        (
            "sge",
            {
                "#$ -t 1-20",
                "#$ -pe smp 16",
                "#$ -l h_rt=26:00:00",
                "#$ -q long",
                "#$ -pe mpi 16",
            },
        ),
    ],
)
def test_each_scheduler_is_spoken_to_in_its_words(capsys, broker, name, lines):
    options = ["--workers", 20, "-j", 16, "--time", "1-2:00:00"]
    options += ["-o", "q=long", "-o", "mem=4gb", "-o", "place=excl", "-o", "exclusive"]
    options += ["-o", "W=umask=022", "-o", "-pe mpi 16", "-o", "A=abc"]
    assert lines <= set(dry(capsys, name, broker, *options).splitlines())


def test_pbs_gets_a_resource_alone_where_no_processors_are_asked_for(capsys, broker):
    assert "#PBS -l mem=4gb\n" in dry(capsys, "pbs", broker, "-o", "mem=4gb")


@pytest.mark.parametrize(
    ("options", "resources"),
    [
        (["mem=4gb", "ngpus=2"], {"select=1:ncpus=16:mem=4gb:ngpus=2"}),
        (["mem=4gb", "ngpus=2", "mem=8gb"], {"select=1:ncpus=16:mem=8gb:ngpus=2"}),
        (["ncpus=32", "mem=1gb"], {"select=1:ncpus=32:mem=1gb"}),
        (["min_walltime=1:00"], {"select=1:ncpus=16", "min_walltime=1:00"}),
        (
            ["soft_walltime=9", "mem=1gb", "licences=3", "cput=5"],
            {"select=1:ncpus=16:mem=1gb", "soft_walltime=9", "licences=3", "cput=5"},
        ),
        (["select=2:ncpus=8:model=ivy"], {"select=2:ncpus=8:model=ivy"}),
        (["-l place=free,select=2:ncpus=8"], {"place=free,select=2:ncpus=8"}),
        (["l=select=1:ncpus=4"], {"select=1:ncpus=4"}),
        (["v=A=select=1"], {"select=1:ncpus=16"}),
    ],
)
def test_only_what_belongs_to_a_chunk_is_in_the_select_of_pbs(
    capsys, broker, options, resources
):
    given = [word for option in options for word in ("-o", option)]
    out = dry(capsys, "pbs", broker, "-j", 16, *given)
    assert set(re.findall("#PBS -l (.*)", out)) == resources


def test_a_script_is_printed_as_it_would_be_submitted(monkeypatch, broker):
    printed = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", printed)
    words = ["slurm", broker.root, "jobs", "--dry-run", "--", "echo", "é"]
    assert submit_cli.main([str(word) for word in words]) == 0
    assert printed.buffer.getvalue().decode().endswith("-- echo 'é'\n")


def test_what_the_scheduler_says_is_printed_to_whatever_terminal(
    monkeypatch, broker, fake, here
):
    fake("sbatch", "tâche 8")
    printed = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", printed)
    words = ["slurm", broker.root, "jobs", "--", "./process.sh"]
    assert submit_cli.main([str(word) for word in words]) == 0
    assert printed.buffer.getvalue().decode() == "tâche 8\n"


def test_a_worker_that_is_not_here_is_refused(capsys, broker, fake, here):
    got = fake("sbatch")
    words = ["slurm", broker.root, "jobs", "--worker", "./none", "--", "./process.sh"]
    status, _, err = run(capsys, *words)
    assert (status, got()) == (2, None)
    assert "./none is no executable file" in err


def test_the_users_options_come_last_and_so_win(capsys, broker):
    odd = "signal=B:TERM@300", "comment=a 'b' #c"
    out = dry(capsys, "slurm", broker, "-o", odd[0], "-o", odd[1])
    directives = [line for line in out.splitlines() if line.startswith("#SBATCH")]
    assert directives[-2] == "#SBATCH --signal=B:TERM@300"
    assert shlex.split(directives[-1], comments=False)[1] == f"--{odd[1]}"


def test_slurm_takes_a_backslash_for_an_escape_also_in_quotes(capsys, broker):
    option = "-o", r"comment=a\b 'c'"
    assert r"--comment='a\\b '" in dry(capsys, "slurm", broker, *option)
    assert r"comment='a\b '" in dry(capsys, "pbs", broker, *option)


@pytest.mark.parametrize("option", ["", "=x", "a=b\nrm -rf /"])
def test_an_option_is_one_line(capsys, broker, option):
    with pytest.raises(SystemExit) as stop:
        run(capsys, "slurm", broker.root, "jobs", "-o", option, *COMMAND)
    assert stop.value.code == 2


def test_a_queue_with_an_odd_name_makes_a_sound_script(capsys, broker):
    broker.create_queue("my jöbs")
    status, out, _ = run(capsys, "slurm", broker.root, "my jöbs", "--dry-run", *COMMAND)
    assert status == 0
    assert "--job-name=ddmq-my-j-bs\n" in out
    assert "my jöbs" in shlex.split(out.splitlines()[-1])


@pytest.mark.parametrize("name", ["pbs", "sge"])
def test_who_is_not_told_the_end_is_told_the_time(capsys, broker, name):
    assert "--time 02:00:00 " in dry(capsys, name, broker, "--time", "2:00:00")


def test_the_umask_is_that_of_the_submission(capsys, broker):
    before = os.umask(0o027)
    try:
        assert "\numask 0027\n" in dry(capsys, "pbs", broker)
    finally:
        os.umask(before)


@pytest.mark.parametrize(
    ("options", "seconds"),
    [
        ([], 120),
        (["--grace", 600], 660),
        (["--time", "1:00", "--min-remaining", 0], 15),
    ],
)
def test_the_warning_leaves_time_for_the_grace_and_for_work(
    capsys, broker, options, seconds
):
    assert f"USR1@{seconds}\n" in dry(capsys, "slurm", broker, *options)


@pytest.mark.parametrize(
    ("waiting", "options", "workers"),
    [
        (0, [], 1),
        (95, [], 10),
        (95, ["-j", "4"], 3),
        (95, ["--max-workers", "5"], 5),
        (2000, [], 100),
        (2000, ["--max-workers", "150"], 150),
    ],
)
def test_auto_is_enough_for_the_backlog(capsys, broker, waiting, options, workers):
    broker.publish_many("jobs", ["x"] * waiting, durable=False)
    out = dry(capsys, "slurm", broker, "--workers", "auto", *options)
    found = re.search(r"--array=1-(\d+)", out)
    assert (int(found[1]) if found else 1) == workers


def test_a_number_of_workers_that_was_named_is_not_cut(capsys, broker):
    assert "--array=1-300\n" in dry(capsys, "slurm", broker, "--workers", 300)


@pytest.mark.parametrize(
    ("name", "command"), [("slurm", "sbatch"), ("pbs", "qsub"), ("sge", "qsub")]
)
def test_the_job_is_submitted_and_its_id_printed(
    capsys, broker, fake, here, name, command
):
    got = fake(command, "Submitted batch job 12345")
    status, out, _ = run(capsys, name, broker.root, "jobs", *COMMAND)
    assert (status, out) == (0, "Submitted batch job 12345\n")
    assert got() == ["LEFT="]  # after one empty argument, as printf has it without any
    assert got.given().startswith("#!/bin/bash\n#")
    [record] = Path(broker.root, "jobs", "jobs").iterdir()
    assert record.read_text() == got.given()


@pytest.mark.parametrize(
    ("name", "says", "workers", "names", "moved"),
    [
        ("slurm", "Submitted batch job 7", 1, "{}/slurm-7.out", "{}/slurm-7.out"),
        ("slurm", "Submitted batch job 7", 9, "{}/slurm-7_*.out", "{}/slurm-7_*.out"),
        ("slurm", "", 1, "{}/slurm-*.out", "{}/slurm-*.out"),
        ("pbs", "7.host", 1, "{}/ddmq-jobs.o7 and {}/ddmq-jobs.e7", "{}/"),
        ("pbs", "7[].host", 9, "{}/ddmq-jobs.o7.* and {}/ddmq-jobs.e7.*", "{}/"),
        *[
            ("sge", f'Your {said} ("x") has been submitted', number, paths, paths)
            for said, number, paths in [
                ("job 7", 1, "{}/ddmq-jobs.o7 and {}/ddmq-jobs.e7"),
                ("job-array 7.1-9:1", 9, "{}/ddmq-jobs.o7.* and {}/ddmq-jobs.e7.*"),
            ]
        ],
    ],
)
def test_where_the_output_of_the_jobs_goes_is_told_and_chosen(
    capsys, broker, fake, here, tmp_path, name, says, workers, names, moved
):
    fake("sbatch", says), fake("qsub", says)
    words = [name, broker.root, "jobs", "--workers", workers]
    status, out, err = run(capsys, *words, *COMMAND)
    told = "ddmq-submit: what the jobs print goes to "
    where = names.replace("{}", str(tmp_path))
    assert (status, out) == (0, f"{says}\n")
    assert err == f"{told}{where}; --job-logs DIR changes that\n"
    status, _, err = run(capsys, *words, "--job-logs", "logs/new", *COMMAND)
    where = moved.replace("{}", f"{tmp_path}/logs/new")
    assert (status, err, os.listdir("logs")) == (0, f"{told}{where}\n", ["new"])


@pytest.mark.parametrize(
    ("name", "workers", "lines"),
    [
        ("slurm", 1, ["--output={}/slurm-%j.out"]),
        ("slurm", 2, ["--output={}/slurm-%A_%a.out"]),
        ("pbs", 2, ["-o {}/", "-e {}/"]),
        ("sge", 2, ["-o {}/", "-e {}/"]),
    ],
)
def test_the_script_says_where_the_output_goes_only_if_the_user_does(
    capsys, broker, here, tmp_path, name, workers, lines
):
    plain = dry(capsys, name, broker, "--workers", workers)
    moved = dry(capsys, name, broker, "--workers", workers, "--job-logs", "logs")
    added = {*moved.splitlines()} - {*plain.splitlines()}
    logs = f"{tmp_path}/logs"
    assert {line.split(" ", 1)[1] for line in added} == {x.format(logs) for x in lines}
    assert not os.path.exists(logs)


@pytest.mark.parametrize("how", ["output=x", "-e x", "variable"])
def test_what_the_user_tells_the_scheduler_of_output_counts(
    capsys, broker, fake, here, monkeypatch, how
):
    got = fake("sbatch", "Submitted batch job 7")
    monkeypatch.setenv("SBATCH_OUTPUT", "x" if how == "variable" else "")
    words = ["slurm", broker.root, "jobs", *([] if how == "variable" else ["-o", how])]
    _, _, err = run(capsys, *words, *COMMAND)
    assert (
        err
        == "ddmq-submit: what the jobs print goes where your options for slurm say\n"
    )
    calls = got()
    with pytest.raises(SystemExit) as stop:
        run(capsys, *words, "--job-logs", "logs", *COMMAND)
    assert (stop.value.code, got(), os.path.exists("logs")) == (2, calls, False)


def test_a_directory_for_output_that_can_not_be_there_is_told(
    capsys, broker, fake, here, tmp_path
):
    got = fake("sbatch")
    (tmp_path / "file").touch()
    for path, why in (("file", "File exists"), ("file/logs", "Not a directory")):
        words = ["slurm", broker.root, "jobs", "--job-logs", path]
        status, _, err = run(capsys, *words, *COMMAND)
        assert (status, got()) == (2, None)
        assert f"--job-logs: {tmp_path}/file" in err
        assert f": {why}; name a directory that you may write to" in err
    with pytest.raises(SystemExit) as stop:
        run(capsys, "slurm", broker.root, "jobs", "--job-logs", "a b", *COMMAND)
    assert (stop.value.code, got(), os.path.exists("a b")) == (2, None, False)
    assert "/a b' has a character that means something" in capsys.readouterr().err


def test_dead_letters_are_told(capsys, broker, fake, here):
    fake("sbatch", "Submitted batch job 12345")
    broker.publish("jobs", "x")
    broker.reject(broker.consume("jobs")[0])
    status, out, err = run(capsys, "slurm", broker.root, "jobs", *COMMAND)
    assert (status, out) == (0, "Submitted batch job 12345\n")
    place = f"{broker.root} jobs"
    assert f"ddmq-submit: jobs has 1 dead letter: `ddmq dead {place}`" in err
    assert f"`ddmq redrive {place}`" in err


def test_the_schedulers_own_words_are_quoted(capsys, broker, fake, here):
    fake("sbatch", "sbatch: error: invalid account", status=1)
    status, _, err = run(capsys, "slurm", broker.root, "jobs", *COMMAND)
    assert status == 1
    assert "sbatch refused: sbatch: error: invalid account" in err
    assert os.listdir(f"{broker.root}/jobs/jobs") == []


def test_a_node_without_scheduler_is_explained(capsys, broker, here, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    status, _, err = run(capsys, "pbs", broker.root, "jobs", *COMMAND)
    assert status == 1
    assert "qsub is not on the PATH" in err


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--time", "0:30", "--min-remaining", "60"], "none ever would be"),
        (["--max-workers", "2"], "./process.sh is no executable file"),
    ],
)
def test_what_can_not_work_is_refused(capsys, broker, fake, name, options, words):
    got = [fake("sbatch"), fake("qsub")]
    status, _, err = run(capsys, name, broker.root, "jobs", *options, *COMMAND)
    assert (status, words in err) == (2, True)
    assert [called() for called in got] == [None, None]


def test_slurm_ends_jobs_too_roughly_for_very_short_ones(capsys, broker):
    short = ["--dry-run", "--time", "1:30"]
    status, _, err = run(capsys, "slurm", broker.root, "jobs", *short, *COMMAND)
    assert (status, "less than 90 s remain" in err) == (2, True)


def test_a_chain_must_know_its_end(capsys, broker):
    options = ["--dry-run", "--chain", "3"]
    status, _, err = run(capsys, "pbs", broker.root, "jobs", *options, *COMMAND)
    assert (status, "--chain needs --time" in err) == (2, True)


def test_a_queue_that_is_missing_is_named(capsys, broker, tmp_path):
    status, _, err = run(capsys, "slurm", broker.root, "nothing", *COMMAND)
    assert (status, "no such queue" in err) == (1, True)
    assert err.endswith(f"; create it with `ddmq create -f {broker.root} nothing`\n")
    none = tmp_path / "none"
    status, _, err = run(capsys, "slurm", none, "jobs", *COMMAND)
    assert (status, "no ddmq root" in err) == (1, True)
    assert err.endswith(f"; create it with `ddmq create -f {none} jobs`\n")


def test_workers_with_input_of_their_own_get_root_and_queue(
    capsys, fake, tmp_path, here
):
    fake("sbatch")
    new = tmp_path / "new"
    words = ["slurm", new, "jobs", "--from-file", "lines"]
    status, _, err = run(capsys, *words, *COMMAND)
    assert (status, err.endswith(" jobs`, or by -f\n")) == (1, True)
    status, out, _ = run(capsys, *words, "-f", "--dry-run", *COMMAND)
    assert (status, " -f " in out, new.exists()) == (0, True, False)
    assert run(capsys, *words, "-f", *COMMAND)[0] == 0
    assert Broker(new).queues() == ["jobs"]


def test_scripts_are_for_all_who_share_the_queue(capsys, fake, here, tmp_path):
    fake("sbatch")
    shared = Broker(tmp_path / "shared", create=True, mode=0o2770)
    shared.create_queue("jobs")
    assert run(capsys, "slurm", shared.root, "jobs", *COMMAND)[0] == 0
    assert os.stat(f"{shared.root}/jobs/jobs").st_mode & 0o7777 == 0o2770


def test_scripts_and_marks_of_long_ago_are_removed(capsys, broker, fake, here, aged):
    fake("sbatch")
    for _ in range(2):
        assert run(capsys, "slurm", broker.root, "jobs", *COMMAND)[0] == 0
    directory = Path(broker.root, "jobs", "jobs")
    old, new = directory.iterdir()
    (directory / "after-7-1").mkdir()
    for path in (old, directory / "after-7-1"):
        os.utime(path, (1, 1))
    run(capsys, "slurm", broker.root, "jobs", *COMMAND)
    assert new in directory.iterdir()
    assert {old, directory / "after-7-1"}.isdisjoint(directory.iterdir())


@pytest.mark.real_times
def test_a_script_that_is_just_being_made_is_not_of_long_ago(
    capsys, broker, fake, here
):
    fake("sbatch")
    run(capsys, "slurm", broker.root, "jobs", *COMMAND)
    [script] = Path(broker.root, "jobs", "jobs").iterdir()
    os.utime(script, (1, 1))  # what an NFS server may tell of it meanwhile
    run(capsys, "slurm", broker.root, "jobs", *COMMAND)
    assert script.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["slurm", "/r", "q"],
        ["lsf", "/r", "q", *COMMAND],
        ["slurm", "/r", "q", "--workers", "none", *COMMAND],
        ["slurm", "/r", "q", "--time", "60", *COMMAND],
        ["slurm", "/r", "q", "--time", "1:2:3:4", *COMMAND],
        ["slurm", "/r", "q", "--bogus", *COMMAND],
        ["slurm", "/r", "q", "--requeue", *COMMAND],
        ["pbs", "/r", "q", "--chain", "2", "--requeue", *COMMAND],
    ],
)
def test_wrong_usage_ends_with_status_2(capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        submit_cli.main(arguments)
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


# Chains


@pytest.fixture
def submit_chain(capsys, broker, here):
    """Return a function that submits a chain of two; it returns its script and environment."""

    def submit_one(name, *options):
        options = ["--chain", "2", "--time", "1:00:00", *options]
        assert run(capsys, name, broker.root, "jobs", *options, *COMMAND)[0] == 0
        (script,) = Path(f"{broker.root}/jobs/jobs").glob("*.sh")
        pairs = re.findall(r"\b(DDMQ_CHAIN_[A-Z]+)=(\S+)", script.read_text())
        return script, {**dict(pairs), "DDMQ_CHAIN_LEFT": "2"}

    return submit_one


@pytest.fixture
def submitted(fake, submit_chain):
    """Submit a chain; return its script, the environment of its job, and what sbatch got."""
    got = fake("sbatch", "Submitted batch job 7")
    script, environ = submit_chain("slurm")
    return script, {**environ, "SLURM_JOB_ID": "7"}, got


def test_a_chain_that_is_submitted_in_a_job_of_another_is_whole(
    capsys, broker, fake, monkeypatch, here
):
    """As by `--then 'ddmq-submit ...'`: sbatch hands the whole environment on."""
    got = fake("sbatch", "Submitted batch job 8")
    monkeypatch.setenv("DDMQ_CHAIN_LEFT", "0")
    arguments = (broker.root, "jobs", "--chain", "9", "--time", "1:00:00", *COMMAND)
    assert run(capsys, "slurm", *arguments)[0] == 0
    assert got() == ["LEFT="]


@pytest.mark.parametrize(
    ("options", "records"),
    [
        ([], 0),
        (["--chain", "2", "--requeue"], 0),
        (["--chain", "2"], 1),  # sbatch may have given up, and Slurm have queued it
    ],
)
def test_a_chain_that_seems_to_be_refused_can_still_go_on(
    capsys, broker, fake, here, options, records
):
    got = fake("sbatch", "sbatch: error: Socket timed out", status=1)
    options = [*options, "--time", "1:00:00"]
    assert run(capsys, "slurm", broker.root, "jobs", *options, *COMMAND)[0] == 1
    kept = [path.read_text() for path in Path(broker.root, "jobs", "jobs").iterdir()]
    assert kept == [got.given()] * records


def test_the_text_of_the_script_is_submitted_again(broker, submitted):
    script, environ, got = submitted
    first = got.given()
    said = chain.continue_chain(f"{broker.root}/jobs", environ)
    assert said == "Submitted batch job 7"
    assert got.given() == first == script.read_text()
    assert str(script) not in got()


def test_the_script_of_a_chain_that_goes_on_is_not_of_long_ago(
    capsys, broker, submitted, aged
):
    script, environ, _ = submitted
    os.utime(script, (1, 1))
    chain.continue_chain(f"{broker.root}/jobs", environ)
    run(capsys, "slurm", broker.root, "jobs", *COMMAND)
    assert script.exists()


def changed(script):
    script.write_text(script.read_text().replace("process.sh", "steal.sh"))


def pointing(script):
    script.rename(script.with_name("mine.sh"))
    script.symlink_to("mine.sh")


def sumless(script):
    """Take away the sum, so that nobody could judge the script of the job after the next one."""
    [sum_] = re.findall("DDMQ_CHAIN_SUM=(.*)", script.read_text())
    script.write_text(script.read_text().replace(sum_, "\0"))


def exchanged(script):
    """Put the sum where an argument had something like it, and that where the sum was."""
    [sum_] = re.findall("DDMQ_CHAIN_SUM=(.*)", script.read_text())
    parts = script.read_text().split(sum_)
    script.write_text(ZEROS.join(parts).replace(f"'{ZEROS}'", f"'{sum_}'"))


@pytest.mark.parametrize("change", [changed, pointing, sumless, exchanged, Path.unlink])
def test_a_script_that_somebody_changed_is_not_submitted_again(
    broker, submitted, change
):
    script, environ, got = submitted
    change(script)
    before = got()
    with pytest.raises(submit.SubmitFailed, match=script.name):
        chain.continue_chain(f"{broker.root}/jobs", environ)
    assert got() == before
    assert not list(script.parent.glob("after-*"))


@pytest.mark.parametrize("name", ["pbs", "sge"])
def test_the_variables_of_the_user_reach_every_job(broker, fake, submit_chain, name):
    """What is on the command line of qsub replaces the directive."""
    got = fake("qsub")
    script, environ = submit_chain(name, "-o", "v=A=b,C", "-o", "v=D='x y,z'")
    [directive] = re.findall(r"^#\S+ -v .*", script.read_text(), re.MULTILINE)
    theirs = "A=b,C,D='x y,z'"
    assert shlex.split(directive.partition(" ")[2]) == ["-v", theirs]
    for left in ("2", "1"):
        now = {**environ, "DDMQ_CHAIN_LEFT": left}
        assert chain.continue_chain(f"{broker.root}/jobs", now) == "12345"
        ours = f"DDMQ_CHAIN_LEFT={int(left) - 1},DDMQ_CHAIN_ID={script.stem}"
        assert got()[-3:-1] == ["-v", f"{theirs},{ours}"]


@pytest.mark.parametrize(
    ("name", "command", "options"),
    [
        ("slurm", "sbatch", []),
        ("slurm", "scontrol", ["--requeue"]),
        ("pbs", "qsub", []),
        ("sge", "qsub", []),
    ],
)
def test_a_job_needs_no_scheduler_on_its_path(
    broker, fake, submit_chain, monkeypatch, name, command, options
):
    fake("sbatch")
    got = fake(command)
    _, environ = submit_chain(name, *options)
    before, job = got() or [], {"SLURM_JOB_ID": "7"} if name == "slurm" else {}
    monkeypatch.setenv("PATH", "/nowhere")
    chain.continue_chain(f"{broker.root}/jobs", {**environ, **job})
    assert len(got()) > len(before)


@pytest.mark.parametrize("how", [[], ["--requeue"]])
def test_a_chained_script_says_so(capsys, broker, how):
    out = dry(capsys, "slurm", broker, "--chain", "5", *how)
    assert 'DDMQ_CHAIN_LEFT="${DDMQ_CHAIN_LEFT:-5}"' in out
    assert ("DDMQ_CHAIN_SCRIPT=requeue" in out) == bool(how)
    assert ("#SBATCH --requeue\n" in out) == bool(how)
    assert "DDMQ_CHAIN" not in dry(capsys, "slurm", broker)


# Scripts


def checked(path):
    subprocess.run(["bash", "-n", path], check=True)
    # Of the extra "test", which puts it beside this Python.
    subprocess.run([f"{os.path.dirname(sys.executable)}/shellcheck", path], check=True)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: "/".join(path.parts[-2:]))
def test_a_script_to_copy_is_sound(path):
    text = path.read_text()
    statements = text.rstrip().replace("\\\n", " ").splitlines()
    assert statements[-1].startswith("exec ")
    assert "umask" in text
    assert 'cd "$' in text or "-cwd" in text
    checked(path)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_rendered_script_is_sound(capsys, broker, tmp_path, name):
    script = tmp_path / "job.sh"
    options = ["--workers", 3, "-j", 2, "--time", "1:00:00", "--chain", 2]
    command = ["--", "./process.sh", "{}"]
    script.write_text(dry(capsys, name, broker, *options, command=command))
    checked(script)


def test_options_may_stand_before_what_is_submitted(capsys, broker):
    """Those of the job and of the worker, with their values."""
    words = ["slurm", broker.root, "jobs"]
    options = [
        "--dry-run",
        "-j",
        "4",
        "--timeout",
        "5m",
        "--log-dir",
        "my logs",
        "--stdin",
    ]
    status, before, err = run(capsys, *options, *words, *COMMAND)
    assert (status, err) == (0, "")
    mixed = [*options[:3], words[0], *options[3:5], *words[1:], *options[5:]]
    assert run(capsys, *mixed, *COMMAND) == (0, before, "")
    assert run(capsys, *words, *options, *COMMAND) == (0, before, "")
    assert "--timeout 5m --log-dir 'my logs' --stdin" in before


@pytest.mark.parametrize("name", SCHEDULERS)
def test_what_follows_reaches_the_worker_whole(capsys, broker, name):
    follows = "sbatch 'a b.sh' \"$x\""
    out = dry(capsys, name, broker, "--then", follows, "--then-even-if-dead")
    line = next(x for x in out.splitlines() if x.startswith("exec "))
    words = shlex.split(line)
    assert words[words.index("--then") + 1] == follows
    assert "--then-even-if-dead" in words


def test_what_can_not_follow_is_refused_before_anything_is_queued(
    capsys, broker, fake, here
):
    got = fake("sbatch")
    words = ["slurm", broker.root, "jobs", "--then"]
    status, _, err = run(capsys, *words, "./no-such.sh x", "--", "./process.sh")
    assert status == 2
    assert "./no-such.sh is no executable file" in err
    with pytest.raises(SystemExit, match="2"):
        run(capsys, *words, "'", "--", "./process.sh")
    assert "no command" in capsys.readouterr().err
    assert got() is None


def test_the_job_is_told_though_standard_output_has_no_room(
    broker, fake, here, monkeypatch, caplog
):
    fake("sbatch", "Submitted batch job 12345")
    with monkeypatch.context() as patched, open("/dev/full", "w") as full:
        patched.setattr(sys, "stdout", full)
        assert submit_cli.main(["slurm", broker.root, "jobs", "--", "echo"]) == 1
    assert "submitted: Submitted batch job 12345" in caplog.text


def test_a_record_is_kept_where_there_may_be_a_job(capsys, broker, fake, here):
    fake("sbatch")
    program = Path(shutil.which("sbatch"))
    for ends, kept in (("exit 1", 0), ("echo 12345; exit 1", 1), ("kill -9 $$", 2)):
        program.write_text(f"#!/bin/sh\n{ends}\n")
        words = ["slurm", broker.root, "jobs", "--", "./process.sh"]
        assert run(capsys, *words)[0] == 1
        assert len(list((Path(broker.root) / "jobs/jobs").iterdir())) == kept


@pytest.mark.slow
@pytest.mark.parametrize("name", ["INT", "TERM", "HUP"])
def test_whoever_ends_it_hears_that_there_may_be_a_job(broker, fake, name):
    fake("sbatch")
    Path(shutil.which("sbatch")).write_text(
        f"#!/bin/sh\nkill -{name} $PPID\nexec /bin/sleep 60\n"
    )
    words = [sys.executable, "-m", "ddmq", "submit", "slurm", broker.root, "jobs"]
    done = subprocess.run(
        [*map(str, words), "--", "true"],
        env={**os.environ, "PYTHONPATH": str(Path(ddmq.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 130
    assert (
        "interrupted: sbatch may have done it or not; look at your jobs" in done.stderr
    )
    assert len(list((Path(broker.root) / "jobs/jobs").iterdir())) == 1


def test_a_signal_that_is_ignored_stays_so(capsys, broker, fake, here):
    fake("sbatch")
    program = Path(shutil.which("sbatch"))
    program.write_text("#!/bin/sh\nkill -HUP $PPID\necho 12345\n")
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        words = ["slurm", broker.root, "jobs", "--", "./process.sh"]
        assert run(capsys, *words)[:2] == (0, "12345\n")
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
