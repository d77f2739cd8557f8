"""The chain of nodes that users write."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol, cast
from uuid import UUID

from celery_durable.arguments import model_fields
from celery_durable.core.names import HIGHEST_VERSION, checked_name
from celery_durable.core.nodes import ChildNode
from celery_durable.core.plan import Plan
from celery_durable.core.retry import RetryPolicy
from celery_durable.errors import InvalidWorkflow, PayloadError
from celery_durable.process.once import once
from celery_durable.run import Run
from celery_durable.workflow import node_kinds
from celery_durable.workflow.definition import Defaults, Definition, Entry, Functions
from celery_durable.workflow.node_kinds import MISSING, Missing
from celery_durable.workflow.step import Handler, Step, checked_handler


class Starter(Protocol):
    """What a workflow needs of `Durable` to start its runs."""

    @property
    def default_retry(self) -> RetryPolicy:
        """The policy of steps that name none."""
        ...

    @property
    def default_timeout(self) -> float | None:
        """The seconds that steps may take that name no `timeout`."""
        ...

    def start(self, *args: Any, **options: Any) -> Run:
        """Start a run."""
        ...

    def start_many(self, *args: Any, **options: Any) -> list[Run]:
        """Start many runs."""
        ...

    def run(self, *args: Any, **options: Any) -> Run:
        """A handle on a run."""
        ...


class Workflow(Definition):
    """A named, versioned, ordered list of nodes. Made by `durable.workflow(...)`; each method
    returns it.

    It is checked and frozen when a worker starts, or its first run does.
    """

    def __init__(
        self,
        name: str,
        *,
        version: int = 1,
        input: type | None = None,
        client: Starter,
        defined_at: str = "an unknown place",
    ) -> None:
        self.name = checked_name("workflow", name)
        if not is_version(version):
            raise InvalidWorkflow(
                f"Workflow {name!r}: version= takes a whole number from 1, not {version!r}."
            )
        self.version = version
        self.input = checked_model(name, input)
        self.defined_at = defined_at
        self._client = client
        self._entries: dict[str, Entry] = {}
        self._returns: Handler | None = None

    def __repr__(self) -> str:
        return f"<workflow {self.name} v{self.version}: {' -> '.join(self.steps)}>"

    @property
    def steps(self) -> tuple[str, ...]:
        """The names of the nodes, in order."""
        return tuple(self._entries)

    def step(
        self,
        handler: Callable[..., Any] | Workflow,
        *,
        name: str | None = None,
        args: Handler | None = None,
        kwargs: Handler | None = None,
        retry: RetryPolicy | None = None,
        compensate: Handler | None = None,
        timeout: float | timedelta | None = None,
        queue: str | None = None,
        priority: int | None = None,
        transactional: bool | None = None,
        suspends: bool | None = None,
        **unknown: Any,
    ) -> Workflow:
        """Append a step: a decorated step, or any function of the context.

        `name` and the options of `durable.step` hold for this workflow only. `args` and `kwargs`,
        functions of the context, call an existing Celery task or plain function with what they
        return. A workflow runs as a child run; it takes no options but `name`.
        """
        self._refuse_if_frozen("step")
        options: dict[str, Any] = {
            "retry": retry,
            "compensate": compensate,
            "timeout": timeout,
            "queue": queue,
            "priority": priority,
            "transactional": transactional,
            "suspends": suspends,
            **unknown,
        }
        return self._add(node_kinds.step(handler, name, args, kwargs, options), "name=")

    def parallel(
        self,
        name: str,
        branches: Sequence[Handler | Workflow] | Mapping[str, Handler | Workflow],
        *,
        fail_fast: bool = False,
    ) -> Workflow:
        """Append branches that run at the same time, on different workers if there are.

        In a sequence each has the name of its step or workflow. The node ends when all branches
        have; if one fails for good, so does the node, and what the others completed is undone.
        With `fail_fast`, branches that have not begun by then are dropped. The result is the
        mapping of names to results.
        """
        self._refuse_if_frozen("parallel")
        return self._add(node_kinds.parallel(name, branches, fail_fast=fail_fast))

    def map(
        self,
        name: str,
        *,
        over: Handler,
        handler: Handler | Workflow,
        max_concurrency: int | None = None,
        chunk: int = 1,
        fail_fast: bool = False,
        on_error: Literal["fail", "keep"] = "fail",
    ) -> Workflow:
        """Append a branch for each item of the list that `over(ctx)` returns.

        `handler` finds its item in `ctx.item`. At most `max_concurrency` items are open at a time,
        and `chunk` of them share a message. With `on_error="keep"` the place of a failed item holds
        `{"error": {...}}` and the node completes. The result is the list of results, in order.
        """
        self._refuse_if_frozen("map")
        entry = node_kinds.map_over(
            name,
            over=over,
            handler=handler,
            max_concurrency=max_concurrency,
            chunk=chunk,
            fail_fast=fail_fast,
            on_error=on_error,
        )
        return self._add(entry)

    def route(
        self,
        name: str,
        selector: Handler,
        cases: Mapping[str, Handler | Workflow],
        *,
        default: str | Handler | Workflow | Missing | None = MISSING,
    ) -> Workflow:
        """Append one of several cases: the one that `selector`, a function of the context, names.

        Its answer is journaled before the case begins. An answer that names no case leads to
        `default`: the name of a case, a step or workflow (then the case `default`), or None, with
        which the result is None. Without `default` it fails the node. The result is the case's.
        """
        self._refuse_if_frozen("route")
        return self._add(node_kinds.route(name, selector, cases, default=default))

    def loop(
        self,
        name: str,
        handler: Handler | Workflow,
        *,
        max_iterations: int,
        until: Callable[[Any, int], Any] | None = None,
        feedback: Callable[[Any], Any] | None = None,
        map_input: Handler | None = None,
        every: float | timedelta | None = None,
        on_exhausted: Literal["complete", "fail"] = "complete",
    ) -> Workflow:
        """Append a handler that is repeated, each iteration a unit of its own.

        It ends when `until(result, iterations_done)` is true, or after `max_iterations`; what that
        means is `on_exhausted`. `ctx.item` is what `map_input(ctx)` returned (by default the run's
        input), from the second iteration on what `feedback(result)` did. `every`, in seconds or a
        timedelta, is waited in between. The result is the last iteration's.
        """
        self._refuse_if_frozen("loop")
        entry = node_kinds.loop(
            name,
            handler,
            max_iterations=max_iterations,
            until=until,
            feedback=feedback,
            map_input=map_input,
            every=every,
            on_exhausted=on_exhausted,
        )
        return self._add(entry)

    def sleep(self, name: str, duration: float | timedelta | datetime | Handler) -> Workflow:
        """Append a time to wait: seconds, a timedelta, an aware datetime until which is waited, or
        a function of the context that returns one of them.
        """
        self._refuse_if_frozen("sleep")
        return self._add(node_kinds.sleep(name, duration))

    def wait_for_signal(
        self,
        name: str,
        signal: str | None = None,
        *,
        timeout: float | timedelta | None = None,
        on_timeout: Literal["fail", "continue"] = "fail",
    ) -> Workflow:
        """Append a wait for a signal, which may have come before; it is called `name` by default.

        The result is what the signal carries; after a `timeout` (seconds or a timedelta) with
        `on_timeout="continue"` it is None.
        """
        self._refuse_if_frozen("wait_for_signal")
        return self._add(node_kinds.signal(name, signal, timeout=timeout, on_timeout=on_timeout))

    def child_workflow(
        self,
        name: str,
        workflow: Workflow | str,
        *,
        map_input: Handler | None = None,
        version: int | None = None,
        compensate: Literal["cascade"] | None = None,
    ) -> Workflow:
        """Append a run of another workflow, given as such or by its name, defined here or not.

        Its input is what `map_input(ctx)` returns, by default the run's. Of a name the highest
        `version` is run that is known when the child starts. With `compensate="cascade"` the
        completed child is undone when this run turns back. The result is the child's.
        """
        self._refuse_if_frozen("child_workflow")
        entry = node_kinds.child(
            name, workflow, map_input=map_input, version=version, compensate=compensate
        )
        return self._add(entry)

    def returns(self, function: Handler) -> Workflow:
        """What this function of the context returns is the run's result, in place of its nodes'."""
        self._refuse_if_frozen("returns")
        if self._returns is not None:
            raise InvalidWorkflow(f"Workflow {self.name!r} says .returns twice.")
        self._returns = checked_handler("returns", function)
        return self

    @once
    def plan(self) -> Plan:
        """The plan; making it checks and freezes the workflow."""
        if not self._entries:
            raise InvalidWorkflow(f"Workflow {self.name!r} is empty; give it a .step(...).")
        defaults = Defaults(self._client.default_retry, self._client.default_timeout)
        nodes = tuple(entry.node(defaults) for entry in self._entries.values())
        return Plan(self.name, self.version, nodes, returns=self._returns is not None)

    def step_of(self, node: str, part: str | None) -> Step:
        """The step behind a body of the node; `KeyError` if that is a child.

        `part` is the branch or case; nodes without such do not look at it.
        """
        return self._entries[node].step(part)

    def functions(self, node: str) -> Functions:
        """The callables of the node that are no steps."""
        return self._entries[node].functions

    @property
    def callables(self) -> Mapping[str, Handler]:
        """Every function of the workflow, by what it is there."""
        found = {} if self._returns is None else {".returns": self._returns}
        for entry in self._entries.values():
            found |= entry.callables
        return found

    @property
    def children(self) -> frozenset[tuple[str, int | None]]:
        """The workflows that run as its children: name and version, None for the highest."""
        return frozenset(
            (part.workflow, part.version)
            for entry in self._entries.values()
            for part in entry.parts.values()
            if isinstance(part, ChildNode)
        )

    @property
    def result_function(self) -> Handler | None:
        """What `.returns` was given."""
        return self._returns

    def start(
        self,
        input: object = None,
        *,
        key: str | None = None,
        session: object = None,
        delay: float | timedelta | None = None,
        priority: int | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Run:
        """Start a run of this version; see `Durable.start`."""
        return self._client.start(
            self, input, key=key, session=session, delay=delay, priority=priority, tags=tags
        )

    def start_many(
        self,
        inputs: Sequence[object],
        *,
        session: object = None,
        delay: float | timedelta | None = None,
        priority: int | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> list[Run]:
        """Start a run for each input, in one transaction; see `Durable.start_many`."""
        return self._client.start_many(
            self, inputs, session=session, delay=delay, priority=priority, tags=tags
        )

    def run(self, run_id: UUID | str | None = None, *, key: str | None = None) -> Run:
        """A handle on a run of this workflow, by its id or its key."""
        return self._client.run(run_id, workflow=self.name, key=key)

    def _add(self, entry: Entry, remedy: str = "another name") -> Workflow:
        if entry.name in self._entries:
            raise InvalidWorkflow(
                f"Workflow {self.name!r} has a node {entry.name!r} already; give this one {remedy}."
            )
        self._entries[entry.name] = entry
        return self

    def _refuse_if_frozen(self, method: str) -> None:
        if "plan" in vars(self):
            raise InvalidWorkflow(
                f"Workflow {self.name!r} is frozen: .{method} comes too late, a run may have"
                " started. A changed workflow is a new version."
            )


def is_version(value: object) -> bool:
    """Whether `value` is a whole number from 1."""
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return is_whole and 1 <= cast("int", value) <= HIGHEST_VERSION


def checked_model(workflow: str, model: object) -> Any:
    """`model` if inputs can be checked with it: None, a dataclass or a pydantic model."""
    if model is None:
        return None
    if isinstance(model, type) and (is_dataclass(model) or model_fields(model) is not None):
        return model
    raise InvalidWorkflow(
        f"Workflow {workflow!r}: input= takes a dataclass or a pydantic model class, not {model!r}."
    )


def checked_input(workflow: Workflow, value: object) -> object:
    """`value` as the workflow's input model has it; `PayloadError` names what does not fit."""
    model: Any = workflow.input
    if model is None or isinstance(value, model):
        return value
    what = f"The input of workflow {workflow.name!r} is not a {model.__name__}"
    try:
        if model_fields(model) is not None:
            return model.model_validate(value)
        if isinstance(value, Mapping):
            return model(**value)
    except (TypeError, ValueError, RecursionError) as error:
        raise PayloadError(f"{what}: {error}") from error
    raise PayloadError(f"{what} or a mapping, but {type(value).__name__}.")
