"""The bundles of one queue: claims that follow each other, and what becomes of bundles."""

from __future__ import annotations

import errno
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from protocol.scenes import HOUR, QUEUE
from support import Calls, Crash, counting, crashing_before, failing, interrupted
from unit.scenes import (
    TOKEN,
    bundle_directories,
    claim_cut_short,
    claim_in_vain,
    claims,
    ended_claims,
    store_of,
    texts,
    view,
)

from ddmq import Counts, LeaseLost, StorageError
from ddmq.storage.expiry import Swept
from ddmq.storage.filesystem import FileSystem
from ddmq.storage.names import Bundle, Lease, Waiting

ALL = list(map(str, range(12)))


@pytest.fixture
def bundle(world, bundler):
    """The path of the entry of a bundle of twelve, and what its name says."""
    [path] = world.files("ready")
    return path, Bundle.parse(999, os.path.basename(path))


@pytest.fixture
def other(world, bundler):
    """Another client, which leaves the housekeeping to others, too."""
    return world.broker(clean=False)


def over(world):
    """Let all leases be over."""
    world.clock.advance(world.broker(clean=False).settings(QUEUE).message_timeout + 1)


# Claims that follow each other


def test_a_bundle_is_there_before_its_entry_which_is_empty_and_opened_once(
    world, bundler, bundle
):
    path, found = bundle
    [directory] = bundle_directories(world)
    assert os.path.basename(directory) == found.id
    assert os.listdir(directory) == ["lines"]
    assert Path(path).read_bytes() == b""
    bundler.ack(bundler.consume(QUEUE, 3))
    assert world.files("ready") == [f"{path}.open"]
    bundler.consume(QUEUE, 8)
    assert world.files("ready") == [f"{path}.open"]
    assert Path(f"{path}.open").read_bytes() == b""


def test_each_claim_begins_where_the_last_one_ended(world, bundler, other):
    received = []
    for client, n in ((bundler, 2), (other, 1), (other, 4), (bundler, 3), (other, 9)):
        received.append(texts(client.consume(QUEUE, n)))
    assert received == [ALL[:2], ALL[2:3], ALL[3:7], ALL[7:10], ALL[10:]]
    assert claims(world) == [(0, 2), (2, 3), (3, 7), (7, 10), (10, 12)]
    assert len(world.ranges()) == 5


def test_claims_stay_when_they_are_over_so_that_each_can_tell_whether_one_was_made(
    world, bundler
):
    for _ in range(3):
        bundler.ack(bundler.consume(QUEUE, 2))
    assert claims(world) == [(0, 2), (2, 4), (4, 6)]
    assert ended_claims(world) == ["0-2-12", "2-4-12", "4-6-12"]
    assert world.ranges() == []


def test_who_claims_the_last_line_removes_the_entry(world, bundler):
    bundler.consume(QUEUE, 11)
    assert len(world.files("ready")) == 1
    bundler.consume(QUEUE)
    assert world.files("ready") == []
    assert view(world) == Counts(0, 12, 0, 0)


def test_an_entry_that_its_last_claimer_could_not_remove_is_removed_by_the_next_client(
    world, bundler, refusing
):
    calls = refusing("unlink", errno.EIO, "/ready/")
    assert texts(world.broker(calls, clean=False).consume(QUEUE, 12)) == ALL
    assert len(world.files("ready")) == 1
    assert world.broker(clean=False).consume(QUEUE, 12) == []
    assert world.files("ready") == []
    assert view(world) == Counts(0, 12, 0, 0)


def test_a_bundle_that_is_empty_when_a_client_comes_hides_nothing_behind_it(
    world, bundler, refusing
):
    world.clock.advance(1)
    bundler.publish(QUEUE, "behind")
    calls = refusing("unlink", errno.EIO, "/ready/")
    world.broker(calls, clean=False).consume(QUEUE, 12)
    assert texts(world.broker(clean=False).consume(QUEUE, 12)) == ["behind"]


def test_more_lines_than_one_name_can_tell_are_taken_by_several_claims(world):
    client = world.broker(clean=False)
    client.publish_many(QUEUE, map(str, range(150)))
    assert texts(client.consume(QUEUE, 150)) == list(map(str, range(150)))
    assert claims(world) == [(0, 50), (50, 100), (100, 150)]


# Beside competitors


def meanwhile(world, place, act, times=1, among=("symlink",)):
    """Return a client before some of whose calls at a place others do something."""
    left = list(range(times))

    def call(_, name, function, arguments):
        if name in among and place in str(arguments[-1]) and left:
            left.pop()
            act()
        return function(*arguments)

    return world.broker(Calls(call), clean=False)


@pytest.mark.parametrize("theirs", [1, 3, 9])
def test_who_is_slower_claims_behind_the_faster_one_with_the_same_lease(
    world, bundler, theirs
):
    competitors: list[list[str]] = []
    late = meanwhile(
        *(
            world,
            "/bundles/",
            lambda: competitors.append(bundler.consume(QUEUE, theirs)),
        )
    )
    mine = late.consume(QUEUE, 3)
    assert texts(competitors[0]) == ALL[:theirs]
    assert texts(mine) == ALL[theirs : theirs + 3]
    assert len(world.ranges()) == 2
    late.ack(mine)
    bundler.ack(competitors[0])
    assert view(world) == Counts(9 - theirs, 0, 0, 0)


def test_who_is_slower_again_and_again_pauses_for_longer_each_time(
    world, bundler, monkeypatch
):
    """Not for the first time: what we knew of the bundle was old, and nobody may be there now."""
    began, pauses = world.clock.monotonic(), []

    def faster():
        world.clock.advance(0.01)
        bundler.consume(QUEUE)

    def sleep(seconds):
        spent = world.clock.monotonic() - began
        pauses.append(seconds)
        assert 0 < seconds < 4 * spent
        world.clock.advance(seconds)

    monkeypatch.setattr("ddmq.storage.bundles.random_below", lambda limit: limit - 1)
    monkeypatch.setattr(world.clock, "sleep", sleep)
    late = meanwhile(world, "/bundles/", faster, times=4)
    assert texts(late.consume(QUEUE)) == ALL[4:5]
    assert len(pauses) == 3
    assert pauses[0] < 0.1 < pauses[1] * 2 < pauses[2] * 2
    assert len(world.ranges()) == 5


def test_a_lease_begins_with_the_claim_however_often_others_were_faster(
    world, bundler, other
):
    """Else it would be over when its messages are received, and others would get them too."""

    def faster():
        world.clock.advance(200)
        bundler.ack(bundler.consume(QUEUE))

    late = meanwhile(world, "/bundles/", faster, times=4)
    [message] = late.consume(QUEUE)
    assert texts([message]) == ALL[4:5]
    world.clock.advance(message.timeout - 1)
    other.clean(QUEUE)
    late.ack(message)


def test_who_finds_that_all_was_claimed_leaves_no_lease(world, bundler):
    late = meanwhile(world, "/bundles/", lambda: bundler.consume(QUEUE, 12))
    assert late.consume(QUEUE, 3) == []
    assert len(world.ranges()) == 1
    assert view(world) == Counts(0, 12, 0, 0)


def test_who_is_slower_time_and_again_leaves_no_lease_of_those_claims(world, bundler):
    late = meanwhile(world, "/bundles/", lambda: bundler.consume(QUEUE), times=9)
    assert texts(late.consume(QUEUE)) == ["9"]
    assert claims(world) == [(n, n + 1) for n in range(10)]
    assert len(world.ranges()) == 10


def test_a_listing_that_misses_the_last_claims_costs_another_try(world, bundler, other):
    class Torn(FileSystem):
        def listing(self, path):
            names = super().listing(path)
            return [name for name in names if name not in ("4", "5")]

    for n in (2, 2, 1, 2):
        bundler.consume(QUEUE, n)
    late = world.broker(Torn(), clean=False)
    assert texts(late.consume(QUEUE, 2)) == ["7", "8"]
    assert claims(world)[-2:] == [(5, 7), (7, 9)]


def answering(name, place, code):
    """Return system calls of which those at a place are made, but answer with an error."""

    def call(_, made, function, arguments):
        result = function(*arguments)
        if made == name and place in str(arguments[-1]) and left:
            left.pop()
            raise OSError(code, os.strerror(code), arguments[0])
        return result

    left = [None]
    return Calls(call)


@pytest.mark.parametrize(
    "code", [errno.EEXIST, errno.EIO, errno.ENOSPC, errno.EACCES, errno.EROFS]
)
def test_a_claim_that_was_made_though_its_reply_was_lost_is_ours(world, bundler, code):
    client = world.broker(answering("symlink", "/bundles/", code), clean=False)
    messages = client.consume(QUEUE, 5)
    assert texts(messages) == ALL[:5]
    assert claims(world) == [(0, 5)]
    client.ack(messages)
    assert view(world) == Counts(7, 0, 0, 0)


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOSPC, errno.EIO])
def test_a_lease_that_was_made_and_then_refused_when_it_was_sent_again_loses_no_line(
    world, bundler, code
):
    sent_twice = answering("rename", "/work/", code)
    with pytest.raises(StorageError):
        world.broker(sent_twice, clean=False).consume(QUEUE, 5)
    over(world)
    bundler.clean(QUEUE)
    messages = bundler.consume(QUEUE, 20)
    assert sorted(texts(messages), key=int) == ALL
    assert {message.losses for message in messages} == {0}


def test_who_gets_no_lease_makes_no_claim(world, bundler):
    """Its draft may have been cleaned away while the client was suspended."""

    def call(_, name, function, arguments):
        if name == "rename" and f"{world.path}/tmp/" in arguments[0] and left:
            left.pop()
            os.unlink(arguments[0])
        return function(*arguments)

    left = [None]
    messages = world.broker(Calls(call), clean=False).consume(QUEUE, 5)
    assert len(world.ranges()) == len(claims(world))
    over(world)
    bundler.clean(QUEUE)
    assert len(messages) in (0, 5)
    assert sorted(texts(bundler.consume(QUEUE, 20)), key=int) == ALL


def test_a_claim_that_nobody_can_read_is_told_and_its_lease_is_kept(
    world, bundler, refusing
):
    """The link may be ours, and the lease the only one of its lines."""
    [directory] = bundle_directories(world)

    def done_though_it_failed(_, name, function, arguments):
        if name == "readlink" and arguments[0].startswith(directory):
            raise OSError(errno.ESTALE, "stale", arguments[0])
        result = function(*arguments)
        if name == "symlink" and arguments[1].startswith(directory):
            raise FileExistsError(errno.EEXIST, "exists", arguments[1])
        return result

    client = world.broker(Calls(done_though_it_failed), clean=False)
    with pytest.raises(StorageError, match="nobody can tell whose claim it is"):
        client.consume(QUEUE, 5)
    assert len(world.ranges()) == 1
    over(world)
    bundler.clean(QUEUE)
    found = [*bundler.consume(QUEUE, 20), *bundler.consume(QUEUE, 20)]
    assert sorted(texts(found), key=int) == ALL


def test_a_lease_is_kept_while_the_server_calls_a_bundle_stale_that_it_still_lists(
    world, bundler
):
    """Its claim is made, so without the lease nobody would know of the lines."""
    [directory] = bundle_directories(world)
    made = []

    def stale(_, name, function, arguments):
        if made and name == "open" and directory in arguments[0]:
            raise OSError(errno.ESTALE, "stale", arguments[0])
        if name == "symlink" and arguments[1].startswith(directory):
            made.append(arguments[1])
        return function(*arguments)

    with pytest.raises(StorageError, match="no longer knows it"):
        world.broker(Calls(stale), clean=False).consume(QUEUE, 5)
    assert len(world.ranges()) == len(claims(world)) == len(made) == 1
    over(world)
    bundler.clean(QUEUE)
    assert sorted(texts(bundler.consume(QUEUE, 20)), key=int) == ALL


def _as_file(path):
    Path(path).touch()


def _as_link(target):
    return lambda path: os.symlink(target, path)


#: What a member may put where the next claim is made, and what can't be one.
PLANTED = pytest.mark.parametrize(
    "plant",
    [
        _as_file,
        os.mkdir,
        *map(_as_link, ["nonsense", f"0.{'0' * 16}", f"13.{'0' * 16}", "../../x"]),
    ],
)


@PLANTED
def test_what_is_no_claim_is_told_and_leaves_no_lease(world, bundler, caplog, plant):
    """Neither by those who consume, again and again, nor by a purge, which ends."""
    [directory] = bundle_directories(world)
    plant(f"{directory}/0")
    bundler.publish_many(QUEUE, [f"behind {n}" for n in range(12)])
    consumer = world.broker()
    for _ in range(12):
        world.clock.advance(31)
        [found] = consumer.consume(QUEUE)
        assert found.message.startswith("behind")
        consumer.ack(found)
    assert world.ranges() == []
    told = [record for record in caplog.records if "is no claim of ddmq" in str(record)]
    assert len(told) == 1
    with pytest.raises(StorageError, match="no claim of ddmq; remove it"):
        world.broker(crashing_before(5000), clean=False).purge(QUEUE)
    if os.path.isdir(f"{directory}/0"):
        os.rmdir(f"{directory}/0")
    else:
        os.unlink(f"{directory}/0")
    found = []
    while more := world.broker(clean=False).consume(QUEUE, 50):
        found += more
    assert set(ALL) <= set(texts(found))


@pytest.mark.parametrize(
    ("name", "target"), [("1", "99999"), ("9" * 20, "x"), ("9" * 200, "x"), ("٣", "9")]
)
def test_a_number_that_can_be_no_claim_hides_no_messages(world, bundler, name, target):
    bundler.consume(QUEUE)
    [directory] = bundle_directories(world)
    os.symlink(f"{target}.{'0' * 16}", f"{directory}/{name}")
    assert view(world) == Counts(11, 1, 0, 0)
    with suppress(StorageError):
        world.broker(clean=False).consume(QUEUE)
    assert sum(view(world)) == 12


def test_no_claim_goes_before_the_messages_of_its_bundle(world, bundler):
    """A client that was suspended might take lines again of which the claims are gone."""

    def act():
        other = world.broker(clean=False)
        other.ack(other.consume(QUEUE, 12))
        world.clock.advance(HOUR)  # the late one was suspended for so long
        world.broker().clean(QUEUE)  # its lease is taken over, and never was one

        def call(_, name, function, arguments):
            if name == "unlink" and str(arguments[0]).endswith("/lines"):
                raise OSError(errno.EIO, "io", arguments[0])
            return function(*arguments)

        world.broker(Calls(call)).clean(QUEUE)

    left = [act]

    def late(_, name, function, arguments):
        if name == "symlink" and "/bundles/" in str(arguments[-1]) and left:
            left.pop()()
        return function(*arguments)

    got = world.broker(Calls(late), clean=False).consume(QUEUE, 3)
    assert texts(got) == []
    world.clock.advance(2 * 86400)
    world.broker().clean(QUEUE)
    assert world.files("tmp") == world.files("bundles") == []


@pytest.mark.slow
def test_threads_may_note_more_than_is_remembered(world):
    bundles, errors = store_of(world).bundles, []

    def note(thread):
        try:
            for number in range(100_000):
                bundles._note_end(f"{thread}-{number}", 1)
        except RuntimeError as error:
            errors.append(error)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=note, args=(n,)) for n in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert errors == []


# A claim that can't be made


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_claim_that_is_refused_at_any_call_leaves_nothing(world, bundler, code):
    for n in range(100):
        calls = counting()
        client = world.broker(calls, clean=False)
        client.settings(QUEUE)
        calls.call, before = failing(len(calls.made) + n, code).call, len(calls.made)
        messages = []
        with suppress(StorageError):
            messages = client.consume(QUEUE, 3)
        assert os.listdir(f"{world.path}/tmp") == []
        assert len(world.ranges()) == bool(messages)
        assert view(world) == Counts(12 - len(messages), len(messages), 0, 0)
        if messages:
            break  # what fails then is the look whether its messages are there
    assert n > 10
    assert calls.made[before + n - 1 :] in (["symlink", "open"], ["open", "close"])


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
@pytest.mark.parametrize(
    ("name", "place"), [("symlink", "/tmp/"), ("rename", "/work/")]
)
def test_a_lease_that_can_not_be_made_claims_nothing(world, bundler, name, place, code):
    def call(_, made, function, arguments):
        if made == name and place in arguments[-1]:
            raise OSError(code, os.strerror(code), arguments[0])
        return function(*arguments)

    with pytest.raises(StorageError):
        world.broker(Calls(call), clean=False).consume(QUEUE, 3)
    assert claims(world) == world.ranges() == os.listdir(f"{world.path}/tmp") == []
    assert view(world) == Counts(12, 0, 0, 0)


def test_a_claim_that_failed_for_no_known_reason_keeps_its_lease_until_that_is_over(
    world, bundler
):
    def call(_, name, function, arguments):
        if name == "symlink" and "/bundles/" in arguments[1]:
            raise OSError(errno.EIO, "failed", arguments[1])
        return function(*arguments)

    with pytest.raises(StorageError):
        world.broker(Calls(call), clean=False).consume(QUEUE, 3)
    assert len(world.ranges()) == 1
    assert view(world) == Counts(12, 0, 0, 0)
    over(world)
    bundler.clean(QUEUE)
    messages = bundler.consume(QUEUE, 12) + bundler.consume(QUEUE, 12)
    assert texts(messages) == ALL
    assert {message.losses for message in messages} == {0}


# A client that died


def test_lines_of_a_claim_whose_client_died_come_back_and_count_a_loss(world, bundler):
    claim_cut_short(world, 3)
    assert view(world) == Counts(9, 3, 0, 0)
    over(world)
    sweeper = world.broker()
    assert sweeper.view(QUEUE)[QUEUE] == Counts(12, 0, 0, 0)
    assert world.ranges() == []
    again = {m.message: m.losses for m in sweeper.consume(QUEUE, 12)}
    assert again == {text: int(int(text) < 3) for text in ALL}


def test_lines_of_a_claim_that_was_not_made_come_back_to_their_place_and_count_nothing(
    world, bundler
):
    claim_in_vain(world, 3)
    assert view(world) == Counts(12, 0, 0, 0)
    over(world)
    assert bundler.clean(QUEUE) == Swept()
    assert world.ranges() == []
    messages = bundler.consume(QUEUE, 3) + bundler.consume(QUEUE, 12)
    assert texts(messages) == ALL
    assert {message.losses for message in messages} == {0}


def test_the_lease_of_a_claim_that_a_competitor_made_is_removed(world, bundler):
    claim_in_vain(world, 3)
    held = bundler.consume(QUEUE, 5)
    bundler.renew(held[0], 2 * HOUR)
    bundler.ack(held[1:])
    over(world)
    assert bundler.clean(QUEUE) == Swept()
    assert view(world) == Counts(7, 1, 0, 0)
    assert world.ranges() == []


def test_while_its_lease_lasts_nobody_makes_the_claim_of_who_died(world, bundler):
    claim_in_vain(world, 3)
    world.broker().clean(QUEUE)
    assert claims(world) == []
    assert texts(bundler.consume(QUEUE, 12)) == ALL


@pytest.mark.parametrize("n", [1, 12])
def test_wherever_a_client_dies_that_claims_no_line_is_lost_or_told_twice(world, n):
    for dies in range(100):
        bundler = world.broker(clean=False)
        bundler.publish_many(QUEUE, ALL)
        calls = crashing_before(10**9)
        client = world.broker(calls, clean=False)
        client.settings(QUEUE)
        calls.call = crashing_before(len(calls.made) + dies).call
        try:
            ended = bool(client.consume(QUEUE, n))
        except Crash:
            ended = False
        assert sum(view(world)) == 12
        over(world)
        bundler.clean(QUEUE)
        assert view(world) == Counts(12, 0, 0, 0)
        while messages := bundler.consume(QUEUE, 99):
            bundler.ack(messages)
        bundler.clean(QUEUE)
        assert bundle_directories(world) == []
        if ended:
            break
    assert 5 < dies < 99


# All that waits is claimed


def test_who_claims_the_rest_ends_that_claim_at_once_and_removes_the_entry(
    world, bundler, bundle
):
    bundler.consume(QUEUE, 2)
    rest = store_of(world).bundles.claim_rest(*bundle)
    assert (rest.first, rest.end, rest.stamps) == (2, 12, 10)
    assert ended_claims(world) == ["2-12-12"]
    assert claims(world) == [(0, 2), (2, 12)]
    assert world.files("ready") == []
    assert view(world) == Counts(0, 2, 0, 0)


def test_who_claims_the_rest_beside_a_competitor_claims_what_is_left(
    world, bundler, bundle
):
    calls = interrupted(1, lambda: bundler.consume(QUEUE, 5), "symlink")
    rest = store_of(world, FileSystem(calls)).bundles.claim_rest(*bundle)
    assert (rest.first, rest.end) == (5, 12)
    assert len(world.ranges()) == 1
    assert view(world) == Counts(0, 5, 0, 0)


def test_where_nothing_is_left_who_claims_the_rest_only_removes_the_entry(
    world, bundler, bundle, refusing
):
    calls = refusing("unlink", errno.EIO, "/ready/")
    world.broker(calls, clean=False).consume(QUEUE, 12)
    assert store_of(world).bundles.claim_rest(*bundle) is None
    assert world.files("ready") == []
    assert len(world.ranges()) == 1


def test_an_entry_that_got_another_name_meanwhile_is_removed_with_its_bundle(
    world, bundler, bundle, refusing
):
    """Who removes the entry may know it by the name that it had before it was opened."""
    calls = refusing("unlink", errno.EIO, "/ready/")
    client = world.broker(calls, clean=False)
    client.ack(client.consume(QUEUE, 12))
    store_of(world).bundles.drain(bundle[0], bundle[1].id)
    assert world.files("ready") == [f"{bundle[0]}.open"]
    bundler.clean(QUEUE)
    assert world.files("ready") == bundle_directories(world) == []


def test_who_claims_the_rest_and_can_not_remove_the_entry_leaves_nothing_to_count(
    world, bundler, bundle, refusing
):
    store = store_of(world, refusing("unlink", errno.EIO, "/ready/"))
    with pytest.raises(OSError, match="Input/output error"):
        store.bundles.claim_rest(*bundle)
    assert view(world) == Counts(0, 0, 0, 0)
    bundler.clean(QUEUE)
    assert world.files("ready") == bundle_directories(world) == []


# A bundle that is finished


def test_a_bundle_is_removed_when_each_claim_is_over(world, bundler):
    first, second = bundler.consume(QUEUE, 5), bundler.consume(QUEUE, 12)
    bundler.ack(second)
    bundler.clean(QUEUE)
    assert len(bundle_directories(world)) == 1
    bundler.ack(first)
    bundler.clean(QUEUE)
    assert world.files("work") == bundle_directories(world) == []
    assert os.listdir(f"{world.path}/tmp") == []


def test_its_messages_are_removed_before_its_claims(world, bundler, bundle):
    bundler.ack(bundler.consume(QUEUE, 12))
    removed = []

    def call(_, name, function, arguments):
        if name in ("rename", "unlink", "rmdir"):
            removed.append((name, os.path.basename(str(arguments[0]))))
        result = function(*arguments)
        if name == "listdir":  # whoever removes what is listed begins at the end
            result = sorted(result, key=lambda listed: listed != "lines")
        return result

    bundles = store_of(world, FileSystem(Calls(call))).bundles
    removed.clear()
    assert bundles.remove_if_finished(bundle[1].id) is True
    assert removed[:2] == [("rename", bundle[1].id), ("unlink", "lines")]
    names = {name.partition(".")[0] for _, name in removed[2:-1]}
    assert names == {"0", "0-12-12", "drained"}


@pytest.mark.parametrize(
    "missed",
    [("0-4-12",), ("4-8-12",), ("8-12-12",), ("0", "4", "8-12-12")],
)
def test_a_listing_that_leaves_out_claims_removes_no_bundle(
    world, bundler, bundle, missed
):
    class Torn(FileSystem):
        def listing(self, path):
            names = super().listing(path)
            return [name for name in names if name.partition(".")[0] not in missed]

    for _ in range(3):
        bundler.ack(bundler.consume(QUEUE, 4))
    id_ = bundle[1].id
    assert store_of(world, Torn()).bundles.remove_if_finished(id_) is False
    assert store_of(world).bundles.remove_if_finished(id_) is True
    assert store_of(world).bundles.remove_if_finished(id_) is False


@pytest.mark.parametrize("missed", [(), ("0",), ("0", "4", "8")])
def test_only_claims_that_are_over_count_and_not_those_that_were_made(
    world, bundler, bundle, missed
):
    class Torn(FileSystem):
        def listing(self, path):
            return [name for name in super().listing(path) if name not in missed]

    bundles = store_of(world, Torn()).bundles
    first, second, third = (bundler.consume(QUEUE, 4) for _ in range(3))
    assert bundles.remove_if_finished(bundle[1].id) is False
    bundler.ack(first + third)
    assert bundles.remove_if_finished(bundle[1].id) is False
    bundler.nack(second)
    assert bundles.remove_if_finished(bundle[1].id) is False
    bundler.ack(bundler.consume(QUEUE, 4))
    assert bundles.remove_if_finished(bundle[1].id) is True


def test_a_bundle_of_which_nothing_was_taken_is_not_finished(world, bundler, bundle):
    assert store_of(world).bundles.remove_if_finished(bundle[1].id) is False
    assert store_of(world).bundles.remove_if_finished("0" * 20) is False


def test_who_ended_a_claim_looks_once_whether_it_was_the_last(world, bundler, bundle):
    def seem_finished(client, **options):
        return client.bundles.seem_finished(os.listdir(client.layout.work), **options)

    id_, store, other = bundle[1].id, bundler._queue(QUEUE).store, store_of(world)
    assert seem_finished(store) == []
    assert seem_finished(store, of_all=True) == []  # nobody has opened it
    message = bundler.consume(QUEUE)
    assert seem_finished(store, of_all=True) == []  # it has a leased range
    bundler.ack(message)
    assert seem_finished(store) == [id_]
    assert seem_finished(other) == []
    assert seem_finished(other, of_all=True) == [id_]
    assert store.bundles.remove_if_finished(id_) is False
    assert seem_finished(store) == []
    bundler.ack(bundler.consume(QUEUE))
    assert seem_finished(store) == [id_]


def test_the_client_that_ends_the_last_claim_removes_the_bundle_when_it_sweeps(
    world, bundler
):
    bundler.clean(QUEUE)
    first, last, bystander = (world.broker() for _ in range(3))
    messages = first.consume(QUEUE, 6), last.consume(QUEUE, 6)
    first.ack(messages[0])
    last.ack(messages[1])
    for client, left in ((bystander, 1), (last, 0)):
        world.clock.advance(2)
        client.publish(QUEUE, "x")
        assert len(bundle_directories(world)) == left


def test_a_client_remembers_no_bundle_that_others_removed(world, bundler):
    store = bundler._queue(QUEUE).store
    for _ in range(3):
        bundler.publish_many(QUEUE, ALL)
        while messages := bundler.consume(QUEUE, 12):
            bundler.ack(messages)
        world.broker(clean=False).clean(QUEUE)
    ended = store.bundles.seem_finished(os.listdir(store.layout.work))
    assert [store.bundles.remove_if_finished(id_) for id_ in ended] == [False] * 4
    assert store.bundles.seem_finished(os.listdir(store.layout.work)) == []
    assert store.bundles._ended == set()


def test_who_never_looks_for_finished_bundles_notes_no_more_and_more_of_them(world):
    bundles = store_of(world).bundles
    for number in range(10_100):
        bundles.note_end_of_claim(f"{number:020x}")
    assert len(bundles._ended) == 10_000


def test_what_a_client_finished_that_then_died_is_removed_by_a_cleaning(world, bundler):
    bundler.ack(bundler.consume(QUEUE, 12))
    sweeper = world.broker()
    assert len(bundle_directories(world)) == 1
    world.clock.advance(700)
    sweeper.publish(QUEUE, "x")  # nobody has cleaned for long
    assert bundle_directories(world) == []


def test_who_goes_on_with_a_bundle_that_was_removed_meanwhile_leaves_no_lease(
    world, bundler, other
):
    bundler.ack(bundler.consume(QUEUE, 11))
    other.ack(other.consume(QUEUE))
    other.clean(QUEUE)
    assert bundle_directories(world) == []
    assert bundler.consume(QUEUE) == []
    assert world.files("work") == os.listdir(f"{world.path}/tmp") == []


def test_who_opens_a_bundle_that_is_gone_with_its_bucket_gets_nothing(
    world, bundler, bundle
):
    path, found = bundle
    bundler.ack(bundler.consume(QUEUE, 12))
    bundler.clean(QUEUE)
    with suppress(FileNotFoundError):
        os.rmdir(os.path.dirname(path))
    assert store_of(world).claim(Waiting(found, path), 60, 5) == []
    assert world.files("work") == world.files("ready") == []


@pytest.mark.parametrize("name", ["unlink", "rmdir"])
def test_who_claims_while_a_bundle_is_removed_gets_nothing(world, bundler, other, name):
    bundler.ack(bundler.consume(QUEUE, 11))
    other.ack(other.consume(QUEUE))
    received = []
    cleaner = meanwhile(
        *(world, "/tmp/", lambda: received.append(bundler.consume(QUEUE))),
        among=(name,),
    )
    cleaner.clean(QUEUE)
    assert received == [[]]
    assert world.files("work") == bundle_directories(world) == []


def test_a_claim_that_is_made_in_a_bundle_without_messages_is_none(world, bundler):
    """It was finished, and is being removed: its claims may be gone already."""
    [directory] = bundle_directories(world)
    client = meanwhile(world, "/bundles/", lambda: os.unlink(f"{directory}/lines"))
    assert client.consume(QUEUE, 3) == []
    assert world.ranges() == []


# A line whose bundle is gone


def test_a_line_that_others_settled_is_lost_though_its_bundle_is_gone_too(
    world, bundler
):
    messages = bundler.consume(QUEUE, 12)
    bundler.ack(messages)
    bundler.clean(QUEUE)
    assert world.files("work") == []
    late = world.broker(clean=False)
    for settle in (late.nack, late.release, late.reject):
        with pytest.raises(LeaseLost):
            settle(messages[0])
    assert view(world) == Counts(0, 0, 0, 0)


def test_a_line_whose_bundle_can_not_be_found_stays_where_it_is(world, bundler, caplog):
    """It may be in a directory that comes back: nothing that is not found is given up."""
    message = bundler.consume(QUEUE, 12)[3]
    [directory] = bundle_directories(world)
    away = f"{world.root}/away"
    os.rename(directory, away)
    late = world.broker(clean=False)
    with pytest.raises(StorageError, match="this bundle can't be found"):
        late.nack(message)
    over(world)
    world.clock.advance(10 * HOUR)
    assert late.clean(QUEUE) == Swept()
    assert caplog.text == ""  # on a network file system, one look may miss it
    world.clock.advance(HOUR)
    for _ in range(3):
        assert late.clean(QUEUE) == Swept()
        world.clock.advance(HOUR)
    assert len(world.ranges()) == 1
    assert caplog.text.count("this bundle can't be found") == 1
    os.rename(away, directory)
    assert late.clean(QUEUE).requeued == 12
    assert sorted(texts(late.consume(QUEUE, 12)), key=int) == ALL


def lost_lines(world, bundler, n):
    """Return leases of a bundle that somebody removed."""
    bundler.publish_many(QUEUE, map(str, range(n)), priority=0)
    before = bundle_directories(world)
    messages = bundler.consume(QUEUE, n)
    id_ = messages[0].id.partition("-")[0]
    [directory] = [path for path in before if id_ in path]
    os.rename(directory, f"{world.root}/lost")
    return messages


def test_housekeeping_looks_less_and_less_often_for_a_bundle_that_is_missed(
    world, bundler
):
    id_ = lost_lines(world, bundler, 12)[0].id.partition("-")[0]
    over(world)
    looks = set()

    def call(_, name, function, arguments):
        if name == "open" and id_ in str(arguments[0]):
            looks.add(round(world.clock.monotonic()))
        return function(*arguments)

    late = world.broker(Calls(call), clean=False)
    for _ in range(150):
        assert late.clean(QUEUE).requeued == 0
        world.clock.advance(2)
    times = sorted(looks)
    pauses = [later - earlier for earlier, later in zip(times, times[1:])]
    assert pauses == sorted(pauses)
    assert 4 < len(looks) < 12


def test_bundles_that_come_after_some_were_lost_are_found(world, bundler):
    lost = lost_lines(world, bundler, 12)
    late = world.broker(clean=False)
    for message, pause in zip(lost, (0, 31, 0)):
        with pytest.raises(StorageError, match="this bundle can't be found"):
            late.nack(message)
        world.clock.advance(pause)
    bundler.publish_many(QUEUE, ["new"] * 10, priority=0)
    [new, *_] = bundler.consume(QUEUE, 3)
    began = world.clock.monotonic()
    late.nack(new)
    assert world.clock.monotonic() == began
    assert "new" in texts(late.consume(QUEUE))


def test_a_lease_of_a_bundle_is_settled_whose_entry_is_passed_over(
    world, bundler, bundle, caplog
):
    """What a client passes over for claiming it still finds for those who hold it."""
    message = bundler.consume(QUEUE, 2)[1]
    client = world.broker(failing_to_open(world, errno.EACCES, 1), clean=False)
    assert client.consume(QUEUE) == []
    assert "is passed over" in caplog.text
    client.nack(message)
    assert view(world) == Counts(11, 1, 0, 0)
    over(world)
    assert client.clean(QUEUE).requeued == 1


def test_a_file_that_is_named_like_the_lease_of_a_line_is_quarantined(world):
    name = f"{'1' * 13}.5.{'1' * 19}.abc.0-0.{TOKEN}.line"
    world.put(f"work/{name}")
    broker = world.broker(clean=False)
    broker.clean(QUEUE)
    assert broker.consume(QUEUE) == []
    [dead] = broker.dead(QUEUE)
    assert dead.reason == f"not a message of ddmq; it was work/{name}"
    assert view(world) == Counts(0, 0, 0, 1)


# What bundles hold


def test_many_bundles_are_read_whole_and_few_are_kept(world):
    world.bundle_size = 2
    broker = world.broker()
    broker.publish_many(QUEUE, map(str, range(60)))
    messages = broker.consume(QUEUE, 60)
    assert texts(messages) == [str(n) for n in range(60)]
    late = world.broker()
    for message in messages:  # each bundle is read again
        late.nack(message)
    again = set(texts(late.consume(QUEUE, 60)))
    assert again == {str(n) for n in range(60)}


def test_odd_names_that_end_like_ours_keep_no_bundle(world, bundler):
    bundler.ack(bundler.consume(QUEUE, 12))
    for name in ("junk.range", "junk.line", "junk.detached"):
        world.put(f"work/{name}")
    world.broker().publish(QUEUE, "x")
    assert bundle_directories(world) == []


def test_a_bundle_of_almost_a_megabyte_is_read_whole(world):
    bundler = world.broker(clean=False)
    large = [letter * 60_000 for letter in "abcdefghijklmnop"]
    bundler.publish_many(QUEUE, large)
    assert len(world.files("ready")) == 1
    assert texts(bundler.consume(QUEUE, 99)) == large


def test_a_line_is_moved_to_another_queue_once(world, bundler):
    bundler.create_queue("other")
    messages = bundler.consume(QUEUE, 2)
    bundler.move(messages[0], "other")
    assert texts(bundler.consume("other")) == ["0"]
    assert view(world) == Counts(10, 1, 0, 0)
    bundler.move(messages[0], "other")  # its first reply may have been lost
    assert bundler.consume("other") == []
    assert view(world) == Counts(10, 1, 0, 0)


# A bundle that can't be read


def failing_to_open(world, code, times):
    """Return system calls that can't open the messages of the only bundle for a while."""

    def call(_, name, function, arguments):
        if name == "open" and arguments[0] == path and left:
            left.pop()
            raise OSError(code, os.strerror(code), path)
        return function(*arguments)

    [directory] = bundle_directories(world)
    path, left = f"{directory}/lines", list(range(times))
    return Calls(call)


@pytest.fixture
def lines(world, bundler):
    """The path of the messages of a bundle, behind which another message stands."""
    world.clock.advance(1)
    bundler.publish(QUEUE, "behind")
    [directory] = bundle_directories(world)
    return f"{directory}/lines"


@pytest.mark.parametrize("junk", [b"junk\n1\n2\n", b"", b"\n1\n"])
def test_a_bundle_that_holds_no_messages_is_quarantined_with_the_reason(
    world, lines, junk
):
    Path(lines).write_bytes(junk)
    client = world.broker(clean=False)
    assert texts(client.consume(QUEUE, 9)) == ["behind"]
    [dead] = client.dead(QUEUE)
    assert "a bundle that holds no messages" in dead.reason
    assert os.path.relpath(lines, world.path) in dead.reason
    assert world.files("ready") == world.ranges() == []


def test_a_directory_in_the_place_of_its_messages_is_quarantined(world, lines):
    os.unlink(lines)
    os.mkdir(lines)
    client = world.broker(clean=False)
    assert texts(client.consume(QUEUE, 9)) == ["behind"]
    assert not os.path.lexists(lines)
    assert len(client.dead(QUEUE)) == 1
    assert world.files("ready") == []


def test_a_bundle_that_we_may_not_read_is_passed_over_for_a_while(world, lines, caplog):
    client = world.broker(failing_to_open(world, errno.EACCES, 1), clean=False)
    assert texts(client.consume(QUEUE, 9)) == ["behind"]
    assert "can't be read and is passed over" in caplog.text
    world.clock.advance(29)
    assert client.consume(QUEUE, 9) == []
    world.clock.advance(2)
    assert len(client.consume(QUEUE, 12)) == 12


def test_an_entry_without_its_bundle_is_told_and_passed_over_and_stays(
    world, lines, caplog
):
    """Nothing that is not found is given up: the bundle may come back."""
    directory = os.path.dirname(lines)
    os.rename(directory, f"{world.root}/away")
    client = world.broker(clean=False)
    assert texts(client.consume(QUEUE, 9)) == ["behind"]
    assert client.consume(QUEUE, 9) == []
    assert caplog.text.count("can't be read and is passed over") == 1
    assert world.ranges() == os.listdir(f"{world.path}/tmp") == []
    os.rename(f"{world.root}/away", directory)
    world.clock.advance(31)
    assert texts(client.consume(QUEUE, 12)) == ALL


def test_an_entry_that_is_gone_when_its_bundle_is_not_found_is_no_trouble(
    world, lines, bundler, caplog
):
    """Others have finished the bundle between our listing and our look."""

    def finish():
        bundler.ack(bundler.consume(QUEUE, 12))
        bundler.clean(QUEUE)

    def call(_, name, function, arguments):
        if name == "open" and "/bundles/" in str(arguments[0]) and left:
            left.pop()
            finish()
        return function(*arguments)

    left = [None]
    client = world.broker(Calls(call), clean=False)
    assert texts(client.consume(QUEUE, 9)) == ["behind"]
    assert caplog.text == ""


def test_a_bundle_that_fails_to_be_read_is_told_but_does_not_stop_the_others(
    world, lines
):
    client = world.broker(failing_to_open(world, errno.EIO, 99), clean=False)
    messages = []
    for attempt in range(3):
        try:
            messages += client.consume(QUEUE, 9)
        except StorageError:
            assert attempt < 2
    assert texts(messages) == ["behind"]
    assert os.path.exists(lines)
    assert view(world) == Counts(12, 1, 0, 0)


def test_a_lease_that_is_read_while_its_bundle_is_missed_tells_so(world, bundler):
    message = bundler.consume(QUEUE, 12)[0]
    lease = Lease.parse(message.filename)
    [directory] = bundle_directories(world)
    os.rename(directory, f"{world.root}/away")
    with pytest.raises(OSError, match="this bundle can't be found"):
        store_of(world).read(lease)
