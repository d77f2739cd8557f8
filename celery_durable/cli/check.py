"""`durable check`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import click
from rich.text import Text

from celery_durable.cli.application import durable_of, json_option
from celery_durable.cli.exit_codes import ExitCode
from celery_durable.cli.output import Column, Form, Output, Row, workflow_text
from celery_durable.engine.review import Review, Verdict, review
from celery_durable.view.document import fields_of
from celery_durable.view.formatting import one_line, plural

COLUMNS = (
    Column("workflow", fixed=False),
    Column("runs", right=True),
    Column("definition"),
    Column("stuck at", fixed=False),
)

STYLES: Mapping[Verdict, str] = {
    Verdict.SAME: "green",
    Verdict.NEW: "green",
    Verdict.EDITED: "green",
    Verdict.CHANGED: "bold red",
    Verdict.UNKNOWN: "bold red",
}


@click.command()
@json_option
@click.pass_context
def check(ctx: click.Context, /, *, as_json: bool) -> None:
    """Check whether unfinished runs could go on with the code of this app.

    For a pipeline, before it deploys. Compares each version of a workflow with the stored plan and
    the runs in flight: where they stand, and what they may have to undo. Changes nothing; exit code
    1 if a run would be stuck.
    """
    durable = durable_of(ctx)
    output = Output.of(ctx, as_json=as_json)
    versions = review(durable.database, durable.registry)
    stuck = [version for version in versions if version.stuck]
    if output.form is Form.JSON:
        output.document({"ok": not stuck, "workflows": [*map(_document, versions)]})
    else:
        output.table(COLUMNS, [row for version in versions for row in _rows(version)])
        output.lines(*(Text(_advice(version)) for version in stuck))
    ctx.exit(ExitCode.RUNS_WOULD_BE_STUCK if stuck else ExitCode.OK)


def _document(version: Review) -> Mapping[str, object]:
    return {**fields_of(version), "advice": _advice(version) if version.stuck else None}


def _rows(version: Review) -> Iterator[Row]:
    """A row for the version with the first unit where runs are stuck, then one for each other."""
    first, *others = [
        Text(f"{one_line(at.place)} ({plural(at.runs, 'run')})") for at in version.stuck
    ] or [Text()]
    yield (
        workflow_text(version.workflow, version.version),
        Text(str(version.runs)),
        Text(version.verdict, STYLES[version.verdict]),
        first,
    )
    for other in others:
        yield Text(), Text(), Text(), other


def _advice(version: Review) -> str:
    """What the user can do about runs that would be stuck."""
    name = f"{one_line(version.workflow)} v{version.version}"
    if version.verdict is Verdict.UNKNOWN:
        return (
            f"{name}: {plural(version.runs, 'run')} in flight, and this app does not define it."
            " Keep it registered until they have ended, or cancel them."
        )
    return (
        f"{name}: this app changed nodes that runs stand at, have passed or may have to undo."
        " Restore this version, and define the change as another version."
    )
