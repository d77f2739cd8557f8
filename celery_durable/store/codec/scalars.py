"""Types without parts: how a value of exactly this type is written, and read.

A subclass is another type: a pandas timestamp is a datetime, and holds more.
"""

from __future__ import annotations

import base64
import ipaddress
import sys
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from pathlib import PosixPath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from celery_durable.store.codec.path import ValuePath

TYPE = "__type__"
VALUE = "__value__"

Json = Any
"""Anything that `json` can write: dict, list, str, int, float, bool, None."""

MOST_BITS = 14_280
"""Python reads no whole number of more than 4,300 digits from text (sys.set_int_max_str_digits)."""


def tagged(kind: str, value: Json) -> Json:
    """The tagged form of kombu."""
    return {TYPE: kind, VALUE: value}


def checked_text(value: str, path: ValuePath) -> str:
    """A string that Postgres and every reader takes. Refuses any other."""
    if "\0" in value:
        path.refuse(value, "it holds the NUL character, which Postgres refuses")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            path.refuse(value, f"it holds a lone surrogate, {error.object[error.start]!r}")
    return value


def checked_int(value: int, path: ValuePath) -> int:
    """A whole number that Python reads back. Refuses any other."""
    if value.bit_length() > MOST_BITS:
        path.refuse(value, "it has more digits than Python reads back")
    return value


def _moment(value: datetime | time, path: ValuePath) -> Json:
    """ISO 8601 where that says everything; else the zone as a value of its own, and `fold`."""
    zone = value.tzinfo
    is_fixed = type(zone) is timezone and len(zone.__getinitargs__()) == 1  # type: ignore[attr-defined]
    if is_fixed and zone is not None and (offset := zone.utcoffset(None)) is not None:
        # `fromisoformat` reads an offset of less than a second as none.
        is_fixed = not offset.microseconds
    if (zone is None or is_fixed) and not value.fold:
        return value.isoformat()
    written = None if zone is None else zone_of(zone, path)
    return {
        "at": value.replace(tzinfo=None, fold=0).isoformat(),
        "zone": written,
        "fold": value.fold,
    }


def _moment_from(kind: Any, value: Any) -> Any:
    if isinstance(value, str):
        return kind.fromisoformat(value)
    return kind.fromisoformat(value["at"]).replace(tzinfo=value["zone"], fold=value["fold"])


def zone_of(zone: tzinfo, path: ValuePath) -> Json:
    """A time zone: a fixed offset, one of the tz database, or an offset that pydantic has read."""
    kind = type(zone)
    if kind is timezone:
        offset, *name = zone.__getinitargs__()  # type: ignore[attr-defined]
        return tagged("timezone", [_seconds(offset), *(checked_text(one, path) for one in name)])
    if kind is ZoneInfo and zone.key:  # type: ignore[attr-defined]
        return tagged("zoneinfo", checked_text(zone.key, path))  # type: ignore[attr-defined]
    if is_pydantic_zone(kind):
        offset = zone.utcoffset(None)
        assert offset is not None
        return tagged("pydantic_zone", _seconds(offset))
    return path.refuse(
        zone, f"its time zone is a {kind.__module__}.{kind.__qualname__}; take one of zoneinfo"
    )


def is_pydantic_zone(kind: type) -> bool:
    """Return True if this is the class of the zones of times that pydantic has read."""
    return kind.__module__.startswith("pydantic_core") and kind.__name__ == "TzInfo"


def _pydantic_zone_from(value: list[int]) -> tzinfo:
    """The zone; an equal one of the standard library if pydantic is not loaded."""
    pydantic_core: Any = sys.modules.get("pydantic_core")
    if pydantic_core is None:
        return timezone(timedelta(*value))
    zone: tzinfo = pydantic_core.TzInfo(timedelta(*value).total_seconds())
    return zone


def _timezone_from(value: list[Any]) -> timezone:
    offset, *name = value
    return timezone(timedelta(*offset), *name)


def _seconds(value: timedelta) -> list[int]:
    return [value.days, value.seconds, value.microseconds]


def _base64(value: bytes | bytearray, _: ValuePath) -> str:
    return base64.b64encode(value).decode()


def _as_text(value: object, path: ValuePath) -> str:
    return checked_text(str(value), path)


SCALARS: Mapping[type, tuple[str, Callable[[Any, ValuePath], Json]]] = {
    datetime: ("datetime", _moment),
    time: ("time", _moment),
    date: ("date", lambda v, _: v.isoformat()),
    timedelta: ("timedelta", lambda v, _: _seconds(v)),
    Decimal: ("decimal", lambda v, _: str(v)),
    UUID: ("uuid", lambda v, _: {"hex": v.hex}),
    bytes: ("bytes", _base64),
    bytearray: ("bytearray", _base64),
    complex: ("complex", lambda v, _: [repr(v.real), repr(v.imag)]),
    Fraction: (
        "fraction",
        lambda v, p: [checked_int(v.numerator, p), checked_int(v.denominator, p)],
    ),
    range: ("range", lambda v, p: [checked_int(n, p) for n in (v.start, v.stop, v.step)]),
    PosixPath: ("PosixPath", _as_text),
    PurePosixPath: ("PurePosixPath", _as_text),
    WindowsPath: ("WindowsPath", _as_text),
    PureWindowsPath: ("PureWindowsPath", _as_text),
    ipaddress.IPv4Address: ("IPv4Address", _as_text),
    ipaddress.IPv6Address: ("IPv6Address", _as_text),
    ipaddress.IPv4Interface: ("IPv4Interface", _as_text),
    ipaddress.IPv6Interface: ("IPv6Interface", _as_text),
    ipaddress.IPv4Network: ("IPv4Network", _as_text),
    ipaddress.IPv6Network: ("IPv6Network", _as_text),
}

_FROM_TEXT = {tag: kind for kind, (tag, write) in SCALARS.items() if write is _as_text}

SCALARS_FROM: Mapping[str, Callable[[Any], Any]] = {
    **_FROM_TEXT,
    "datetime": lambda v: _moment_from(datetime, v),
    "time": lambda v: _moment_from(time, v),
    "date": date.fromisoformat,
    "timedelta": lambda v: timedelta(*v),
    "decimal": Decimal,
    "uuid": lambda v: UUID(hex=v["hex"]),
    "bytes": base64.b64decode,
    "bytearray": lambda v: bytearray(base64.b64decode(v)),
    "complex": lambda v: complex(*map(float, v)),
    "fraction": lambda v: Fraction(*v),
    "range": lambda v: range(*v),
    "zoneinfo": ZoneInfo,
    "timezone": _timezone_from,
    "pydantic_zone": _pydantic_zone_from,
}
