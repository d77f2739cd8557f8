"""Bar charts as SVG, written by hand: one chart for each section that has bars."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape

from benchmarks.section import Bar, Section, number

WIDTH, LABELS, FIGURES = 900, 330, 80
TITLE, LINE, GAP = 34, 24, 22
OURS, OTHERS, TEXT = "#2f6fb0", "#a9b4be", "#24292f"

STYLE = f"""<style>
text {{ font: 13px system-ui, sans-serif; fill: {TEXT} }}
.title {{ font-weight: 600; font-size: 14px }}
</style>"""


def svg(sections: Sequence[Section]) -> str:
    """The document. Bars of one chart share a scale; charts do not."""
    drawn = [section for section in sections if section.bars]
    height = GAP + sum(_height(section) for section in drawn)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}"'
        f' viewBox="0 0 {WIDTH} {height}" role="img">'
    )
    ground = f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>'
    lines, top = [head, STYLE, ground], GAP
    for section in drawn:
        lines += _chart(section, top)
        top += _height(section)
    return "\n".join([*lines, "</svg>", ""])


def _height(section: Section) -> int:
    return TITLE + LINE * len(section.bars) + GAP


def _chart(section: Section, top: int) -> Iterator[str]:
    yield f'<text class="title" x="12" y="{top + 14}">{escape(section.chart)}</text>'
    scale = (WIDTH - LABELS - FIGURES) / max(bar.value for bar in section.bars)
    for place, bar in enumerate(section.bars):
        yield from _bar(bar, top + TITLE + LINE * place, max(1.0, scale * bar.value))


def _bar(bar: Bar, top: int, length: float) -> Iterator[str]:
    colour, middle = OURS if bar.is_ours else OTHERS, top + LINE - 9
    yield f'<text x="{LABELS - 8}" y="{middle}" text-anchor="end">{escape(bar.label)}</text>'
    yield (
        f'<rect x="{LABELS}" y="{top + 3}" width="{length:.1f}" height="{LINE - 6}"'
        f' rx="2" fill="{colour}"/>'
    )
    yield f'<text x="{LABELS + length + 6:.1f}" y="{middle}">{number(bar.value)}</text>'
