"""JSON from places where others write: read as if somebody wanted to do harm; pure."""

from __future__ import annotations

import json
from math import isfinite
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

#: How deep values may be nested: whoever shows them goes down as far.
MAX_DEPTH = 50
_YEAR_10000 = 253_402_300_800
_MAX_DIGITS = 300


def parsed(data: bytes) -> Any:
    """Return the JSON value in `data`, of which the caller read a bounded part.

    Raises ValueError for what is no JSON in UTF-8, is nested too deep, or has numbers beyond all
    measure: NaN, Infinity and 1e999 are no JSON either, and nobody can write them as such.
    """
    try:
        value = _decoder.decode(data.decode("utf-8"))
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    if _is_deep(value):
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    return value


def moment(value: Any) -> float | None:
    """Return a point in time, in seconds since 1970, before the year 10000; None: it is none."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value < _YEAR_10000 else None


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [each for outer in level for each in _members(outer)]
        if not level:
            return False
    return True


def _members(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError(f"{text:.40} is beyond all numbers")
    return number


def _whole(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError("a number has too many digits")
    return int(text)


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")


_decoder = json.JSONDecoder(
    parse_float=_finite, parse_int=_whole, parse_constant=_refuse
)
