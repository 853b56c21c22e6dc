"""A worker within the test: real commands, a queue whose file system can fail."""

from __future__ import annotations

import os

from ddmq import Broker
from ddmq.hpc.journal import Journal
from ddmq.hpc.limits import Deadline, Durations
from ddmq.hpc.options import WorkerOptions
from ddmq.hpc.signals import Signals
from ddmq.hpc.worker import Job, Worker


def worker(broker, root, signals, clock, command, known=(), **options):
    """Return a worker at the queue `q` that runs a line of shell, or a list of words.

    It knows how long some commands took.
    """
    words = ["sh", "-c", command] if isinstance(command, str) else command
    journal = Journal(f"{root}/q", "node", clock, None)
    environ = {"PATH": os.environ["PATH"], "DDMQ_ROOT": str(root)}
    job = Job(
        host="node",
        id="",
        environ=environ,
        signals=signals,
        deadline=Deadline(None),
        journal=journal,
        durations=Durations(known),
        clock=clock,
    )
    return Worker(broker, "q", words, options=WorkerOptions(**options), job=job)


class Hurried(Signals):
    """Signals with a clock that can be turned: where nothing real comes, time passes fast.

    At each wait, `step` may do what others do meanwhile, and `pace` seconds pass at most; `busy`
    at most while a command runs, as that and the heartbeat take real time.
    """

    def __init__(self, clock, step=lambda: None, pace=0.1, busy=None):
        super().__init__(clock)
        self.step, self.pace, self.busy = step, pace, busy
        self._turned = clock

    def wait(self, seconds, readers, writers=()):
        self.step()
        super().wait(min(seconds, 0.005), readers, dict(writers))
        pace = self.pace if self.busy is None or not readers else self.busy
        self._turned.advance(min(seconds + 1e-6, pace))


def run(root, clock, command, *, fs=None, step=lambda: None, **options):
    """Let a worker work until it ends; return its summary."""
    broker = Broker(root, clock=clock, fs=fs)
    with Hurried(clock, step) as signals:
        return worker(broker, root, signals, clock, command, **options).run()
