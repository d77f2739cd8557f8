"""Durable, crash-resumable workflows for people who already run Celery.

The database is the truth; a broker message is only a hint.

The public names are here and nothing else. Each is imported when it is first used (PEP 562): Celery
imports this package at every `celery ...` command, for the sake of the command line's entry point.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celery_durable.bulk.result import BulkResult
    from celery_durable.core.retry import RetryPolicy
    from celery_durable.core.status import Status
    from celery_durable.durable import Durable
    from celery_durable.errors import (
        ChildFailed,
        ConfigurationError,
        DatabaseUnavailable,
        DuplicateWorkflow,
        DurableError,
        ErrorRecord,
        GiveUp,
        InvalidWorkflow,
        LoopExhausted,
        NotSerializable,
        PayloadError,
        PayloadTooLarge,
        ResultTimeout,
        RetryLater,
        RunCancelled,
        RunError,
        RunExists,
        RunFailed,
        RunNotFound,
        RunRefused,
        RunTimeout,
        SchemaOutOfDate,
        SignalTimeout,
        StepTimeout,
        TooDeep,
        UnknownRoute,
        UnknownWorkflow,
        WorkerLost,
    )
    from celery_durable.ordinary.outbox_task import OutboxTask
    from celery_durable.run import Run
    from celery_durable.store.read.history import JournalEntry
    from celery_durable.store.read.listing import RunSummary
    from celery_durable.store.read.position import Forked, Progress
    from celery_durable.store.read.views import RunSnapshot
    from celery_durable.store.signals import Delivery
    from celery_durable.store.tables import include_name
    from celery_durable.workflow.builder import Workflow
    from celery_durable.workflow.context import Context
    from celery_durable.workflow.logs import RunFilter
    from celery_durable.workflow.step import Step
    from celery_durable.workflow.suspend import Suspend

__version__ = "0.1.0"

_HOME = {
    "BulkResult": "bulk.result",
    "Context": "workflow.context",
    "Delivery": "store.signals",
    "Durable": "durable",
    "ErrorRecord": "core.failure",
    "Forked": "store.read.position",
    "JournalEntry": "store.read.history",
    "OutboxTask": "ordinary.outbox_task",
    "Progress": "store.read.position",
    "RetryPolicy": "core.retry",
    "Run": "run",
    "RunFilter": "workflow.logs",
    "RunSnapshot": "store.read.views",
    "RunSummary": "store.read.listing",
    "Status": "core.status",
    "Step": "workflow.step",
    "Suspend": "workflow.suspend",
    "Workflow": "workflow.builder",
    "include_name": "store.tables",
}
"""Where a public name lives; every other one is an error."""

__all__ = [
    "BulkResult",
    "ChildFailed",
    "ConfigurationError",
    "Context",
    "DatabaseUnavailable",
    "Delivery",
    "DuplicateWorkflow",
    "Durable",
    "DurableError",
    "ErrorRecord",
    "Forked",
    "GiveUp",
    "InvalidWorkflow",
    "JournalEntry",
    "LoopExhausted",
    "NotSerializable",
    "OutboxTask",
    "PayloadError",
    "PayloadTooLarge",
    "Progress",
    "ResultTimeout",
    "RetryLater",
    "RetryPolicy",
    "Run",
    "RunCancelled",
    "RunError",
    "RunExists",
    "RunFailed",
    "RunFilter",
    "RunNotFound",
    "RunRefused",
    "RunSnapshot",
    "RunSummary",
    "RunTimeout",
    "SchemaOutOfDate",
    "SignalTimeout",
    "Status",
    "Step",
    "StepTimeout",
    "Suspend",
    "TooDeep",
    "UnknownRoute",
    "UnknownWorkflow",
    "WorkerLost",
    "Workflow",
    "include_name",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{_HOME.get(name, 'errors')}"), name)
    except AttributeError as error:
        # `from celery_durable import Durable` would take it for a name that is not there.
        raise ImportError(f"{name} of {__name__} cannot be imported: {error}") from error


def __dir__() -> list[str]:
    return ["__doc__", "__version__", *__all__]
