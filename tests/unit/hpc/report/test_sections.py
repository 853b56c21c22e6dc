"""What was gathered is told in words that a person can check."""

from __future__ import annotations

import shlex

import pytest

from ddmq.hpc.report import gather
from ddmq.hpc.report.asked import Asked
from ddmq.hpc.report.sections import (
    CommandLine,
    blocks,
    length,
    percent,
    sections,
    sentence,
    short_date,
    size,
    spent,
)

NAMES = [
    "what",
    "slots",
    "throughput",
    "durations",
    "failures",
    "memory",
    "workers",
    "tail",
]


def part(name, found, source):
    return next(each for each in sections(found, source) if each.name == name)


def cells(table):
    return [[getattr(cell, "text", cell) for cell in row] for row in table.rows]


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, "0 s"),
        (0.0004, "0.4 ms"),
        (0.0021, "2.1 ms"),
        (0.099, "99 ms"),
        (0.14, "0.14 s"),
        (9.5, "9.5 s"),
        (90, "90 s"),
        (750, "12 min 30 s"),
        (7200, "2 h"),
        (3599.9, "1 h"),
        (187_200, "2 d 4 h"),
    ],
)
def test_times_are_told_as_people_say_them(seconds, told):
    assert length(seconds) == told


def test_sizes_shares_and_hours_are_told_as_people_say_them():
    assert [size(n) for n in (512, 700 << 10, 1.25 * (1 << 20))] == [
        "512 KiB",
        "700 MiB",
        "1.2 GiB",
    ]
    assert [percent(n, 10_000) for n in (0, 1, 31, 981, 996, 9840)] == [
        *("0 %", "< 0.1 %", "0.3 %", "9.8 %", "10 %", "98 %")
    ]
    assert percent(1, 0) == "-"
    assert short_date(1000.125, 0.125).endswith(".125")


@pytest.mark.parametrize(
    ("part", "whole", "told"),
    [
        (0, 0, "0.00 of 0.00 core seconds"),
        (0.17, 1.96, "0.17 of 1.96 core seconds"),
        (59, 59.9, "59.00 of 59.90 core seconds"),
        (6, 60, "0.10 of 1.00 core minutes"),
        (3000, 3599, "50.00 of 59.98 core minutes"),
        (1800, 3600, "0.50 of 1.00 core hours"),
        (3600 * 6400, 3600 * 99_999, "6,400 of 99,999 core hours"),
    ],
)
def test_the_time_of_cores_is_told_in_the_unit_that_suits_it(part, whole, told):
    assert spent(part, whole, "core") == told


def test_all_parts_are_there_in_their_order(gathered, run, source):
    assert [each.name for each in sections(gathered([run()]), source)] == NAMES
    nothing = sections(gathered([]), source)
    assert [each.name for each in nothing] == NAMES
    assert not any(each.chart for each in nothing)
    assert nothing[0].words == ["No run is in the journals of queue jobs."]


def test_one_sentence_says_what_it_was(gathered, run, source):
    runs = [
        run(cpu=1800.0, duration=3600.0),
        run(id="b", result="dead", host="n2", exit=1),
    ]
    told = sentence(gathered(runs), source)
    assert told.startswith("2 messages of queue jobs: 1 done, 1 failed, in 1 h; ")
    assert "; 0.50 of 1.00 core hours used (50 %); " in told
    assert told.endswith("by 2 workers on 2 hosts (n1, n2) in 1 job.")


def test_how_many_workers_the_queue_knows_is_told(gathered, run, seen, source):
    found = gathered([run(), run(id="b", host="n2")], workers=[seen()])
    assert "The queue knows 1 of 2 workers." in " ".join(
        sections(found, source)[0].words
    )


def test_how_busy_slots_were_is_told_over_time(gathered, run, source):
    found = gathered(
        [run(start=0.0, duration=64.0), run(slot=2, start=0.0, duration=32.0)]
    )
    slots = part("slots", found, source)
    assert "busy for 75 % of the time that they were there: 1.60 of" in slots.words[0]
    [table] = slots.tables
    assert cells(table)[0][1:] == ["2.0", "2.0", "100 %"]
    assert cells(table)[-2][1:] == ["1.0", "2.0", "50 %"]


def test_messages_are_counted_in_the_unit_that_suits_them(gathered, run, source):
    slow = part("throughput", gathered([run(duration=7200.0)]), source)
    assert slow.words[0].startswith("0.5 messages a hour were done")
    runs = [run(start=n / 50, duration=1.0) for n in range(5000)]
    assert "messages a second" in part("throughput", gathered(runs), source).words[0]


def test_half_and_nearly_all_durations_are_told(gathered, run, source):
    runs = [run(duration=10.0) for _ in range(18)] + [
        run(duration=100.0),
        run(duration=400.0),
    ]
    words = part("durations", gathered(runs), source).words[0]
    assert "Of 20 runs that succeeded, half took less than 10 s" in words
    assert (
        "95 % less than 1 min 43 s, and the longest 6 min 40 s; 34 s in the mean"
        in words
    )


def test_the_slowest_are_named_by_their_text(gathered, run, source):
    found = gathered([run(text="quick"), run(text="slow", duration=99.0, host="n9")])
    slowest = part("durations", found, source).tables[0]
    assert cells(slowest)[0][0] == "slow"
    assert cells(slowest)[0][-1] == "n9"


def failed(run, number, *, host, exit_=2):
    return [
        run(id=f"{host}-{n}", result="dead", exit=exit_, host=host)
        for n in range(number)
    ]


def dead(letter, number, *, host):
    reason = f"exit status 2 on {host}"
    return [
        letter(f"{host}-{n}", reason, host=host, stderr="bad") for n in range(number)
    ]


def test_a_node_is_told_from_messages(gathered, run, letter, source):
    good = [run(id=f"{n}-{h}", host=h) for n in range(300) for h in ("n1", "n2", "n3")]
    runs = good + failed(run, 30, host="n3", exit_=1)
    runs += failed(run, 4, host="n1") + failed(run, 3, host="n2")
    letters = dead(letter, 4, host="n1") + dead(letter, 3, host="n2")
    failures = part("failures", gathered(runs, letters), source)
    assert (
        "n3 failed 9.1 % of its runs, all others 1.2 %: look at that host."
        in failures.words
    )
    node, messages = cells(failures.tables[0])
    assert node[:4] == ["exit 1", "(not kept)", "30", "0"]
    assert node[5:] == ["the node: n3 alone", "-", "none is left"]
    assert messages[:4] == ["exit 2", "bad", "7", "7"]
    assert messages[5] == "the messages: 2 of 3 hosts"
    assert messages[6:] == ["ddmq redrive /scratch/mq jobs --code 2", "these alone"]


def test_few_dead_letters_are_redriven_by_their_ids(gathered, run, letter, source):
    found = gathered([run()], dead(letter, 3, host="n1"))
    row = part("failures", found, source).tables[1].rows[0]
    assert row[-2:] == [
        CommandLine("ddmq redrive /scratch/mq jobs n1-0,n1-1,n1-2"),
        "these alone",
    ]


def test_it_is_told_when_a_command_redrives_others_too(gathered, run, letter, source):
    other = letter("z", "exit status 2 on n12", host="n12", stderr="else")
    found = gathered([run()], [*dead(letter, 9, host="n1"), other])
    rows = cells(part("failures", found, source).tables[1])
    command, means = rows[0][-2:]
    assert shlex.split(command)[2:] == [
        *("/scratch/mq", "jobs", "--code", "2", "--reason", "exit status 2 on n1")
    ]
    assert means == "10 dead letters, these among them"  # n12 begins with n1


def test_that_a_command_may_redrive_others_is_told_too(
    gathered, run, letter, source, monkeypatch
):
    monkeypatch.setattr(gather, "GROUPS", 1)
    many = [letter(f"{n}", f"exit status 3 for the {n}th time", exit=3) for n in "abc"]
    found = gathered([run()], [*dead(letter, 9, host="n1"), *many])
    rows = cells(part("failures", found, source).tables[1])
    assert rows[0][-1] == "these, and maybe others"


def test_a_hostile_reason_is_no_part_of_a_command(gathered, run, letter, source):
    for reason in ("a'; rm -rf ~ #", "x\x1b[2J", "y\nz", "$(reboot)", "`reboot`"):
        letters = [letter(f"{n}", reason) for n in range(9)]
        row = part("failures", gathered([run()], letters), source).tables[1].rows[0]
        words = shlex.split(row[-2].text)
        assert words[:6] == ["ddmq", "redrive", "/scratch/mq", "jobs", "--code", "2"]
        assert words[6:] in ([], ["--reason", reason])


def test_what_to_ask_for_follows_from_what_was_used(gathered, run, source):
    runs = [run(peak_kib=600 << 10, slot=n % 4 + 1) for n in range(96)]
    runs += [run(peak_kib=3 << 20) for _ in range(4)]
    asked = source._replace(asked={"jobs": Asked(4, 16 << 20, 7200.0)})
    memory = part("memory", gathered(runs), asked)
    used, advice = memory.words
    assert "95 % less than 6" in used
    assert "none more than 3.0 GiB" in used
    assert advice.startswith(
        "The latest job script asked for 4.0 GiB a slot and 2 h of time."
    )
    assert "For 4 slots, `-o mem=2500M` holds 95 %" in advice
    assert "`-o mem=13000M` the largest" in advice
    assert "A busy slot used 0.80 cores" in advice
    assert advice.endswith(
        "Workers were there for 10 s in the mean, and 10 s at most: 0.1 % of the time that the "
        "latest job had. For as much work, `--time 1m` would have been enough."
    )


@pytest.mark.parametrize("seconds", [5e-324, 0.05])
def test_what_to_ask_for_is_never_nothing(gathered, run, source, seconds):
    """0 is an error for `--timeout`, and all memory of the node for Slurm."""
    small = gathered([run(duration=seconds, peak_kib=300)])
    words = " ".join(part("memory", small, source).words)
    assert "`-o mem=1M` holds" in words
    assert "`-o mem=1M` the largest" in words
    assert "`--timeout 1`" in words


def test_of_a_job_that_was_submitted_by_hand_its_worker_tells(gathered, run, source):
    runs = [run(duration=3000.0), run(start=1100.0, duration=3500.0, slot=2)]
    noted = Asked(2, 8 << 20, 4000.0, is_noted=True)
    memory = part("memory", gathered(runs), source._replace(asked={"jobs": noted}))
    advice = memory.words[-1]
    assert advice.startswith(
        "The latest job had 4.0 GiB a slot and 1 h 6 min of time, as its worker noted."
    )
    assert advice.endswith(
        "1 h at most: 90 % of the time that the latest job had."
    )  # less would have been too little


def test_where_no_script_is_left_that_is_told(gathered, run, source):
    memory = part("memory", gathered([run(peak_kib=0)]), source)
    assert memory.words[0] == "The journals tell no command's memory."
    assert "no job script of ddmq-submit is left" in memory.words[1]
    assert memory.chart == ""


def test_a_worker_is_a_row_of_blocks(gathered, run, source):
    assert blocks([]) == ""
    assert blocks([None, 0.0, 0.5, 1.0]) == " ▁▅█"
    assert len(blocks([0.5] * 360)) == 60
    table = part("workers", gathered([run()]), source).tables[0]
    assert cells(table)[0][:3] == ["1 n1", "7", "1"]
    assert set(cells(table)[0][-1]) <= set(" ▁▂▃▄▅▆▇█")


def test_the_tail_is_told_with_what_it_cost(gathered, run, source):
    runs = [run(id=f"{n}", slot=n + 1, start=0.0, duration=3200.0) for n in range(9)]
    runs.append(run(slot=10, start=0.0, duration=6400.0, text="straggler"))
    tail = part("tail", gathered(runs), source)
    assert "it took 53 min 20 s to the end: 50 % of the time" in tail.words[0]
    assert (
        "Slots were idle meanwhile for 8.00 of 8.89 slot hours: 45 %" in tail.words[0]
    )
    assert tail.words[1].startswith("To shorten it")
    assert cells(tail.tables[0])[0][0] == "straggler"
