"""The rules of a bundle's claims hold in every state, and each of them is needed."""

from __future__ import annotations

from typing import Any

import pytest
from protocol.claims_model import RULES, Search, Setup, Worker

CLAIMS = Worker(claims=1)
NACKS = Worker(claims=1, nacks=1)
AHEAD = Worker(claims=1, letters=("t", "tt"), starts=1)
RELEASES_ONE = Worker(claims=1, letters=("t",), nacks=1)
TAKES = Worker(claims=0, takes=1)
KEEPS = Worker(claims=0, keeps=1)
KEEPS_TWICE = Worker(claims=0, keeps=2)

# For each rule a setup in which the search sees that it is missing.
NEEDED: dict[str, dict[str, Any]] = {
    "draft": {"lines": 1, "clients": (CLAIMS, TAKES, KEEPS), "lost": 1},
    "look": {"lines": 1, "clients": (CLAIMS, CLAIMS, KEEPS), "expiries": 0},
    "link-on-behalf": {"lines": 1, "clients": (CLAIMS, KEEPS)},
    "files-first": {"lines": 1, "clients": (NACKS, KEEPS)},
    "new-holder": {"lines": 1, "clients": (NACKS, KEEPS), "limit": 0},
    "unlink-unproven": {"lines": 1, "clients": (CLAIMS, CLAIMS, KEEPS)},
    "no-mark-with-d": {"lines": 1, "clients": (NACKS,), "expiries": 0},
    "file-of-holder": {
        "lines": 1,
        "clients": (NACKS, Worker(claims=0, takes=1, nacks=1), KEEPS_TWICE),
    },
    "letter-before-move": {"lines": 1, "clients": (NACKS,), "expiries": 0},
    "lines-first": {
        "lines": 1,
        "clients": (CLAIMS, CLAIMS, KEEPS),
        "expiries": 0,
        "handles": True,
    },
    "marks-cover": {
        "lines": 1,
        "clients": (CLAIMS, KEEPS),
        "expiries": 0,
        "torn": True,
    },
    "ask-after-enoent": {"lines": 1, "clients": (CLAIMS, KEEPS)},
    "gone-is-gone": {"lines": 1, "clients": (CLAIMS, CLAIMS, KEEPS), "expiries": 0},
    "sweep-by-proof": {
        "lines": 1,
        "clients": (Worker(claims=1, nacks=1, renews=1), KEEPS),
        "expiries": 0,
    },
    "sweep-by-claim": {
        "lines": 2,
        "clients": (Worker(claims=1, nacks=1, letters=("oo",)), CLAIMS, KEEPS),
        "expiries": 0,
    },
    "start-first": {"lines": 1, "clients": (AHEAD, KEEPS)},
    "never-again": {"lines": 1, "clients": (CLAIMS, KEEPS, KEEPS), "expiries": 2},
    "fewer-leave": {"lines": 2, "clients": (AHEAD, KEEPS)},
    "unstarted-apart": {"lines": 1, "clients": (RELEASES_ONE, KEEPS)},
}

QUICK: dict[str, dict[str, Any]] = {
    "two workers claim and ack": {
        "lines": 3,
        "clients": (Worker(claims=2, letters=("o", "oo")), CLAIMS),
        "expiries": 0,
        "lost": 1,
    },
    "a lease expires, and a reply is lost": {
        "lines": 1,
        "clients": (CLAIMS, TAKES, KEEPS_TWICE),
        "lost": 1,
    },
    "who took over is taken over": {
        "lines": 1,
        "clients": (NACKS, KEEPS, KEEPS),
        "expiries": 2,
    },
    "purge": {
        "lines": 2,
        "clients": (CLAIMS, Worker(claims=0, purges=1), KEEPS),
        "expiries": 1,
    },
    "the disk may take no file": {
        "lines": 2,
        "clients": (AHEAD, KEEPS),
        "full": True,
        "lost": 1,
    },
    "lines are taken ahead twice": {
        "lines": 2,
        "clients": (
            Worker(claims=1, letters=("tt",), starts=1),
            Worker(claims=0, letters=("t",), takes=1, starts=1),
            KEEPS_TWICE,
        ),
        "expiries": 2,
    },
}

LONG: dict[str, dict[str, Any]] = {
    "nacks and two takeovers": {
        "lines": 2,
        "clients": (
            Worker(claims=1, nacks=2, letters=("oo",), renews=1),
            TAKES,
            KEEPS_TWICE,
        ),
        "expiries": 2,
    },
    "a nack, a rival, and sweeping": {
        "lines": 2,
        "clients": (
            Worker(claims=1, nacks=1, letters=("o", "oo")),
            CLAIMS,
            KEEPS_TWICE,
        ),
    },
    "at the limit of losses": {
        "lines": 2,
        "clients": (Worker(claims=1, nacks=1, letters=("ot",)), CLAIMS, KEEPS_TWICE),
        "limit": 0,
    },
    "two lost replies in a race": {
        "lines": 2,
        "clients": (CLAIMS, Worker(claims=1, letters=("o", "oo")), KEEPS),
        "lost": 2,
    },
    "a lost reply in a purge": {
        "lines": 2,
        "clients": (CLAIMS, Worker(claims=0, purges=1), KEEPS),
        "lost": 1,
    },
    "releases": {
        "lines": 2,
        "clients": (
            Worker(claims=1, letters=("oo",), releases=1, renews=1),
            Worker(claims=0, takes=1, releases=1),
            KEEPS,
        ),
        "lost": 1,
    },
    "handles that follow a renamed directory": {
        "lines": 2,
        "clients": (
            Worker(claims=1, letters=("o", "oo")),
            Worker(claims=1, letters=("o", "oo")),
            KEEPS_TWICE,
        ),
        "handles": True,
    },
    "two housekeepers": {
        "lines": 2,
        "clients": (Worker(claims=1, letters=("oo",), nacks=1), TAKES, KEEPS, KEEPS),
        "expiries": 2,
    },
    "two housekeepers of lines taken ahead, and the disk may take no file": {
        "lines": 2,
        "clients": (Worker(claims=1, letters=("tt",), starts=1), KEEPS, KEEPS),
        "expiries": 2,
        "full": True,
        "lost": 1,
    },
}


def search(config: dict[str, Any]) -> None:
    states, wrong, steps = Search(Setup(**config)).run()
    assert not wrong, "\n".join([f"{states} states: {wrong}", *steps])
    assert states > 10


def test_every_rule_has_a_setup_that_needs_it():
    assert set(NEEDED) == set(RULES)


@pytest.mark.parametrize("rule", sorted(RULES))
def test_a_rule_is_needed(rule):
    search(NEEDED[rule])
    _, wrong, _ = Search(Setup(**NEEDED[rule], without=frozenset({rule}))).run()
    assert wrong
    assert wrong != "too many states"


# "born": the directory and its lines are there before the bundle is published.
@pytest.mark.parametrize("born", [False, True])
@pytest.mark.parametrize("name", QUICK)
def test_each_line_is_in_one_state(name, born):
    search({**QUICK[name], "born": born})


@pytest.mark.campaign
@pytest.mark.parametrize("born", [False, True])
@pytest.mark.parametrize("name", LONG)
def test_each_line_is_in_one_state_in_larger_setups(name, born):
    search({**LONG[name], "born": born})
