"""A worker whose messages are cancelled: it ends their commands with its next heartbeat."""

from __future__ import annotations

import pytest
from hpc.inside import Hurried, run, worker

from ddmq import Broker
from ddmq.hpc import journal


@pytest.fixture
def cancelled(root, clock, tmp_path):
    """Return a function that lets a worker work while some of what it holds is cancelled.

    Its commands make the file that `$STARTED` names. Then `choose` picks of what is at work. The
    next heartbeat follows at once.
    """
    started = tmp_path / "started"

    def cancelled(script, choose, *words, **options):
        other, chosen = Broker(root, clock=clock, clean=False), []

        def step():
            if chosen or not started.exists():
                return
            seen = [x for x in other.contents("q", work=True) if x.state == "work"]
            chosen.extend(choose(seen))
            assert other.cancel("q", chosen) == dict.fromkeys(chosen, "work")
            clock.advance(201)  # a third of the timeout: the heartbeat is due
            ours._heartbeat.beat()

        script = f"STARTED={started}\n{script}"
        with Hurried(clock, step) as signals:
            own = Broker(root, clock=clock)
            command = ["sh", "-c", script, *words]
            ours = worker(own, root, signals, clock, command, **options)
            summary = ours.run()
        return chosen, {name: n for name, n in summary.numbers.items() if n}

    return cancelled


def test_its_command_is_terminated_and_it_is_a_dead_letter(
    root, broker, cancelled, tmp_path
):
    broker.publish_many("q", ["long", "short"])
    told = tmp_path / "told"
    script = (
        f'[ "$0" = short ] || {{ trap "touch {told}; exit 0" TERM; touch $STARTED; '
        "while :; do sleep 0.01; done; }"
    )
    ids, numbers = cancelled(
        script, lambda seen: [x.id for x in seen if x.message == "long"], slots=2
    )
    assert numbers == {"acked": 1, "cancelled": 1}
    assert told.exists()
    [letter] = broker.dead("q")
    assert [letter.id] == ids
    assert letter.reason.startswith("cancelled by ")
    runs = sorted((run.text, run.result) for run in journal.read(f"{root}/q"))
    assert runs == [("long", "cancelled"), ("short", "acked")]
    assert broker.to_cancel("q") == frozenset()
    assert broker.view("q")["q"] == (0, 0, 0, 1)


def test_a_command_that_does_not_end_is_killed_after_the_grace(broker, cancelled):
    broker.publish("q", "x")
    script = "trap '' TERM; touch $STARTED; while :; do sleep 0.01; done"
    _, numbers = cancelled(script, lambda seen: [x.id for x in seen], grace=3)
    assert numbers == {"cancelled": 1}
    assert broker.view("q")["q"] == (0, 0, 0, 1)


def test_the_others_of_its_batch_are_run_by_themselves(broker, cancelled):
    """And that its command was ended is no failure of this node, nor of theirs."""
    broker.publish_many("q", list("abcdef"))
    script = (
        '[ $# = 1 ] && exit 0; touch $STARTED; while :; do sleep 0.01; done; : "$@"'
    )
    options = {"batch": 6, "slots": 1, "retries": 0, "fast_failures": 1}
    [id_], numbers = cancelled(script, lambda seen: [seen[2].id], "sh", **options)
    assert numbers == {"acked": 5, "cancelled": 1}
    assert [letter.id for letter in broker.dead("q")] == [id_]


def test_what_waits_for_a_slot_is_never_started(broker, cancelled, tmp_path):
    broker.publish_many("q", [str(n) for n in range(12)])
    script = f'touch $STARTED; echo "$0" >> {tmp_path}/ran; sleep 0.05'
    ids, numbers = cancelled(
        script, lambda seen: [seen[-1].id], slots=2, known=[0.05] * 50
    )
    assert numbers == {"acked": 11, "cancelled": 1}
    [letter] = broker.dead("q")
    assert [letter.id] == ids
    assert letter.message not in (tmp_path / "ran").read_text().split()


@pytest.mark.parametrize("until", ["empty", "done"])
def test_lines_that_are_cancelled_before_are_never_run(root, broker, clock, until):
    broker.publish_many("q", [f"{n}" for n in range(30)])
    ids = [seen.id for seen in broker.peek("q", 30)]
    broker.cancel("q", ids[5:25])
    summary = run(root, clock, "true", until=until, slots=4)
    assert summary.numbers["acked"] == 10
    assert {letter.id for letter in broker.dead("q")} == set(ids[5:25])
    assert broker.to_cancel("q") == frozenset()
