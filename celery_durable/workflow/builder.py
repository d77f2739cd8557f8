"""`Workflow`: users build one by appending nodes, and start its runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from datetime import datetime, timedelta
from typing import (
    Any,
    Generic,
    Literal,
    Self,
    Unpack,
    overload,
)
from uuid import UUID

from celery_durable.arguments import whole_of
from celery_durable.core.generics import In, Out, Returned, Value
from celery_durable.core.keys import OnConflict, ReuseKey
from celery_durable.core.names import HIGHEST_VERSION, checked_name
from celery_durable.core.nodes import ChildNode
from celery_durable.core.plan import Plan
from celery_durable.errors import InvalidWorkflow
from celery_durable.process.once import once
from celery_durable.run import Run
from celery_durable.workflow import node_kinds
from celery_durable.workflow.arguments import deadline
from celery_durable.workflow.context import Context
from celery_durable.workflow.definition import AnyWorkflow, Functions, NodeDefinition, StepDefaults
from celery_durable.workflow.hooks import NO_HOOKS, Hooks
from celery_durable.workflow.node_kinds import MISSING, Missing
from celery_durable.workflow.schemas import checked_model
from celery_durable.workflow.starting import Starter, twin
from celery_durable.workflow.step import Handler, Step, StepOptions, checked_handler

OfContext = Callable[[Context[In]], Returned]
"""A function of the context."""

Branch = OfContext[In, object] | AnyWorkflow
"""A step, a function of the context, or a workflow that runs as a child."""


class Workflow(AnyWorkflow, Generic[In, Out]):
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
        timeout: float | timedelta | None = None,
        expires: float | timedelta | None = None,
        hooks: Hooks = NO_HOOKS,
        client: Starter,
        defined_at: str = "an unknown place",
    ) -> None:
        self.name = checked_name("workflow", name)
        if whole_of(version, 1, HIGHEST_VERSION) is None:
            raise InvalidWorkflow(
                f"Workflow {name!r}: version= takes a whole number from 1, not {version!r}."
            )
        self.version = version
        self.input = checked_model(f"Workflow {name!r}", "input", input)
        self.hooks = hooks
        owner = f"Workflow {name!r}"
        self.timeout = deadline(owner, "timeout", timeout)
        self.expires = deadline(owner, "expires", expires)
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

    @overload
    def step(self, handler: AnyWorkflow, *, name: str | None = None) -> Self: ...

    @overload
    def step(
        self,
        handler: OfContext[In, object],
        *,
        name: str | None = None,
        **options: Unpack[StepOptions],
    ) -> Self: ...

    @overload
    def step(
        self,
        handler: Callable[..., object],
        *,
        name: str | None = None,
        args: OfContext[In, Sequence[object]],
        kwargs: OfContext[In, Mapping[str, object]] | None = None,
        **options: Unpack[StepOptions],
    ) -> Self: ...

    @overload
    def step(
        self,
        handler: Callable[..., object],
        *,
        name: str | None = None,
        kwargs: OfContext[In, Mapping[str, object]],
        **options: Unpack[StepOptions],
    ) -> Self: ...

    def step(
        self,
        handler: Callable[..., object] | AnyWorkflow,
        *,
        name: str | None = None,
        args: OfContext[In, Sequence[object]] | None = None,
        kwargs: OfContext[In, Mapping[str, object]] | None = None,
        **options: Unpack[StepOptions],
    ) -> Self:
        """Append a step: a decorated step, or any function of the context.

        `name` and the options of `durable.step` hold for this workflow only. `args` and `kwargs`
        are functions of the context: the handler, an existing Celery task or a plain function, is
        called with what they return instead of the context. A workflow runs as a child run; it
        takes no options but `name`.
        """
        self._refuse_if_frozen("step")
        return self._add(node_kinds.step(handler, name, args, kwargs, options), "name=")

    def parallel(
        self,
        name: str,
        branches: Sequence[Branch[In]] | Mapping[str, Branch[In]],
        *,
        fail_fast: bool = False,
        map_input: OfContext[In, object] | None = None,
    ) -> Self:
        """Append branches that run at the same time, on several workers if there are several.

        In a sequence, each branch has the name of its step or workflow. The node ends when all
        branches have ended. If a branch fails for good, the node fails, and the completed branches
        are undone; with `fail_fast`, branches that have not begun by then are dropped. The input of
        a branch that is a workflow is what `map_input(ctx)` returns, by default the run's; there
        `ctx.branch` is the branch's name. The result is the mapping of names to results.
        """
        self._refuse_if_frozen("parallel")
        node = node_kinds.parallel(name, branches, fail_fast=fail_fast, map_input=map_input)
        return self._add(node)

    def map(
        self,
        name: str,
        *,
        over: OfContext[In, object],
        handler: Branch[In],
        max_concurrency: int | None = None,
        chunk: int = 1,
        fail_fast: bool = False,
        on_error: Literal["fail", "keep"] = "fail",
        tolerate: int | str | None = None,
    ) -> Self:
        """Append a branch for each item of the list that `over(ctx)` returns.

        In `handler`, `ctx.item` is the item. At most `max_concurrency` items are open at a time;
        `chunk` items share a message. With `on_error="keep"` the node completes although items have
        failed; their results are `{"error": {...}}`. With `tolerate`, a number of items or a
        percentage of them such as "5%", rounded down, so many may fail in that way, and one more
        fails the node. The result is the list of results, in the order of the items.
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
            tolerate=tolerate,
        )
        return self._add(node)

    def route(
        self,
        name: str,
        selector: OfContext[In, object],
        cases: Mapping[str, Branch[In]],
        *,
        default: str | Branch[In] | Missing | None = MISSING,
    ) -> Self:
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
        handler: Branch[In],
        *,
        max_iterations: int,
        until: Callable[[Any, int], object] | None = None,
        feedback: Callable[[Any], object] | None = None,
        map_input: OfContext[In, object] | None = None,
        every: float | timedelta | None = None,
        on_exhausted: Literal["complete", "fail"] = "complete",
    ) -> Self:
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

    def sleep(
        self, name: str, duration: float | timedelta | datetime | OfContext[In, object]
    ) -> Self:
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
        schema: type | None = None,
        assignees: Sequence[str] | OfContext[In, Collection[str]] | None = None,
    ) -> Self:
        """Append a wait for the signal `signal`, by default `name`; it may have come before.

        The result is the signal's payload. After `timeout` (seconds or a timedelta) the node fails,
        or with `on_timeout="continue"` it completes, and the result is None.

        `schema` is a dataclass or a pydantic model class that the payload must fit; the result is
        an instance of it. `assignees` are the names of those who may answer on the web page, or a
        function of the context that returns them; without one any operator may. With either, the
        wait is on the page of approvals.
        """
        self._refuse_if_frozen("wait_for_signal")
        node = node_kinds.signal(
            name,
            signal,
            timeout=timeout,
            on_timeout=on_timeout,
            schema=schema,
            assignees=assignees,
        )
        self._refuse_other_model(node)
        return self._add(node)

    def child_workflow(
        self,
        name: str,
        workflow: AnyWorkflow | str,
        *,
        map_input: OfContext[In, object] | None = None,
        version: int | None = None,
        compensate: Literal["cascade"] | None = None,
    ) -> Self:
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

    @overload
    def returns(
        self, function: OfContext[In, Coroutine[Any, Any, Value]]
    ) -> Workflow[In, Value]: ...

    @overload
    def returns(self, function: OfContext[In, Value]) -> Workflow[In, Value]: ...

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
        return Plan(
            self.name,
            self.version,
            nodes,
            returns=self._result_function is not None,
            timeout=self.timeout,
            expires=self.expires,
            tells_of_failure=self.hooks.on_failed is not None,
        )

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
        input: In | Mapping[str, object] | None = None,
        *,
        key: str | None = None,
        session: object = None,
        delay: float | timedelta | None = None,
        priority: int | None = None,
        tags: Mapping[str, str] | None = None,
        on_conflict: OnConflict = "existing",
        reuse_key: ReuseKey = "never",
        timeout: float | timedelta | None = None,
        expires: float | timedelta | None = None,
    ) -> Run[Out]:
        """Start a run of this version; see `Durable.start`."""
        return self._client.start(
            self,
            input,
            key=key,
            session=session,
            delay=delay,
            priority=priority,
            tags=tags,
            on_conflict=on_conflict,
            reuse_key=reuse_key,
            timeout=timeout,
            expires=expires,
        )

    def start_many(
        self,
        inputs: Sequence[In | Mapping[str, object] | None],
        *,
        session: object = None,
        delay: float | timedelta | None = None,
        priority: int | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> list[Run[Out]]:
        """Start a run for each input, in one transaction; see `Durable.start_many`."""
        return self._client.start_many(
            self, inputs, session=session, delay=delay, priority=priority, tags=tags
        )

    astart = twin(start)
    astart_many = twin(start_many)

    def s(
        self,
        input: object = None,
        *,
        key: str | None = None,
        schedule: str | None = None,
        overlap: Literal["allow", "skip"] = "allow",
    ) -> Any:
        """Return a signature of Celery's that starts a run of this version, for a canvas or beat.

        In a chain the input is the result before it, unless `input` is said. Celery's serializer
        has to take it. Its result is the run's id, a string; the chain does not wait for the run.
        `key` and `schedule` are those of the task `durable.start`, whose signature it is. With a
        `schedule` name and `overlap="skip"` nothing is started while a run of that schedule is
        unfinished; then the result is None.
        """
        return self._client.start_signature(
            self, input, key=key, schedule=schedule, overlap=overlap
        )

    def run(self, run_id: UUID | str | None = None, *, key: str | None = None) -> Run[Out]:
        """Return a handle on a run of this workflow, by its id or its key."""
        return self._client.run(run_id, workflow=self.name, key=key)

    async def arun(self, run_id: UUID | str | None = None, *, key: str | None = None) -> Run[Out]:
        """`run` for `async` code."""
        found: Run[Out] = await self._client.arun(run_id, workflow=self.name, key=key)
        return found

    @property
    def client(self) -> Starter:
        """The `Durable` that it was made by."""
        return self._client

    def _refuse_other_model(self, node: NodeDefinition) -> None:
        """Refuse a second wait for a signal with another model: who sends it cannot know which."""
        for other in self._nodes.values():
            both = other.awaits, node.awaits
            if both[0] and both[1] and both[0].signal == both[1].signal and both[0] != both[1]:
                raise InvalidWorkflow(
                    f"Workflow {self.name!r}: {other.name!r} and {node.name!r} wait for one signal,"
                    f" {both[0].signal!r}, with different schemas. Give both the same schema=, or"
                    " each a signal of its own."
                )

    def model_of(self, signal: str) -> type | None:
        """Return the model that the data of this signal must fit; None if any data does."""
        for node in self._nodes.values():
            if node.awaits is not None and node.awaits.signal == signal:
                return node.awaits.model
        return None

    def _add(self, node: NodeDefinition, remedy: str = "another name") -> Self:
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
