"""The view of signed links: `path("durable/", include("celery_durable.contrib.django.urls"))`."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from celery_durable.contrib.django.project import get_durable
from celery_durable.web.callbacks import LinkRequest, respond


@csrf_exempt  # whoever has the link may answer; no cookie is asked for
def callback(request: HttpRequest, text: str) -> HttpResponse:
    """Answer a request of a link."""
    said = LinkRequest(
        request.method or "GET",
        text,
        request.body if request.method == "POST" else b"",
        str(request.META.get("REMOTE_ADDR") or "unknown"),
        str(request.META.get("CONTENT_TYPE") or ""),
        str(request.META.get("QUERY_STRING") or ""),
    )
    made = respond(get_durable(), said)
    return HttpResponse(made.html.encode(), status=made.status, headers=dict(made.headers))
