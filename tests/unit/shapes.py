"""Classes whose values travel through the codec; other processes must be able to import them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, RootModel


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
