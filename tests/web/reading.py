"""What somebody reads on a page: its text, its parts, its links."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = frozenset({"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source"})


@dataclass
class Element:
    """An element of a page."""

    tag: str
    attributes: dict[str, str | None]
    children: list[Element | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All of its text, on one line."""
        parts = (one if isinstance(one, str) else one.text for one in self.children)
        return " ".join(" ".join(parts).split())

    def all(self, tag: str) -> Iterator[Element]:
        """The elements of this name in it."""
        for one in self.children:
            if isinstance(one, Element):
                if one.tag == tag:
                    yield one
                yield from one.all(tag)

    def by_id(self, id: str) -> Element:
        """The one element with this id."""
        (found,) = self._with_id(id)
        return found

    def has(self, id: str) -> bool:
        """True if it has an element with this id."""
        return bool([*self._with_id(id)])

    def _with_id(self, id: str) -> Iterator[Element]:
        for one in self.children:
            if isinstance(one, Element):
                if one.attributes.get("id") == id:
                    yield one
                yield from one._with_id(id)

    def link(self, text: str) -> str:
        """Where the first link with this text leads."""
        found = (one for one in self.all("a") if text in one.text)
        return next(found).attributes["href"] or ""

    @property
    def ids(self) -> list[str]:
        """All ids in it."""
        own = [str(self.attributes["id"])] if self.attributes.get("id") else []
        below = (one.ids for one in self.children if isinstance(one, Element))
        return own + [found for ids in below for found in ids]


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open = [Element("page", {})]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        made = Element(tag, dict(attrs))
        self.open[-1].children.append(made)
        if tag not in VOID:
            self.open.append(made)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def read(html: str) -> Element:
    """The page. Raises for one whose elements are not closed in order, or share an id."""
    parser = _Parser()
    parser.feed(html)
    (page,) = parser.open
    assert len(page.ids) == len(set(page.ids)), page.ids
    return page
