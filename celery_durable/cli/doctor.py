"""`durable doctor`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import click
from celery.utils.nodenames import gethostname
from rich.text import Text

from celery_durable.cli.application import app_name, durable_of, json_option, typed
from celery_durable.cli.exit_codes import CliError, ExitCode
from celery_durable.cli.output import Output
from celery_durable.core.finding import Finding, Severity, Unknown
from celery_durable.durable import Durable
from celery_durable.view.formatting import one_line
from celery_durable.worker import examination

STYLES: Mapping[Severity, str] = {
    Severity.OK: "green",
    Severity.WARNING: "yellow",
    Severity.ERROR: "bold red",
}


@click.command()
@click.option("--strict", is_flag=True, help="Warnings fail too.")
@click.option("--live", is_flag=True, help="Only: do the worker processes of this host live?")
@click.option("--hostname", metavar="NAME", help="With --live: another host, or a Celery node.")
@click.option("--ready", is_flag=True, help="Only: can runs be started, and go on?")
@json_option
@click.pass_context
def doctor(
    ctx: click.Context,
    /,
    *,
    strict: bool,
    live: bool,
    hostname: str | None,
    ready: bool,
    as_json: bool,
) -> None:
    """Look for what is wrong, and say what helps.

    Settings, broker, Postgres and its locks, schema, connections, relays, workers, queues, and why
    runs do not move. Changes nothing. Exit code 1 if there is an error: runs do not move, or soon
    will not.

    --live and --ready are quick, for probes. --live asks Postgres whether the worker processes of
    this host renew their rows; exit code 4 if Postgres does not answer, which no restart mends.
    --ready asks whether Postgres and the broker answer, the schema is current and a relay runs.
    """
    if (live and ready) or (hostname and not live):
        text = "Take one of --live and --ready; --hostname goes with --live."
        raise CliError(text, ExitCode.USAGE)
    durable = durable_of(ctx)
    output = Output.of(ctx, as_json=as_json)
    if live:
        found: Sequence[Finding] = [_liveness(durable, hostname or gethostname())]
    else:
        found = examination.readiness(durable) if ready else durable.doctor()
    is_ok = not any(_fails(finding, strict=strict) for finding in found)
    document = {"ok": is_ok, "findings": found}
    output.answer(document, *_lines(found, app_name(ctx)))
    ctx.exit(ExitCode.OK if is_ok else ExitCode.SOMETHING_IS_WRONG)


def _liveness(durable: Durable, hostname: str) -> Finding:
    found = examination.liveness(durable, hostname)
    if isinstance(found, Unknown):
        raise CliError(f"{found.why}.", ExitCode.UNAVAILABLE)
    return found


def _fails(finding: Finding, *, strict: bool) -> bool:
    return finding.severity is Severity.ERROR or (strict and finding.severity is Severity.WARNING)


def _lines(found: Sequence[Finding], app: str) -> Iterator[Text]:
    width = max(len(severity) for severity in Severity)
    for finding in found:
        mark = finding.severity.value.ljust(width)
        yield Text(mark, STYLES[finding.severity]).append(f"  {one_line(finding.text)}", "default")
        for fix in finding.fix.splitlines():
            line = typed(click.get_current_context(silent=True), one_line(fix))
            line = line.replace("<app>", app)
            yield Text(" " * (width + 2)).append(line, "bold")
