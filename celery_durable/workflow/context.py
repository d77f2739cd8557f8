"""What a handler is given."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID, uuid5

from celery_durable.core.claim import Claim
from celery_durable.core.failure import ErrorRecord
from celery_durable.core.names import compensated_by

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


class Journal(Protocol):
    """What a context reads of the run's past, when it is asked for and not before (P11)."""

    def decode(self, text: str) -> Any:
        """A stored value as it was."""
        ...

    def result(self, unit: str) -> tuple[Any] | None:
        """The result of a completed unit, in a tuple; None when it has not completed."""
        ...

    def completed_nodes(self) -> tuple[str, ...]:
        """The nodes that have completed."""
        ...


class Results(Mapping[str, Any]):
    """The results of completed nodes by name, each loaded when it is first asked for."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, node: str) -> Any:
        if node not in self._loaded:
            found = self._journal.result(node)
            if found is None:
                done = ", ".join(self) or "none"
                raise KeyError(f"{node!r} has not completed in this run; completed: {done}")
            self._loaded[node] = found[0]
        return self._loaded[node]

    def __iter__(self) -> Iterator[str]:
        return iter(self._journal.completed_nodes())

    def __len__(self) -> int:
        return len(self._journal.completed_nodes())


class Context:
    """One attempt of one unit, as its handler sees it."""

    def __init__(self, claim: Claim, journal: Journal, session: Session | None = None) -> None:
        self._claim = claim
        self._journal = journal
        self._session = session
        self.results = Results(journal)

    @cached_property
    def input(self) -> Any:
        """The run's input."""
        return self._journal.decode(self._claim.run.input)

    @property
    def run_id(self) -> UUID:
        """The run."""
        return self._claim.run.id

    @property
    def workflow(self) -> str:
        """The workflow's name."""
        return self._claim.run.workflow

    @property
    def step(self) -> str:
        """The node's name."""
        return self._claim.token.node

    @property
    def unit(self) -> str:
        """The unit's name, as in the journal."""
        return self._claim.token.unit

    @property
    def attempt(self) -> int:
        """Which try this is, from 1. One that a dead worker began is made again as itself."""
        return self._claim.token.attempt

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt of this unit, whatever crashes; no other unit has it.

        36 ASCII characters. Hand it to whatever must not be done twice: a payment provider, a
        mailer.
        """
        return str(uuid5(self.run_id, self.unit))

    @cached_property
    def result(self) -> Any:
        """In a compensator: what the unit that is being undone returned. None elsewhere."""
        if self._claim.token.rollback is None:
            return None
        found = self._journal.result(compensated_by(self.unit))
        return found[0] if found else None

    @property
    def error(self) -> ErrorRecord | None:
        """In a compensator: why the run is rolled back; None after a cancel."""
        return self._claim.run.error

    @property
    def session(self) -> Session:
        """In a transactional step: the SQLAlchemy session that commits with the step (P6)."""
        if self._session is None:
            raise RuntimeError(
                f"{self.unit!r} is not transactional; only a step with transactional=True has"
                " ctx.session."
            )
        return self._session

    @cached_property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger whose records carry `run_id`, `workflow`, `unit` and `attempt`."""
        logger = logging.getLogger(f"celery_durable.workflow.{self.workflow}")
        facts = {
            "run_id": str(self.run_id),
            "workflow": self.workflow,
            "unit": self.unit,
            "attempt": self.attempt,
        }
        return logging.LoggerAdapter(logger, facts)
