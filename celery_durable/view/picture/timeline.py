"""Draws a timeline: a row for each unit, on a common axis."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID
from xml.etree.ElementTree import Element

from celery_durable.store.read.spans import COLUMNS, EARLIER, Density
from celery_durable.view.picture import svg
from celery_durable.view.picture.axis import Axis
from celery_durable.view.picture.bars import BarRow, Look, Segment
from celery_durable.view.picture.look import DOTS, SYMBOLS, state_class
from celery_durable.view.picture.text import cut, width

MOST_ROWS = 200
"""Rows of one picture; more are on pages after it."""

AXIS, BETWEEN, EDGE = 620.0, 16.0, 14.0
"""Widths: of the axis, what is between labels and axis, and the border around all."""

WIDEST_LABEL, WIDEST_NOTE = 240.0, 320.0
"""Widths of texts: the columns of the labels and of the notes are as wide as these need."""

BUTTON = 26.0
"""The width of a button behind a label."""

TOP, ROW, DENSE = 30.0, 25.0, 38.0
"""Heights: of the axis' labels, a row, and a row of folded units."""

THICK, THIN = 11.0, 3.0
"""Thickness of a segment: of work and waits, and of what only joins them."""

SHORTEST = 2.5
"""The length of a segment that takes no time."""

INDENT, SYMBOL, TEXT = 16.0, 20.0, 12.0


@dataclass(frozen=True, slots=True)
class TimelineLinks:
    """Addresses of what a timeline in a page leads to.

    A run; itself, with the parts of a node listed or folded; itself, from another row on.
    """

    run: Callable[[UUID], str]
    fold: Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Timeline:
    """What is drawn: `rows` from `begin` to `end`. `is_running`: the end is now."""

    title: str
    begin: datetime
    end: datetime
    rows: Sequence[BarRow]
    is_running: bool = False


def timeline(shown: Timeline, *, links: TimelineLinks | None = None) -> str:
    """The timeline as SVG: an image that stands alone, or with `links` for a page."""
    is_page = links is not None
    labels = max((_label_width(row, is_page=is_page) for row in shown.rows), default=0.0)
    notes = max((width(_note(row), TEXT) for row in shown.rows), default=0.0)
    axis = Axis(shown.begin, shown.end, EDGE + min(labels, WIDEST_LABEL) + BETWEEN, AXIS)
    tops = _tops(shown.rows)
    height = (tops[-1] if tops else TOP) + EDGE
    wide = axis.left + AXIS + 10.0 + max(min(notes, WIDEST_NOTE), 20.0) + EDGE
    said = ". ".join(row.whole for row in shown.rows)
    picture = svg.root(wide, height, stands_alone=not is_page, title=shown.title, text=said)
    picture.set("class", "durable-picture timeline")
    _draw_stripes(picture, shown.rows, tops, wide)
    _draw_axis(picture, axis, height - EDGE, is_running=shown.is_running)
    rows = svg.add(picture, "g", role=None if links is None else "list")
    for row, top in zip(shown.rows, tops, strict=False):
        _draw_row(rows, row, top, axis, links)
    return svg.written(picture)


def _label_width(row: BarRow, *, is_page: bool) -> float:
    """The width that the label wants, with all that is beside it."""
    button = BUTTON if is_page and row.fold is not None else 0.0
    return row.depth * INDENT + SYMBOL + width(row.label, TEXT) + button


def _tops(rows: Iterable[BarRow]) -> list[float]:
    """Where each row begins, and where the last one ends."""
    tops = [TOP]
    for row in rows:
        tops.append(tops[-1] + _height(row))
    return tops


def _height(row: BarRow) -> float:
    return ROW if row.density is None else DENSE


def _draw_stripes(
    picture: Element, rows: Sequence[BarRow], tops: Sequence[float], wide: float
) -> None:
    """Every other node has a ground of its own, its parts with it."""
    group = svg.add(picture, "g", aria_hidden="true")
    number = 0
    for row, top in zip(rows, tops, strict=False):
        number += row.depth == 0
        if number % 2 == 0:
            svg.add(group, "rect", class_="stripe", x=0.0, y=top, width=wide, height=_height(row))


def _draw_axis(picture: Element, axis: Axis, bottom: float, *, is_running: bool) -> None:
    group = svg.add(picture, "g", class_="axis", aria_hidden="true")
    ticks = axis.ticks()
    for x, label in ticks:
        svg.add(group, "path", class_="tick", d=svg.path(((x, TOP - 6.0), (x, bottom))))
        if not is_running or x < axis.left + axis.width - 34.0:
            svg.add(group, "text", label, x=x, y=TOP - 11.0, text_anchor="middle")
    if is_running:
        x = axis.left + axis.width
        svg.add(group, "path", class_="now", d=svg.path(((x, TOP - 6.0), (x, bottom))))
        svg.add(group, "text", "now", class_="now-label", x=x, y=TOP - 11.0, text_anchor="middle")


def _draw_row(
    rows: Element, row: BarRow, top: float, axis: Axis, links: TimelineLinks | None
) -> None:
    state = state_class(row.state)
    is_page = links is not None
    item = svg.add(rows, "g", class_=f"row {state}", role="listitem" if is_page else None)
    svg.add(item, "title", row.whole)
    middle = top + _height(row) / 2
    left = EDGE + row.depth * INDENT
    svg.add(item, "circle", class_="badge", cx=left + 7.0, cy=middle, r=7)
    moved = f"translate({left:g} {middle - 7.0:g}) scale(.875)"
    symbol = DOTS if row.is_queued else SYMBOLS[row.state]
    svg.add(item, "path", class_="symbol", d=symbol, transform=moved)
    _draw_label(item, row, middle, axis, links)
    if row.density is not None:
        _draw_density(item, row.density, top + DENSE - 6.0, axis, is_undo=row.is_undo)
    for segment in row.segments:
        is_thin = row.density is not None
        at = top + DENSE - 4.5 if is_thin else middle
        _draw_segment(item, segment, at, axis, is_thin=is_thin)
    note = svg.add(item, "text", class_="note", x=axis.left + axis.width + 10.0, y=middle + 4.0)
    svg.write(note, cut(_note(row), TEXT, WIDEST_NOTE), row.count if is_page else None)


def _note(row: BarRow) -> str:
    return f"from an earlier run, {row.note}" if row.is_inherited else row.note


def _draw_label(
    item: Element, row: BarRow, middle: float, axis: Axis, links: TimelineLinks | None
) -> None:
    """The name of the unit; of a child run it leads there."""
    left, right = EDGE + row.depth * INDENT + SYMBOL, axis.left - BETWEEN
    button = BUTTON if links is not None and row.fold is not None else 0.0
    room = right - left - button
    parent = item
    if links is not None and row.run is not None:
        parent = svg.add(item, "a", href=links.run(row.run), aria_label=f"{row.label}, its run")
    label = cut(row.label, TEXT, room)
    depth = "name" if row.depth == 0 else "part"
    svg.add(parent, "text", label, class_=depth, x=left, y=middle + 4.0)
    if links is not None and row.fold is not None:
        _draw_fold(item, row, links.fold(row.fold), right - BUTTON + 4.0, middle)


def _draw_fold(item: Element, row: BarRow, address: str, x: float, middle: float) -> None:
    verb, sign = ("Fold", "M4.5 8h7") if row.is_open else ("List", "M4.5 8h7M8 4.5v7")
    said = f"{verb} the units of {row.label}"
    link = svg.add(
        item,
        "a",
        class_="fold",
        href=address,
        data_fold=f"{row.fold} in time",
        aria_label=said,
        aria_expanded="true" if row.is_open else "false",
    )
    svg.add(link, "title", said)
    y = middle - 9.0
    svg.add(link, "rect", class_="button", x=x, y=y, width=18, height=18, rx=5)
    svg.add(link, "path", class_="mark", d=sign, transform=f"translate({x + 1.0:g} {y + 1.0:g})")


def _draw_segment(
    item: Element, segment: Segment, middle: float, axis: Axis, *, is_thin: bool
) -> None:
    x = axis.x(segment.begin)
    end = axis.left + axis.width if segment.end is None else axis.x(segment.end)
    if segment.look is Look.GAP and end - x < SHORTEST:
        return
    is_gap = segment.look in (Look.GAP, Look.SPAN) or is_thin
    wide = max(end - x, SHORTEST)
    x = min(x, axis.left + axis.width - wide)
    classes = f"segment {segment.look.value} {state_class(segment.state)}"
    if segment.end is None and segment.look is Look.RAN:
        classes += " moves"
    if segment.look is Look.WAITED and not is_thin:
        line = svg.path(((x, middle), (x + wide, middle)))
        shape = svg.add(item, "path", class_=classes, d=line, stroke_width=THICK)
    else:
        high = THIN if is_gap else THICK
        shape = svg.add(item, "rect", class_=classes, x=x, y=middle - high / 2, width=wide)
        shape.attrib |= {"height": f"{high:g}", "rx": f"{high / 3.6:g}"}
    if segment.text and not is_thin:
        svg.add(shape, "title", segment.text)


def _draw_density(
    item: Element, density: Density, bottom: float, axis: Axis, *, is_undo: bool
) -> None:
    """A column for each part of the time, as high as many units ended in it."""
    most = max(density.ended.values(), default=1)
    tall = DENSE - 11.0
    step = axis.width / COLUMNS
    ended = "density compensated" if is_undo else "density completed"
    for class_, counts, least in (
        (ended, density.ended, 1.0),
        ("density failed", density.failed, 3.0),
    ):
        columns = []
        for column, count in sorted(counts.items()):
            high = max(tall * count / most, least)
            if column != EARLIER:
                left = f"M{axis.left + column * step:.1f} {bottom:g}"
                columns.append(f"{left}v{-high:.1f}h{step - 1.0:.1f}v{high:.1f}z")
        if columns:
            svg.add(item, "path", class_=class_, d="".join(columns))
