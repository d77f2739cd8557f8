"""Values as people type them into forms: JSON, and whole numbers."""

from __future__ import annotations

import json
from typing import Any, NoReturn

MOST_DIGITS = 9
"""Of a whole number that fits into an integer of Postgres."""

MOST_DIGITS_OF_ID = 18
"""Of one that fits into a bigint."""


def json_of(text: str) -> Any:
    """The value of JSON text. Raises `ValueError`."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def whole_of(text: str, most_digits: int = MOST_DIGITS) -> int | None:
    """The whole number that a text says; None if it says none, or one that is too large."""
    is_whole = text.isascii() and text.isdecimal() and len(text) <= most_digits
    return int(text) if is_whole else None
