"""Server-sent events: a page changes as what it shows does, without being loaded again.

    parts     the HTML of what is live on the page
    trouble   why nothing can be seen now; empty once it can be again
    again     the stream ends here, and the page opens another
    end       the last event, and why: nothing changes any more, or the viewer may not look any more

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
import logging
import re
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from celery_durable.web import overview, run, runs
from celery_durable.web.access import still_lets_in
from celery_durable.web.render import render_text
from celery_durable.web.topics import Look, State, Subject, TooManyStreams, Topics, digest

logger = logging.getLogger(__name__)

KEEP_ALIVE = 15.0
"""Seconds after which a stream says that it is there, and asks if the viewer still may look."""

LONGEST_STREAM = 900.0
"""Seconds after which a stream ends, and the page opens another: some are read by nobody."""

READ_WITHIN = 20.0
"""Seconds that a browser has to take an event."""

SLICE = 0.25
"""Seconds after which a stream looks whether the server stops."""

RETRY_AFTER = "30"
"""Seconds, for a page that has come when too many streams were open."""


def is_stopping() -> bool:
    """True if the uvicorn of this process was asked to stop: it waits until all streams have ended.

    It handles signals by a method of the server
    (https://github.com/encode/uvicorn/blob/0.30.0/uvicorn/server.py#L288).
    """
    handlers = map(signal.getsignal, (signal.SIGINT, signal.SIGTERM))
    servers = (getattr(handler, "__self__", None) for handler in handlers)
    return any(getattr(server, "should_exit", False) for server in servers)


LINE_END = re.compile("\r\n|\r|\n")
"""What ends a line of a stream. It is a line break of HTML, too, whichever it is."""


def event(name: str, data: str) -> str:
    """One event as it is sent; the browser gets `data` with each line end as a line feed."""
    lines = "".join(f"data: {line}\n" for line in LINE_END.split(data))
    return f"event: {name}\n{lines}\n"


class Stream(Response):
    """The events of one page, until the page is closed."""

    media_type = "text/event-stream"

    def __init__(self, request: Request, subject: Subject) -> None:
        # A proxy that waits for more would hold events back.
        super().__init__(headers={"X-Accel-Buffering": "no"}, media_type=self.media_type)
        del self.headers["content-length"]
        self._request = request
        self._subject = subject

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until the browser is gone, or takes none, or nothing more will come."""
        del scope
        topics: Topics = self._request.app.state.topics
        try:
            async with topics.watched(self._subject.key, self._subject.look) as topic:
                tasks = [
                    asyncio.create_task(_until_gone(receive)),
                    asyncio.create_task(self._send(send, self._events(topic.after))),
                ]
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                for task in done:
                    task.result()
        except TooManyStreams:
            text = "Too many pages are live already. Reload the page to see what has changed."
            refusal = PlainTextResponse(text, 503, headers={"Retry-After": RETRY_AFTER})
            await refusal(self._request.scope, receive, send)

    async def _send(self, send: Send, events: AsyncIterator[str]) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        async for text in events:
            body = {"type": "http.response.body", "body": text.encode(), "more_body": True}
            try:
                async with asyncio.timeout(READ_WITHIN):
                    await send(body)
            except TimeoutError:
                logger.info("A live page takes no events, and is dropped: %s", self._request.url)
                return
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _events(self, after: Callable[..., Any]) -> AsyncIterator[str]:
        began = spoken = time.monotonic()
        known: State | None = None
        shown = self._request.query_params.get("seen", "")
        yield "retry: 2000\n\n"
        while not is_stopping():
            state: State = await after(known, SLICE)
            is_new = state is not known and (state.look is not None or bool(state.trouble))
            if not is_new and time.monotonic() - spoken < KEEP_ALIVE:
                continue
            spoken = time.monotonic()
            if not await still_lets_in(self._request):
                yield event("end", "You are logged out: log in to see what has changed.")
                return
            if not is_new:
                yield ": nothing new\n\n"
            elif state.trouble or state.look is None:
                yield event("trouble", state.trouble)
            else:
                if known is not None and known.trouble:
                    yield event("trouble", "")
                if digest(state.look.mark) != shown:
                    yield event("parts", await self._draw(state.look))
                shown = ""
                if state.look.is_last:
                    yield event("end", "")
                    return
            known = state
            if spoken - began > LONGEST_STREAM:
                break
        yield event("again", "")

    async def _draw(self, look: Look) -> str:
        values = self._subject.values(look.value)
        return await asyncio.to_thread(render_text, self._request, self._subject.template, **values)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def live_run(request: Request) -> Response:
    """Follow a run until it has ended."""
    return Stream(request, run.subject(request))


async def live_runs(request: Request) -> Response:
    """Follow a list of runs."""
    return Stream(request, runs.subject(request))


async def live_overview(request: Request) -> Response:
    """Follow the overview."""
    return Stream(request, overview.subject(request))


routes: Sequence[BaseRoute] = [
    Route("/live/run/{run_id:uuid}", live_run, name="live_run"),
    Route("/live/runs", live_runs, name="live_runs"),
    Route("/live/overview", live_overview, name="live_overview"),
]
