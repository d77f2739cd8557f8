"""Classes whose values travel through the codec; other processes must be able to import them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, PrivateAttr, RootModel, SecretStr
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column

T = TypeVar("T")


@dataclass
class Address:
    street: str
    zip: str | None = None


@dataclass(frozen=True)
class Money:
    amount: Decimal
    currency: str = "EUR"


@dataclass(frozen=True, slots=True)
class Line:
    sku: str
    price: Money
    tags: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Order:
    lines: list[Line]
    to: Address
    placed_at: datetime
    count: int = field(init=False)

    def __post_init__(self) -> None:
        self.count = len(self.lines)


class Customer(BaseModel):
    name: str = Field(alias="fullName")
    address: Address


class Invoice(BaseModel):
    model_config = ConfigDict(frozen=True)

    customer: Customer
    total: Money
    due: datetime | None = None
    notes: list[Customer] = []


class Prices(RootModel[dict[str, Decimal]]):
    pass


class Extensible(BaseModel):
    model_config = ConfigDict(extra="allow")

    name: str


class Secretive(BaseModel):
    name: str
    _seen: int = PrivateAttr(default=0)


class Outer:
    @dataclass
    class Inner:
        number: int


@dataclass
class AddressOfAnOlderRelease:
    street: str


@dataclass(slots=True)
class MoneyOfAnOlderRelease:
    amount: Decimal
    currency: str
    symbol: str


class Point(NamedTuple):
    x: int
    y: int


class Level(IntEnum):
    HIGH = 3


class Size(StrEnum):
    LARGE = "large"


class Color(str, Enum):  # noqa: UP042 - the way that was usual before StrEnum
    RED = "red"


class Shouting(str):
    __slots__ = ()

    def __str__(self) -> str:
        return self.upper()


class Permission(Flag):
    READ = 1
    WRITE = 2


class Shade(Enum):
    DARK = object()
    PALE = ("pale", 1)


@dataclass
class Box(Generic[T]):
    content: T


@dataclass
class Counted:
    """Has what is no field: an attribute, a cached property, a slot of its base."""

    name: str

    def __post_init__(self) -> None:
        self.length = len(self.name)

    @cached_property
    def shout(self) -> str:
        return self.name.upper()


class Tied:
    __slots__ = ("knot",)
    knot: int


@dataclass(slots=True)
class Slotted(Tied):
    name: str


@dataclass
class Halting(Exception):
    reason: str


@dataclass
class Listing(dict[str, int]):
    title: str


class Marked(NamedTuple):
    at: datetime
    by: Any = None


class Parcel(BaseModel):
    """A field of each type that pydantic makes of JSON, or that a project's model may have."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    color: Color
    shade: Shade
    labels: frozenset[Color] = frozenset()
    sizes: set[int] = set()
    pair: tuple[int, str] = (1, "a")
    by_level: dict[Level, Decimal] = {}
    link: HttpUrl | None = None
    blob: bytes = b""
    path: Path = Path("/")
    host: IPv4Address | IPv6Address | None = None
    at: datetime | None = None
    to: Box[Money] | None = None
    _seen: set[int] = PrivateAttr(default_factory=set)

    @cached_property
    def key(self) -> str:
        return f"{self.color}-{self.pair}"


class Page(BaseModel, Generic[T]):
    items: list[T]


MoneyPage = Page[Money]


class Guarded(BaseModel):
    name: str
    secret: SecretStr


class Base(MappedAsDataclass, DeclarativeBase):
    pass


class Row(Base):
    __tablename__ = "row"

    id: Mapped[int] = mapped_column(primary_key=True)


class Stamp(datetime):
    """As pandas' timestamps are datetimes, and hold nanoseconds too."""


class Span(timedelta):
    pass


class Wide(dict[str, int]):
    pass
