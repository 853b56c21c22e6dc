"""What ddmq 0.9 called what a program may still ask for; imported only to say so."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_MESSAGE = "give the message that `consume` returned, or `leased(queue, name)`"
_CLEAN = "a broker that leaves the housekeeping to others is Broker(root, clean=False)"
_SETTLED = {"queue": _MESSAGE, "msg_files": _MESSAGE, "clean": _CLEAN}
#: By method and keyword: what to write instead.
_KEYWORDS = {
    "publish": {
        "msg_text": "it is now message=, any JSON value",
        "clean": _CLEAN,
        "requeue_counter": "it is counted by ddmq alone; requeue_limit= is yours",
    },
    "consume": {"clean": _CLEAN},
    "ack": {**_SETTLED, "requeue": "to have it tried again is nack(message)"},
    "nack": {
        **_SETTLED,
        "requeue": "never again is reject(message); else its own requeue= and "
        "requeue_limit= decide",
    },
    "clean": {"force": "it cleans whenever it is called"},
}
_METHODS = {
    "list_queues": "queues()",
    "purge_queue": "purge(queue)",
    "get_message_list": "view(queue) or peek(queue, n)",
    "get_message": "find(queue, id)",
    "delete_message": "cancel(queue, ids)",
    "requeue_message": "nack(message)",
    "get_settings": "settings(queue)",
    "get_config_file": "settings(queue)",
    "update_settings_file": "update_settings(queue, KEY=VALUE)",
    "check_dir": "queues()",
    "version": "ddmq.__version__",
}


def former_keyword(method: str, keywords: Iterable[str]) -> str | None:
    """Say what to write in place of a keyword of ddmq 0.9; None: there is none among these."""
    known = _KEYWORDS.get(method, {})
    for keyword in keywords:
        if keyword in known:
            return f"{method} has no {keyword}=, as in ddmq 0.9: {known[keyword]}"
    return None


def former_method(name: str) -> str:
    """Say what the name of a method of ddmq 0.9 is now; empty where it is none."""
    now = _METHODS.get(name)
    return f"; it was one of ddmq 0.9, and is now {now}" if now else ""
