"""Queues that are shown again and again, on the screen of a terminal emulator."""

from __future__ import annotations

import json
import re
import signal

import pytest
from terminal import BEFORE, Terminal

import ddmq


def test_programs_and_times_that_are_none_are_refused(sh, root):
    request = json.dumps({"cmd": "view", "root": str(root), "watch": 1})
    assert "--watch is for people" in sh("json", request)[1]
    assert "for people" in sh.wrong("view", root, "--watch", "--format", "json")
    assert "must be positive" in sh.wrong("view", root, "--watch=-1")
    assert "no such queue" in sh.error("view", root, "nix", "-w")


class Watching(Terminal):
    """A terminal with `ddmq view --watch` in it."""

    def until(self, is_shown):
        """Read until something is shown, and drawn to its end."""
        drawn = b"\x1b[J\x1b[?25h"
        super().until(lambda each: is_shown(each) and each.bytes.endswith(drawn))


def watching(root, *options, **more):
    return Watching("view", root, *options, "--watch", "0.05", **more)


def told(broker, queue="testmq"):
    waiting, work, delayed, dead = broker.view(queue)[queue]
    return f"{work} leased, {waiting:,} waiting, {delayed} delayed, {dead} dead"


@pytest.fixture
def broker(root, sh):
    """A queue with something in each state."""
    broker = ddmq.Broker(root)
    broker.publish_many("testmq", [f"sample {n}" for n in range(1200)])
    broker.publish("testmq", "later", delay=3600)
    held = broker.consume("testmq", 5)
    for message in held[:2]:
        broker.reject(message, "bad header")
    return broker


@pytest.mark.slow
@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (40, 12), (200, 50)])
def test_the_screen_shows_what_the_queue_holds(root, broker, columns, rows):
    with watching(root, columns=columns, rows=rows) as terminal:
        terminal.shows(f"published: 0 done, {told(broker)}")
        terminal.nothing_wraps_or_scrolls()
        whole = f"{root} testmq".replace(" ", "")
        shown = terminal.text.replace(" ", "")  # a path may be wider than the terminal
        assert f"whymessagesaredead:`ddmqdead-k{whole}`" in shown
        [bar] = [each for each in terminal.lines if each[:1] == "["]
        assert re.fullmatch(r"\[\++\.+~+x+\]", bar)
        assert len(bar) == columns - 1
        height = len(terminal.lines)
        broker.publish_many("testmq", ["more"] * 300)
        terminal.shows(told(broker))
        terminal.nothing_wraps_or_scrolls()
        assert len(terminal.lines) == height
        assert terminal.text.count("testmq: ") == 1


@pytest.mark.slow
def test_a_terminal_may_change_its_size(root, broker):
    with watching(root, columns=80, rows=24) as terminal:
        terminal.shows(told(broker))
        for columns, rows in ((40, 12), (100, 30), (30, 24)):
            terminal.resize(columns, rows)
            bar = columns - 3

            def is_drawn(terminal, width=bar):
                bars = [each for each in terminal.lines if each[:1] == "["]
                return bars and len(bars[-1]) == width + 2

            terminal.until(is_drawn)
            assert told(broker) in terminal.text
            assert terminal.text.count("testmq: ") == 1
            assert not terminal.screen.history.top
            last = terminal.screen.buffer[len(terminal.lines) - 1][columns - 1]
            assert last.data == " "


@pytest.mark.slow
def test_what_does_not_fit_is_counted(root, broker):
    for n in range(20):
        broker.create_queue(f"queue{n:02}")
    with watching(root, columns=80, rows=12) as terminal:
        terminal.shows("lines more")
        terminal.nothing_wraps_or_scrolls()
        assert len(terminal.lines) == 11
        more = re.fullmatch("… and ([0-9]+) lines more", terminal.lines[-1])
        terminal.resize(80, 100)
        terminal.shows("queue19")
        assert len(terminal.lines) == 10 + int(more[1])


@pytest.mark.slow
@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT]
)
def test_a_terminal_is_left_as_it_was(root, broker, number):
    with watching(root) as terminal:
        terminal.shows(told(broker))
        shown = terminal.lines
        terminal.process.send_signal(number)
        status = terminal.process.wait(60)
        assert status == (0 if number == signal.SIGINT else -number)
        terminal.is_as_it_was()
        # Also where the signal came in the middle of a line.
        assert terminal.bytes.endswith(b"\r\x1b[0m\x1b[?25h\x1b[J")
        assert terminal.lines == shown


@pytest.mark.slow
def test_it_is_left_as_it_was_at_the_end_of_what_is_waited_for(root, broker):
    broker.purge("testmq")
    broker.publish("testmq", "the last")
    with Terminal("wait", root, "testmq", "--progress") as terminal:
        terminal.shows("1 published: 0 done, 1 waiting")
        terminal.nothing_wraps_or_scrolls()
        [message] = broker.consume("testmq")
        broker.ack(message)
        assert terminal.process.wait(60) == 0
        terminal.is_as_it_was()
        assert terminal.lines == BEFORE


@pytest.mark.slow
def test_that_a_queue_is_deleted_is_shown_and_ends_nothing(root, broker):
    broker.create_queue("other")
    with watching(root) as terminal:
        terminal.shows(told(broker))
        broker.delete_queue("other")
        said = "other:nosuchqueue"  # a path may go on in the next line
        terminal.until(lambda each: said in each.text.replace(" ", ""))
        terminal.nothing_wraps_or_scrolls()


@pytest.mark.slow
def test_colours_are_those_of_the_parts_or_none_at_all(root, broker):
    def colours(terminal):
        terminal.shows(told(broker))
        rows = [terminal.screen.buffer[n] for n in range(24)]
        [bar] = [row for row in rows if row[0].data == "["]
        columns = range(terminal.screen.columns)
        elsewhere = {row[n].fg for row in rows if row is not bar for n in columns}
        assert elsewhere == {"default"}
        return {bar[n].data: bar[n].fg for n in columns if bar[n].data in "#=-+.~x"}

    with watching(root) as terminal:
        usual = {"+": "cyan", ".": "white", "~": "brown", "x": "red"}
        assert colours(terminal) == usual
    with watching(root, NO_COLOR="1") as terminal:
        assert set(colours(terminal).values()) == {"default"}
        assert not re.search(rb"\x1b\[[0-9;]*m", terminal.bytes)
