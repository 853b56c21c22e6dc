"""Which messages a user names: by ids, beginnings of ids, a key or a text.

A whole id is used as it is, and costs no call. Only for what else a user gives is the queue read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ddmq.cli.spec import NAMES, option, positional
from ddmq.errors import DdmqError, InvalidArgument, MessageNotFound
from ddmq.printable import printable, quoted, text_of
from ddmq.storage.names import is_id, is_made_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ddmq import Broker, DeadLetter

#: The matches that are listed where there are several, and the characters of each text.
_LISTED, _LONGEST = 20, 100


class Match(NamedTuple):
    """A message that may be meant."""

    id: str
    state: str
    text: str


class SeveralMessages(DdmqError):
    """The user has to choose one of the messages that match; nothing was changed.

    Each is in `matches`.
    """

    def __init__(self, text: str, matches: list[Match], number: int) -> None:
        super().__init__(f"{text}; nothing was changed: give the id of one")
        self.matches = [match._asdict() for match in matches[:_LISTED]]
        #: What people are shown below the error.
        self.lines = [
            printable(f"{id_}  {state}  {shown[:_LONGEST]}".rstrip())
            for id_, state, shown in matches[:_LISTED]
        ]
        if number > len(self.lines):
            self.lines.append(f"and {number - len(self.lines):,} more")


class Named(NamedTuple):
    """How messages are named."""

    id: list[str] | None = positional(
        "ids, or the beginning of an id that no other message has",
        NAMES,
        is_required=False,
        metavar="ID[,ID...]",
    )
    key: str | None = option(
        "--key", "in place of an id: the message published with this key", metavar="KEY"
    )
    text: str | None = option(
        "--text",
        "in place of an id: the message with this text, or with this in its text",
        metavar="TEXT",
    )


def in_queue(
    broker: Broker, queue: str, *, journals: bool = False
) -> Callable[[str], Iterator[Match]]:
    """Return what yields the messages of a queue whose id begins with a text.

    With `journals`, messages that workers have run are yielded, too.
    """

    def look(beginning: str) -> Iterator[Match]:
        for seen in broker.contents(queue, work=True, id_begins=beginning):
            yield Match(seen.id, seen.state, text_of(seen.message))
        for run in broker.log(queue) if journals else ():
            if run.id.startswith(beginning):
                yield Match(run.id, run.result, run.text)

    return look


def in_letters(
    letters: Callable[[], Iterable[DeadLetter]],
) -> Callable[[str], Iterator[Match]]:
    """Return what yields the dead letters whose id begins with a text."""

    def look(beginning: str) -> Iterator[Match]:
        for letter in letters():
            if letter.id.startswith(beginning):
                yield Match(letter.id, "dead", text_of(letter.message))

    return look


class Selection:
    """Finds the messages of a queue that a user names.

    `look` yields those that may be meant. `what` they are is for error messages. With
    `whole_text`, a part of a text is not enough: the message that has the whole text may have
    ended, and then another one must not be taken for it.
    """

    def __init__(
        self,
        broker: Broker,
        queue: str,
        look: Callable[[str], Iterator[Match]],
        what: str = "message",
        *,
        whole_text: bool = False,
    ) -> None:
        self._broker = broker
        self._queue = queue
        self._look = look
        self._what = what
        self._whole_text = whole_text

    def ids(self, named: Named, *, keeps_unknown: bool = False) -> list[str] | None:
        """Return the ids of the messages that are named; None: the user names none.

        MessageNotFound: there is no such message. An id that no message has is returned all the
        same where it is whole, or with `keeps_unknown`: the caller says what that means.
        SeveralMessages: the user has to choose.
        """
        given = [each for each in named if each is not None]
        if len(given) > 1:
            raise InvalidArgument("give an id, --key or --text, and only one of them")
        if named.key is not None:
            return self._with_key(named.key)
        if named.text is not None:
            return self._with_text(named.text)
        if named.id is None:
            return None
        if "" in named.id:  # an unset variable, say, with which all ids begin
            raise InvalidArgument("an id is empty; give that of a message")
        if not all(map(is_id, named.id)):
            raise self._no_id(",".join(named.id))
        return [
            self._beginning(each, keeps_unknown=keeps_unknown)
            for each in dict.fromkeys(named.id)
        ]

    def required(self, named: Named, *, keeps_unknown: bool = False) -> list[str]:
        """Return the same; InvalidArgument: the user names no message."""
        found = self.ids(named, keeps_unknown=keeps_unknown)
        if found is None:
            raise InvalidArgument("name a message: give an id, --key or --text")
        return found

    def _beginning(self, word: str, *, keeps_unknown: bool) -> str:
        if is_made_id(word):
            return word
        found = _each_once(self._look(word))
        if word in found or (keeps_unknown and not found):
            return word
        if not found:
            raise self._no_id(word)
        return self._only(found, f"ids that begin with {word}")

    def _with_key(self, key: str) -> list[str]:
        keyed = self._broker.published_with(self._queue, key)
        if keyed is None:
            raise MessageNotFound(
                f"queue {self._queue}: nothing was published with key {_shown(key)}; "
                "keys are exact, and `ddmq forget` removes them"
            )
        number, first, last = keyed
        bundle = first.rpartition("-")[0]
        if number == 1:
            return [first]
        how = f"published with key {_shown(key)}"
        if bundle != last.rpartition("-")[0]:
            ends = [Match(first, "the first", ""), Match(last, "the last", "")]
            text = f"{number:,} messages were {how}"
            raise SeveralMessages(text, ends, len(ends))
        found = _each_once(self._look(f"{bundle}-"))
        if not found:
            raise MessageNotFound(f"queue {self._queue}: no {self._what} {how}")
        return [self._only(found, how)]

    def _with_text(self, text: str) -> list[str]:
        if not text:  # an unset variable, say, which all texts hold
            raise InvalidArgument("--text is empty; give a part of the message's text")
        found = _each_once(each for each in self._look("") if text in each.text)
        if not found:
            raise MessageNotFound(
                f"queue {self._queue}: no {self._what} with the text {_shown(text)}"
            )
        same = {id_: each for id_, each in found.items() if each.text == text}
        if self._whole_text and not same:
            raise SeveralMessages(
                f"queue {self._queue} has no {self._what} with exactly the text {_shown(text)}, "
                f"and {len(found):,} with this in the text",
                list(found.values()),
                len(found),
            )
        return [self._only(same or found, f"with the text {_shown(text)}")]

    def _only(self, found: dict[str, Match], how: str) -> str:
        if len(found) == 1:
            return next(iter(found))
        text = f"queue {self._queue} has {len(found):,} {self._what}s {how}"
        raise SeveralMessages(text, list(found.values()), len(found))

    def _no_id(self, word: str) -> MessageNotFound:
        return MessageNotFound(
            f"{printable(word)}: no {self._what} of queue {self._queue} has this id, or an id that "
            f"begins so; {by_text(word)}"
        )


def by_text(word: str) -> str:
    """Say how a message is found by its text, where a user gave that in place of an id."""
    return f"to find a message by its text, give --text {quoted(word)}"


def _each_once(matches: Iterable[Match]) -> dict[str, Match]:
    found: dict[str, Match] = {}
    for each in matches:
        found.setdefault(each.id, each)
    return found


def _shown(text: str) -> str:
    return f"'{printable(text)}'"
