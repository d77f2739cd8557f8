"""`durable graph`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import click
from rich.text import Text

from celery_durable.arguments import checked_workflow
from celery_durable.cli.application import durable_of, json_option, run_key_options, run_named
from celery_durable.cli.exit_codes import CliError, ExitCode
from celery_durable.cli.node_notes import failed_parts
from celery_durable.cli.output import Output
from celery_durable.core.diagram import Colour, Mark, flowchart
from celery_durable.core.names import subunit_of
from celery_durable.durable import Durable
from celery_durable.errors import UnknownWorkflow
from celery_durable.run import Run
from celery_durable.store import definitions
from celery_durable.store.read import overview
from celery_durable.view.formatting import nonzero
from celery_durable.view.nodes import ACTIVE, NodeState, NodeView
from celery_durable.view.picture.chart import Shown
from celery_durable.view.picture.graph import graph as drawn
from celery_durable.view.picture.places import Flow
from celery_durable.view.picture.reading import shown_of
from celery_durable.view.run import RunView, read_run

COLOURS: Mapping[NodeState, Colour] = {
    NodeState.PENDING: Colour.PENDING,
    NodeState.CURRENT: Colour.RUNNING,
    NodeState.WAITING: Colour.WAITING,
    NodeState.PAUSED: Colour.WAITING,
    NodeState.COMPLETED: Colour.COMPLETED,
    NodeState.FAILED: Colour.FAILED,
    NodeState.CANCELLED: Colour.CANCELLED,
    NodeState.COMPENSATING: Colour.RUNNING,
    NodeState.COMPENSATED: Colour.COMPENSATED,
    NodeState.COMPENSATION_FAILED: Colour.FAILED,
    NodeState.NOT_REACHED: Colour.PENDING,
}

NAMED = frozenset({NodeState.COMPENSATING, NodeState.COMPENSATION_FAILED, NodeState.CANCELLED})
"""The states that a node's note names, because the colour alone does not say which it is."""


@click.command()
@click.argument("what", metavar="[WORKFLOW|RUN]", required=False)
@click.option(
    "--version", type=click.IntRange(min=1), help="Of the workflow. Default: the highest stored."
)
@run_key_options("--run-key")
@click.option("--svg", "as_svg", is_flag=True, help="Draw it as SVG: an image for a page.")
@click.option("--right", is_flag=True, help="With --svg: from left to right, not downwards.")
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
    as_svg: bool,
    right: bool,
    as_json: bool,
) -> None:
    """Print a plan as a Mermaid flowchart, or draw it as SVG.

    Of a workflow, as it is stored: this process need not import it. Or of a run, named by its id or
    its key, with the state of each node. Markdown pages on GitHub and GitLab show Mermaid in a
    block called mermaid. With --svg the answer is an image that stands alone, for dark and light
    pages: write it to a file.
    """
    if (as_svg and as_json) or (right and not as_svg):
        raise CliError("--svg goes without --json, and --right with --svg.", ExitCode.USAGE)
    durable = durable_of(ctx)
    output = Output.of(ctx, as_json=as_json)
    run_id = _as_id(what) if what is not None else None
    if what is not None and run_id is None and workflow is None and run_key is None:
        drawing = _of_workflow(durable, what, version)
    else:
        if version is not None:
            raise CliError("A run keeps its version; leave out --version.", ExitCode.USAGE)
        if run_id is None and (what is not None or not (workflow and run_key)):
            raise CliError("Name one WORKFLOW|RUN, or --workflow and --run-key.", ExitCode.USAGE)
        drawing = _of_run(durable, run_named(durable, run_id, workflow, run_key))
    if as_svg:
        click.echo(drawn(drawing.shown, flow=Flow.RIGHT if right else Flow.DOWN))
    else:
        output.answer(drawing.document, Text(flowchart(drawing.shown.plan, drawing.marks)))


@dataclass(frozen=True, slots=True)
class _Drawing:
    """What is to be drawn, for each of the forms."""

    shown: Shown
    document: object
    marks: Mapping[str, Mark] | None = None


def _of_workflow(durable: Durable, workflow: str, version: int | None) -> _Drawing:
    plan = _plan(durable, workflow, version)
    return _Drawing(Shown(plan, datetime.now(UTC)), plan)


def _of_run(durable: Durable, run: Run) -> _Drawing:
    view = read_run(durable, run, with_results=False)
    plan = _plan(durable, view.snapshot.workflow, view.snapshot.version)
    marks = dict(_marks(view))
    document = {"run_id": run.id, "status": view.snapshot.status, "plan": plan, "marks": marks}
    shown = replace(shown_of(durable, view, datetime.now(UTC)), plan=plan)
    return _Drawing(shown, document, marks)


def _as_id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _plan(durable: Durable, workflow: str, version: int | None) -> Mapping[str, Any]:
    """The stored plan; for a workflow that has never run or been served, the app's own."""
    checked_workflow(workflow)
    with durable.database.autocommit() as connection:
        stored = overview.plan(connection, workflow, version)
    if stored is not None:
        return stored
    defined = durable.registry.find(workflow, version)
    if defined is not None:
        return defined.plan.as_data()
    with durable.database.autocommit() as connection:
        known = {*durable.registry.names(), *definitions.names(connection)}
    raise UnknownWorkflow(workflow, version, known)


def _marks(view: RunView) -> Iterator[tuple[str, Mark]]:
    """The mark of each node and of each branch; of the cases of a route, which one was taken."""
    nodes = {node.name: node for node in view.nodes}
    for node in nodes.values():
        yield node.name, Mark(COLOURS[node.state], _note(node))
        for part in node.parts:
            note = part.state.value if part.state in NAMED else ""
            yield subunit_of(node.name, part.name), Mark(COLOURS[part.state], note)
    for plan_node in view.plan_nodes:
        route = nodes[plan_node["name"]]
        for case in plan_node.get("cases", ()):
            is_taken = route.branch == case["name"]
            colour = COLOURS[route.state] if is_taken else Colour.PENDING
            yield subunit_of(route.name, case["name"]), Mark(colour)


def _note(node: NodeView) -> str:
    """The state if the colour does not say it, and counts of branches, items or iterations."""
    notes = [node.state.value] if node.state in NAMED else []
    if node.forked is not None and node.state in ACTIVE:
        forked = node.forked
        notes.append(f"{forked.ended}/{forked.total}")
        notes += nonzero(
            {
                "failed": failed_parts(node),
                "executing": forked.executing,
                "waiting": forked.waiting,
            }
        )
    elif node.tally is not None:
        tally = node.tally
        most = f" of at most {node.limit}" if node.kind == "loop" else ""
        notes.append(f"{tally.ended}{most} done")
        notes += nonzero(
            {"failed": tally.failed, "undone": tally.undone, "not undone": tally.undo_failed}
        )
    return ", ".join(notes)
