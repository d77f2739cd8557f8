"""The metrics, as Prometheus reads them.

A scraper logs in nowhere: it sends a token as `Authorization: Bearer ...`. That is
`durable_web_metrics_token`, which opens nothing else, or the token of the page. Who has opened the
page may read them, too, and everybody with `durable_web_metrics_open`.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from celery_durable.view.metrics import CONTENT_TYPE, exposition
from celery_durable.web.access import Viewer, address_of, bearer_of, gate_of
from celery_durable.web.render import durable
from celery_durable.web.session import Session

HELP = (
    "Metrics are read with a token: Authorization: Bearer ... It is durable_web_metrics_token, or"
    " that of the page. durable_web_metrics_open = True lets everybody read them.\n"
)


async def metrics(request: Request) -> Response:
    """Answer with all metrics."""
    if not await _is_let_in(request) and (refusal := await _refusal_of(request)) is not None:
        return refusal
    text = await run_in_threadpool(exposition, durable(request))
    return Response(text, media_type=CONTENT_TYPE)


async def _is_let_in(request: Request) -> bool:
    if durable(request).settings.web_metrics_open:
        return True
    gate = gate_of(request)
    session = gate.sessions.read(request) or Session()
    return isinstance(await gate.viewer(request, session), Viewer)


async def _refusal_of(request: Request) -> Response | None:
    """Refuse a wrong token, or none; a wrong one makes its address wait, as at the login."""
    said = bearer_of(request)
    if said is None:
        return PlainTextResponse(HELP, 401, {"WWW-Authenticate": "Bearer"})
    known = durable(request).settings.web_metrics_token
    if known is not None and hmac.compare_digest(said.encode(), known.encode()):
        return None
    is_right = await gate_of(request).admits(address_of(request), said)
    if is_right:
        return None
    if is_right is None:
        return PlainTextResponse("Too many wrong tokens. Wait a minute, and try again.\n", 429)
    return PlainTextResponse(HELP, 401, {"WWW-Authenticate": "Bearer"})


open_routes: Sequence[BaseRoute] = [Route("/metrics", metrics, name="metrics")]
