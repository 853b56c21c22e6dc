"""Four workers consume many messages: their memory stays flat, and no file is left.

The short form has 6,000 messages. `pytest -m campaign tests/campaign/test_soak.py` has a
million, or as many as `DDMQ_SOAK` says.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ddmq
from ddmq import Broker

pytestmark = pytest.mark.slow
QUEUE = "q"
#: Consumes and acks all, and prints its memory in KiB and its descriptors now and then.
CONSUMER = """
import os, sys
from ddmq import Broker

def now():
    with open("/proc/self/status") as status:
        lines = dict(line.split(":", 1) for line in status)
    return int(lines["VmRSS"].split()[0]), len(os.listdir("/proc/self/fd"))

broker, done, told = Broker(sys.argv[1]), 0, 0
while messages := broker.consume("q", int(sys.argv[2])):
    broker.ack(messages)
    done += len(messages)
    if done - told >= int(sys.argv[3]):
        told = done
        print(*now(), flush=True)
print(*now(), done)
"""


def start(root: Path, batch: int, every: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CONSUMER, str(root), str(batch), str(every)]
    path = str(Path(ddmq.__file__).parent.parent)
    environ = {**os.environ, "PYTHONPATH": path}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc here")
@pytest.mark.parametrize(
    "number", [6_000, pytest.param(None, marks=pytest.mark.campaign, id="campaign")]
)
def test_memory_is_flat_and_no_file_is_left(
    tmp_path: Path, number: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    number = number or int(os.environ.get("DDMQ_SOAK", "1000000"))
    broker = Broker(tmp_path, create=True)
    broker.publish_many(QUEUE, map(str, range(number)), durable=False)
    assert (
        count(tmp_path) <= 2 * number // 1000 + 10
    )  # a bundle's messages, and its entry
    consumers = [start(tmp_path, batch, number // 80) for batch in (1, 1, 16, 16)]
    told = [consumer.communicate()[0].splitlines() for consumer in consumers]
    figures = [[list(map(int, line.split())) for line in lines] for lines in told]
    assert sum(lines[-1][2] for lines in figures) == number
    for lines in figures:
        assert_is_flat(lines)
    broker.clean(QUEUE)
    assert sum(broker.view(QUEUE)[QUEUE]) == 0
    with capsys.disabled():
        most = max(line[0] for lines in figures for line in lines)
        print(f"\n{number} messages; at most {most} KiB resident")  # noqa: T201


def assert_is_flat(lines: list[list[int]]) -> None:
    """After the first quarter, memory grows by no more than a few bundles in the cache."""
    memory, descriptors = [line[0] for line in lines], [line[1] for line in lines]
    settled = memory[len(memory) // 4]
    assert max(memory[len(memory) // 4 :]) - settled < 4096
    assert max(descriptors) - min(descriptors) <= 32  # the directories that it holds


def count(root: Path) -> Any:
    return sum(len(files) for _, _, files in os.walk(root))
