"""The parts of a graph at their places."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from celery_durable.view.picture.blocks import Card


class Flow(StrEnum):
    """The direction in which a picture is read."""

    DOWN = "down"
    RIGHT = "right"


@dataclass(frozen=True, slots=True)
class Point:
    """A place in the picture."""

    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Box:
    """A card at its place. The box of a frame has the boxes of its child run in it."""

    card: Card
    x: float
    y: float
    width: float
    height: float
    is_frame: bool = False

    @property
    def right(self) -> float:
        """The x of its right border."""
        return self.x + self.width

    @property
    def bottom(self) -> float:
        """The y of its lower border."""
        return self.y + self.height


@dataclass(frozen=True, slots=True)
class Edge:
    """A line from the border of one card's box to that of another's, through right angles.

    `closes`: it leads to where branches come together, or to the end of a frame.
    """

    source: Card
    target: Card
    points: tuple[Point, ...]
    closes: bool = False


@dataclass(frozen=True, slots=True)
class Label:
    """Text beside an edge; `at` is its left end, halfway up."""

    text: str
    at: Point


@dataclass(frozen=True, slots=True)
class Layout:
    """A picture with every part at its place. Frames come before what is in them."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    edges: tuple[Edge, ...]
    labels: tuple[Label, ...]
