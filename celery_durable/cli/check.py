"""`durable check`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import click
from rich.text import Text

from celery_durable.cli.application import durable_of, json_option
from celery_durable.cli.exit_codes import Exit
from celery_durable.cli.formatting import one_line
from celery_durable.cli.output import Column, Form, Output, Row, workflow_text
from celery_durable.engine.review import Review, Verdict, review

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

    For a pipeline, before it deploys. Each version of a workflow is held against the stored plan
    and the runs in flight: where they stand, and what they may have to undo. Changes nothing; exit
    code 1 if a run would be stuck.
    """
    durable = durable_of(ctx)
    output = Output.of(ctx, as_json=as_json)
    reviews = review(durable.database, durable.registry)
    bad = [one for one in reviews if one.stuck]
    if output.form is Form.JSON:
        output.document({"ok": not bad, "workflows": [*map(_document, reviews)]})
    else:
        output.table(COLUMNS, [row for one in reviews for row in _rows(one)])
        output.lines(*(Text(advice(one)) for one in bad))
    ctx.exit(Exit.RUNS_WOULD_BE_STUCK if bad else Exit.OK)


def _document(one: Review) -> Mapping[str, object]:
    return {
        "workflow": one.workflow,
        "version": one.version,
        "verdict": one.verdict,
        "runs": one.runs,
        "stuck": one.stuck,
        "advice": advice(one) if one.stuck else None,
    }


def _rows(one: Review) -> Iterator[Row]:
    """A line for the version, with the first place where runs are stuck; one for each other."""
    stuck = [Text(f"{one_line(at.place)} ({_runs(at.runs)})") for at in one.stuck] or [Text()]
    yield (
        workflow_text(one.workflow, one.version),
        Text(str(one.runs)),
        Text(one.verdict, STYLES[one.verdict]),
        stuck[0],
    )
    for place in stuck[1:]:
        yield Text(), Text(), Text(), place


def advice(one: Review) -> str:
    """What to do about runs that would be stuck."""
    name = f"{one_line(one.workflow)} v{one.version}"
    if one.verdict is Verdict.UNKNOWN:
        return (
            f"{name}: {_runs(one.runs)} in flight, and this app does not define it. Keep it"
            " registered until they have ended, or cancel them."
        )
    return (
        f"{name}: what runs stand at, have before them or may have to undo is not as it was. Bring"
        " this version back as it was, and define what is new as another version."
    )


def _runs(number: int) -> str:
    return f"{number} run{'' if number == 1 else 's'}"
