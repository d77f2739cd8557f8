"""The view of signed links: `path("durable/", include("celery_durable.contrib.django.urls"))`."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from celery_durable.contrib.django.project import get_durable
from celery_durable.web.callbacks import respond


@csrf_exempt  # whoever has the link may answer; no cookie is asked for
def callback(request: HttpRequest, text: str) -> HttpResponse:
    """Answer a request of a link."""
    address = str(request.META.get("REMOTE_ADDR") or "unknown")
    body = request.body if request.method == "POST" else b""
    made = respond(get_durable(), request.method or "GET", text, body, address)
    return HttpResponse(made.html.encode(), status=made.status, headers=dict(made.headers))
