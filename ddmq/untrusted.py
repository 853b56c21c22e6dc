"""JSON that others wrote, read as if they wanted to do harm; pure."""

from __future__ import annotations

import json
from math import isfinite
from typing import Any

from ddmq.settings import is_number

#: How deep values may be nested. Programs that print them call themselves once a level.
MAX_DEPTH = 50
_YEAR_10000 = 253_402_300_800
_MAX_DIGITS = 300


def parsed(data: bytes) -> Any:
    """Return the JSON value in `data`; the caller has limited its size.

    Raises ValueError when `data` is not JSON in UTF-8, or the value is nested too deep. NaN,
    Infinity and numbers that are too large (1e999) are refused as well: JSON can't hold them.
    """
    try:
        value = _decoder.decode(data.decode("utf-8"))
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return value
    raise ValueError(f"nested deeper than {MAX_DEPTH} levels")


def moment(value: Any) -> float | None:
    """Return `value` if it is a time: seconds since 1970, before the year 10000; else None."""
    return float(value) if is_number(value) and 0 <= value < _YEAR_10000 else None


def _float(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError(f"{text:.40} is beyond all numbers")
    return number


def _integer(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError("a number has too many digits")
    return int(text)


def _refused_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")


_decoder = json.JSONDecoder(
    parse_float=_float, parse_int=_integer, parse_constant=_refused_constant
)
