"""Checks inputs, and the data of signals, against the models of a workflow."""

from __future__ import annotations

from celery_durable.workflow.builder import Workflow
from celery_durable.workflow.schemas import fitted


def checked_input(workflow: Workflow, value: object) -> object:
    """Return `value` as the workflow's input model; raise `PayloadError` if it does not fit."""
    return fitted(workflow.input, value, f"The input of workflow {workflow.name!r}")


def checked_signal_data(workflow: Workflow, signal: str, data: object) -> object:
    """Return `data` as the signal's model; raise `PayloadError` if it does not fit."""
    return fitted(workflow.model_of(signal), data, f"The data of the signal {signal!r}")
