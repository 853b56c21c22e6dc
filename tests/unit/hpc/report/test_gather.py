"""What is told of a stream of runs is what a person finds who reads them all."""

from __future__ import annotations

import math
import random

import pytest

from ddmq.hpc.report import gather
from ddmq.hpc.report.gather import Gatherer, Kind, Span, last_line, rows


def test_nothing_is_gathered_from_nothing(gathered):
    found = gathered([])
    assert (found.runs, found.done, found.failed) == (0, 0, 0)
    assert found.span is found.tail is None
    assert found.workers == found.busy == []


def test_one_run_is_all_there_is(gathered, run):
    found = gathered([run()])
    assert found.span == Span(1000.0, 1010.0)
    assert (found.done, found.used, found.occupied, found.allocated) == (1, 8, 10, 10)
    assert sum(piece.busy for piece in found.busy) * found.width == pytest.approx(10)
    assert sum(found.there) * found.width == pytest.approx(10)
    [worker] = found.workers
    assert (worker.host, worker.job, worker.process) == ("n1", "7", 4711)


def test_a_run_that_took_no_time_is_told(gathered, run):
    found = gathered([run(duration=0.0)])
    assert found.span.seconds == 0
    assert found.tail is None
    assert found.busy


def test_slots_are_there_from_when_the_worker_says(gathered, run, seen):
    found = gathered([run(), run(slot=2, start=1005.0)], workers=[seen()])
    # Four slots for 60 s, of which 2 x 10 s were busy.
    assert found.allocated == 240
    assert found.occupied == 20
    assert found.span == Span(990.0, 1050.0)
    assert sum(found.there) * found.width == pytest.approx(240)
    assert found.workers[0].is_shown


def test_a_worker_that_ran_nothing_was_there_all_the_same(gathered, run, seen):
    idle = seen(host="n2", process=1, started=1000.0, seen=1010.0, slots=2)
    found = gathered([run()], workers=[idle])
    assert [(w.host, w.done, w.slots) for w in found.workers] == [
        ("n1", 1, 1),
        ("n2", 0, 2),
    ]
    assert found.allocated == 10 + 20


def test_a_message_that_was_moved_is_done_in_the_other_queue_only(run):
    gatherer = Gatherer()
    for queue, result in (("small", "moved"), ("big", "acked")):
        gatherer.add_runs(queue, "n1-1-0.1.jsonl", [run(result=result)])
    found = gatherer.gathered()
    assert (found.runs, found.done, found.failed) == (2, 1, 0)
    assert found.queues == {"small": (0, 0), "big": (1, 0)}


@pytest.mark.parametrize("started", [10.0, 90_000.0])
def test_a_worker_with_the_same_number_at_another_time_is_another(
    gathered, run, seen, started
):
    found = gathered([run()], workers=[seen(started=started, seen=started + 10)])
    assert len(found.workers) == 2


def test_of_a_batch_each_message_has_its_part(gathered, run):
    found = gathered([run(id=f"{n}", batch=4) for n in range(4)])
    assert (found.done, found.occupied, found.used) == (4, 10, 8)
    assert sum(piece.busy for piece in found.busy) * found.width == pytest.approx(10)
    assert found.batches


def test_what_began_before_is_left_out(gathered, run, letter, seen):
    found = gathered(
        [run(), run(start=2000.0)],
        [letter("a", time=1000.0), letter("b", time=2001.0)],
        [seen(seen=2020.0)],
        since=2000.0,
    )
    assert (found.runs, found.letters, found.span) == (1, 1, Span(2000.0, 2020.0))


def test_what_failed_and_succeeded_later_has_not_failed(gathered, run):
    runs = [
        run(id="a", result="dead", exit=1),
        run(id="b", result="dead", exit=1),
        run(id="c", result="failed", exit=1),
        run(id="c"),
        run(id="a", start=900.0),  # by a clock that is behind
    ]
    found = gathered(runs)
    assert (found.done, found.failed) == (2, 1)
    assert found.results == {"dead": 2, "acked": 2, "failed": 1}


@pytest.mark.parametrize("together", [1, 4, 10, 100])
def test_all_runs_are_told_however_many_are_counted_together(
    gathered, run, monkeypatch, together
):
    monkeypatch.setattr(gather, "_TOGETHER", together)
    bad = {"result": "dead", "exit": 1}
    runs = [
        run(id=f"{n}", start=1000.0 + n, host=f"n{n // 5}", **(bad if n % 3 else {}))
        for n in range(10)
    ]
    found = gathered(iter(runs))
    assert found.queues == {"jobs": (4, 6)}
    assert list(found.results.items()) == [("dead", 6), ("acked", 4)]
    assert [(w.host, w.done, w.failed) for w in found.workers] == [
        ("n0", 2, 3),
        ("n1", 2, 3),
    ]
    assert (found.durations.number, found.memory.number) == (4, 10)
    assert sum(group.runs for _, group in found.groups) == 6
    assert [each.id for each in found.latest] == ["9", "8", "7", "6", "5"]
    assert found.failed == 6


def test_all_journals_of_a_worker_are_one(run):
    gatherer = Gatherer()
    for number in (1, 2):
        gatherer.add_runs("jobs", f"n-1-x-4711-{7:016x}.{number}.jsonl", [run()])
    gatherer.add_runs("jobs", "compacted-0000000000000007.jsonl", [run()])
    workers = gatherer.gathered().workers
    assert sorted((w.process or 0, w.done) for w in workers) == [(0, 1), (4711, 2)]


@pytest.mark.parametrize("process", ["²", "٣", "9" * 5000, "", "x"])
def test_a_journal_of_any_name_is_told(run, process):
    """Whoever may write to the queue names journals, and what a compacted one was made of."""
    gatherer = Gatherer()
    gatherer.add_runs("jobs", f"n1-{process}-{7:016x}.1.jsonl", [run()])
    [worker] = gatherer.gathered().workers
    assert (worker.process, worker.done) == (None, 1)


def test_failures_are_alike_by_end_host_and_last_line(gathered, run, letter):
    runs = [
        run(id="a", result="dead", exit=2, text="s1"),
        run(id="b", result="dead", exit=2, text="s2"),
        run(id="c", result="dead", exit=2, host="n2"),
        run(id="d", result="dead", exit=None, signal="SIGKILL"),
        run(id="e", result="failed", exit=1, timed_out=True),
    ]
    letters = [
        letter("a", text="sample1", stderr="reading\nsample1: bad header\n\n"),
        letter("b", text="sample2", stderr="sample2: bad header"),
        letter("c", reason="exit status 2 on n2", host="n2", stderr="else"),
    ]
    groups = dict(gathered(runs, letters).groups)
    bad = groups[Kind("jobs", "exit 2", "n1", "{}: bad header")]
    assert (bad.runs, bad.letters, bad.ids) == (2, 2, ["a", "b"])
    assert (bad.codes.numbers, bad.reason) == ({2: 2}, "exit status 2 on n1")
    assert groups[Kind("jobs", "exit 2", "n2", "else")].letters == 1
    assert groups[Kind("jobs", "SIGKILL", "n1", "")].runs == 1
    assert groups[Kind("jobs", "timed out", "n1", "")].letters == 0
    assert len(groups) == 4


def test_the_last_try_tells_nothing_of_one_that_ended_otherwise(gathered, run, letter):
    runs = [run(id="a", result="failed", exit=9), run(id="a", result="dead", exit=2)]
    groups = dict(gathered(runs, [letter("a", stderr="bad")]).groups)
    assert groups[Kind("jobs", "exit 9", "n1", "")].runs == 1
    assert groups[Kind("jobs", "exit 2", "n1", "bad")].runs == 1


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("one\ntwo\n", "two"),
        ("two\n\n  \n", "two"),
        ("", ""),
        (None, ""),
        (["x"], ""),
        ("at 0x7ffd12 of 123456, HTTP 404", "at # of #, HTTP 404"),
        ("can't read sample1!", "can't read {}!"),
        ("x" * 900, "x" * 200),
    ],
)
def test_lines_are_alike_whatever_the_message(said, line):
    assert last_line(said, "sample1") == line


def test_the_slowest_and_the_last_are_kept(gathered, run):
    chance = random.Random(1)
    runs = [run(id=f"{n}", duration=float(n)) for n in range(100)]
    chance.shuffle(runs)
    found = gathered(runs)
    assert [long.id for long in found.slowest] == [f"{n}" for n in range(99, 79, -1)]
    assert [long.id for long in found.latest] == ["99", "98", "97", "96", "95"]


def test_the_tail_begins_when_not_all_slots_are_busy_any_more(gathered, run):
    # Ten slots for 64 s; then one straggler for 64 s more, in workers that stay for it.
    runs = [run(id=f"{n}", slot=n + 1, start=0.0, duration=64.0) for n in range(9)]
    runs.append(run(id="9", slot=10, start=0.0, duration=128.0, text="straggler"))
    found = gathered(runs)
    assert (found.tail.start, found.tail.seconds) == (64.0, 64.0)
    assert found.tail.busy == pytest.approx(64)
    assert found.tail.there == pytest.approx(640)
    assert found.latest[0].text == "straggler"


def test_each_worker_is_told_by_the_share_of_its_slots_that_was_busy(gathered, run):
    found = gathered(
        [run(start=0.0, duration=8.0), run(slot=2, start=4.0, duration=4.0)]
    )
    [(worker, shares)] = rows(found, 16)
    assert worker.slots == 2
    assert shares[:4] == [0.5] * 4
    # In pieces of a quarter of a second; the time after the last one's end is no time.
    whole = [share for share in shares if share is not None]
    assert sum(whole) / len(whole) == pytest.approx(0.75, abs=0.05)


def test_a_clock_that_is_years_off_hides_nothing_of_the_others(run):
    gatherer = Gatherer()
    for n in range(2000):
        gatherer.add_runs("jobs", "n1-1-0.1.jsonl", [run(id=f"{n}", start=1e9 + n)])
    gatherer.add_runs("jobs", "n2-2-0.1.jsonl", [run(host="n2", start=0.0)])
    gatherer.add_runs("jobs", "n3-3-0.1.jsonl", [run(host="n3", start=9e9)])
    found = gatherer.gathered()
    assert found.span == Span(1e9, 1e9 + 2009)
    assert found.left_out == 2
    assert found.runs == 2002


def test_a_straggler_is_told_however_long_it_took(gathered, run):
    runs = [run(id=f"{n}", start=n / 10) for n in range(3000)]
    found = gathered([*runs, run(start=100.0, duration=90_000.0)])
    assert (found.span, found.left_out) == (Span(0.0, 90_100.0), 0)
    assert found.tail.seconds > 80_000


def test_an_end_that_is_yet_to_come_is_not_believed(run):
    gatherer = Gatherer(now=10_000.0)
    gatherer.add_runs("jobs", "n1-1-0.1.jsonl", [run()])
    gatherer.add_runs("jobs", "n2-2-0.1.jsonl", [run(host="n2", duration=1e10)])
    assert gatherer.gathered().span == Span(1000.0, 1010.0)


def test_what_is_kept_does_not_grow_with_workers_and_failures(run, monkeypatch):
    monkeypatch.setattr(gather, "WORKERS", 10)
    monkeypatch.setattr(gather, "GROUPS", 5)
    monkeypatch.setattr(gather, "LETTERS", 20)
    gatherer = Gatherer()
    for n in range(100):
        failed = run(id=f"{n}", host=f"h{n}", result="dead", exit=n)
        gatherer.add_runs("jobs", f"h{n}-{n}-0.1.jsonl", [failed])
    found = gatherer.gathered()
    assert len(found.workers) == 11
    assert found.more_workers == 90
    assert len(found.groups) == 6
    assert sum(group.runs for _, group in found.groups) == 100
    assert found.failed == 100
    assert sum(worker.failed for worker in found.workers) == 100


def test_what_is_kept_does_not_grow_with_results_that_no_worker_writes(gathered, run):
    runs = [run(result="lost")]
    runs += [run(id=f"{n}", result=f"{n:03}" + "r" * 5000) for n in range(100)]
    known = ["acked", "moved", "failed", "dead", "released", "lost"]
    runs += [run(id=result, result=result) for result in (*known, *known)]
    found = gathered([*runs, runs[1], runs[100]])
    assert (found.runs, found.results["(others)"]) == (115, 51)
    assert len(found.results) == 50 + 1 + len(known)
    assert [found.results[result] for result in known] == [2, 2, 2, 2, 2, 3]
    assert found.results[f"{0:03}" + "r" * 197] == 2
    assert max(map(len, found.results)) == 200


def test_what_is_kept_does_not_grow_with_workers_that_are_one_row(run, monkeypatch):
    monkeypatch.setattr(gather, "WORKERS", 10)
    monkeypatch.setattr(gather, "MORE", 20)
    gatherer = Gatherer()
    for n in range(100):
        gatherer.add_runs("jobs", f"h{n}-{n}-0.1.jsonl", [run(host=f"h{n}")])
    found = gatherer.gathered()
    assert (found.more_workers, found.done) == (20, 100)


def test_runs_of_a_very_long_name_are_of_one_worker(gathered, run):
    found = gathered(
        [run(host="h" * 999, job="j" * 999), run(host="h" * 999, job="j" * 999)]
    )
    [worker] = found.workers
    assert (len(worker.host), len(worker.job), worker.done) == (200, 200, 2)


def test_the_greatest_numbers_that_a_journal_may_hold_are_no_trouble(gathered, run):
    greatest = run(start=1e10, duration=1e10, cpu=1e10, peak_kib=10**18, slot=10**18)
    found = gathered([greatest, run(batch=10**18), run(batch=0), run(slot=0)])
    assert found.runs == 4
    assert math.isfinite(found.allocated)


def test_what_is_kept_does_not_grow_with_exit_statuses_and_reasons(letter, monkeypatch):
    monkeypatch.setattr(gather, "GROUPS", 5)
    gatherer = Gatherer()
    for n in range(100):
        gatherer.add_letter("jobs", letter(f"{n}", f"reason {n}", exit=n))
    gatherer.add_letter("jobs", letter("z", "reason 0", exit=0))
    found = gatherer.gathered()
    assert len(found.groups) == 6
    groups = {kind.how: group for kind, group in found.groups}
    rest = groups[gather.OTHERS].codes
    assert (len(rest.numbers), rest.others, rest.only) == (20, 75, None)
    assert (groups["exit 0"].codes.only, groups["exit 0"].letters) == (0, 2)
    assert found.reasons.numbers["jobs", 0, "reason 0"] == 2
    assert (len(found.reasons.numbers), found.reasons.others) == (5, 95)
    both = gather.Group()
    for group in groups.values():
        both.take_in(group)
    assert len(both.codes.numbers) == 20
    assert sum(both.codes.numbers.values()) + both.codes.others == 101
