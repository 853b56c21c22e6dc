"""Settings are shown and changed."""

from __future__ import annotations

import json

import pytest


def test_config_shows_and_changes_settings(sh, root):
    shown = json.loads(sh.ok("config", root, "testmq", "--format", "json"))
    assert shown["message_timeout"] == 600
    sh.ok("config", root, "--set", "message-timeout=60", "--set", "requeue=false")
    sh.ok("config", root, "testmq", "--set", "message_timeout=5")
    shown = json.loads(sh.ok("config", root, "testmq", "--format", "json"))
    assert (shown["message_timeout"], shown["requeue"]) == (5, False)
    assert "message_timeout: 60" in sh.ok(
        "config", root, "testmq", "--unset", "message_timeout"
    )


@pytest.mark.parametrize(
    ("pair", "remedy"),
    [
        ("colour=red", "known are"),
        ("message_timeout=-5", "must be a number of seconds from 1 to"),
        ("message_timeout=0.5", "must be a number of seconds from 1 to"),
        ("max_message_size=1023", "must be an integer of bytes from 1024 to 67108864"),
        ("requeue=maybe", "must be true or false"),
        ("requeue_limit=1.5", "or null for no limit"),
        ("layout=2", "layout is no setting; leave it out"),
    ],
)
def test_a_wrong_setting_is_explained_and_changes_nothing(sh, root, pair, remedy):
    before = (root / "testmq" / "ddmq.yaml").read_bytes()
    told = sh.wrong("config", root, "testmq", "--set", pair)
    assert remedy in told
    assert "ddmq.yaml" in told
    assert (root / "testmq" / "ddmq.yaml").read_bytes() == before


@pytest.mark.parametrize("text", ["90m", "1h30m", "1:30:00", "5400"])
def test_a_time_may_have_units(sh, root, text):
    sh.ok("config", root, "testmq", "--set", f"message_timeout={text}")
    shown = json.loads(sh.ok("config", root, "testmq", "--format", "json"))
    assert shown["message_timeout"] == 5400


def test_a_time_that_is_none_is_explained(sh, root):
    told = sh.wrong("config", root, "testmq", "--set", "message_timeout=soon")
    assert "no time; write seconds, or 5m" in told
