"""Makes SVG of elements: escaped by the XML library, without inline style or script.

Looks are classes and presentation attributes, so that a page with a strict Content-Security-Policy
can show it. A picture that stands alone has the stylesheet in it, and a ground: a browser shows it
as an image, in dark and light.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from importlib import resources
from xml.etree.ElementTree import Element, SubElement, tostring

from celery_durable.view.picture.text import Count

NAMESPACE = "http://www.w3.org/2000/svg"


@cache
def stylesheet() -> str:
    """The CSS of all pictures."""
    return (
        resources.files("celery_durable.view.picture")
        .joinpath("picture.css")
        .read_text(encoding="utf-8")
    )


def add(parent: Element, tag: str, text: str = "", **attributes: object) -> Element:
    """Add an element. Of an attribute `_` stands for `-`; one that is None is left out."""
    named = {
        name.rstrip("_").replace("_", "-"): _written(value)
        for name, value in attributes.items()
        if value is not None
    }
    element = SubElement(parent, tag, named)
    if text:
        element.text = _allowed(text)
    return element


def write(element: Element, text: str, count: Count | None) -> None:
    """Write `text` into an element; page.js counts on the duration in it."""
    before, counted, after = text.partition(count.text) if count is not None else (text, "", "")
    element.text = _allowed(before)
    if count is not None and counted:
        moment = "data_until" if count.is_until else "data_since"
        add(element, "tspan", counted, **{moment: count.at.isoformat()}).tail = _allowed(after)


_REFUSED = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML has no way to write: https://www.w3.org/TR/xml/#charsets."""


def _allowed(text: str) -> str:
    return _REFUSED.sub(" ", text)


def _written(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return _allowed(str(value))


def root(width: float, height: float, *, stands_alone: bool, title: str, text: str) -> Element:
    """The root of a picture; `text` says what it shows, to who does not see it.

    As an image it is one thing. In a page it is a group whose links can be reached.
    """
    element = Element(
        "svg",
        {
            "xmlns": NAMESPACE,
            "class": "durable-picture",
            "width": _written(width),
            "height": _written(height),
            "viewBox": f"0 0 {_written(width)} {_written(height)}",
            "role": "img" if stands_alone else "group",
        },
    )
    if stands_alone:
        add(element, "title", title)
        add(element, "desc", text)
        add(element, "style", stylesheet())
        add(element, "rect", class_="ground", width=width, height=height, rx=12)
    else:
        element.set("aria-label", _allowed(title))
    return element


def written(element: Element) -> str:
    """The element as text, which is XML, and HTML where it is put into a page."""
    return tostring(element, encoding="unicode")


def path(points: Iterable[tuple[float, float]]) -> str:
    """Straight lines from point to point."""
    return "M" + "L".join(f"{_written(float(x))} {_written(float(y))}" for x, y in points)
