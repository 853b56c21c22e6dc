"""Names of every kind, as Hypothesis makes them."""

from __future__ import annotations

from hypothesis import strategies as st

from ddmq.storage.dead_letters import Dead
from ddmq.storage.delayed import Delayed
from ddmq.storage.names import (
    MAX_PRIORITY,
    MAX_RANGE,
    MAX_STAMP,
    Bundle,
    Entry,
    Lease,
    policy_of,
)
from ddmq.storage.range_names import (
    DETACHED,
    LEFT,
    OPEN,
    OVER,
    TAKEN,
    UNSTARTED,
    Range,
    RangeLease,
)

priorities = st.integers(0, MAX_PRIORITY)
stamps = st.integers(0, MAX_STAMP)
ids = st.from_regex("[a-z0-9-]{1,64}", fullmatch=True)
counts = st.integers(0, 999_999_999)
milliseconds = st.integers(0, 10**13 - 1)
overrides = st.fixed_dictionaries(
    {},
    optional={
        "timeout": st.integers(1000, 10**12).map(lambda n: n / 1000),
        "requeue": st.booleans(),
        "requeue_prio": priorities,
        "requeue_limit": st.none() | st.integers(0, 10**8),
    },
)
policies = overrides.map(policy_of)
entries = st.builds(Entry, priorities, stamps, ids, counts, counts, policies)
tokens = st.from_regex("[0-9a-f]{16}", fullmatch=True)
leases = st.builds(
    Lease.of,
    entries,
    milliseconds,
    tokens,
    st.sampled_from(["", ".line"]),
    is_started=st.booleans(),
)
bundle_ids = st.from_regex("[0-9a-f]{20}", fullmatch=True)
line_numbers = st.integers(0, 99_999)


def bundle_of(priority, last, id_, lines, policy):
    return Bundle(priority, last - lines + 1, id_, lines, policy)


bundles = st.builds(
    bundle_of,
    priorities,
    st.integers(10**5, MAX_STAMP - 10**5),
    bundle_ids,
    line_numbers,
    policies,
)


@st.composite
def spans(draw):
    """Where a range begins and ends, how many lines its bundle has, and a letter for each."""
    first = draw(st.integers(0, 99_998))
    end = draw(st.integers(first + 1, min(first + MAX_RANGE, 99_999)))
    state = draw(
        st.text(OPEN + TAKEN + LEFT + OVER, min_size=end - first, max_size=end - first)
    )
    return (
        first,
        end,
        draw(st.integers(end, 99_999)),
        draw(st.just(state) | st.just(OVER)),
    )


ranges = st.builds(
    lambda span, priority, stamp, id_, token, *counted: Range(
        priority, stamp, id_, *span[:3], token, span[3], *counted
    ),
    spans(),
    priorities,
    st.integers(0, MAX_STAMP - 10**5),
    bundle_ids,
    tokens,
    counts,
    counts,
    policies,
)
marks = st.from_regex("[0-9a-f]{6}", fullmatch=True)


@st.composite
def range_leases_made(draw):
    """Leased ranges, of some of which a line is detached."""
    held = RangeLease(draw(ranges), draw(milliseconds), draw(tokens))
    opened = held.range.lines()
    if opened and draw(st.booleans()):
        letter = draw(st.sampled_from([DETACHED, UNSTARTED]))
        held = held.marked([draw(st.sampled_from(opened))], letter, draw(marks))
    return held


range_leases = range_leases_made()
delayed = st.builds(Delayed, st.one_of(entries, bundles, ranges), milliseconds)
dead = st.builds(Dead, entries, tokens, st.from_regex("[a-z]{1,20}", fullmatch=True))

#: Text that looks like a name, most of it a little wrong.
ALMOST = (
    r"([0-9]{12,14}\.)?(0?[0-9]{1,19}\.)?[0-9]{18,20}\.[a-z0-9A-]{0,3}"
    r"\.0?[0-9]{1,10}-[0-9]{1,2}(\.[0-9a-g]{15,17}|\.[a-z]{0,21})?\n?"
)
texts = st.one_of(st.text(), st.from_regex(ALMOST, fullmatch=True))
