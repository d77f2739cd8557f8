"""Makes canvases of the tasks of `tests.apps.canvases`, whose results Celery and we must agree on.

What a canvas hands on is a number or a list; each link takes what the one before it gives.
"""

from collections.abc import Sequence
from typing import Any

from celery import Celery, chain, chord, group
from celery.canvas import xmap, xstarmap
from hypothesis import Phase, given, seed, settings
from hypothesis import strategies as st

NUMBER, LIST = "number", "list"

MOST_LINKS = 4
DEEPEST = 2


class Canvases:
    """The strategies, with the tasks of an app."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def some(self, count: int) -> list[Any]:
        """So many canvases, the same ones each time."""
        return [self._one(number) for number in range(count)]

    def _one(self, number: int) -> Any:
        """The second canvas that Hypothesis makes from a seed; the first is the simplest."""
        found: list[Any] = []

        @seed(number)
        @settings(max_examples=2, database=None, phases=[Phase.generate], deadline=None)
        @given(self.canvas())
        def collect(canvas: Any) -> None:
            found.append(canvas)

        collect()
        return found[-1]

    def _signature(self, name: str, *args: Any, immutable: bool = False, **kwargs: Any) -> Any:
        return self._app.signature(f"canvases.{name}", args, kwargs, immutable=immutable)

    def canvas(self) -> st.SearchStrategy[Any]:
        @st.composite
        def made(draw: st.DrawFn) -> Any:
            given: str | None = None
            links: list[Any] = []
            for _ in range(draw(st.integers(1, MOST_LINKS))):
                link, given = draw(self._link(given, DEEPEST))
                links.append(link)
            return _chained(links)

        return made()

    def _link(self, taken: str | None, depth: int) -> st.SearchStrategy[tuple[Any, str]]:
        """A link that takes a number, a list or nothing, and what it gives."""
        kinds = [self._call(taken).map(lambda link: (link, NUMBER))]
        kinds += [self._mapped().map(lambda link: (link, LIST))]
        # Of three groups in a row Celery calls the third once for each member of the second.
        if depth and taken != LIST:
            members = st.lists(self._member(taken, depth - 1), min_size=2, max_size=3)
            kinds += [members.map(lambda found: (group(found), LIST))]
            headers = st.tuples(members, self._call(LIST))
            kinds += [headers.map(lambda found: (chord(found[0], found[1]), NUMBER))]
        return st.one_of(kinds)

    def _member(self, taken: str | None, depth: int) -> st.SearchStrategy[Any]:
        """A member of a group: it gives a number, since Celery has no lists of lists in a chord."""

        @st.composite
        def made(draw: st.DrawFn) -> Any:
            links: list[Any] = [draw(self._call(taken))]
            links += draw(st.lists(self._call(NUMBER), max_size=2))
            if depth and draw(st.booleans()):
                members = draw(st.lists(self._call(NUMBER), min_size=2, max_size=2))
                links.append(chord(members, draw(self._call(LIST))))
            return _chained(links)

        return made()

    def _call(self, taken: str | None) -> st.SearchStrategy[Any]:
        number = st.integers(-5, 5)
        fixed = st.sampled_from(["add", "mul"]).flatmap(
            lambda name: st.builds(
                lambda x, y: self._signature(name, x, y, immutable=True), number, number
            )
        )
        if taken is None:
            return fixed
        if taken == LIST:
            return st.sampled_from(["tsum", "length", "tsum"]).map(self._signature) | fixed
        return st.one_of(
            st.builds(lambda n: self._signature("add", n), number),
            st.builds(lambda n: self._signature("mul", y=n), number),
            st.just(self._signature("hold")),
            fixed,
        )

    def _mapped(self) -> st.SearchStrategy[Any]:
        numbers = st.lists(st.integers(-5, 5), min_size=1, max_size=3)
        pairs = st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)).map(list), min_size=1)
        tsum, add = self._signature("tsum"), self._signature("add")
        return st.one_of(
            st.lists(numbers, max_size=3).map(lambda items: xmap(tsum, items)),
            pairs.map(lambda items: xstarmap(add, items)),
        )


def _chained(links: Sequence[Any]) -> Any:
    return links[0] if len(links) == 1 else chain(*[link.clone() for link in links])
