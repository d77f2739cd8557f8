"""The pictures of a run: its graph and its timeline, in its page, as fragments and as files.

What is open is in the query, so that an address shows what its sender saw: `open` is a child run or
a node whose branches are all drawn, `list` a node whose units have rows of their own, `from` the
row with which the timeline begins.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any
from uuid import UUID

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from celery_durable.view.picture import svg
from celery_durable.view.picture.graph import Links
from celery_durable.view.picture.graph import graph as drawn
from celery_durable.view.picture.reading import shown_of, timeline_of
from celery_durable.view.picture.timeline import MOST_ROWS, TimelineLinks, timeline
from celery_durable.view.run import RunView, read_run
from celery_durable.view.typed import whole_of
from celery_durable.web.render import durable, environment, render, url

OPEN, LIST, FROM = "open", "list", "from"

MOST_DIGITS_OF_ROW = 8

LONGEST_QUERY = 100
"""Folds that one address may have open."""


@dataclass(frozen=True, slots=True)
class Folds:
    """What is open, as the query says it."""

    opened: AbstractSet[str]
    listed: AbstractSet[str]
    first: int

    @classmethod
    def of(cls, request: Request) -> Folds:
        """What the query of this request says; what cannot be is left out."""
        said = request.query_params
        first = said.get(FROM, "")
        return cls(
            frozenset(said.getlist(OPEN)[:LONGEST_QUERY]),
            frozenset(said.getlist(LIST)[:LONGEST_QUERY]),
            whole_of(first, MOST_DIGITS_OF_ROW) or 0,
        )

    def query(self, **changed: Any) -> Mapping[str, Any]:
        """The query that says this, but for what is changed."""
        said: dict[str, Any] = {
            OPEN: sorted(self.opened),
            LIST: sorted(self.listed),
            FROM: self.first or None,
        }
        return {**said, **changed}


@dataclass(frozen=True, slots=True)
class Pictures:
    """What the templates `graph.html` and `timeline.html` show; `mark` changes with it."""

    mark: str
    graph: Markup
    timeline: Markup
    row_count: int
    first_row: int
    last_row: int
    previous: str | None
    following: str | None


def of_run(request: Request, view: RunView) -> Pictures:
    """Make the pictures of a run, with what the query of the request has opened."""
    folds, now = Folds.of(request), datetime.now(UTC)
    shown, count = timeline_of(durable(request), view, now, folds.listed, folds.first)
    last = folds.first + len(shown.rows)
    graph, bars = graph_of_run(request, view), timeline(shown, links=_links(request, view, folds))
    return Pictures(
        mark=hashlib.sha256(f"{graph}{bars}".encode()).hexdigest()[:16],
        graph=graph,
        timeline=Markup(bars),  # noqa: S704 - made by an XML library
        row_count=count,
        first_row=min(folds.first + 1, count),
        last_row=last,
        previous=_page(request, view, folds, folds.first - MOST_ROWS) if folds.first else None,
        following=_page(request, view, folds, last) if last < count else None,
    )


def graph_of_run(request: Request, view: RunView) -> Markup:
    """Make the graph of a run, with what the query of the request has opened."""
    folds = Folds.of(request)
    shown = shown_of(durable(request), view, datetime.now(UTC), folds.opened)

    def fold(key: str) -> str:
        query = folds.query(**{OPEN: sorted(folds.opened ^ {key})})
        return url(request, "run", run_id=view.snapshot.run_id, query=query) + "#graph"

    links = Links(run=lambda run_id: url(request, "run", run_id=run_id), fold=fold)
    return Markup(drawn(shown, links=links))  # noqa: S704 - made by an XML library


def _links(request: Request, view: RunView, folds: Folds) -> TimelineLinks:
    def fold(node: str) -> str:
        query = folds.query(**{LIST: sorted(folds.listed ^ {node}), FROM: None})
        return url(request, "run", run_id=view.snapshot.run_id, query=query) + "#timeline"

    return TimelineLinks(run=lambda run_id: url(request, "run", run_id=run_id), fold=fold)


def _page(request: Request, view: RunView, folds: Folds, first: int) -> str:
    query = folds.query(**{FROM: max(first, 0) or None})
    return url(request, "run", run_id=view.snapshot.run_id, query=query) + "#timeline"


def _view(request: Request) -> RunView:
    run_id: UUID = request.path_params["run_id"]
    it = durable(request)
    return read_run(it, it.run(run_id), with_results=False)


def fragment(request: Request) -> Response:
    """Show both pictures alone, to be put into the page of the run."""
    return render(request, "pictures.html", view=_view(request))


def graph_file(request: Request) -> Response:
    """Send the graph as an image that stands alone."""
    opened = Folds.of(request).opened
    shown = shown_of(durable(request), _view(request), datetime.now(UTC), opened)
    return _file(drawn(shown))


def timeline_file(request: Request) -> Response:
    """Send the timeline as an image that stands alone."""
    folds = Folds.of(request)
    view, now = _view(request), datetime.now(UTC)
    shown, _ = timeline_of(durable(request), view, now, folds.listed, folds.first)
    return _file(timeline(shown))


def _file(picture: str) -> Response:
    headers = {"Content-Security-Policy": _policy_of_images()}
    return Response(picture, media_type="image/svg+xml", headers=headers)


@cache
def _policy_of_images() -> str:
    """The stylesheet in a picture that stands alone, and nothing else."""
    digest = hashlib.sha256(svg.stylesheet().encode()).digest()
    allowed = f"'sha256-{base64.b64encode(digest).decode()}'"
    return f"default-src 'none'; style-src {allowed}; frame-ancestors 'none'; sandbox"


def style(_: Request) -> Response:
    """Send the stylesheet of all pictures; its address changes with its content."""
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    return Response(svg.stylesheet(), media_type="text/css", headers=headers)


@cache
def style_version() -> str:
    """What the address of the stylesheet ends with."""
    return hashlib.sha256(svg.stylesheet().encode()).hexdigest()[:12]


routes: Sequence[BaseRoute] = [
    Route("/runs/{run_id:uuid}/pictures", fragment, name="run_pictures"),
    Route("/runs/{run_id:uuid}/graph.svg", graph_file, name="run_graph"),
    Route("/runs/{run_id:uuid}/timeline.svg", timeline_file, name="run_timeline"),
]

open_routes: Sequence[BaseRoute] = [Route("/picture.css", style, name="picture_style")]

# A template asks once for both pictures, and includes them.
environment.globals["pictures_of_run"] = of_run
environment.globals["picture_style_version"] = style_version
