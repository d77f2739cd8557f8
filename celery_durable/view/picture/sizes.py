"""How large the parts of a graph are, and how far from one another."""

from __future__ import annotations

from celery_durable.view.picture.blocks import Card, Shape
from celery_durable.view.picture.text import width

TITLE, SMALL = 13.5, 12.0
"""Sizes of fonts."""

LINE = 17.0
"""The height of a line below a title."""

GAP, BUS, BESIDE, MARGIN, INSET = 30.0, 22.0, 18.0, 20.0, 18.0
"""Lengths of edges between cards; from a card to a bus; between branches; around the picture; and
from a frame to what is in it."""

NARROWEST, WIDEST = 128.0, 268.0
"""Widths of cards."""

ICON, PADDING, MARK, SLACK = 38.0, 14.0, 24.0, 2.0
"""Room in a card: before the text, after it, for each mark beside the title, and to round off."""

ROOM = WIDEST - ICON - PADDING - SLACK
"""The width of the text in the widest card."""

STACK = 5.0
"""By how much the cards of a stack stand out behind the first."""

BACK, LABEL = 24.0, 8.0
"""How far the edge of a loop leads out of its card; and from there to its label."""

THIN, DOT = 6.0, 10.0
"""The thickness of a bar that joins branches; the width of a dot that joins cases."""


def size_of(card: Card) -> tuple[float, float]:
    """How wide and high a card wants to be."""
    match card.shape:
        case Shape.BAR:
            return THIN, THIN
        case Shape.DOT:
            return DOT, DOT
        case Shape.CAP | Shape.NOTHING if not card.lines:
            return min(width(card.title, SMALL) + ICON + PADDING + SLACK, WIDEST), 30.0
        case _:
            pass
    marks = MARK * (card.undoable + (card.fold is not None))
    texts = [width(card.title, TITLE) + marks, *(width(line.whole, SMALL) for line in card.lines)]
    wide = max(texts) + ICON + PADDING + _slant(card) + SLACK
    high = 22.0 + LINE * (len(card.lines) + 1) - (3.0 if card.lines else 0.0)
    if card.bar is not None:
        high += 12.0
    stack = STACK * 2 if card.shape is Shape.STACK else 0.0
    return min(max(wide, NARROWEST), WIDEST) + stack, high + stack


def _slant(card: Card) -> float:
    """The room at the right that a card's outline takes."""
    return 12.0 if card.shape in (Shape.WAIT, Shape.CHOICE) else 0.0
