"""The bundles of one queue, where clients die and files vanish."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

import pytest
from protocol.scenes import HOUR, QUEUE, crashing_after_rename_into
from support import Calls, Crash, counting

from ddmq import Counts, LeaseLost, StorageError
from ddmq.fs import FileSystem
from ddmq.housekeeping import Swept

TOKEN = "0123456789abcdef"


@pytest.fixture
def publisher(world):
    """A client that published a bundle of twelve, and leaves the housekeeping to others."""
    publisher = world.broker(clean=False)
    assert publisher.publish_many(QUEUE, map(str, range(12))) == 12
    return publisher


def view(world):
    """Count as a client does that touches nothing else."""
    return world.broker(clean=False).view(QUEUE)[QUEUE]


def claim_cut_short(world, n):
    """Let a client die when it has taken lines, and their leases are not in `work/`."""
    with suppress(Crash):
        world.broker(crashing_after_rename_into("/ready/")).consume(QUEUE, n)
    assert len(world.drafts()) == n


def complete_first_draft(world):
    first = world.drafts()[0]
    os.rename(first, first.replace(".draft", ".line"))


# A claim whose client died


def test_what_a_client_took_before_it_died_is_counted_once(world, publisher):
    assert view(world) == Counts(12, 0, 0, 0)
    claim_cut_short(world, 3)
    assert view(world) == Counts(9, 3, 0, 0)
    complete_first_draft(world)
    assert view(world) == Counts(9, 3, 0, 0)
    assert len(world.drafts()) == 2


@pytest.fixture
def sweeper(world, publisher):
    """A client that only sweeps, since the queue was cleaned just now."""
    publisher.update_settings(QUEUE, message_timeout=30)
    publisher.clean(QUEUE)
    return world.broker()


def test_when_its_leases_are_over_one_sweep_requeues_all(world, sweeper):
    claim_cut_short(world, 3)
    world.clock.advance(31)
    assert sweeper.view(QUEUE)[QUEUE] == Counts(12, 0, 0, 0)
    assert world.files("work") == []


def test_all_lines_may_be_taken_by_a_client_that_died(world, publisher):
    claim_cut_short(world, 12)
    assert view(world) == Counts(0, 12, 0, 0)
    assert world.broker(clean=False).is_empty(QUEUE) is False


def test_who_purges_what_waits_completes_the_claim_of_who_died(world, publisher):
    claim_cut_short(world, 3)
    assert publisher.purge(QUEUE, ["waiting"]).waiting == 9
    assert view(world) == Counts(0, 3, 0, 0)
    world.clock.advance(HOUR)
    messages = world.broker().consume(QUEUE, 12)
    assert [message.message for message in messages] == ["0", "1", "2"]


def test_drafts_of_a_claim_that_was_not_made_go_and_those_of_one_that_was_stay(
    world, publisher
):
    held = publisher.consume(QUEUE, 2)
    claim_cut_short(world, 3)
    name = os.path.basename(world.drafts()[0]).replace(".draft", "")
    world.put(f"work/{name.rpartition('.')[0]}.{TOKEN}.draft")
    assert view(world) == Counts(7, 5, 0, 0)
    publisher.renew(held, 9 * HOUR)
    world.clock.advance(HOUR)
    assert world.broker(clean=False).clean(QUEUE).requeued == 3
    assert world.drafts() == []
    assert view(world) == Counts(10, 2, 0, 0)


def test_the_bundle_of_a_claim_in_vain_is_renamed_but_no_line_of_it_is_taken(
    world, publisher
):
    publisher.ack(publisher.consume(QUEUE, 2))
    [before] = world.files("ready")
    stamp, id_ = os.path.basename(before).split(".")[:2]
    priority = before.split("/")[-3]
    world.put(f"work/{'1' * 13}.{priority}.{stamp}.{id_}-2.0-0.{TOKEN}.draft")
    assert publisher.clean(QUEUE).requeued == 0
    assert world.drafts() == []
    [after] = world.files("ready")
    assert after != before
    assert view(world) == Counts(10, 0, 0, 0)
    assert len(publisher.consume(QUEUE, 12)) == 10


# A client that takes one line after the other


@pytest.fixture
def draft(world, publisher):
    """A message that was taken after another one was acked."""
    publisher.ack(publisher.consume(QUEUE))
    [message] = publisher.consume(QUEUE)
    assert len(world.drafts()) == 1
    return message


def test_a_draft_of_which_the_bundle_says_that_it_is_taken_is_a_lease(world, draft):
    assert view(world) == Counts(10, 1, 0, 0)
    assert world.broker(clean=False).leased(QUEUE, draft.id).id == draft.id


def test_a_draft_that_others_completed_is_acked_all_the_same(world, publisher, draft):
    [other] = world.broker(clean=False).consume(QUEUE)
    assert world.drafts() == []
    publisher.ack([draft, other])
    assert view(world) == Counts(9, 0, 0, 0)


def test_a_draft_that_is_over_is_lost(world, publisher, draft):
    world.clock.advance(HOUR)
    world.broker().clean(QUEUE)
    with pytest.raises(LeaseLost):
        publisher.ack(draft)
    assert view(world) == Counts(11, 0, 0, 0)


def test_a_draft_is_completed_before_its_bundle_gets_another_token(
    world, publisher, sweeper
):
    publisher.ack(publisher.consume(QUEUE))
    publisher.consume(QUEUE)
    [path] = world.drafts()
    name = os.path.basename(path).replace("-1.0-0.", "-2.0-0.").split(".")
    world.put(f"work/{'1' * 13}.{'.'.join(name[1:-2])}.{TOKEN}.draft")
    sweeper.view(QUEUE)
    assert world.drafts() == []
    assert view(world) == Counts(10, 1, 0, 0)
    world.clock.advance(31)
    assert sweeper.view(QUEUE)[QUEUE] == Counts(11, 0, 0, 0)


def test_who_takes_several_or_shares_a_bundle_leaves_no_draft(world, publisher, draft):
    publisher.ack(draft)
    several = publisher.consume(QUEUE, 2)
    assert world.drafts() == []
    publisher.ack(several)
    world.broker(clean=False).consume(QUEUE)
    publisher.consume(QUEUE)
    assert world.drafts() == []
    publisher.consume(QUEUE)  # which nobody acked meanwhile
    assert world.drafts() == []


def test_the_last_line_is_completed_for_nobody_claims_after(world, publisher):
    for _ in range(11):
        publisher.ack(publisher.consume(QUEUE))
    [last] = publisher.consume(QUEUE)
    assert world.drafts() == []
    publisher.ack(last)
    assert view(world) == Counts(0, 0, 0, 0)


def test_a_draft_of_a_claim_that_was_not_made_is_no_lease(world, draft):
    [path] = world.drafts()
    os.rename(path, path.replace(draft.filename.split(".")[-2], TOKEN))
    assert view(world) == Counts(10, 0, 0, 0)
    with pytest.raises(LeaseLost):
        world.broker(clean=False).leased(QUEUE, draft.id)


def test_a_draft_keeps_its_bundle_until_it_is_judged(world, publisher):
    [path] = world.files("ready")
    publisher.ack(publisher.consume(QUEUE, 12))
    stamp, id_ = os.path.basename(path).split(".")[:2]
    over = world.clock.time_ns() // 10**6 + 60_000
    world.put(f"work/{over}.999.{stamp}.{id_}-0.0-0.{TOKEN}.draft")
    assert publisher.is_empty(QUEUE)
    for seconds, left in ((11, 2), (50, 1), (2, 0)):
        world.clock.advance(seconds)
        publisher.clean(QUEUE)
        assert len(world.files("work")) == left


# A line whose bundle is gone


def test_a_line_that_others_settled_is_lost_though_its_bundle_is_gone_too(
    world, publisher
):
    messages = publisher.consume(QUEUE, 12)
    publisher.ack(messages)
    world.clock.advance(11)
    publisher.clean(QUEUE)
    assert world.files("work") == []
    late = world.broker(clean=False)
    for settle in (late.nack, late.release, late.reject):
        with pytest.raises(LeaseLost):
            settle(messages[0])
    assert view(world) == Counts(0, 0, 0, 0)


def test_a_line_whose_bundle_can_not_be_found_stays_where_it_is(
    world, publisher, caplog
):
    """It may be in a directory that comes back: nothing that is not found is given up."""
    message = publisher.consume(QUEUE, 12)[3]
    publisher.ack([m for m in publisher.consume(QUEUE, 12) if m.id != message.id])
    [spent] = [path for path in world.files("work") if "/spent." in path]
    away = f"{world.root}/away"
    os.rename(spent, away)
    late = world.broker(clean=False)
    with pytest.raises(StorageError, match="its bundle can't be found"):
        late.nack(message)
    world.clock.advance(message_timeout(world) + 1000 * HOUR)
    assert late.clean(QUEUE) == Swept()
    assert caplog.text == ""  # on a network file system, one look may miss it
    world.clock.advance(HOUR)
    for _ in range(3):
        assert late.clean(QUEUE) == Swept()
        world.clock.advance(HOUR)
    assert view(world) == Counts(0, 12, 0, 0)
    assert caplog.text.count("its bundle can't be found") == 1
    os.rename(away, spent)
    assert late.clean(QUEUE).requeued == 12


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_claim_that_was_made_and_then_refused_when_it_was_sent_again_loses_no_line(
    world, publisher, refusing, code
):
    sent_twice = refusing("rename", code, "/ready/", times=1, done=True)
    with suppress(StorageError):
        world.broker(sent_twice, clean=False).consume(QUEUE, 5)
    world.clock.advance(message_timeout(world) + 1)
    assert publisher.clean(QUEUE).requeued == 5
    assert len(publisher.consume(QUEUE, 20)) == 12


def lost_lines(world, publisher, n):
    """Return leases of a bundle that somebody removed."""
    publisher.publish_many(QUEUE, map(str, range(n)), priority=0)
    messages = publisher.consume(QUEUE, n)
    [spent] = [path for path in world.files("work") if "/spent." in path]
    os.unlink(spent)
    return messages


def seeks_in_vain(client, message):
    with pytest.raises(StorageError, match="its bundle can't be found") as caught:
        client.nack(message)
    assert f"/{QUEUE}/work/{message.filename}: " in str(caught.value)


def test_housekeeping_looks_once_everywhere_for_all_that_is_missed(world, publisher):
    """And less and less often, the longer a bundle is missed."""
    lost_lines(world, publisher, 12)
    world.clock.advance(message_timeout(world) + 1)
    calls = counting()
    late = world.broker(calls, clean=False)
    late.view(QUEUE)
    looks = []
    for _ in range(12):
        before = calls.made.count("listdir")
        late.clean(QUEUE)
        looks.append(calls.made.count("listdir") - before)
        world.clock.advance(2)
    usual = min(looks)
    assert sum(number > usual for number in looks) <= 5
    assert max(looks) <= usual + 12
    world.clock.advance(600)
    assert late.clean(QUEUE) == Swept()


def test_bundles_that_come_after_some_were_lost_are_found(world, publisher):
    lost = lost_lines(world, publisher, 12)
    late = world.broker(clean=False)
    for message, pause in zip(lost, (0, 31, 0)):
        seeks_in_vain(late, message)
        world.clock.advance(pause)
    publisher.publish_many(QUEUE, ["new"] * 10, priority=0)
    [new, *_] = publisher.consume(QUEUE, 3)
    began = world.clock.monotonic()
    late.nack(new)
    assert world.clock.monotonic() == began
    assert view(world) == Counts(20, 14, 0, 0)


def test_a_lease_of_a_bundle_is_settled_whose_bucket_is_passed_over(
    world, publisher, caplog
):
    """What a client passes over for claiming it still looks at for evidence."""
    message = publisher.consume(QUEUE, 2)[1]
    refuse = [True]

    def call(_, name, function, arguments):
        if name == "rename" and "/ready/" in arguments[0] and refuse:
            raise PermissionError(errno.EPERM, "not now", arguments[0])
        return function(*arguments)

    client = world.broker(Calls(call), clean=False)
    assert client.consume(QUEUE) == []
    assert "is passed over" in caplog.text
    refuse.clear()
    client.nack(message)
    assert view(world) == Counts(11, 1, 0, 0)
    world.clock.advance(message_timeout(world) + 1)
    assert client.clean(QUEUE).requeued == 1


def test_a_bundle_that_is_renamed_before_it_is_opened_is_looked_for_again(
    world, publisher
):
    def call(_, name, function, arguments):
        if name == "open" and "/ready/" in arguments[0] and not taken:
            taken.append(publisher.consume(QUEUE, 1))
        return function(*arguments)

    taken: list[object] = []
    [message] = publisher.consume(QUEUE, 1)
    world.broker(Calls(call), clean=False).nack(message)
    assert taken
    assert view(world) == Counts(11, 1, 0, 0)


def message_timeout(world):
    return world.broker(clean=False).settings(QUEUE).message_timeout


@pytest.mark.parametrize("suffix", ["line", "draft"])
def test_a_lease_that_says_no_line_is_a_dead_letter_with_the_reason(world, suffix):
    name = f"{'1' * 13}.5.{'1' * 19}.abc.0-0.{TOKEN}.{suffix}"
    world.put(f"work/{name}")
    broker = world.broker(clean=False)
    broker.clean(QUEUE)
    assert broker.consume(QUEUE) == []
    [dead] = broker.dead(QUEUE)
    assert dead.reason == "its file is empty"
    assert view(world) == Counts(0, 0, 0, 1)


# What bundles hold


def test_many_bundles_are_read_whole_and_few_are_kept(world):
    world.bundle_size = 2
    broker = world.broker()
    broker.publish_many(QUEUE, map(str, range(60)))
    messages = broker.consume(QUEUE, 60)
    assert [m.message for m in messages] == [str(n) for n in range(60)]
    late = world.broker()
    for message in messages:  # each bundle is found among those that are spent
        late.nack(message)
    again = {m.message for m in late.consume(QUEUE, 60)}
    assert again == {str(n) for n in range(60)}


def test_a_bundle_whose_lines_are_done_stays_until_all_listings_show_its_leases(
    world, publisher
):
    publisher.ack(publisher.consume(QUEUE, 12))
    now = world.clock.time_ns() // 1_000_000
    assert world.files("work")[0].startswith(f"{world.path}/work/spent.{now:013d}.")
    world.clock.advance(9.999)
    publisher.clean(QUEUE)
    assert len(world.files("work")) == 1
    world.clock.advance(0.002)
    publisher.clean(QUEUE)
    assert world.files("work") == []


def test_a_bundle_of_which_nothing_waits_after_a_purge_is_no_longer_in_line(
    world, publisher
):
    publisher.ack(publisher.consume(QUEUE, 2))
    assert publisher.purge(QUEUE, ["waiting"]).waiting == 10
    assert world.files("ready") == []
    world.clock.advance(11)
    publisher.clean(QUEUE)
    assert world.files("work") == []


# A claim that can't be made, or not to its end


def test_a_claim_whose_drafts_can_not_be_made_takes_nothing_and_leaves_nothing(
    world, publisher
):
    def call(_, name, function, arguments):
        if ".draft" in str(arguments[0]):
            made.append(name)
            if len(made) == 4:
                raise OSError(errno.ENOSPC, "full", arguments[0])
        return function(*arguments)

    made: list[str] = []
    client = world.broker(Calls(call), clean=False)
    with pytest.raises(StorageError):
        client.consume(QUEUE, 12)
    assert world.drafts() == []
    assert view(world) == Counts(12, 0, 0, 0)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
def test_a_claim_that_is_refused_takes_nothing_and_leaves_nothing(
    world, publisher, refusing, code
):
    client = world.broker(refusing("rename", code, "/ready/"), clean=False)
    with pytest.raises(StorageError):
        client.consume(QUEUE, 3)
    assert world.drafts() == []
    assert view(world) == Counts(12, 0, 0, 0)


def test_leases_that_can_not_be_moved_come_back_and_the_others_are_consumed(
    world, publisher
):
    def call(_, name, function, arguments):
        if name == "rename" and ".draft" in arguments[0]:
            moved.append(arguments[0])
            if len(moved) > 5:
                raise OSError(errno.EIO, "failed", arguments[0])
        return function(*arguments)

    moved: list[str] = []
    client = world.broker(Calls(call), clean=False)
    messages = client.consume(QUEUE, 12)
    assert [m.message for m in messages] == [str(n) for n in range(5)]
    assert moved.count(moved[5]) > 1  # it is tried again
    client.ack(messages)
    assert view(world) == Counts(0, 7, 0, 0)
    world.clock.advance(HOUR)
    late = world.broker()
    late.clean(QUEUE)
    again = late.consume(QUEUE, 12)
    assert [m.message for m in again] == [str(n) for n in range(5, 12)]


def test_a_claim_of_which_no_lease_can_be_moved_is_an_error_and_comes_back(
    world, publisher
):
    def call(_, name, function, arguments):
        if name == "rename" and ".draft" in arguments[0]:
            raise OSError(errno.EIO, "failed", arguments[0])
        return function(*arguments)

    with pytest.raises(StorageError):
        world.broker(Calls(call), clean=False).consume(QUEUE, 3)
    assert view(world) == Counts(9, 3, 0, 0)
    world.clock.advance(HOUR)
    late = world.broker()
    late.clean(QUEUE)
    assert {m.message for m in late.consume(QUEUE, 12)} == {str(n) for n in range(12)}


def test_who_is_slower_than_a_rival_leaves_no_drafts(world, publisher):
    def call(_, name, function, arguments):
        if name == "rename" and "/ready/" in arguments[0] and not rivals:
            rivals.append(publisher.consume(QUEUE, 3))
        return function(*arguments)

    rivals: list[object] = []
    messages = world.broker(Calls(call), clean=False).consume(QUEUE, 2)
    assert [m.message for m in messages] == ["3", "4"]
    assert world.drafts() == []


def test_who_looks_for_a_bundle_waits_while_others_rename_it(world, publisher):
    """A listing may miss a name that is changed just then."""

    class Missing(FileSystem):
        def listing(self, path):
            names = super().listing(path)
            if "/ready/" in path or path.endswith("/work"):
                looks.append(world.clock.monotonic())
                if len(looks) < 6:
                    return [n for n in names if n.count(".") < 4 or ".line" in n]
            return names

    looks: list[float] = []
    message = publisher.consume(QUEUE, 2)[1]
    began = world.clock.monotonic()
    late = world.broker(Missing(), clean=False)
    late.nack(message)
    assert 0.1 < world.clock.monotonic() - began < 3
    assert view(world) == Counts(11, 1, 0, 0)


def test_who_purges_what_is_leased_completes_the_claim_of_who_died_first(
    world, publisher
):
    claim_cut_short(world, 3)
    assert publisher.purge(QUEUE, ["work"]).work == 3
    assert view(world) == Counts(9, 0, 0, 0)
    assert len(world.broker().consume(QUEUE, 12)) == 9


def test_a_purge_of_what_is_leased_counts_messages_and_no_bundle(world, publisher):
    publisher.consume(QUEUE, 12)
    assert any("/spent." in path for path in world.files("work"))
    assert publisher.purge(QUEUE, ["work"]).work == 12
    assert view(world) == Counts(0, 0, 0, 0)


def test_a_purge_counts_nothing_of_a_bundle_that_a_rival_took_whole(world, publisher):
    def call(_, name, function, arguments):
        if name == "rename" and "/ready/" in arguments[0] and not rivals:
            rivals.append(publisher.consume(QUEUE, 12))
        return function(*arguments)

    rivals: list[object] = []
    client = world.broker(Calls(call), clean=False)
    assert client.purge(QUEUE, ["waiting"]).waiting == 0
    assert view(world) == Counts(0, 12, 0, 0)


def test_a_line_that_was_renewed_has_a_file_of_its_own_and_needs_no_bundle(
    world, publisher
):
    *others, last = publisher.consume(QUEUE, 12)
    publisher.ack(others)
    renewed = publisher.renew(last)
    world.clock.advance(11)
    publisher.clean(QUEUE)
    assert len(world.files("work")) == 1
    late = world.broker(clean=False)
    late.nack(renewed)
    assert [m.message for m in late.consume(QUEUE)] == ["11"]


def test_odd_names_that_end_like_lines_keep_no_bundle(world, publisher):
    publisher.ack(publisher.consume(QUEUE, 12))
    odd = ("junk.line", f"{'9' * 13}.5.{'1' * 19}.abc.0-0.{TOKEN}.line")
    for name in odd:
        world.put(f"work/{name}")
    world.broker().clean(QUEUE)  # it sets aside what is no lease
    world.put("work/junk.line")
    world.clock.advance(11)
    world.broker().publish(QUEUE, "x")  # it only sweeps
    left = [os.path.basename(path) for path in world.files("work")]
    assert sorted(left) == sorted(odd)


def test_what_is_named_like_a_spent_bundle_but_is_delayed_is_set_aside(world):
    world.put(f"delayed/spent.{'1' * 13}.{'a' * 20}")
    broker = world.broker(clean=False)
    broker.clean(QUEUE)
    assert view(world) == Counts(0, 0, 0, 1)
    assert "delayed/spent." in broker.dead(QUEUE)[0].reason


def test_a_bundle_of_almost_a_megabyte_is_read_whole(world):
    publisher = world.broker(clean=False)
    texts = [letter * 60_000 for letter in "abcdefghijklmnop"]
    publisher.publish_many(QUEUE, texts)
    assert len(world.files("ready")) == 1
    assert [m.message for m in publisher.consume(QUEUE, 99)] == texts


def test_what_a_publisher_of_many_writes_may_take_a_day(world):
    draft = os.path.dirname(world.put("tmp/abc/one"))
    client = world.broker(clean=False)
    for hours, left in ((23, ["tmp/abc/one"]), (25, [])):
        then = world.clock.time_ns() - hours * HOUR * 10**9
        os.utime(draft, ns=(then, then))
        assert client.clean(QUEUE).removed == (0 if left else 1)
        assert world.files("tmp") == [f"{world.path}/{path}" for path in left]
    assert os.listdir(f"{world.path}/tmp") == []


# A bundle that can't be read


def one_behind(world, publisher):
    """Let a message stand behind the bundle; return the bundle's path."""
    [path] = world.files("ready")
    world.clock.advance(1)
    publisher.publish(QUEUE, "behind")
    return path


def test_a_bundle_that_holds_no_messages_is_set_aside_with_the_reason(world, publisher):
    path = one_behind(world, publisher)
    Path(path).write_bytes(b"junk\n1\n2\n")
    client = world.broker(clean=False)
    assert [m.message for m in client.consume(QUEUE, 9)] == ["behind"]
    [dead] = client.dead(QUEUE)
    assert "a bundle that holds no messages" in dead.reason
    assert os.path.relpath(path, world.path) in dead.reason


def test_a_directory_that_is_named_like_a_bundle_is_set_aside(world, publisher):
    path = one_behind(world, publisher)
    os.unlink(path)
    os.mkdir(path)
    client = world.broker(clean=False)
    assert [m.message for m in client.consume(QUEUE, 9)] == ["behind"]
    assert not os.path.lexists(path)
    assert len(client.dead(QUEUE)) == 1


def failing_to_open(path, code, times):
    def call(_, name, function, arguments):
        if name == "open" and arguments[0] == path and left:
            left.pop()
            raise OSError(code, os.strerror(code), path)
        return function(*arguments)

    left = list(range(times))
    return Calls(call)


def test_a_bundle_that_we_may_not_read_is_passed_over_for_a_while(
    world, publisher, caplog
):
    path = one_behind(world, publisher)
    client = world.broker(failing_to_open(path, errno.EACCES, 1), clean=False)
    assert [m.message for m in client.consume(QUEUE, 9)] == ["behind"]
    assert f"{path} can't be read and is passed over" in caplog.text
    world.clock.advance(29)
    assert client.consume(QUEUE, 9) == []
    world.clock.advance(2)
    assert len(client.consume(QUEUE, 12)) == 12


def test_a_bundle_that_fails_to_be_read_is_told_but_does_not_stop_the_others(
    world, publisher
):
    path = one_behind(world, publisher)
    client = world.broker(failing_to_open(path, errno.EIO, 99), clean=False)
    with pytest.raises(StorageError):
        client.consume(QUEUE, 9)
    messages = []
    for _ in range(2):
        with suppress(StorageError):
            messages += client.consume(QUEUE, 9)
    assert [m.message for m in messages] == ["behind"]
    assert os.path.exists(path)
    assert view(world) == Counts(12, 1, 0, 0)


def test_a_line_is_moved_to_another_queue_once(world, publisher):
    publisher.create_queue("other")
    messages = publisher.consume(QUEUE, 2)
    publisher.move(messages[0], "other")
    assert [m.message for m in publisher.consume("other")] == ["0"]
    assert view(world) == Counts(10, 1, 0, 0)
    with pytest.raises(LeaseLost):
        publisher.move(messages[0], "other")
    assert view(world) == Counts(10, 1, 0, 0)
