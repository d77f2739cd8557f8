"""What the reference pages say of the code, generated from the code.

A page marks the place: `<!-- generated: settings -->` ... `<!-- /generated -->`. To write what the
code says now: `python -m tests.docs.reference`.
"""

import ast
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, get_overloads

import click
from celery import Celery
from sqlalchemy.dialects import postgresql

from celery_durable import (
    BulkResult,
    Context,
    Delivery,
    Durable,
    Forked,
    Progress,
    RetryPolicy,
    Run,
    RunFilter,
    Step,
    Suspend,
    Workflow,
    errors,
    settings,
    signals,
)
from celery_durable.cli import durable as durable_command
from celery_durable.core.failure import FailedAttempt
from celery_durable.core.finding import Finding
from celery_durable.core.fleet import Executing, QueueInfo, WorkerInfo
from celery_durable.core.pause import Pause, Paused
from celery_durable.core.reason import Diagnosis, Reason
from celery_durable.core.retention import DAY, Retention
from celery_durable.core.status import FINISHED, TRANSITIONS, Status
from celery_durable.engine.loop import Engine
from celery_durable.errors import ErrorRecord
from celery_durable.settings import Settings
from celery_durable.store import tables
from celery_durable.store.connection import SCHEMA
from celery_durable.store.read.history import JournalEntry
from celery_durable.store.read.listing import RunSummary
from celery_durable.store.read.units import UnitInHand, WorkerProcess
from celery_durable.store.read.views import RunSnapshot
from celery_durable.testing import (
    CrashFinding,
    Executed,
    Harness,
    Report,
    SentTask,
    make_context,
)
from celery_durable.workflow.context import Results
from celery_durable.workflow.step import StepOptions
from tests.addresses import ROOT
from tests.model.token_changes import CHANGES, CLAIMED, TokenState
from tests.mutants.catalogue import MUTANTS

PAGES = [
    *sorted((ROOT / "docs" / "reference").glob("*.md")),
    ROOT / "docs" / "explanation" / "reliability.md",
    ROOT / "docs" / "explanation" / "one-message.md",
]

REGION = re.compile(
    r"(?P<begin><!-- generated: (?P<name>[^>]+?) -->\n)(?P<text>.*?)(?P<end><!-- /generated -->)",
    re.DOTALL,
)

INTERNAL: Mapping[type, tuple[str, ...]] = {
    Durable: (
        "aoutcome",
        "composer",
        "database",
        "default_retry",
        "default_timeout",
        "ends",
        "engine",
        "in_caller",
        "is_acting",
        "liveness",
        "note",
        "note_of_runs",
        "note_prune",
        "notify",
        "outcome",
        "put_tasks",
        "registry",
        "run_factory",
        "start_alone",
        "wake",
    ),
    Workflow: ("callables", "children", "functions", "plan", "result_function", "step_of"),
    Step: ("node", "with_options"),
    RetryPolicy: ("delay_after", "retries"),
    Harness: ("at_work", "execute", "is_at_work"),
}
"""Public to the rest of the library, and none of its users' business."""

WIDTH = 88

STARS: Mapping[object, str] = {
    inspect.Parameter.VAR_POSITIONAL: "*",
    inspect.Parameter.VAR_KEYWORD: "**",
}


def current(text: str) -> str:
    """The page `text` with what the code says now in its marked places."""

    def filled(match: re.Match[str]) -> str:
        made = GENERATED[match["name"]]().strip()
        return f"{match['begin']}\n{made}\n\n{match['end']}"

    return REGION.sub(filled, text)


def table(titles: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [titles, tuple("---" for _ in titles), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def on_one_line(text: str | None) -> str:
    """A docstring as the cell of a table."""
    return " ".join((text or "").split())


def attribute_docs(kind: type) -> dict[str, str]:
    """The strings below the fields of a class."""
    tree = ast.parse(inspect.getsource(kind))
    body = next(node for node in tree.body if isinstance(node, ast.ClassDef)).body
    return {
        node.target.id: on_one_line(following.value.value)
        for node, following in pairwise(body)
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and isinstance(following, ast.Expr)
        and isinstance(following.value, ast.Constant)
        and isinstance(following.value.value, str)
    }


def settings_table() -> str:
    """Every setting."""
    docs = attribute_docs(Settings)
    rows = [
        (
            f"`{settings.PREFIX}{field.name}`",
            settings._CHECKS[str(field.type)][0],
            _default_of(field),
            docs[field.name],
        )
        for field in dataclasses.fields(Settings)
    ]
    return table(("setting", "takes", "default", "what it is"), rows)


def _default_of(field: "dataclasses.Field[Any]") -> str:
    if field.default is dataclasses.MISSING:
        return "none; required"
    if isinstance(field.default, Retention):
        return ", ".join(
            f"`{status}`: {seconds / DAY:.0f} days"
            for status, seconds in field.default.ages.items()
        )
    return "`RetryPolicy()`" if field.default == RetryPolicy() else f"`{field.default!r}`"


def signal_table() -> str:
    """Each signal with its arguments besides those that all have."""
    body = ast.parse(inspect.getsource(signals)).body
    docs = {
        node.targets[0].id: on_one_line(following.value.value)
        for node, following in pairwise(body)
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(following, ast.Expr)
        and isinstance(following.value, ast.Constant)
        and isinstance(following.value.value, str)
    }
    rows = []
    for name, doc in docs.items():
        found: Any = getattr(signals, name)
        own = sorted(found.providing_args - {"run_id", "workflow", "version"})
        rows.append((f"`{name}`", ", ".join(f"`{one}`" for one in own), doc))
    return table(("signal", "arguments", "when"), rows)


def all_errors() -> list[type[errors.DurableError]]:
    """Every error, parents first."""
    return [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.DurableError)
    ]


def error_tree() -> str:
    """Who inherits from whom."""

    def branch(kind: type, indent: str) -> Iterator[str]:
        below = [one for one in all_errors() if one.__bases__[0] is kind]
        for one in below:
            is_last = one is below[-1]
            yield f"{indent}{'└── ' if is_last else '├── '}{one.__name__}"
            yield from branch(one, indent + ("    " if is_last else "│   "))

    root = errors.DurableError
    return "\n".join(["```text", root.__name__, *branch(root, ""), "```"])


def error_table() -> str:
    """Each error with its attributes."""
    rows = [
        (
            f"`{kind.__name__}`",
            on_one_line(kind.__doc__),
            ", ".join(f"`{name}`" for name in _attributes_of(kind)),
        )
        for kind in all_errors()
    ]
    return table(("error", "when", "attributes"), rows)


def _attributes_of(kind: type) -> list[str]:
    """What the constructors of an error and of its parents assign."""
    constructors = [
        ast.parse(inspect.getsource(one))
        for one in reversed(kind.__mro__)
        if one.__module__.startswith("celery_durable") and "__init__" in vars(one)
    ]
    assigned = [
        node.attr
        for tree in constructors
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    ]
    return list(dict.fromkeys(assigned))


def status_table() -> str:
    """What may follow each status."""
    rows = [
        (
            f"`{status}`",
            ", ".join(f"`{one}`" for one in Status if one in TRANSITIONS[status])
            or "nothing: the end",
        )
        for status in Status
    ]
    return table(("status", "what may follow"), rows)


def fenced(diagram: str) -> str:
    """A diagram as a page shows it."""
    return f"```mermaid\n{diagram}\n```"


def status_diagram() -> str:
    """The same as a picture."""
    changes = [(status, one) for status in Status for one in Status if one in TRANSITIONS[status]]
    ends = [status for status in Status if status in FINISHED]
    return fenced(state_diagram((Status.PENDING, Status.RUNNING), changes, ends))


WAITS: Mapping[TokenState, str] = {
    TokenState.SIGNAL: "waits for a signal",
    TokenState.TIMER: "waits for a time",
    TokenState.CHILD: "waits for a child run",
    TokenState.BRANCHES: "waits for its branches",
}
"""What the places are called that are a wait."""


def token_diagram() -> str:
    """A token between its places: each change goes through a claim."""
    claims: list[tuple[str, str]] = [(place, CLAIMED) for place in TokenState if CHANGES[place]]
    reached = {after for before in TokenState for after in CHANGES[before]}
    changes = [*claims, *((CLAIMED, place) for place in TokenState if place in reached)]
    ends = [place for place in TokenState if not CHANGES[place]]
    named = {place.value: text for place, text in WAITS.items()}
    return fenced(state_diagram((TokenState.READY,), changes, ends, named))


def token_table() -> str:
    """What one claim may make of a token."""
    rows = [
        (
            WAITS.get(place, place.value),
            ", ".join(WAITS.get(one, one.value) for one in TokenState if one in CHANGES[place])
            or "nothing: the end",
        )
        for place in TokenState
    ]
    return table(("before the claim", "after the commit"), rows)


def state_diagram(
    begins: Iterable[str],
    changes: Iterable[tuple[str, str]],
    ends: Iterable[str] = (),
    named: Mapping[str, str] | None = None,
) -> str:
    """States and the changes between them; `named` are texts of states that are not a word."""
    lines = [f'state "{text}" as {state}' for state, text in (named or {}).items()]
    lines += [f"[*] --> {state}" for state in begins]
    lines += [f"{before} --> {after}" for before, after in changes]
    lines += [f"{state} --> [*]" for state in ends]
    return "\n".join(["stateDiagram-v2", *(f"    {line}" for line in lines)])


def the_loop() -> str:
    """The method that a message begins with, without its docstring and types."""
    source = textwrap.dedent(inspect.getsource(Engine.advance))
    body = re.sub(r'^    """.*?"""\n', "", source, count=1, flags=re.DOTALL | re.MULTILINE)
    body = body.partition(") -> None:\n")[2]
    head = f"def advance({', '.join(inspect.signature(Engine.advance).parameters)}):\n"
    return f"<!-- no-run: it is a part of a class -->\n```python\n{head}{body}```"


def members_of(kind: type) -> list[str]:
    """The public names of a class that its users may use."""
    hidden = INTERNAL.get(kind, ())
    named = dict.fromkeys(name for one in kind.__mro__[:-1] for name in vars(one))
    return [name for name in named if not name.startswith("_") and name not in hidden]


def is_twin(kind: type, name: str) -> bool:
    """Whether `name` is the async form of another method."""
    return name.startswith("a") and name[1:] in members_of(kind) and name != name[1:]


def members(kind: type) -> Callable[[], str]:
    """The methods and properties of a class."""

    def make() -> str:
        names = members_of(kind)
        methods = [name for name in names if inspect.isfunction(inspect.getattr_static(kind, name))]
        twins = [name for name in methods if is_twin(kind, name)]
        properties = [(name, _property(kind, name)) for name in names if name not in methods]
        parts = [
            _described(inspect.getattr_static(kind, name)) for name in methods if name not in twins
        ]
        if kind is Context:
            properties.insert(1, ("results", (f"{Results.__name__}", on_one_line(Results.__doc__))))
        rows = [(f"`{name}`", f"`{type_}`", doc) for name, (type_, doc) in properties if doc]
        if rows:
            parts.insert(0, table(("attribute", "type", "what it is"), rows))
        if twins:
            parts.append("Async twins: " + ", ".join(f"`{name}`" for name in twins) + ".")
        return "\n\n".join(parts)

    return make


def _property(kind: type, name: str) -> tuple[str, str]:
    found = inspect.getattr_static(kind, name)
    function = getattr(found, "fget", None) or getattr(found, "func", None)
    if function is None:
        return "", ""
    type_ = str(inspect.signature(function).return_annotation).replace("In_co", "In")
    return type_, on_one_line(found.__doc__)


def _described(function: Callable[..., Any]) -> str:
    shown = max(enumerate([*get_overloads(function), function]), key=_said)[1]
    return f"### {function.__name__}\n\n{_explained(signature(shown), function)}"


def _said(numbered: tuple[int, Callable[..., Any]]) -> tuple[int, int]:
    """How many parameters a way to call a function names; of two with as many, the later counts."""
    number, way = numbered
    return len(_parameters(way)), number


def _explained(shown: str, documented: object) -> str:
    return f"```text\n{shown}\n```\n\n{inspect.getdoc(documented) or ''}"


def signature(function: Callable[..., Any], name: str | None = None) -> str:
    """`name(parameters) -> type`, on one line or a parameter per line."""
    found = inspect.signature(function)
    parts: list[str] = []
    is_keyword_only = False
    for parameter in _parameters(function):
        if parameter.kind is parameter.KEYWORD_ONLY and not is_keyword_only:
            is_keyword_only = True
            parts.append("*")
        parts.append(_parameter(parameter))
        if parameter.kind is parameter.POSITIONAL_ONLY:
            parts.append("/")
    result = _result(function, found)
    name = name or function.__name__
    line = f"{name}({', '.join(parts)}){result}"
    if len(line) <= WIDTH:
        return line
    return "\n".join([f"{name}(", *(f"    {part}," for part in parts), f"){result}"])


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """What it takes, but for `self`; the options of a step one by one."""
    found: list[inspect.Parameter] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.annotation == "Unpack[StepOptions]":
            found += [
                parameter.replace(
                    name=name,
                    kind=parameter.KEYWORD_ONLY,
                    default=None,
                    annotation=kind.__forward_arg__,
                )
                for name, kind in inspect.get_annotations(StepOptions).items()
            ]
        elif parameter.name != "self":
            found.append(parameter)
    return found


def _result(function: Callable[..., Any], found: inspect.Signature) -> str:
    if isinstance(function, type) or found.return_annotation is found.empty:
        return ""
    # The class has a method called `list`, so it has another name for the type there.
    return f" -> {_annotation(found.return_annotation)}".replace(" Runs[Out]", " list[Run[Out]]")


def _parameter(parameter: inspect.Parameter) -> str:
    text = STARS.get(parameter.kind, "") + parameter.name
    if parameter.annotation is not parameter.empty:
        text += f": {_annotation(parameter.annotation)}"
    if parameter.default is not parameter.empty:
        text += f" = {_default(parameter.default)}"
    return text


def _default(value: object) -> str:
    if isinstance(value, tuple) and all(isinstance(one, type) for one in value):
        return f"({''.join(f'{one.__name__},' for one in value)})"
    return repr(value)


def _annotation(annotation: object) -> str:
    if isinstance(annotation, str):
        return annotation
    return str(inspect.formatannotation(annotation))


def constructor(kind: type) -> Callable[[], str]:
    """What a class is and how it is made."""
    return lambda: _explained(signature(kind, kind.__name__), kind)


def fields_of(kind: Any) -> Callable[[], str]:
    """The fields of a dataclass."""

    def make() -> str:
        rows = [(f"`{field.name}`", f"`{field.type}`") for field in dataclasses.fields(kind)]
        return f"{inspect.cleandoc(kind.__doc__ or '')}\n\n{table(('field', 'type'), rows)}"

    return make


def command_reference() -> str:
    """Every command of `celery -A app durable`."""
    group = click.Context(durable_command, info_name="celery -A <app> durable")
    parts: list[str] = []
    for name in durable_command.list_commands(group):
        command = durable_command.get_command(group, name)
        assert command is not None
        parts += _command(command, click.Context(command, info_name=name, parent=group), name)
    return "\n\n".join(parts)


Records = list[tuple[str, str]]


def _command(
    command: click.Command, context: click.Context, name: str, known: Records | None = None
) -> Iterator[str]:
    """A command with its options but the `known` ones; a group with those that all in it share."""
    usage = " ".join(command.get_usage(context).removeprefix("Usage: ").split())
    yield f"## {name}"
    yield f"```text\n{usage}\n```"
    yield inspect.cleandoc(command.help or "")
    records = _records(command, context)
    below: list[tuple[click.Command, click.Context, str]] = []
    if isinstance(command, click.Group):
        for one in command.commands.values():
            inner = click.Context(one, info_name=one.name, parent=context)
            below.append((one, inner, f"{name} {one.name}"))
        each = [_records(one, inner) for one, inner, _ in below]
        records = [record for record in each[0] if all(record in others for others in each)]
    rows = [
        (f"`{options}`", on_one_line(text))
        for options, text in records
        if (options, text) not in (known or [])
    ]
    if rows:
        yield table(("option", "what it does"), rows)
    for one, inner, longer in below:
        yield from _command(one, inner, longer, records)


def _records(command: click.Command, context: click.Context) -> Records:
    options = [p.get_help_record(context) for p in command.params if isinstance(p, click.Option)]
    return [record for record in options if record]


def exit_codes() -> str:
    """What scripts are told."""
    lines = inspect.cleandoc(durable_command.epilog or "").splitlines()
    pairs = [line.split(None, 1) for line in lines if line[:3].strip().isdigit()]
    return table(("exit code", "meaning"), [(f"`{code}`", meaning) for code, meaning in pairs])


def task_reference() -> str:
    """The Celery tasks."""
    app = Celery("docs", set_as_current=False)
    Durable(app)
    parts = []
    for name in sorted(name for name in app.tasks if name.startswith("durable.")):
        function = app.tasks[name].run
        function = getattr(function, "__wrapped__", function)
        shown = signature(function, name).replace("    task: Task,\n", "")
        parts.append(f"## {name}\n\n{_explained(shown, function)}")
    return "\n\n".join(parts)


def columns_of(name: str) -> list[tuple[str, str]]:
    """The columns of a table, and their types in Postgres."""
    found = tables.metadata.tables[f"{SCHEMA}.{name}"]
    dialect = postgresql.dialect()
    return [
        (
            column.name,
            column.type.compile(dialect).lower().partition(" collate ")[0]
            + ("" if column.nullable else ", not null"),
        )
        for column in found.columns
    ]


def mutant_table() -> str:
    """Which mechanism each mutant takes out, and who must notice; in the order of the promises."""
    rows = [
        (mutant.promise, mutant.takes_out, "<br>".join(map(_short, mutant.tests)))
        for mutant in sorted(MUTANTS, key=lambda one: (int(one.promise[1:]), one.name))
    ]
    return table(("promise", "without", "fails"), rows)


def _short(node_id: str) -> str:
    """The file and the name of a test, without its parameters."""
    path, _, name = node_id.partition("::")
    return f"`{Path(path).stem}`: {name.partition('[')[0].removeprefix('test_').replace('_', ' ')}"


GENERATED: Mapping[str, Callable[[], str]] = {
    "mutants": mutant_table,
    "the loop": the_loop,
    "settings": settings_table,
    "error tree": error_tree,
    "errors": error_table,
    "statuses": status_table,
    "status diagram": status_diagram,
    "token diagram": token_diagram,
    "token changes": token_table,
    "commands": command_reference,
    "exit codes": exit_codes,
    "tasks": task_reference,
    "RetryPolicy": constructor(RetryPolicy),
    "Suspend": constructor(Suspend),
    "RunFilter": constructor(RunFilter),
    "signals": signal_table,
    "Harness": constructor(Harness),
    "make_context": lambda: _explained(signature(make_context), make_context),
    **{
        f"members of {kind.__name__}": members(kind)
        for kind in (Durable, Workflow, Step, Run, Context, Harness, Report)
    },
    **{
        f"fields of {kind.__name__}": fields_of(kind)
        for kind in (
            RunSnapshot,
            RunSummary,
            Forked,
            Progress,
            UnitInHand,
            WorkerProcess,
            JournalEntry,
            Delivery,
            BulkResult,
            ErrorRecord,
            FailedAttempt,
            WorkerInfo,
            Executing,
            QueueInfo,
            Finding,
            Diagnosis,
            Reason,
            Paused,
            Pause,
            Executed,
            SentTask,
            CrashFinding,
        )
    },
}
"""What can be generated, by the name its place is marked with."""


def main() -> None:
    """Bring the pages up to date."""
    for page in PAGES:
        _rewrite(page)


def _rewrite(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    made = current(text)
    if made != text:
        page.write_text(made, encoding="utf-8")
        print(f"rewrote {page.name}")  # noqa: T201 - a program


if __name__ == "__main__":
    main()
