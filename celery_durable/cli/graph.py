"""`durable graph`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

import click
from rich.text import Text

from celery_durable.arguments import checked_workflow
from celery_durable.cli.application import durable_of, json_option, run_named
from celery_durable.cli.exit_codes import Exit, Refused
from celery_durable.cli.node_notes import failed_of
from celery_durable.cli.output import Form, Output
from celery_durable.cli.run_view import Seen, look
from celery_durable.cli.steps import IN_HAND, State, StepStanding
from celery_durable.core.diagram import Colour, Mark, flowchart
from celery_durable.core.names import part_of
from celery_durable.durable import Durable
from celery_durable.errors import UnknownWorkflow
from celery_durable.store import definitions
from celery_durable.store.read import overview

COLOURS: Mapping[State, Colour] = {
    State.PENDING: Colour.PENDING,
    State.CURRENT: Colour.RUNNING,
    State.WAITING: Colour.WAITING,
    State.COMPLETED: Colour.COMPLETED,
    State.FAILED: Colour.FAILED,
    State.CANCELLED: Colour.CANCELLED,
    State.COMPENSATING: Colour.RUNNING,
    State.COMPENSATED: Colour.COMPENSATED,
    State.COMPENSATION_FAILED: Colour.FAILED,
    State.NOT_REACHED: Colour.PENDING,
}

SAID = frozenset({State.COMPENSATING, State.COMPENSATION_FAILED, State.CANCELLED})
"""The states that a colour alone does not tell."""


@click.command()
@click.argument("what", metavar="[WORKFLOW|RUN]", required=False)
@click.option(
    "--version", type=click.IntRange(min=1), help="Of the workflow. Default: the highest stored."
)
@click.option("--workflow", help="With --run-key: the run's workflow.")
@click.option("--run-key", metavar="KEY", help="With --workflow, in place of RUN: the run's key.")
@json_option
@click.pass_context
def graph(
    ctx: click.Context,
    /,
    *,
    what: str | None,
    version: int | None,
    workflow: str | None,
    run_key: str | None,
    as_json: bool,
) -> None:
    """Print a plan as a Mermaid flowchart.

    Of a workflow, as it is stored, in processes too that do not import it; or of a run, given by
    its id or its key, with how each node stands. Markdown pages on GitHub and GitLab show it in a
    block called mermaid.
    """
    durable = durable_of(ctx)
    output = Output.of(ctx, as_json=as_json)
    run_id = _as_id(what) if what is not None else None
    document: Mapping[str, Any]
    if what is not None and run_id is None and workflow is None and run_key is None:
        document = plan_of(durable, what, version)
        text = flowchart(document)
    elif version is not None:
        raise Refused("A run keeps its version; leave out --version.", Exit.USAGE)
    else:
        if run_id is None and (what is not None or not (workflow and run_key)):
            raise Refused("Name one WORKFLOW|RUN, or --workflow and --run-key.", Exit.USAGE)
        run = run_named(durable, run_id, workflow, run_key)
        seen = look(durable, run, with_results=False)
        plan = plan_of(durable, seen.snapshot.workflow, seen.snapshot.version)
        coloured = dict(marks(seen))
        document = {
            "run_id": run.id,
            "status": seen.snapshot.status,
            "plan": plan,
            "marks": coloured,
        }
        text = flowchart(plan, coloured)
    if output.form is Form.JSON:
        output.document(document)
    else:
        output.lines(Text(text))


def _as_id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def plan_of(durable: Durable, workflow: str, version: int | None) -> Mapping[str, Any]:
    """The stored plan; for a workflow that has never run or been served, the app's own."""
    checked_workflow(workflow)
    with durable.database.autocommit() as connection:
        stored = overview.plan(connection, workflow, version)
    if stored is not None:
        return stored
    found = durable.registry.find(workflow, version)
    if found is not None:
        return found.plan.as_data()
    with durable.database.autocommit() as connection:
        known = {*durable.registry.names(), *definitions.names(connection)}
    raise UnknownWorkflow(workflow, version, known)


def marks(seen: Seen) -> Iterator[tuple[str, Mark]]:
    """How each node stands, and each branch; of a route, the case that was taken."""
    for step in seen.steps:
        yield step.name, Mark(COLOURS[step.state], _note(step))
        for part in step.parts:
            state = f"{part.state}" if part.state in SAID else ""
            yield part_of(step.name, part.name), Mark(COLOURS[part.state], state)
    for node in seen.nodes:
        for case in node.get("cases", ()):
            yield part_of(node["name"], case["name"]), Mark(_of_case(seen, node, case["name"]))


def _of_case(seen: Seen, node: Mapping[str, Any], case: str) -> Colour:
    """The case that was taken stands as the route does."""
    step = next(step for step in seen.steps if step.name == node["name"])
    return COLOURS[step.state] if step.branch == case else Colour.PENDING


def _note(step: StepStanding) -> str:
    """Counts of branches, items and iterations."""
    said = [str(step.state)] if step.state in SAID else []
    if step.forked is not None and step.state in IN_HAND:
        at = step.forked
        said.append(f"{at.ended}/{at.total}")
        counts = {"failed": failed_of(step), "executing": at.executing, "waiting": at.waiting}
        said += [f"{count} {word}" for word, count in counts.items() if count]
    elif step.tally is not None:
        done = step.tally
        of = f" of at most {step.limit}" if step.kind == "loop" else ""
        said.append(f"{done.ended}{of} done")
        counts = {"failed": done.failed, "undone": done.undone, "not undone": done.undo_failed}
        said += [f"{count} {word}" for word, count in counts.items() if count]
    return ", ".join(said)
