"""A process dies before any of its system calls, in every verb."""

from __future__ import annotations

import os
import shutil
import stat
from typing import TYPE_CHECKING

import pytest
from protocol.scenes import (
    ADMINISTRATION,
    QUEUE,
    SCENES,
    STATES,
    Play,
    Scene,
    plays,
    text,
)
from support import Crash, crashing_before

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from protocol.scenes import World

    from ddmq import Broker

pytestmark = pytest.mark.deep
every_scene = pytest.mark.parametrize("scene", SCENES, ids=str)
cold_and_warm = pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])


def crashes(
    scene: Scene, directory: Path, *, warm: bool
) -> Iterator[tuple[Play, bool]]:
    """Play a scene with a crash before its first system call, its second, … to its end."""
    for n, play in plays(scene, directory, warm=warm):
        crashed = dies(play, n)
        yield play, crashed
        if not crashed:
            assert n > 0
            return


def dies(play: Play, n: int) -> bool:
    try:
        result = play.act(crashing_before(n))
    except Crash:
        return True
    assert play.scene.says(result)
    return False


def survives(scene: Scene, state: str) -> bool:
    """Whether a message is as it should be after a crash and much later."""
    return state in ("ready", "dead" if "dead" in str(scene.path) else "ready")


@cold_and_warm
@every_scene
def test_after_a_crash_each_message_is_in_one_state_and_comes_back_and_the_queue_works(
    scene: Scene, warm: bool, tmp_path: Path
) -> None:
    for play, crashed in crashes(scene, tmp_path, warm=warm):
        play.assert_each_is_somewhere()
        if not crashed:
            assert play.states() == play.ends()
        rescuer = play.world.rescue(scene.mode)
        for name, state in play.states().items():
            may_be_gone = "gone" in scene.path[name]
            assert survives(scene, state) or (may_be_gone and state == "gone")
        assert os.listdir(f"{play.world.path}/tmp") == []
        assert_no_note_is_left_alone(play.world)
        assert_nobody_needs_to_consume(play.copied(tmp_path / "copy"))
        shutil.rmtree(tmp_path / "copy")
        assert_all_is_readable(play, rescuer)
        assert_it_works(rescuer)


def assert_nobody_needs_to_consume(play: Play) -> None:
    """Housekeeping alone brings the queue in order."""
    cleaner = play.world.broker()
    cleaner.clean(QUEUE)  # what became due or came back at the first time
    found = play.states()
    if found.get("stray") == "ready":
        del found["stray"]  # no message: it waits for whoever looks for one
    states = list(found.values())
    waiting, dead = states.count("ready"), states.count("dead")
    assert cleaner.view(QUEUE)[QUEUE] == (waiting, 0, 0, dead)
    assert cleaner.is_empty(QUEUE) == (not waiting)
    assert play.world.files("work") == []
    assert waiting or play.world.files("bundles") == []


def assert_all_is_readable(play: Play, rescuer: Broker) -> None:
    """What waits is consumed, garbage is found out, and dead letters are listed."""
    consumed = rescuer.consume(QUEUE, 100)
    states = play.states()
    assert "ready" not in states.values()
    at_work = sorted(text(name) for name, state in states.items() if state == "work")
    assert sorted(message.message for message in consumed) == at_work
    assert len(rescuer.dead(QUEUE)) == list(states.values()).count("dead")
    if play.scene.returns is not None:
        assert {m.requeue_counter for m in consumed} <= {play.scene.returns}


def assert_no_note_is_left_alone(world: World) -> None:
    dead = [os.path.basename(path) for path in world.files("dead")]
    for note in [name for name in dead if name.endswith(".note")]:
        id_ = note.partition(".")[0]
        assert any(f".{id_}." in name for name in dead)


def assert_it_works(rescuer: Broker) -> None:
    rescuer.purge(QUEUE)
    rescuer.publish(QUEUE, "and on it goes")
    [message] = rescuer.consume(QUEUE)
    assert message.message == "and on it goes"
    rescuer.ack(message)
    assert rescuer.view(QUEUE)[QUEUE] == (0, 0, 0, 0)


def named(name: str) -> Scene:
    return next(scene for scene in SCENES if scene.name == name)


def modes(world: World) -> set[str]:
    paths = [world.path, *(f"{world.path}/{name}" for name in STATES)]
    return {oct(stat.S_IMODE(os.stat(path).st_mode)) for path in paths}


@cold_and_warm
def test_a_creation_that_crashed_is_done_again_with_its_mode(
    warm: bool, tmp_path: Path
) -> None:
    for play, _ in crashes(named("create for a group"), tmp_path, warm=warm):
        play.world.rescue(0o2770)
        assert modes(play.world) == {"0o2770"}
        found = os.stat(f"{play.world.path}/ddmq.yaml")
        assert oct(stat.S_IMODE(found.st_mode)) == "0o660"


@cold_and_warm
@pytest.mark.parametrize("place", ["", " on a new shelf"])
def test_buckets_are_made_with_the_mode_of_their_queue_or_not_at_all(
    warm: bool, place: str, tmp_path: Path
) -> None:
    scene = named(f"publish for a group{place}")
    for play, _ in crashes(scene, tmp_path, warm=warm):
        for directory, _, _ in os.walk(f"{play.world.path}/ready"):
            assert oct(stat.S_IMODE(os.stat(directory).st_mode)) == "0o2770"


@cold_and_warm
def test_a_queue_is_deleted_whole_or_not_at_all(warm: bool, tmp_path: Path) -> None:
    for play, _ in crashes(named("delete"), tmp_path, warm=warm):
        assert len(play.world.found()) in (0, 4)


@cold_and_warm
def test_an_administrator_removes_what_a_crashed_one_left(
    warm: bool, tmp_path: Path
) -> None:
    for scene in ADMINISTRATION:
        for play, _ in crashes(scene, tmp_path, warm=warm):
            play.world.broker(create=True).create_queue("another")
            left = set(os.listdir(play.world.root))
            assert left <= {"ddmq.yaml", "lock", "another", QUEUE}


@cold_and_warm
def test_settings_are_changed_whole_or_not_at_all(warm: bool, tmp_path: Path) -> None:
    for play, crashed in crashes(named("change settings"), tmp_path, warm=warm):
        timeout = play.world.broker().settings(QUEUE).message_timeout
        assert timeout in ((600, 77) if crashed else (77,))
