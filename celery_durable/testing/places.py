"""Finds where a function stands in a workflow, and refuses names that are not in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from celery_durable.core.names import SEPARATOR, checked_name, compensated_by
from celery_durable.core.nodes import SignalNode
from celery_durable.errors import ConfigurationError, nearest
from celery_durable.workflow.builder import Workflow
from celery_durable.workflow.step import Step


@dataclass(frozen=True, slots=True)
class Place:
    """A node, or the branch or case of one."""

    node: str
    branch: str | None = None
    is_compensator: bool = False


def place_of(step: Step | Callable[..., Any] | str) -> Place:
    """Return the place of a step by its own name, of a workflow that nobody knows."""
    return Place(checked_name("step", _name_of(step)))


def place_in(workflow: Workflow, step: Step | Callable[..., Any] | str) -> Place:
    """Return the place of a step in `workflow`; raise `ConfigurationError` if it has none.

    A function may be a node's, a branch's, a compensator, or what chooses, lists or ends.
    """
    name = _name_of(step)
    if name in workflow.steps:
        return Place(name)
    function = step.function if isinstance(step, Step) else step
    for place, found in workflow.callables.items():
        if found is function:
            return _parsed(place)
    raise ConfigurationError(
        f"Workflow {workflow.name!r} has no step {name!r}.{nearest(name, workflow.steps)}"
    )


def refuse_unknown(workflow: Workflow, results: Iterable[str], signals: Iterable[str]) -> None:
    """Raise `ConfigurationError` for a result of no node, and for the typo of a signal.

    A step that suspends may wait for a signal of any name.
    """
    for name in results:
        if name not in workflow.steps:
            raise ConfigurationError(
                f"results: workflow {workflow.name!r} has no node {name!r}."
                f"{nearest(name, workflow.steps)}"
            )
    awaited = {node.signal for node in workflow.plan.nodes if isinstance(node, SignalNode)}
    for name in signals:
        if name not in awaited and (hint := nearest(name, awaited)):
            raise ConfigurationError(
                f"signals: workflow {workflow.name!r} waits for no signal {name!r}.{hint}"
            )


def checked_names(what: str, values: object) -> dict[str, object]:
    """Return a mapping of names as a dict; raise `ConfigurationError` for anything else."""
    if values is None:
        return {}
    if not isinstance(values, Mapping) or not all(isinstance(name, str) for name in values):
        raise ConfigurationError(f"{what}= takes a mapping of names to values, not {values!r:.80}.")
    return dict(values)


def refuse_no_workflow(workflow: object) -> None:
    """Raise `ConfigurationError` for what is neither a workflow nor None."""
    if workflow is not None and not isinstance(workflow, Workflow):
        raise ConfigurationError(
            f"workflow= takes the workflow itself, such as order_workflow, not {workflow!r:.60}."
        )


def refuse_unknown_branch(workflow: Workflow, node: str, branch: str | None) -> None:
    """Raise `ConfigurationError` for a branch, or case, that the node does not have."""
    if branch is None:
        return
    found = next((one for one in workflow.plan.nodes if one.name == node), None)
    named = found is not None and found.has_named_parts
    known = [body.name for body in found.bodies] if found is not None and named else []
    if branch not in known:
        raise ConfigurationError(
            f"branch: {node!r} of workflow {workflow.name!r} has no branch {branch!r}."
            f"{nearest(str(branch), known)}"
        )


def _name_of(step: Step | Callable[..., Any] | str) -> str:
    if isinstance(step, str):
        return step
    name = step.name if isinstance(step, Step) else getattr(step, "__name__", None)
    if not isinstance(name, str):
        raise ConfigurationError(
            f"make_context takes a step, a function or the name of a node, not {step!r:.60}."
        )
    return "function" if name == "<lambda>" else name


def _parsed(place: str) -> Place:
    """Return the place that `Workflow.callables` calls so: `checks#fraud`, `until= of poll`."""
    unit = place.rpartition("= of ")[2].partition(" (")[0]
    undone = compensated_by(unit)
    node, _, branch = undone.partition(SEPARATOR)
    return Place(node, branch or None, is_compensator=undone != unit)
