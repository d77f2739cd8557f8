"""Runs in Django's admin: to look at, and with the permission to change them, to act on."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponseRedirect
from django.template.response import TemplateResponse

from celery_durable.contrib.django.models import STATUSES, WorkflowRun
from celery_durable.contrib.django.pages import ACTIONS, act, facts_of
from celery_durable.contrib.django.project import get_durable
from celery_durable.core.status import READ_FROM_TOKENS, Status
from celery_durable.errors import DurableError, RunNotFound


class StatusFilter(admin.SimpleListFilter):
    """Filters by the status; the one that is stored has an index."""

    title = parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: object) -> list[tuple[str, str]]:
        """Return the statuses, and what they are called."""
        return STATUSES

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[WorkflowRun]
    ) -> QuerySet[WorkflowRun]:
        """Return the runs of the chosen status."""
        chosen = self.value()
        if not chosen:
            return queryset
        stored = Status.RUNNING if chosen in READ_FROM_TOKENS else chosen
        return queryset.filter(status=chosen, stored_status=stored)


class WorkflowFilter(admin.SimpleListFilter):
    """Filters by workflow, of those that this process knows."""

    title = parameter_name = "workflow"

    def lookups(self, request: HttpRequest, model_admin: object) -> list[tuple[str, str]]:
        """Return the names of the workflows."""
        return [(name, name) for name in get_durable().registry.names()]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[WorkflowRun]
    ) -> QuerySet[WorkflowRun]:
        """Return the runs of the chosen workflow."""
        return queryset.filter(workflow=self.value()) if self.value() else queryset


def _action(name: str) -> Any:
    """Make the admin's action that does this to each of the chosen runs."""

    def each(model_admin: Any, request: HttpRequest, queryset: QuerySet[WorkflowRun]) -> None:
        done = 0
        for run in queryset:
            if model_admin.act_on(request, run, name, {}):
                done += 1
        if done:
            messages.success(request, f"{ACTIONS[name]}: {done}")

    each.__name__ = f"{name}_selected"
    return admin.action(permissions=["change"], description=f"{ACTIONS[name]} selected runs")(each)


def _name_of(request: Any) -> str:
    name: str = request.user.get_username()
    return name


@admin.register(WorkflowRun)
class WorkflowRunAdmin(admin.ModelAdmin):
    """Lists runs, shows one, and acts on them. Nothing is added, edited or deleted by hand."""

    list_display = ("id", "workflow", "version", "status", "key", "created_at", "finished_at")
    list_filter = (StatusFilter, WorkflowFilter, "created_at")
    search_fields = ("key", "id")
    search_help_text = "The beginning of a key, or a whole id"
    show_full_result_count = False
    ordering = ("-id",)
    actions = tuple(_action(name) for name in ("cancel", "retry", "pause", "unpause"))

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Return False: runs are started by code."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """Return False: runs are deleted by retention and `prune`."""
        return False

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[WorkflowRun], search_term: str
    ) -> tuple[QuerySet[WorkflowRun], bool]:
        """Return the runs with this id, or with a key that begins so."""
        wanted = search_term.strip()
        if not wanted:
            return queryset, False
        found = Q(key__startswith=wanted)
        with suppress(ValueError):
            found |= Q(id=UUID(wanted))
        return queryset.filter(found), False

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> Any:
        """Show the list. An address with NUL, which Postgres stores nowhere, is refused."""
        if any("\0" in text for _, texts in request.GET.lists() for text in texts):
            raise SuspiciousOperation("No run is found by a text with NUL.")
        return super().changelist_view(request, extra_context)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        """Show a run, and do with it what a form on its page says."""
        run = self.get_object(request, object_id)
        if run is None:
            raise Http404(f"There is no run {object_id}.")
        if not self.has_view_permission(request, run):
            raise PermissionDenied
        may_act = self.has_change_permission(request, run)
        if request.method == "POST":
            name = request.POST.get("action", "")
            if not may_act or name not in ACTIONS:
                raise PermissionDenied
            if self.act_on(request, run, name, request.POST.dict()):
                messages.success(request, f"{ACTIONS[name]}: done")
            return HttpResponseRedirect(request.path)
        try:
            facts = facts_of(get_durable(), run.pk)
        except RunNotFound as error:
            raise Http404(str(error)) from error
        context = {
            **self.admin_site.each_context(request),
            **facts,
            "opts": self.model._meta,  # noqa: SLF001 - documented by Django
            "title": str(run),
            "may_act": may_act,
            "actions": ACTIONS,
            **(extra_context or {}),
        }
        return TemplateResponse(request, "admin/durable/workflowrun/run.html", context)

    def act_on(
        self, request: HttpRequest, run: WorkflowRun, name: str, form: dict[str, Any]
    ) -> bool:
        """Do it to the run, and log who did; return False, with a message, if it is refused."""
        try:
            durable, who = get_durable(), _name_of(request)
            with durable.acting(who, form.get("reason") or None):
                warning = act(durable, run.pk, name, form, who)
        except DurableError as error:
            messages.error(request, f"{run}: {error}")
            return False
        if warning is not None:
            messages.warning(request, f"{run}: {warning}")
        self.log_change(request, run, f"{ACTIONS[name]} {form.get('signal', '')}".strip())
        return True
