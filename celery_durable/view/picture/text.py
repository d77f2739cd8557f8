"""The width of text without a font: generous averages, so that text of any font fits its box."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from celery_durable.view.formatting import one_line, span

ELLIPSIS = "…"

NARROW, HALF, NORMAL, CAPITAL, WIDE, FULL = 0.32, 0.43, 0.63, 0.72, 0.98, 1.1
"""Widths of characters in ems, those of DejaVu Sans: other fonts of screens are narrower."""

_WIDTHS = {
    **dict.fromkeys("ijl.,:;'|!", NARROW),
    **dict.fromkeys("ft ()[]/\\`I-r", HALF),
    **dict.fromkeys("mwMW@%—", WIDE),
}


@dataclass(frozen=True, slots=True)
class Count:
    """A duration that goes on, since `at` or until then, and the `text` that says it."""

    text: str
    at: datetime
    is_until: bool = False


def since(at: datetime, now: datetime) -> Count:
    """How long ago `at` is."""
    return Count(span(now - at), at)


def until(at: datetime, now: datetime) -> Count:
    """How far off `at` is."""
    return Count(span(at - now), at, is_until=True)


def plain(text: str) -> str:
    """`text` on one line, with nothing in it that XML refuses."""
    return one_line(text).strip()


def width(text: str, size: float) -> float:
    """The width of `text` in a font of this size, rather too large than too small."""
    return size * sum(map(_em, text))


def _em(character: str) -> float:
    found = _WIDTHS.get(character)
    if found is not None:
        return found
    if unicodedata.combining(character):
        return 0.0
    if unicodedata.east_asian_width(character) in "WF":
        return FULL
    if character.isascii():
        return CAPITAL if character.isupper() else NORMAL
    return WIDE


def wrapped(parts: Iterable[str], separator: str, size: float, room: float) -> Iterator[str]:
    """Yield the parts as lines, as many of them in each as have room."""
    line = ""
    for part in parts:
        longer = f"{line}{separator}{part}" if line else part
        if line and width(longer, size) > room:
            yield line
            longer = part
        line = longer
    if line:
        yield line


def cut(text: str, size: float, room: float) -> str:
    """As much of `text` as has room; where it is cut it ends with an ellipsis."""
    if width(text, size) <= room:
        return text
    left = room - width(ELLIPSIS, size)
    kept = 0
    for character in text:
        left -= size * _em(character)
        if left < 0:
            break
        kept += 1
    return text[:kept].rstrip() + ELLIPSIS
