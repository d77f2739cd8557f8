"""How a state looks: its word, its symbol as a path, and the class that colours it.

A state is never told by its colour alone. Symbols are paths in a square of 16, so that no font has
to have them.
"""

from __future__ import annotations

from collections.abc import Mapping

from celery_durable.core.status import Status
from celery_durable.view.nodes import NodeState

UNDO = "M6.2 4 3.6 6.6l2.6 2.6M3.8 6.6h5.4a2.9 2.9 0 0 1 0 5.8H6.6"

DOTS = "M5 8h.1m2.9 0h.1m2.9 0h.1"
"""The symbol of what is current, and executed by nobody yet; and of branches that are folded."""

SYMBOLS: Mapping[NodeState, str] = {
    NodeState.PENDING: "M7.9 8h.2",
    NodeState.CURRENT: "M6.5 5v6l4.5-3z",
    NodeState.WAITING: "M8 4.5V8l2.5 1.8",
    NodeState.PAUSED: "M6.3 5.3v5.4m3.4-5.4v5.4",
    NodeState.COMPLETED: "m4.7 8.3 2.3 2.4 4.4-5",
    NodeState.FAILED: "m5.2 5.2 5.6 5.6m0-5.6-5.6 5.6",
    NodeState.CANCELLED: "M5.8 5.8h4.4v4.4H5.8z",
    NodeState.COMPENSATING: UNDO,
    NodeState.COMPENSATED: UNDO,
    NodeState.COMPENSATION_FAILED: "M8 4.3v4.4m0 2.8v.2",
    NodeState.NOT_REACHED: "M5.2 8h5.6",
}
"""The symbol of each state."""

KINDS: Mapping[str, str] = {
    "begin": "M6.5 5v6l4.5-3z",
    "end": "M5.6 12V4.6h5.2L9.4 6.7l1.4 2.1H5.6",
    "step": "M4.8 8h6M8.4 5.4 11 8l-2.6 2.6",
    "child": "M4.5 4.5h5v5h-5zM7 9.7v1.8h4.5V7H9.7",
    "parallel": "M8 3.5v2M4.5 12.5v-3a2 2 0 0 1 2-2h3a2 2 0 0 1 2 2v3M8 5.5v2",
    "map": "M4.5 5h7m-7 3h7m-7 3h7",
    "route": "M8 3.5v3l-3.5 3v3M8 6.5l3.5 3v3",
    "loop": "M11.3 6.3A3.8 3.8 0 1 0 11.8 9M11.6 3.8v2.7H8.9",
    "sleep": "M8 4.5V8l2.5 1.8",
    "signal": "M4 5.2h8v5.8H4zM4 5.4l4 3.2 4-3.2",
}
"""The symbols of kinds of nodes and of both ends, for a plan that no run is shown of."""

OF_STATUS: Mapping[Status, NodeState] = {
    Status.PENDING: NodeState.PENDING,
    Status.RUNNING: NodeState.PENDING,
    Status.SUSPENDED: NodeState.PENDING,
    Status.SLEEPING: NodeState.PENDING,
    Status.PAUSED: NodeState.PENDING,
    Status.COMPENSATING: NodeState.PENDING,
    Status.COMPLETED: NodeState.COMPLETED,
    Status.FAILED: NodeState.FAILED,
    Status.CANCELLED: NodeState.CANCELLED,
}
"""How the end of a picture looks, which a run reaches or does not."""


def state_class(state: NodeState) -> str:
    """The class of a state in the stylesheet."""
    return state.value.replace(" ", "-")
