"""Processes that a check starts end with it."""

from __future__ import annotations

import os
import threading

from ddmq.clock import Clock
from ddmq.diagnose.check.children import Child, ended_like_interrupted


def test_what_a_killed_child_leaves_of_itself_is_nothing():
    child = Child(lambda: Clock().sleep(60), group=True)
    assert child.is_alive()
    child.kill()
    child.kill()
    assert not child.is_alive()


def test_a_child_whose_end_was_seen_and_not_noted_is_gone():
    child = Child(lambda: None)
    os.waitpid(child.pid, 0)  # then we were interrupted
    assert not child.is_alive()
    child.kill()


def test_signals_to_a_thread_are_nobodys():
    def run():
        with ended_like_interrupted():
            done.append(True)

    done = []
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert done == [True]
