"""The type variables of contexts, steps, workflows and runs.

Each is Any where nothing else is known: `Workflow` is a workflow of any input and any result.
"""

from __future__ import annotations

from typing import Any

from typing_extensions import TypeVar

In = TypeVar("In", default=Any)
"""The type of a run's input."""

In_co = TypeVar("In_co", covariant=True, default=Any)
"""The same, where it is only read."""

Out = TypeVar("Out", covariant=True, default=Any)  # noqa: PLC0105 - it is `Run[Out]` to users
"""The type of a run's result."""

Returned = TypeVar("Returned", covariant=True, default=Any)  # noqa: PLC0105 - as Out
"""What a handler returns when it is called; of an `async` one, a coroutine."""

Value = TypeVar("Value")
"""The type of a result."""
