"""What is said of a queue that is watched."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddmq import Failure, Running, WorkerSeen
from ddmq.cli.panel import (
    Pace,
    QueueSeen,
    bar,
    between,
    brief,
    cut,
    done_within,
    fitted,
    line,
    panel,
    wrapped,
)
from ddmq.seen import Counts

MINUTE, HOUR = 60, 3600


def worker(**fields):
    usual = dict.fromkeys(WorkerSeen._fields, 0)
    usual.update(host="node11", process=5, job="", state="working", slots=16, busy=15)
    usual.update(running=(), failures=(), ends=None)
    return WorkerSeen(**{**usual, **fields})


def seen(**fields):
    usual = QueueSeen(
        root="/scratch/mq",
        name="jobs",
        counts=Counts(waiting=1700, work=96, delayed=0, dead=4),
        done=3200,
        workers=[worker()],
    )
    return usual._replace(**fields)


def test_a_panel_says_how_far_how_fast_and_who():
    runs = [(12.2 * MINUTE, worker(), Running(3, "a1", 0.0, "sample 18", "40%"))]
    failure = Failure("a2", 0.0, "sample 7", "exit 1 on node11: no such file")
    workers = [worker(slots=76, acked=99, work=3e3), worker(state="draining", busy=1)]
    found = seen(
        workers=[*workers, worker(state="lost")],
        running=runs,
        failures=[(600, worker(), failure)],
        ends_in=(600, 900),
        lately=Pace(41, 60.0),
        overall=0.5,
    )
    assert panel(found, 99, is_coloured=False) == [
        "jobs: 5,000 published: 3,200 done, 92 running, 4 taken ahead, 1,700 waiting, 4 dead",
        "[" + "#" * 62 + "=-" + "." * 32 + "x]",
        "  41 messages a minute now, 30 messages a minute overall, done in 38 to 63 min",
        "  workers: 1 working, 1 draining, 1 lost; 92 slots; jobs end in 10 to 15 min",
        "  12 minutes  node11 slot 3  sample 18 (40%)",
        "  failed 10 minutes ago  node11  sample 7: exit 1: no such file",
        "  why messages are dead: `ddmq dead -k /scratch/mq jobs`",
    ]


def test_where_messages_wait_and_nobody_works_it_says_what_to_do():
    gone = [worker(state="lost", age=720.0), worker(state="ended", age=9000.0)]
    submit = "submit some (`ddmq-submit … /scratch/mq jobs …`)"
    told = line(seen(workers=gone))
    assert f"No worker runs: the last one was seen 12 minutes ago; {submit}" in told
    assert f"No worker runs; {submit}" in line(seen(workers=[]))
    for nothing_to_do in (seen(), seen(workers=gone, counts=Counts(0, 0, 0, 4))):
        assert "No worker" not in line(nothing_to_do)


def test_nothing_is_said_of_what_is_not_known():
    assert "how fast it goes is not known yet" in line(seen())
    idle = seen(workers=[worker(state="idle", busy=0)], counts=Counts(0, 0, 0, 0))
    told = line(idle._replace(done=0))
    assert told == "jobs: 0 published: 0 done; workers: 1 idle; 16 slots"
    assert line(seen(counts=None, workers=[], trouble="away")) == (
        "jobs: not counted yet; away"
    )
    assert " (5 minutes ago)" in line(seen(age=300.0))
    assert "ago" not in line(seen(age=20.0))


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        (Counts(0, 3, 0, 4), "only leased messages are left"),
        (Counts(0, 0, 0, 0), "everything is finished"),
        (Counts(0, 0, 0, 4), "everything is finished, but for the dead letters"),
        (Counts(1, 3, 0, 0), None),
        (Counts(0, 0, 1, 0), None),
    ],
)
def test_it_says_when_nothing_waits(counts, told):
    said = line(seen(counts=counts, overall=2.0)).split("; ")[1]
    assert said.partition(", ")[2] == (told or "")


@given(
    st.builds(Counts, *[st.integers(0, 99)] * 4),
    *[st.integers(0, 99)] * 3,
)
def test_what_is_told_adds_up_to_what_was_published(counts, done, unrenewed, slots):
    workers = [worker(slots=slots)] * bool(slots)
    found = seen(counts=counts, done=done, unrenewed=unrenewed, workers=workers)
    for told in (line(found), brief(found), panel(found, 999, is_coloured=False)[0]):
        published, states = re.fullmatch(
            "jobs: ([0-9,]+) published: (.*)", told
        ).groups()
        numbers = re.findall(
            r"([0-9,]+) (?:done|running|taken|leased|waiting|dela|dead)", states
        )
        whole = [int(n.replace(",", "")) for n in (published, *numbers)]
        assert whole[0] == sum(whole[1:]) == done + sum(counts)


def test_what_others_wrote_is_not_obeyed():
    evil = worker(host="evil\x1b[2J", state="working")
    runs = [(20.0, evil, Running(3, "a1", 0.0, "x\n\x9b1A"))]
    told = seen(workers=[evil], running=runs, trouble="\x1b", paused="by \x1b]0;")
    text = "".join(panel(told, 200, is_coloured=False)) + line(told)
    assert not re.search(r"[\x00-\x1f\x80-\x9f]", text)
    assert "evil\\x1b[2J slot 3  x\\n\\x9b1A" in text


def test_the_name_of_a_queue_is_one_word_for_a_shell():
    told = line(seen(name="a; rm b", workers=[]))
    assert "`ddmq dead -k /scratch/mq 'a; rm b'`" in told
    assert "`ddmq-submit … /scratch/mq 'a; rm b' …`" in told


@given(st.lists(st.integers(0, 10**7), min_size=7, max_size=7), st.integers(7, 300))
def test_a_bar_has_its_width_and_shows_every_part(parts, width):
    shown = bar(parts, width, is_coloured=False)
    assert len(shown) == width + 2
    for part, char in zip(parts, "#=-+.~x"):
        assert (char in shown) == (part > 0)
    coloured = bar(parts, width, is_coloured=True)
    assert re.sub(r"\x1b\[\d+m", "", coloured) == shown
    assert coloured.count("\x1b") == 2 * sum(part > 0 for part in parts)


@given(st.integers(1, 120), st.sampled_from(["測試 " * 90, "x" * 90, " ", "a b"]))
def test_no_line_is_wider_than_the_terminal(columns, text):
    found = seen(
        root=text,
        running=[(20.0, worker(), Running(3, "a1", 0.0, text, "40%"))],
        failures=[(20.0, worker(), Failure("a1", 0.0, text, text))],
    )
    for shown in panel(found, columns, is_coloured=False):
        assert cut(shown, columns) == shown


@given(st.text(st.sampled_from("ab  測"), max_size=60), st.integers(2, 30))
def test_of_what_is_broken_into_lines_nothing_is_lost(text, columns):
    lines = wrapped(text, columns)
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert all(cut(each, columns) == each for each in lines)


def test_lines_are_broken_between_words():
    found = panel(seen(), 40, is_coloured=False)
    assert found[:3] == [
        "jobs: 5,000 published: 3,200 done, 16",
        "    running, 80 taken ahead, 1,700",
        "    waiting, 4 dead",
    ]
    assert found[-2:] == [
        "  why messages are dead: `ddmq dead -k",
        "    /scratch/mq jobs`",
    ]


def test_of_a_long_text_the_end_is_shown_and_what_follows_it():
    path = "/scratch/project/" + "deep/" * 30 + "sample_0018.fq.gz"
    shown = fitted("  12 minutes  node11 slot 3  ", path, " (40%)", 80)
    assert len(shown) == 80
    assert shown.startswith("  12 minutes  node11 slot 3  …")
    assert shown.endswith("/sample_0018.fq.gz (40%)")
    why = fitted("  failed 4 s ago  ", path, ": exit 1: " + "disk quota " * 9, 60)
    assert "  …/deep/sample_0018.fq.gz: exit 1: disk" in why
    assert fitted("a ", "b", " c", 5) == "a b c"
    narrow = fitted("  28 s  node11 slot 1  ", path, " (40%)", 40)
    assert narrow == "  28 s  node11 slot 1  …ample_0018.fq.gz"


def test_of_few_runs_both_kinds_are_shown():
    runs = [(9.0, worker(), Running(n, "a1", 0.0, f"slow {n}")) for n in range(3)]
    failures = [(9.0, worker(), Failure("a2", 0.0, f"bad {n}", "x")) for n in range(3)]

    def told(most, **fields):
        shown = panel(seen(**fields), 99, is_coloured=False, runs=most)
        return [each.split("  ")[-1] for each in shown if "node11" in each]

    both = {"running": runs, "failures": failures}
    assert told(6, **both) == ["slow 0", "slow 1", "slow 2", *BAD]
    assert told(3, **both) == ["slow 0", "slow 1", "bad 0: x"]
    assert told(1, **both) == ["slow 0"]
    assert told(0, **both) == []
    assert told(3, failures=failures) == BAD


BAD = ["bad 0: x", "bad 1: x", "bad 2: x"]


def test_in_one_line_it_says_the_same():
    told = brief(seen(counts=Counts(waiting=1700, work=96, delayed=20, dead=4)))
    assert told == (
        "jobs: 5,020 published: 3,200 done, 16 running, 80 taken ahead, 1,700 waiting, 20 delayed, "
        "4 dead, how fast it goes is not known yet"
    )
    assert brief(seen(counts=None)) == "jobs: not counted yet"


def test_a_character_that_takes_two_columns_is_not_cut_in_halves():
    assert cut("a測試", 3) == "a測"
    assert cut("a測試", 4) == "a測"
    assert cut("a測試", 5) == "a測試"


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (25 * MINUTE, 40 * MINUTE, "in 25 to 40 min"),
        (25 * MINUTE, 25.2 * MINUTE, "in about 25 min"),
        (50 * MINUTE, 3 * HOUR, "in 50 min to 3 h"),
        (0.1, 4, "in 1 to 4 s"),
        (30 * HOUR, 100 * HOUR, "in 30 h to 4 days"),
    ],
)
def test_a_time_is_told_as_a_range(low, high, said):
    assert between(low, high) == said


def test_the_range_is_wider_the_fewer_messages_tell_it():
    many = Pace(10**6, 1e6)
    assert done_within(100, many) == pytest.approx((90.9, 111.1), abs=0.1)
    assert done_within(100, Pace(15, 15.0)) == pytest.approx((80, 133.3), abs=0.1)
    both = done_within(100, many, Pace(10**6, 5e5))
    assert both == pytest.approx((45.5, 111.1), abs=0.1)


@pytest.mark.parametrize(
    ("pace", "is_known"),
    [
        (Pace(9, 4.9), False),
        (Pace(10, 0.1), True),
        (Pace(1, 5.0), True),
        (Pace(0, 50.0), False),
    ],
)
def test_ten_messages_or_five_seconds_tell_when_it_is_done(pace, is_known):
    assert (done_within(100, pace) is not None) == is_known
    assert done_within(0, pace) is None
