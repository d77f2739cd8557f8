"""The waits for a person: a list of all of them, and a form that answers one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from celery_durable.arguments import LONGEST_UNIT, fits
from celery_durable.store import codec
from celery_durable.store.read import asking
from celery_durable.store.read.asking import Asked, AskedWait
from celery_durable.view.document import as_json
from celery_durable.view.formatting import one_of, shortened
from celery_durable.view.typed import whole_of
from celery_durable.web.answering import Closed, Question, answer, question
from celery_durable.web.render import durable, form, render, url, viewer
from celery_durable.workflow.callbacks import Callback

PAGE = 50
"""Waits on one page."""

LONGEST_SHOWN = 20_000
"""Characters of a snapshot or an input that are shown."""


def approvals(request: Request) -> Response:
    """Show the waits for a person, the oldest first; `mine` shows those that name the viewer."""
    is_mine = request.query_params.get("mine") == "1"
    after = _position(request.query_params.get("after"))
    with durable(request).database.read_only() as connection:
        found = asking.waits(
            connection,
            name=viewer(request).name if is_mine else None,
            after=after,
            limit=PAGE + 1,
        )
    more = _text(found[PAGE - 1]) if len(found) > PAGE else None
    return render(
        request,
        "approvals.html",
        waits=found[:PAGE],
        is_mine=is_mine,
        is_later=after is not None,
        more=more,
    )


def _text(wait: AskedWait) -> str:
    return f"{wait.since.isoformat()}_{wait.token_id}"


def _position(text: str | None) -> tuple[datetime, UUID] | None:
    """The last wait of the page before, as the link to the next page has it."""
    if text is None:
        return None
    since, _, token = text.partition("_")
    try:
        found = datetime.fromisoformat(since), UUID(token)
    except ValueError:
        raise HTTPException(400, "This is no place in the list; begin at its first page.") from None
    if found[0].tzinfo is None:
        raise HTTPException(400, "This is no place in the list; begin at its first page.")
    return found


def approval(request: Request) -> Response:
    """Show what a token waits for, with a form for those who may answer; a POST answers it.

    With the wait in its query, it says what became of that: a POST leads there.
    """
    if "wait" in request.query_params and (became := _became(request, request.query_params)):
        return _answered(request, *became)
    found = _asked(request)
    if found is None:
        return _over(request)
    callback = Callback(
        run_id=found.wait.run_id,
        signal=found.wait.signal,
        unit=found.wait.unit,
        wait=_number(request, found.consumed),
    )
    if request.method != "POST":
        return _shown(request, found, question(durable(request), callback))
    who = viewer(request).name
    if not found.wait.may_answer(who):
        raise HTTPException(403, f"{who} may not answer this: {one_of(found.wait.assignees)} may.")
    answered = answer(durable(request), callback, form(request), who)
    if isinstance(answered, Closed) and answered.is_new:
        return RedirectResponse(_address_of(request, callback), status_code=303)
    return _shown(request, found, answered)


def _address_of(request: Request, callback: Callback) -> str:
    """Where it is said what became of a wait; that can be opened any number of times."""
    said = {name: getattr(callback, name) for name in ("signal", "unit")}
    query = {"run": callback.run_id, "wait": str(callback.wait), **said}
    return url(request, "approval", token_id=request.path_params["token_id"], query=query)


def _asked(request: Request) -> Asked | None:
    with durable(request).database.read_only() as connection:
        return asking.asked(connection, request.path_params["token_id"])


def _number(request: Request, consumed: int) -> int:
    """The number of the wait that the form was shown for; a later one of the token is another."""
    said = str(form(request).get("wait") or "") if request.method == "POST" else ""
    number = whole_of(said)
    return consumed if number is None else number


def _over(request: Request) -> Response:
    """Say that the token does not wait any more; to a form, what became of what it answers."""
    became = _became(request, form(request)) if request.method == "POST" else None
    if became is not None:
        return _answered(request, *became)
    over = Closed("This wait is over: it was answered, or the run went on without an answer.")
    return _answered(request, over)


def _became(request: Request, said: Mapping[str, Any]) -> tuple[Closed, UUID] | None:
    """What became of the wait that the form was shown for; None if that is not to be told."""
    signal, unit = str(said.get("signal")), str(said.get("unit"))
    try:
        run_id, wait = UUID(str(said.get("run"))), int(str(said.get("wait")))
    except ValueError:
        return None
    if not (fits(signal, LONGEST_UNIT) and fits(unit, LONGEST_UNIT)):
        return None
    found = question(durable(request), Callback(run_id, signal, unit, wait))
    return (found, run_id) if isinstance(found, Closed) else None


def _answered(request: Request, over: Closed, run_id: UUID | None = None) -> Response:
    is_mine = request.method != "POST" and over.actor == viewer(request).name
    return render(
        request,
        "answered.html",
        status_code=200 if over.is_answered else 410,
        over=over.thanks if is_mine else over,
        run_id=run_id,
    )


def _shown(request: Request, found: Asked, answered: Question | Closed) -> Response:
    if isinstance(answered, Closed):
        return _answered(request, answered, found.wait.run_id)
    who = viewer(request)
    return render(
        request,
        "approval.html",
        status_code=400 if answered.errors else 200,
        wait=found.wait,
        asked=answered,
        may_answer=who.is_operator and found.wait.may_answer(who.name),
        names=one_of(found.wait.assignees) if found.wait.assignees else "",
        snapshot=_readable(found.snapshot),
        input=_readable(found.input),
    )


def _readable(text: str | None) -> str | None:
    """A stored value as JSON for people; None if there is none."""
    value = codec.loads(text)
    return None if value is None else shortened(as_json(value), LONGEST_SHOWN)


routes: Sequence[BaseRoute] = [
    Route("/approvals", approvals, name="approvals"),
    Route("/approvals/{token_id:uuid}", approval, methods=["GET", "POST"], name="approval"),
]
