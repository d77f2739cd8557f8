"""Every value that can be stored, and what makes two of them the same."""

from __future__ import annotations

import dataclasses
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import datetime, time, timedelta, timezone, tzinfo
from enum import Enum
from pathlib import PurePath, PurePosixPath, PureWindowsPath
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import strategies as st
from pydantic import BaseModel, HttpUrl, TypeAdapter

from tests.unit.shapes import (
    Address,
    Box,
    Color,
    Customer,
    Level,
    Line,
    Marked,
    Money,
    MoneyPage,
    Parcel,
    Permission,
    Shade,
    Size,
)

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
offsets = st.timedeltas(timedelta(hours=-23), timedelta(hours=23))
zones: st.SearchStrategy[tzinfo] = st.one_of(
    offsets.map(timezone),
    st.builds(timezone, offsets, texts),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Asia/Kathmandu", "UTC"]).map(ZoneInfo),
    st.integers(-86_399, 86_399).map(lambda seconds: _read(seconds).tzinfo),
)
whole = st.integers(-(10**40), 10**40)
parts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/\\:"), min_size=1)
links = st.sampled_from(
    ["https://example.org/a?b=c", "http://[::1]:8000/", "https://bücher.example"]
)
hosts = st.ip_addresses()
members: st.SearchStrategy[Enum] = st.one_of(
    st.sampled_from([Level.HIGH, Size.LARGE, Color.RED, Shade.DARK, Shade.PALE]),
    st.sampled_from([Permission.READ, Permission.READ | Permission.WRITE, Permission(0)]),
)
hashable = st.one_of(
    st.none(),
    st.booleans(),
    whole,
    st.floats(allow_nan=False, allow_infinity=False),
    texts,
    st.binary(),
    st.datetimes(timezones=st.none() | zones, allow_imaginary=True),
    st.dates(),
    st.times(timezones=st.none() | zones),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.uuids(),
    st.fractions(),
    st.complex_numbers(),
    hosts,
    members,
    zones,
    parts.map(PurePosixPath),
    parts.map(PureWindowsPath),
    links.map(TypeAdapter(HttpUrl).validate_python),
)
scalars = st.one_of(
    hashable,
    st.binary().map(bytearray),
    st.builds(range, whole, whole, whole.filter(bool)),
    st.datetimes(timezones=zones).map(lambda d: d.replace(fold=1)),
)
prices = st.decimals(allow_nan=False, allow_infinity=False)
keys = texts | st.sampled_from(["__type__", "__value__", "class", "state"])
money = st.builds(Money, st.decimals(allow_nan=False), texts)
objects = st.one_of(
    money,
    st.builds(Line, texts, money, st.dictionaries(keys, scalars, max_size=3)),
    st.builds(
        Customer.model_construct,
        name=texts,
        address=st.builds(Address, texts, st.none() | texts),
    ),
    st.builds(MoneyPage, items=st.lists(money, max_size=2)),
    st.builds(
        Parcel,
        color=st.just(Color.RED),
        shade=st.sampled_from(Shade),
        labels=st.frozensets(st.just(Color.RED)),
        sizes=st.sets(whole, max_size=2),
        by_level=st.dictionaries(st.just(Level.HIGH), prices, max_size=1),
        link=st.none() | links,
        blob=st.binary(),
        host=st.none() | hosts,
        at=st.none() | st.datetimes(timezones=zones),
        to=st.none() | st.builds(Box, money),
    ),
)


def _deeper(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    short = st.lists(inner, max_size=3)
    pairs = st.dictionaries(hashable, inner, max_size=3)
    return st.one_of(
        short,
        st.dictionaries(keys, inner, max_size=3),
        pairs,
        short.map(tuple),
        st.sets(hashable, max_size=3),
        st.frozensets(hashable, max_size=3),
        st.builds(deque, short, st.none() | st.integers(3, 9)),
        pairs.map(OrderedDict),
        st.dictionaries(hashable, whole, max_size=3).map(Counter),
        pairs.map(lambda d: defaultdict(list, d)),
        st.builds(Box, inner),
        st.builds(Marked, st.datetimes(), inner),
    )


values = st.recursive(scalars | objects, _deeper, max_leaves=10)


def _read(seconds: int) -> datetime:
    """As pydantic reads a time with this offset, which has a time zone class of its own."""
    sign, minutes = "-" if seconds < 0 else "+", abs(seconds) // 60
    text = f"2026-01-01T00:00:00{sign}{minutes // 60:02}:{minutes % 60:02}"
    return TypeAdapter(datetime).validate_python(text)


def portrait(value: Any) -> Any:  # noqa: PLR0911 - a kind a line
    """All that is to be kept of a value, as plain tuples: types, order, digits, zone and fold."""
    kind = type(value).__qualname__
    match value:
        case Enum():
            return kind, id(value)
        case datetime() | time():
            return kind, value.replace(tzinfo=None).isoformat(), value.fold, portrait(value.tzinfo)
        case float() | complex() | tzinfo() | range() | PurePath():
            return kind, repr(value)
        case set() | frozenset():
            return kind, frozenset(portrait(item) for item in value)
        case dict():
            more = getattr(value, "default_factory", None)
            items = [(portrait(k), portrait(v)) for k, v in value.items()]
            return kind, more, tuple(items)
        case list() | tuple():
            return kind, tuple(portrait(item) for item in value)
        case deque():
            return kind, value.maxlen, tuple(portrait(item) for item in value)
        case BaseModel():
            kept = (value.__dict__, value.__pydantic_extra__, value.__pydantic_private__)
            return kind, portrait(kept), frozenset(value.model_fields_set)
        case _ if dataclasses.is_dataclass(value):
            names = [field.name for field in dataclasses.fields(value)]
            return kind, tuple((name, portrait(getattr(value, name))) for name in names)
        case _:
            return kind, str(value)
