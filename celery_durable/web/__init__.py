"""The web page: where each run stands, why, and what moves it. It needs the extra `web`.

Rules of this room: a page reads through `Durable`, `celery_durable.view` and
`celery_durable.store.read`, and acts through `Durable`; it decides nothing about runs. Endpoints
are plain functions, which Starlette calls in threads. Nothing acts on GET. No page has a script or
a style in it: the Content-Security-Policy forbids both. All but what is live works without script.
Links are made by `render.url`, so that the whole can be mounted under a prefix.

    app         `create_app` joins the pages, and what guards them, into an ASGI application
    access      says who looks: by a token and a cookie, or by the host application's own login
    login       where viewers come in by the token, and leave
    session     the signed cookie, and the token that forms carry
    patience    makes wrong tokens slow
    protection  headers, the Host of a request, the body and the origin of a POST
    render      templates, and what all of them may use
    fields      a JSON schema becomes the fields of a form
    forms       what the fields show of a value, and the value of what is typed
    typed       reads what was typed into one control
    bounds      holds a form's value against the bounds of its schema
    answering   answers waits: what is asked, and whether it still is
    callbacks   signed links that answer a wait without a login; applications of their own
    deeds       what an operator may do to a run
    pictures    the graph and the timeline of a run
    overview, runs, run, units, actions, approvals, workflows, metrics
                the pages; each has `routes`
    filters     which runs a list shows, in the address of the page
    downloads   inputs and results as files
    live        server-sent events
    topics      looks at what is live, once for all who watch it
"""

from celery_durable.web.access import Login, Role, Viewer
from celery_durable.web.app import create_app
from celery_durable.web.callbacks import callbacks_app, callbacks_wsgi

__all__ = ["Login", "Role", "Viewer", "callbacks_app", "callbacks_wsgi", "create_app"]
