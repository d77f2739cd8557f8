"""URLs of signed links, for `include`. `durable_web_url` is where they are included."""

from __future__ import annotations

from django.urls import path

from celery_durable.contrib.django.links import callback
from celery_durable.workflow.callbacks import PATH

app_name = "durable"

urlpatterns = [path(f"{PATH}/<str:text>", callback, name=PATH)]
