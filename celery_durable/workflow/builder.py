"""The chain of nodes that users write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

from celery_durable.core.names import HIGHEST_VERSION, checked_name
from celery_durable.core.plan import Plan
from celery_durable.core.retry import RetryPolicy
from celery_durable.errors import InvalidWorkflow, PayloadError
from celery_durable.workflow.step import Handler, Step, as_step, checked_handler

if TYPE_CHECKING:
    from datetime import timedelta
    from uuid import UUID

    from celery_durable.run import Run


class Client(Protocol):
    """What a workflow needs of `Durable` to start its runs."""

    @property
    def default_retry(self) -> RetryPolicy:
        """The policy of steps that name none."""
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


class Workflow:
    """A named, versioned, ordered list of nodes. Made by `durable.workflow(...)`; each method
    returns it.

    It is checked and frozen when the app finalizes or its first run starts.
    """

    def __init__(
        self, name: str, *, version: int = 1, input: type | None = None, client: Client
    ) -> None:
        self.name = checked_name("workflow", name)
        if not is_version(version):
            raise InvalidWorkflow(
                f"Workflow {name!r}: version= takes a whole number from 1, not {version!r}."
            )
        self.version = version
        self.input = checked_model(name, input)
        self._client = client
        self._steps: dict[str, Step] = {}
        self._returns: Handler | None = None
        self._plan: Plan | None = None

    def __repr__(self) -> str:
        return f"<workflow {self.name} v{self.version}: {' -> '.join(self.steps)}>"

    @property
    def steps(self) -> tuple[str, ...]:
        """The names of the nodes, in order."""
        return tuple(self._steps)

    def step(
        self,
        handler: object,
        *,
        name: str | None = None,
        args: Handler | None = None,
        kwargs: Handler | None = None,
        retry: RetryPolicy | None = None,
        queue: str | None = None,
        priority: int | None = None,
        transactional: bool | None = None,
        **unknown: Any,
    ) -> Workflow:
        """Append a step: a decorated step, or any function of the context.

        `name` and the options of `durable.step` hold for this workflow only. `args` and `kwargs`,
        functions of the context, call an existing Celery task or plain function with what they
        return.
        """
        self._refuse_if_frozen("step")
        options: dict[str, Any] = {
            "retry": retry,
            "queue": queue,
            "priority": priority,
            "transactional": transactional,
            **unknown,
        }
        step = as_step(handler, args, kwargs, name)
        if name is not None or any(value is not None for value in options.values()):
            step = step.with_options(name, options)
        if step.name in self._steps:
            raise InvalidWorkflow(
                f"Workflow {self.name!r} has a node {step.name!r} already; give this one name=."
            )
        self._steps[step.name] = step
        return self

    def returns(self, function: Handler) -> Workflow:
        """What this function of the context returns is the run's result, in place of its nodes'."""
        self._refuse_if_frozen("returns")
        if self._returns is not None:
            raise InvalidWorkflow(f"Workflow {self.name!r} says .returns twice.")
        self._returns = checked_handler("returns", function)
        return self

    @property
    def plan(self) -> Plan:
        """The plan; making it checks and freezes the workflow."""
        if self._plan is None:
            if not self._steps:
                raise InvalidWorkflow(f"Workflow {self.name!r} is empty; give it a .step(...).")
            retry = self._client.default_retry
            nodes = tuple(step.node(retry) for step in self._steps.values())
            self._plan = Plan(self.name, self.version, nodes, returns=self._returns is not None)
        return self._plan

    def step_called(self, name: str) -> Step:
        """The step that belongs to the node `name`."""
        return self._steps[name]

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

    def _refuse_if_frozen(self, method: str) -> None:
        if self._plan is not None:
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
    is_model = hasattr(model, "__dataclass_fields__") or hasattr(model, "__pydantic_fields__")
    if model is None or (isinstance(model, type) and is_model):
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
        if hasattr(model, "model_validate"):
            return model.model_validate(value)
        if isinstance(value, Mapping):
            return model(**value)
    except (TypeError, ValueError) as error:
        raise PayloadError(f"{what}: {error}") from error
    raise PayloadError(f"{what} or a mapping, but {type(value).__name__}.")
