"""`Workflow`: users build one by appending nodes, and start its runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol
from uuid import UUID

from celery_durable.arguments import model_fields, whole_of
from celery_durable.core.names import HIGHEST_VERSION, checked_name
from celery_durable.core.nodes import ChildNode
from celery_durable.core.plan import Plan
from celery_durable.core.retry import RetryPolicy
from celery_durable.errors import InvalidWorkflow, PayloadError
from celery_durable.process.once import once
from celery_durable.run import Run
from celery_durable.workflow import node_kinds
from celery_durable.workflow.definition import AnyWorkflow, Functions, NodeDefinition, StepDefaults
from celery_durable.workflow.node_kinds import MISSING, Missing
from celery_durable.workflow.step import Handler, Step, checked_handler


class Starter(Protocol):
    """What a workflow needs of `Durable`: defaults for its steps, and a way to start its runs."""

    @property
    def default_retry(self) -> RetryPolicy:
        """The retry policy of steps that name none."""
        ...

    @property
    def default_timeout(self) -> float | None:
        """The time limit, in seconds, of steps that name no `timeout`."""
        ...

    def start(self, *args: Any, **options: Any) -> Run:
        """Start a run."""
        ...

    def start_many(self, *args: Any, **options: Any) -> list[Run]:
        """Start a run for each input."""
        ...

    def run(self, *args: Any, **options: Any) -> Run:
        """Return a handle on a run."""
        ...


class Workflow(AnyWorkflow):
    """A named, versioned, ordered list of nodes, made by `durable.workflow(...)`.

    Each method that appends a node returns the workflow. It is checked and frozen when a worker
    starts, or when its first run does.
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
        if whole_of(version, 1, HIGHEST_VERSION) is None:
            raise InvalidWorkflow(
                f"Workflow {name!r}: version= takes a whole number from 1, not {version!r}."
            )
        self.version = version
        self.input = checked_model(name, input)
        self.defined_at = defined_at
        self._client = client
        self._nodes: dict[str, NodeDefinition] = {}
        self._result_function: Handler | None = None

    def __repr__(self) -> str:
        return f"<workflow {self.name} v{self.version}: {' -> '.join(self.steps)}>"

    @property
    def steps(self) -> tuple[str, ...]:
        """The names of the nodes, in order."""
        return tuple(self._nodes)

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

        `name` and the options of `durable.step` hold for this workflow only. `args` and `kwargs`
        are functions of the context: the handler, an existing Celery task or a plain function, is
        called with what they return instead of the context. A workflow runs as a child run; it
        takes no options but `name`.
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
        """Append branches that run at the same time, on several workers if there are several.

        In a sequence, each branch has the name of its step or workflow. The node ends when all
        branches have ended. If a branch fails for good, the node fails, and the completed branches
        are undone; with `fail_fast`, branches that have not begun by then are dropped. The result
        is the mapping of names to results.
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

        In `handler`, `ctx.item` is the item. At most `max_concurrency` items are open at a time;
        `chunk` items share a message. With `on_error="keep"` the node completes although items have
        failed; their results are `{"error": {...}}`. The result is the list of results, in the
        order of the items.
        """
        self._refuse_if_frozen("map")
        node = node_kinds.map_over(
            name,
            over=over,
            handler=handler,
            max_concurrency=max_concurrency,
            chunk=chunk,
            fail_fast=fail_fast,
            on_error=on_error,
        )
        return self._add(node)

    def route(
        self,
        name: str,
        selector: Handler,
        cases: Mapping[str, Handler | Workflow],
        *,
        default: str | Handler | Workflow | Missing | None = MISSING,
    ) -> Workflow:
        """Append a choice between cases: `selector`, a function of the context, returns a name.

        Its answer is journaled before the case begins. If the answer names no case, `default` is
        taken: the name of a case, or a step or workflow, which becomes the case `default`, or None,
        and then the result is None. Without `default` such an answer fails the node. The result is
        the case's.
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

        The loop ends when `until(result, iterations_done)` is true. After `max_iterations` it
        completes or fails, as `on_exhausted` says. In the first iteration `ctx.item` is what
        `map_input(ctx)` returned, by default the run's input; in later ones what `feedback(result)`
        returned, by default the same as before. `every` is the pause between iterations, in seconds
        or a timedelta. The result is the last iteration's.
        """
        self._refuse_if_frozen("loop")
        node = node_kinds.loop(
            name,
            handler,
            max_iterations=max_iterations,
            until=until,
            feedback=feedback,
            map_input=map_input,
            every=every,
            on_exhausted=on_exhausted,
        )
        return self._add(node)

    def sleep(self, name: str, duration: float | timedelta | datetime | Handler) -> Workflow:
        """Append a sleep.

        `duration` is seconds, a timedelta, an aware datetime at which the sleep ends, or a function
        of the context that returns one of these.
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
        """Append a wait for the signal `signal`, by default `name`; it may have come before.

        The result is the signal's payload. After `timeout` (seconds or a timedelta) the node fails,
        or with `on_timeout="continue"` it completes, and the result is None.
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
        """Append a child run of another workflow.

        `workflow` is a workflow or the name of one, which need not be defined in this process. The
        input is what `map_input(ctx)` returns, by default this run's input. For a name, `version`
        is by default the highest that is known when the child starts. With `compensate="cascade"`
        the completed child is undone if this run is rolled back. The result is the child's.
        """
        self._refuse_if_frozen("child_workflow")
        node = node_kinds.child(
            name, workflow, map_input=map_input, version=version, compensate=compensate
        )
        return self._add(node)

    def returns(self, function: Handler) -> Workflow:
        """Make what `function` of the context returns the run's result, instead of the nodes'."""
        self._refuse_if_frozen("returns")
        if self._result_function is not None:
            raise InvalidWorkflow(f"Workflow {self.name!r} says .returns twice.")
        self._result_function = checked_handler("returns", function)
        return self

    @once
    def plan(self) -> Plan:
        """The plan of the workflow; making it checks and freezes the workflow."""
        if not self._nodes:
            raise InvalidWorkflow(f"Workflow {self.name!r} is empty; give it a .step(...).")
        defaults = StepDefaults(self._client.default_retry, self._client.default_timeout)
        nodes = tuple(node.for_plan(defaults) for node in self._nodes.values())
        return Plan(self.name, self.version, nodes, returns=self._result_function is not None)

    def step_of(self, node: str, part: str | None) -> Step:
        """Return the step of the node, or of its branch or case `part`; `KeyError` for a child."""
        parts = self._nodes[node].parts
        found = parts.get(None) or parts[part]
        if isinstance(found, Step):
            return found
        raise KeyError(part or node)

    def functions(self, node: str) -> Functions:
        """Return the callables of the node that are no steps."""
        return self._nodes[node].functions

    @property
    def callables(self) -> Mapping[str, Handler]:
        """Every function of the workflow, by its place in the workflow, as errors name it."""
        found = {} if self._result_function is None else {".returns": self._result_function}
        for node in self._nodes.values():
            found |= node.callables
        return found

    @property
    def children(self) -> frozenset[tuple[str, int | None]]:
        """The name and version of each workflow that it runs as a child; None is the highest."""
        return frozenset(
            (part.workflow, part.version)
            for node in self._nodes.values()
            for part in node.parts.values()
            if isinstance(part, ChildNode)
        )

    @property
    def result_function(self) -> Handler | None:
        """The function of `.returns`; None without one."""
        return self._result_function

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
        """Return a handle on a run of this workflow, by its id or its key."""
        return self._client.run(run_id, workflow=self.name, key=key)

    def _add(self, node: NodeDefinition, remedy: str = "another name") -> Workflow:
        if node.name in self._nodes:
            raise InvalidWorkflow(
                f"Workflow {self.name!r} has a node {node.name!r} already; give this one {remedy}."
            )
        self._nodes[node.name] = node
        return self

    def _refuse_if_frozen(self, method: str) -> None:
        if "plan" in vars(self):
            raise InvalidWorkflow(
                f"Workflow {self.name!r} is frozen: .{method} comes too late, a run may have"
                " started. A changed workflow is a new version."
            )


def checked_model(workflow: str, model: object) -> Any:
    """Return `model` if it can check inputs: a dataclass, a pydantic model or None."""
    if model is None:
        return None
    if isinstance(model, type) and (is_dataclass(model) or model_fields(model) is not None):
        return model
    raise InvalidWorkflow(
        f"Workflow {workflow!r}: input= takes a dataclass or a pydantic model class, not {model!r}."
    )


def checked_input(workflow: Workflow, value: object) -> object:
    """Return `value` as the workflow's input model; raise `PayloadError` if it does not fit."""
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
