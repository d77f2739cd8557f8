"""Makes runs ready to start: for a client, and for a unit that is a child run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID, uuid4

from celery_durable.core.child import NewRun, Parent
from celery_durable.core.claim import RunFacts
from celery_durable.core.plan import Outline
from celery_durable.database.connections import Database
from celery_durable.engine.ids import uuid7
from celery_durable.errors import UnknownWorkflow
from celery_durable.settings import Settings
from celery_durable.store import codec, definitions
from celery_durable.workflow.inputs import checked_input
from celery_durable.workflow.observing import trace_here
from celery_durable.workflow.registry import Registry

BATCH, BATCH_BYTES = 1000, 16 * 1024 * 1024
"""Most runs that one statement starts, and most bytes of their inputs: Postgres refuses a gigabyte.
"""


@dataclass(frozen=True, slots=True)
class StartOptions:
    """What a run has besides its input. Without `timeout` or `expires` the workflow's hold.

    It belongs to the trace of its caller, which observers know; else to `trace`, JSON text.
    """

    key: str | None = None
    priority: int | None = None
    tags: Mapping[str, str] | None = None
    timeout: float | None = None
    expires: float | None = None
    parent: Parent | None = None
    forked_from: UUID | None = None
    trace: str | None = None


class RunFactory:
    """Makes runs of a workflow: by the code, else by the plan that workers have stored."""

    def __init__(self, database: Database, registry: Registry, settings: Settings) -> None:
        self._database = database
        self._registry = registry
        self._settings = settings
        self._stored: dict[tuple[str, int], Outline] = {}

    def forget(self) -> None:
        """Forget which plans are stored: the database is another one."""
        self._stored.clear()

    def outline(self, name: str, version: int | None) -> Outline:
        """Return the outline of this version, by default of the highest. Raises `UnknownWorkflow`.

        Plans are stored beside the caller's transaction, not in it: there they would lock out
        others.
        """
        known = self._registry.find(name, version)
        if known is not None and (made := self._stored.get((name, known.version))) is not None:
            return made
        with self._database.autocommit() as connection:
            if known is not None:
                definitions.reconcile(connection, known.plan, self._settings)
                made = self._stored[name, known.version] = Outline.of(known.plan.as_data())
                return made
            stored = definitions.find(connection, name, version)
            if stored is None:
                names = {*self._registry.names(), *definitions.names(connection)}
                raise UnknownWorkflow(name, version, names)
        return stored

    def new_run(self, outline: Outline, input: object, options: StartOptions) -> NewRun:
        """Make a run of `outline`; its input is checked and serialized."""
        known = self._registry.find(outline.workflow, outline.version)
        checked = input if known is None else checked_input(known, input)
        limit = self._settings.max_payload_bytes
        text = codec.dumps(checked, what=f"the input of {outline.workflow}", limit=limit)
        return self._ready(outline, text, options)

    def new_run_of(self, outline: Outline, text: str, options: StartOptions) -> NewRun:
        """Make a run of `outline` whose input, JSON text, has been checked before."""
        return self._ready(outline, text, options)

    def new_child(self, outline: Outline, text: str, options: StartOptions) -> NewRun:
        """Make a run of `outline` whose input is JSON text already."""
        known = self._registry.find(outline.workflow, outline.version)
        if known is not None and known.input is not None:
            return self.new_run(outline, codec.loads(text), options)
        return self._ready(outline, text, options)

    def _ready(self, outline: Outline, text: str, options: StartOptions) -> NewRun:
        first = outline.first
        return NewRun(
            id=uuid7(),
            token_id=uuid4(),
            fence=uuid4(),
            workflow=outline.workflow,
            version=outline.version,
            first_node=outline.first_node,
            first_unit=outline.first_unit,
            first_position=outline.first_position,
            queue=first.queue or self._settings.queue,
            time_limit=first.time_limit,
            input=text,
            key=options.key,
            priority=options.priority,
            token_priority=options.priority if first.priority is None else first.priority,
            tags=options.tags,
            timeout=outline.timeout if options.timeout is None else options.timeout,
            expires=outline.expires if options.expires is None else options.expires,
            parent=options.parent,
            forked_from=options.forked_from,
            trace=trace_here(options.trace),
        )


def parent_of(token_id: UUID, run: RunFacts) -> Parent:
    """Make the link of a child to its parent; a run without a parent is the root of its tree."""
    return Parent(token_id, run.id, run.root_run_id or run.id, run.depth)


def in_batches(new: Sequence[NewRun]) -> Iterator[Sequence[NewRun]]:
    """Split runs into batches, each for one statement."""
    first = size = 0
    for at, run in enumerate(new):
        size += len(run.input)
        if at > first and (at - first == BATCH or size > BATCH_BYTES):
            yield new[first:at]
            first, size = at, len(run.input)
    if new:
        yield new[first:]
