"""Where the cards of a graph lie, and how its edges run: pure geometry.

A block is laid out along a flow, from top to bottom or from left to right, around a line on which
it is entered and left. So blocks that follow one another are joined by straight edges; those that
lie side by side are reached over a bus. Inside of this module places are measured along the flow
and across it; only `laid_out` makes x and y of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import assert_never

from celery_durable.view.picture.blocks import (
    Beside,
    Block,
    Card,
    Framed,
    Repeated,
    Row,
    Shape,
)
from celery_durable.view.picture.places import Box, Edge, Flow, Label, Layout, Point
from celery_durable.view.picture.sizes import (
    BACK,
    BESIDE,
    BUS,
    DOT,
    GAP,
    INSET,
    LABEL,
    LINE,
    MARGIN,
    SMALL,
    THIN,
    size_of,
)
from celery_durable.view.picture.text import width


@dataclass(frozen=True, slots=True)
class _Part:
    """A rectangle along the flow and across it, in which `what` lies."""

    along: float
    across: float
    length: float
    breadth: float
    what: Card | str
    is_frame: bool = False


@dataclass(frozen=True, slots=True)
class _Way:
    """An edge, as (along, across)."""

    source: Card
    target: Card
    points: tuple[tuple[float, float], ...]
    closes: bool


@dataclass(slots=True)
class _Piece:
    """A block that is laid out: `length` along the flow, `before` and `after` its line across it.

    It is entered at `first`, and left at `last`.
    """

    length: float
    before: float
    after: float
    first: Card
    last: Card
    parts: list[_Part] = field(default_factory=list[_Part])
    ways: list[_Way] = field(default_factory=list[_Way])

    def take(self, other: _Piece, along: float, across: float = 0.0) -> None:
        """Put what `other` has into this piece, moved by so much."""
        self.parts += [
            replace(part, along=part.along + along, across=part.across + across)
            for part in other.parts
        ]
        self.ways += [
            replace(way, points=tuple((a + along, c + across) for a, c in way.points))
            for way in other.ways
        ]

    def lead(
        self, source: Card, target: Card, *points: tuple[float, float], closes: bool = False
    ) -> None:
        """Add an edge; points that follow one another at one place are one."""
        kept = tuple(p for i, p in enumerate(points) if i == 0 or p != points[i - 1])
        self.ways.append(_Way(source, target, kept, closes))


def laid_out(block: Block, flow: Flow = Flow.DOWN) -> Layout:
    """Give every card of the block its place."""
    piece = _laid(block, flow)
    x, y = (piece.before, 0.0) if flow is Flow.DOWN else (0.0, piece.before)
    place = partial(_placed, flow, x + MARGIN, y + MARGIN)
    boxes, labels = [], []
    for part in piece.parts:
        at, size = place(part.along, part.across), _sides(flow, part.length, part.breadth)
        if isinstance(part.what, Card):
            boxes.append(Box(part.what, at.x, at.y, *size, part.is_frame))
        else:
            labels.append(Label(part.what, Point(at.x, at.y + size[1] / 2)))
    edges = [
        Edge(way.source, way.target, tuple(place(*point) for point in way.points), way.closes)
        for way in piece.ways
    ]
    sides = _sides(flow, piece.length, piece.before + piece.after)
    wide, high = (side + 2 * MARGIN for side in sides)
    return Layout(wide, high, tuple(boxes), tuple(edges), tuple(labels))


def _placed(flow: Flow, x: float, y: float, along: float, across: float) -> Point:
    sides = _sides(flow, along, across)
    return Point(round(sides[0] + x, 2), round(sides[1] + y, 2))


def _sides(flow: Flow, along: float, across: float) -> tuple[float, float]:
    """What lies along the flow and across it, as x and y; or x and y as these two."""
    return (across, along) if flow is Flow.DOWN else (along, across)


def _laid(block: Block, flow: Flow, least: float = 0.0) -> _Piece:
    """`least` is how wide its card has to be, as wide as those beside it or after it."""
    match block:
        case Card():
            return _card(block, flow, least)
        case Row():
            return _row(block, flow)
        case Beside():
            return _beside(block, flow, least)
        case Repeated():
            return _repeated(block, flow, least)
        case Framed():
            return _framed(block, flow)
    assert_never(block)


def _card(card: Card, flow: Flow, least: float) -> _Piece:
    wide, high = size_of(card)
    if card.shape not in (Shape.CAP, Shape.DOT, Shape.BAR, Shape.NOTHING):
        wide = max(wide, least)
    length, breadth = _sides(flow, wide, high)
    piece = _Piece(length, breadth / 2, breadth / 2, card, card)
    piece.parts.append(_Part(0.0, -breadth / 2, length, breadth, card))
    return piece


def _row(row: Row, flow: Flow) -> _Piece:
    """One after another. Downwards their cards are equally wide."""
    least = _common_width(row.blocks) if flow is Flow.DOWN else 0.0
    pieces = [_laid(block, flow, least) for block in row.blocks]
    whole = _Piece(
        sum(piece.length for piece in pieces) + GAP * (len(pieces) - 1),
        max(piece.before for piece in pieces),
        max(piece.after for piece in pieces),
        pieces[0].first,
        pieces[-1].last,
    )
    along, last = 0.0, None
    for piece in pieces:
        if last is not None:
            whole.lead(last, piece.first, (along - GAP, 0.0), (along, 0.0))
        whole.take(piece, along)
        along, last = along + piece.length + GAP, piece.last
    return whole


def _common_width(blocks: Iterable[Block]) -> float:
    """The width of the widest card that stands in a row or beside others."""
    return max((size_of(card)[0] for card in map(_face, blocks) if card is not None), default=0.0)


def _face(block: Block) -> Card | None:
    match block:
        case Card():
            return block
        case Repeated():
            return block.card
        case Beside():
            return block.head
        case _:
            return None


def _beside(block: Beside, flow: Flow, least: float) -> _Piece:
    """From the head to a bus, from there to each branch, and together again."""
    head = _card(block.head, flow, least)
    common = _common_width(block.blocks)
    branches = [_laid(branch, flow, common) for branch in block.blocks]
    lines = _lines_of(branches)
    longest = max(branch.length for branch in branches)
    begin = head.length + BUS * 2
    meet = begin + longest + BUS
    join = _join(block.join, lines, meet)
    whole = _Piece(
        join.along + join.length,
        max(head.before, branches[0].before - lines[0]),
        max(head.after, branches[-1].after + lines[-1]),
        block.head,
        block.join,
    )
    whole.take(head, 0.0)
    for branch, line in zip(branches, lines, strict=True):
        whole.take(branch, begin, line)
        turn = head.length + BUS
        whole.lead(
            block.head,
            branch.first,
            (head.length, 0.0),
            (turn, 0.0),
            (turn, line),
            (begin, line),
        )
        left = begin + branch.length, line
        across = line if block.join.shape is Shape.BAR else 0.0
        bend = ((meet, line), (meet, 0.0)) if across != line else ()
        whole.lead(branch.last, block.join, left, *bend, (join.along, across), closes=True)
    whole.parts.append(join)
    return whole


def _lines_of(branches: Sequence[_Piece]) -> list[float]:
    """The line of each branch, so that the first and the last are equally far from the middle."""
    lines, at = [], 0.0
    for index, branch in enumerate(branches):
        at += branch.before if index else 0.0
        lines.append(at)
        at += branch.after + BESIDE
    middle = lines[-1] / 2
    return [round(line - middle, 2) for line in lines]


def _join(card: Card, lines: Sequence[float], meet: float) -> _Part:
    """A bar that reaches over all branches, or a dot in the middle."""
    if card.shape is Shape.BAR:
        first, last = lines[0] - 12.0, lines[-1] + 12.0
        return _Part(meet, first, THIN, last - first, card)
    return _Part(meet + BUS / 2, -DOT / 2, DOT, DOT, card)


def _repeated(block: Repeated, flow: Flow, least: float) -> _Piece:
    """An edge leads out of the far half of the card, and into its near half."""
    wide = max(width(line, SMALL) for line in block.label)
    piece = _card(block.card, flow, max(least, wide) if flow is Flow.RIGHT else least)
    side, length = piece.after, piece.length
    near, far = length * 0.3, length * 0.7
    out = side + BACK
    piece.lead(block.card, block.card, (far, side), (far, out), (near, out), (near, side))
    high = LINE * len(block.label)
    along, across = (length - _sides(flow, wide, high)[0]) / 2, out + LABEL
    for number, line in enumerate(block.label):
        down = _sides(flow, 0.0, LINE * number)
        room = _sides(flow, wide, LINE)
        piece.parts.append(_Part(along + down[0], across + down[1], *room, line))
    piece.after = out + LABEL + _sides(flow, wide, high)[1]
    return piece


def _framed(block: Framed, flow: Flow) -> _Piece:
    """The head lies at the top of the frame, whatever the flow."""
    wide, high = size_of(block.head)
    inner = _laid(block.inner, flow)
    before, after = inner.before + INSET, inner.after + INSET
    start, end = GAP, GAP
    if flow is Flow.DOWN:
        start += high
        missing = max(wide - before - after, 0.0) / 2
        before, after = before + missing, after + missing
        breadth_of_head = before + after
        head = _Part(0.0, -before, high, breadth_of_head, block.head)
    else:
        before += high
        end += max(wide - inner.length - 2 * GAP, 0.0)
        head = _Part(0.0, -before, start + inner.length + end, high, block.head)
    length = start + inner.length + end
    frame = replace(block.head, id=f"{block.head.id}##frame")
    whole = _Piece(length, before, after, frame, frame)
    whole.parts += [_Part(0.0, -before, length, before + after, frame, is_frame=True), head]
    whole.take(inner, start)
    if flow is Flow.DOWN:
        whole.lead(block.head, inner.first, (high, 0.0), (start, 0.0))
    else:
        whole.lead(frame, inner.first, (0.0, 0.0), (start, 0.0))
    whole.lead(inner.last, frame, (start + inner.length, 0.0), (length, 0.0), closes=True)
    return whole
