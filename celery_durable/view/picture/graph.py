"""Draws a graph: of a plan, or of a run of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from uuid import UUID
from xml.etree.ElementTree import Element

from celery_durable.view.nodes import ENDED, NOT_BEGUN
from celery_durable.view.picture import svg
from celery_durable.view.picture.blocks import Card, Line, Shape, Tone
from celery_durable.view.picture.chart import Shown, chart_of
from celery_durable.view.picture.layout import laid_out
from celery_durable.view.picture.look import DOTS, KINDS, SYMBOLS, UNDO, state_class
from celery_durable.view.picture.places import Box, Edge, Flow, Label, Layout, Point
from celery_durable.view.picture.sizes import ICON, LINE, MARK, PADDING, SMALL, STACK, TITLE
from celery_durable.view.picture.text import cut, width

ROUND = 8.0
"""The radius of corners, of cards and of edges."""

ARROW, HALF_ARROW = 7.0, 3.8
"""The length of an arrow's head, and half of its width."""

SHIFT = 4.0
"""By how much the text of a card with pointed or round sides is moved to the right."""

LONGEST_TEXT = 4_000
"""Characters of the text that says what an image shows."""

TONES = {Tone.NOTE: None, Tone.STATE: None, Tone.ERROR: "error", Tone.WAIT: "waits"}


@dataclass(frozen=True, slots=True)
class Links:
    """Addresses of what a picture in a page leads to: a run; itself, with a fold opened or closed.

    A fold is named by its key.
    """

    run: Callable[[UUID], str]
    fold: Callable[[str], str]


def graph(shown: Shown, *, flow: Flow = Flow.DOWN, links: Links | None = None) -> str:
    """The graph as SVG: an image that stands alone, or with `links` for a page."""
    layout = laid_out(chart_of(shown), flow)
    picture = svg.root(
        layout.width,
        layout.height,
        stands_alone=links is None,
        title=title_of(shown),
        text=_said(layout),
    )
    _draw_frames(picture, layout)
    _draw_edges(picture, layout.edges)
    for label in layout.labels:
        _draw_label(picture, label)
    cards = svg.add(picture, "g", role=None if links is None else "list")
    framed = {box.card.id for box in layout.boxes if box.is_frame}
    for box in layout.boxes:
        if not box.is_frame:
            _draw_box(cards, box, links, is_head=f"{box.card.id}##frame" in framed)
    return svg.written(picture)


def title_of(shown: Shown) -> str:
    """What the picture is of."""
    workflow = f"{shown.plan['workflow']} v{shown.plan['version']}"
    if shown.status is None:
        return f"Workflow {workflow}"
    return f"Run of {workflow}, {shown.status.value}"


def _said(layout: Layout) -> str:
    """All of the picture in words, or the beginning of them."""
    cards = (box.card for box in layout.boxes if not box.is_frame)
    said = ". ".join(card.whole for card in cards if card.title and card.shape is not Shape.BAR)
    return said if len(said) <= LONGEST_TEXT else f"{said[:LONGEST_TEXT]}…"


def _draw_frames(picture: Element, layout: Layout) -> None:
    for box in layout.boxes:
        if box.is_frame:
            around = svg.add(picture, "g", class_=_classes(box.card), aria_hidden="true")
            _rect(around, "frame", (box.x, box.y, box.width, box.height), ROUND + 4)


def _classes(card: Card) -> str:
    state = "plan" if card.state is None else state_class(card.state)
    flags = {"aside": card.aside, "moves": card.moves}
    return " ".join(("node", card.shape.value, state, *(name for name in flags if flags[name])))


def _draw_edges(picture: Element, edges: Sequence[Edge]) -> None:
    """What has been passed lies above what has not, and what moves above both."""
    order = {"open": 0, "planned": 0, "passed": 1, "moving": 2}
    group = svg.add(picture, "g", aria_hidden="true")
    for edge in sorted(edges, key=lambda edge: order[_edge_class(edge)]):
        one = svg.add(group, "g", class_=_edge_class(edge))
        svg.add(one, "path", class_="edge", d=_rounded(edge.points, shorter=not edge.closes))
        if not edge.closes:
            svg.add(one, "path", class_="head", d=_arrow(*edge.points[-2:]))


def _edge_class(edge: Edge) -> str:
    source, target = edge.source, edge.target
    if source.state is None and target.state is None:
        return "planned"
    if source.aside or target.aside or source.state in NOT_BEGUN:
        return "open"
    if edge.closes:
        return "passed" if source.state in ENDED else "open"
    if target.moves:
        return "moving"
    return "passed" if target.state is not None and target.state not in NOT_BEGUN else "open"


def _rounded(points: Sequence[Point], *, shorter: bool) -> str:
    """Lines through the points with round corners; `shorter` by the head of an arrow."""
    if shorter:
        last = _toward(points[-1], points[-2], ARROW - 1)
        points = (*points[:-1], last)
    parts = [f"M{_at(points[0])}"]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        radius = min(ROUND, _distance(before, corner) / 2, _distance(corner, after) / 2)
        entered, left = _toward(corner, before, radius), _toward(corner, after, radius)
        parts.append(f"L{_at(entered)}Q{_at(corner)} {_at(left)}")
    parts.append(f"L{_at(points[-1])}")
    return "".join(parts)


def _at(point: Point) -> str:
    return f"{point.x:g} {point.y:g}"


def _distance(a: Point, b: Point) -> float:
    return abs(a.x - b.x) + abs(a.y - b.y)


def _toward(start: Point, end: Point, by: float) -> Point:
    """The point that lies `by` from `start` on the straight line to `end`."""
    whole = _distance(start, end) or 1.0
    by = min(by, whole)
    x = start.x + (end.x - start.x) * by / whole
    y = start.y + (end.y - start.y) * by / whole
    return Point(round(x, 2), round(y, 2))


def _arrow(before: Point, tip: Point) -> str:
    """The head of an arrow, at the end of a line that is level or upright."""
    back = _toward(tip, before, ARROW)
    if back.x == tip.x:
        corners = ((back.x - HALF_ARROW, back.y), (back.x + HALF_ARROW, back.y))
    else:
        corners = ((back.x, back.y - HALF_ARROW), (back.x, back.y + HALF_ARROW))
    return svg.path(((tip.x, tip.y), *corners)) + "Z"


def _draw_label(picture: Element, label: Label) -> None:
    x, y = label.at.x, label.at.y + SMALL * 0.35
    svg.add(picture, "text", label.text, class_="label", x=x, y=y, aria_hidden="true")


def _draw_box(cards: Element, box: Box, links: Links | None, *, is_head: bool) -> None:
    card = box.card
    if card.shape in (Shape.BAR, Shape.DOT):
        one = svg.add(cards, "g", class_=_classes(card), aria_hidden="true")
        radius = min(box.width, box.height) / 2
        _rect(one, "outline", (box.x, box.y, box.width, box.height), radius)
        return
    item = svg.add(cards, "g", class_=_classes(card), role=None if links is None else "listitem")
    inner = item
    if links is not None and card.run is not None:
        inner = svg.add(item, "a", href=links.run(card.run), aria_label=card.whole)
    svg.add(inner, "title", card.whole)
    if is_head:
        _rect(inner, "header", (box.x, box.y, box.width, box.height), ROUND)
    else:
        _draw_outline(inner, box)
    _draw_text(inner, box, is_page=links is not None)
    if links is not None and card.fold is not None:
        _draw_fold(item, box, links)


Place = tuple[float, float, float, float]
"""The x and y of a rectangle, its width and its height."""


def _rect(parent: Element, class_: str, place: Place, radius: float) -> None:
    x, y, wide, high = place
    svg.add(parent, "rect", class_=class_, x=x, y=y, width=wide, height=high, rx=radius)


def _front(box: Box) -> Place:
    """The place of the card itself: of a stack, the one in front."""
    if box.card.shape is not Shape.STACK:
        return box.x, box.y, box.width, box.height
    return box.x, box.y + 2 * STACK, box.width - 2 * STACK, box.height - 2 * STACK


def _draw_outline(parent: Element, box: Box) -> None:
    x, y, wide, high = _front(box)
    match box.card.shape:
        case Shape.STACK:
            for back in (2 * STACK, STACK):
                _rect(parent, "outline", (x + back, y - back, wide, high), ROUND)
            _rect(parent, "outline", (x, y, wide, high), ROUND)
        case Shape.CHILD:
            _rect(parent, "outline", (x, y, wide, high), ROUND)
            _rect(parent, "within", (x + 3.5, y + 3.5, wide - 7, high - 7), ROUND - 3)
        case Shape.WAIT | Shape.CAP | Shape.NOTHING:
            _rect(parent, "outline", (x, y, wide, high), min(high / 2, 26.0))
        case Shape.CHOICE:
            slant = 14.0
            corners = (
                *((x + slant, y), (x + wide - slant, y), (x + wide, y + high / 2)),
                *((x + wide - slant, y + high), (x + slant, y + high), (x, y + high / 2)),
            )
            svg.add(parent, "path", class_="outline", d=svg.path(corners) + "Z")
        case _:
            _rect(parent, "outline", (x, y, wide, high), ROUND)


def _draw_text(parent: Element, box: Box, *, is_page: bool) -> None:
    """Symbol, name, marks, lines and bar of a card."""
    card = box.card
    has_fold = is_page and card.fold is not None
    x, y, wide, _ = _front(box)
    shift = SHIFT if card.shape in (Shape.WAIT, Shape.CHOICE) else 0.0
    is_small = card.shape in (Shape.CAP, Shape.NOTHING)
    middle = y + (15.0 if is_small else 20.0)
    _draw_badge(parent, card, x + 19.0 + shift, middle)
    room = wide - ICON - PADDING - 2 * shift
    marks = MARK * (card.undoable + has_fold)
    size = SMALL if is_small else TITLE
    left = x + ICON + shift
    name = cut(card.title, size, room - marks)
    svg.add(parent, "text", name, class_="name", x=left, y=middle + size * 0.35)
    if card.undoable:
        at = x + wide - PADDING - shift - 14.0 - MARK * has_fold
        _mark(parent, UNDO, at, middle - 8.0)
    for number, line in enumerate(card.lines, 1):
        shown = line if is_page else replace(line, count=None)
        _draw_line(parent, shown, left, middle + 4.5 + LINE * number, room)
    if card.bar is not None:
        at = middle + 12.0 + LINE * len(card.lines)
        whole = wide - ICON - PADDING
        _draw_bar(parent, (left, at, whole), card.bar.done, card.bar.failed)


def _draw_badge(parent: Element, card: Card, x: float, y: float) -> None:
    symbol = KINDS.get(card.kind, "") if card.state is None else SYMBOLS[card.state]
    if card.shape is Shape.MORE or card.is_queued:
        symbol = DOTS
    if card.moves:
        svg.add(parent, "circle", class_="pulse", cx=x, cy=y, r=9)
    svg.add(parent, "circle", class_="badge", cx=x, cy=y, r=9)
    svg.add(parent, "path", class_="symbol", d=symbol, transform=_moved(x - 8.0, y - 8.0))


def _moved(x: float, y: float) -> str:
    return f"translate({x:g} {y:g})"


def _mark(parent: Element, symbol: str, x: float, y: float) -> None:
    svg.add(parent, "path", class_="mark", d=symbol, transform=_moved(x, y))


def _draw_line(parent: Element, line: Line, x: float, y: float, room: float) -> None:
    text = svg.add(parent, "text", class_=TONES[line.tone], x=x, y=y)
    if not line.word:
        svg.write(text, cut(line.text, SMALL, room), line.count)
        return
    svg.add(text, "tspan", line.word, class_="word")
    left = room - width(line.word, SMALL)
    if line.text and left > 0:
        more = svg.add(text, "tspan")
        svg.write(more, cut(f" · {line.text}", SMALL, left), line.count)


def _draw_bar(
    parent: Element, place: tuple[float, float, float], done: float, failed: float
) -> None:
    x, y, whole = place
    _rect(parent, "track", (x, y, whole, 6.0), 3.0)
    if done:
        _rect(parent, "done", (x, y, max(whole * done, 6.0), 6.0), 3.0)
    if failed:
        wide = max(whole * failed, 4.0)
        start = min(x + whole * done, x + whole - wide)
        _rect(parent, "lost", (start, y, wide, 6.0), 3.0)


def _draw_fold(item: Element, box: Box, links: Links) -> None:
    """The button that opens or closes a part of the picture; a link, so that it needs no script."""
    fold = box.card.fold
    assert fold is not None
    x, y, wide, _ = _front(box)
    verb, sign = ("Close", "M4.5 8h7") if fold.is_open else ("Open", "M4.5 8h7M8 4.5v7")
    link = svg.add(
        item,
        "a",
        class_="fold",
        href=links.fold(fold.key),
        data_fold=fold.key,
        aria_label=f"{verb} {fold.what}",
        aria_expanded="true" if fold.is_open else "false",
    )
    svg.add(link, "title", f"{verb} {fold.what}")
    at = x + wide - PADDING - 16.0
    _rect(link, "button", (at - 2.0, y + 10.0, 20.0, 20.0), 5.0)
    _mark(link, sign, at, y + 12.0)
