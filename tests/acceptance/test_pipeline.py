"""Queues that feed one another, by real workers of which some are killed."""

from __future__ import annotations

import pytest
from acceptance.workers import counts, shell, start, until, worked

from ddmq import Broker

pytestmark = pytest.mark.slow
NUMBER = 12
#: Lists two parts of each sample; a first run of the fifth one waits to be killed.
LIST = (
    '[ "$0" = 5 ] && mkdir "$DDMQ_ROOT/waits" 2> /dev/null && sleep 60; '
    'printf "%s\\n" "$0.a" "$0.b" > "$DDMQ_OUTPUT"'
)


def test_messages_go_from_queue_to_queue_once_though_a_worker_is_killed(tmp_path):
    root, out = tmp_path / "mq", tmp_path / "out"
    broker = Broker(root, create=True)
    broker.update_settings(message_timeout=2, durable=False)
    for queue in ("samples", "parts", "checked"):
        broker.create_queue(queue)
    broker.publish_many("samples", map(str, range(NUMBER)))
    words = ["--output-dir", out, "--on-success", "lines:parts", root, "samples"]
    with start("-j", "2", *words, *shell(LIST)) as killed:
        until((root / "waits").exists)
        killed.kill()
    status, _, err = worked("-j", "2", "--until-done", *words, *shell(LIST))
    assert status == 0, err
    assert counts(broker, "samples") == (0, 0, 0, 0)
    assert counts(broker, "parts") == (2 * NUMBER, 0, 0, 0)

    words = [
        "-j",
        "3",
        "--retries",
        "0",
        "--on-success",
        "queue:checked",
        root,
        "parts",
    ]
    status, _, err = worked(*words, *shell('[ "$0" != 3.b ]'))
    assert status == 4, err
    assert counts(broker, "parts") == (0, 0, 0, 1)
    found = sorted(message.message for message in broker.consume("checked", 100))
    wanted = [f"{n}.{part}" for n in range(NUMBER) for part in "ab"]
    assert found == sorted(set(wanted) - {"3.b"})


def test_a_queue_that_is_missing_is_named_before_the_first_message(tmp_path):
    root = tmp_path / "mq"
    Broker(root, create=True).publish("samples", "x")
    words = ["--on-success", "queue:none", root, "samples", *shell("exit 0")]
    status, _, err = worked(*words)
    assert status == 1
    assert "--on-success queue:none can't be used: " in err
    assert counts(Broker(root), "samples") == (1, 0, 0, 0)
