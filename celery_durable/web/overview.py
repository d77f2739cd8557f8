"""The page `Overview`: what goes through, fails and waits, and whether anything is behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from celery_durable.core.finding import Finding, Severity
from celery_durable.durable import Durable
from celery_durable.view.overview import Overview, read_overview
from celery_durable.web.render import durable, render
from celery_durable.web.topics import Look, Subject, digest

KEY = "overview"

DOCTOR_IS_GOOD_FOR = 15.0
"""Seconds for which what the doctor has found is shown again: it looks for seconds."""


class Doctor:
    """What `durable doctor` finds, looked for once at a time, however many ask."""

    def __init__(self, durable: Durable) -> None:
        self._durable = durable
        self._lock = threading.Lock()
        self._found: Sequence[Finding] = ()
        self._good_until = 0.0

    def findings(self) -> Sequence[Finding]:
        """What is not as it should be."""
        with self._lock:
            if time.monotonic() >= self._good_until:
                found = self._durable.doctor()
                self._found = [one for one in found if one.severity is not Severity.OK]
                self._good_until = time.monotonic() + DOCTOR_IS_GOOD_FOR
            return self._found


def overview(request: Request) -> Response:
    """Show the page."""
    look: Look = request.app.state.topics.seen(subject(request))
    return render(request, "overview.html", seen=digest(look.mark), **_values(request, look.value))


def doctor(request: Request) -> Response:
    """Show what the doctor finds: a page, or its part of one."""
    found = request.app.state.doctor.findings()
    is_part = "part" in request.query_params
    return render(request, "doctor_part.html" if is_part else "doctor.html", findings=found)


def subject(request: Request) -> Subject:
    """The overview as it is followed."""
    it = durable(request)

    def look() -> Look:
        found = read_overview(it)
        return Look(found.mark, found)

    return Subject(KEY, look, "overview_parts.html", lambda found: _values(request, found))


def _values(request: Request, found: Overview) -> dict[str, Any]:
    return {"found": found, "app_name": durable(request).app.main or "<app>"}


routes: Sequence[BaseRoute] = [
    Route("/", overview, name="overview"),
    Route("/doctor", doctor, name="doctor"),
]
