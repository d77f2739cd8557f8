"""Statements of ours in Django's transactions, which Django begins and ends."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import psycopg
import sqlalchemy as sa
from django.db import transaction
from django.db.transaction import TransactionManagementError
from django.db.utils import Error as DjangoError
from psycopg.pq import TransactionStatus

from celery_durable.store import sql
from celery_durable.store.connection import (
    JoinedConnection,
    Parameters,
    Row,
    Statement,
    cancel,
    is_in_statement,
)
from celery_durable.store.sqlstates import TOOK_TOO_LONG, raise_known

logger = logging.getLogger(__name__)

_synchronous = sa.func.current_setting(sql.word("synchronous_commit"))

_DURABLY = Statement(
    sa.select(
        sa.func.set_config(
            sql.word("synchronous_commit"),
            sa.case((_synchronous == sql.word("off"), sql.word("on")), else_=_synchronous),
            sa.true(),
        )
    )
)
"""A commit survives a crash of the server, whatever the role says."""


def is_open(connection: Any) -> bool:
    """Return True if a transaction is open on Django's connection, or its next statement opens one.

    `connection.autocommit` is False for a connection that has never been opened, too.
    """
    if connection.in_atomic_block:
        return True
    if connection.connection is None:
        return not connection.settings_dict["AUTOCOMMIT"]
    return not connection.autocommit


class DjangoConnection(JoinedConnection):
    """Django's connection, in a transaction of the caller's.

    Where Django has marked the transaction for a rollback, nothing is written; an error of ours
    marks it, as one of the ORM does.
    """

    __slots__ = ("wrapper",)

    def __init__(self, wrapper: Any, schema: str) -> None:
        wrapper.ensure_connection()
        super().__init__(wrapper.connection, schema)
        self.wrapper = wrapper

    def rows(self, statement: Statement, parameters: Parameters = {}) -> Sequence[Row]:  # noqa: B006
        """Execute the compiled text. Raises the errors of Postgres as this library's."""
        self.wrapper.validate_no_broken_transaction()
        try:
            return super().rows(statement, parameters)
        except BaseException:
            self.wrapper.errors_occurred = True
            if self.wrapper.in_atomic_block:
                self.wrapper.needs_rollback = True
            raise


class DjangoTransaction(DjangoConnection):
    """The transaction of a transactional step: an outermost atomic block of Django's.

    Django calls the functions of `on_commit` at its end. One that raises comes too late to fail the
    step, which is recorded by then: the error is logged, and those after it are not called.
    """

    __slots__ = ("_atomic", "_blocks", "_depth", "_is_committed", "_is_over")

    def __init__(self, wrapper: Any, schema: str) -> None:
        self._is_over = self._is_committed = False
        self._atomic: Any = transaction.atomic(using=wrapper.alias, durable=True)
        self._atomic.__enter__()
        self._depth = len(wrapper.savepoint_ids)
        self._blocks = len(wrapper.atomic_blocks)
        try:
            super().__init__(wrapper, schema)
            # The first function that Django calls after the COMMIT.
            transaction.on_commit(self._note_commit, using=wrapper.alias)
            if not self._depth:
                with wrapper.cursor() as cursor:
                    # Statements of ours that meet at one row rely on it.
                    cursor.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        except BaseException:
            self._roll_back()
            raise

    def _note_commit(self) -> None:
        self._is_committed = True

    def end_handler(self) -> None:
        """Raise `TransactionManagementError` if what the handler did cannot be committed."""
        if self.wrapper.closed_in_transaction:
            raise TransactionManagementError(
                "The step has closed the connection of its transaction."
            )
        if len(self.wrapper.savepoint_ids) != self._depth or not self.wrapper.in_atomic_block:
            raise TransactionManagementError(
                "The step has left an atomic block open, or ended ours."
            )
        if self.wrapper.needs_rollback:
            # Django would roll back silently in place of committing.
            raise TransactionManagementError(
                "The transaction of the step is marked for a rollback: by set_rollback, or by an"
                " error of the database that was caught inside of the block. Catch it outside of"
                " an atomic block of its own."
            )
        if self.raw.info.transaction_status is TransactionStatus.IDLE:
            raise TransactionManagementError("The step has ended its transaction past Django.")
        self.rows(_DURABLY)

    def was_cut(self, error: BaseException) -> bool:
        """Return True if the connection was lost, unless the transaction took too long.

        False if the handler has closed it.
        """
        took_too_long = getattr(error.__cause__ or error, "sqlstate", None) in TOOK_TOO_LONG
        return self.raw.closed and not self.wrapper.closed_in_transaction and not took_too_long

    @property
    def is_interrupted(self) -> bool:
        """True if a statement was interrupted: the connection can send no other."""
        return not self.raw.closed and is_in_statement(self.raw)

    def commit(self) -> None:
        """Commit, as the end of an atomic block does. Raises known errors as this library's."""
        self._is_over = True
        try:
            self._atomic.__exit__(None, None, None)
        except Exception as error:
            if self._is_committed:
                logger.exception("A function of on_commit failed, after a step was committed")
                return
            if isinstance(error, DjangoError):
                raise_known(error.__cause__, self.schema)
            raise

    def end(self) -> None:
        """Roll back what was not committed; cancel a statement that was interrupted."""
        if self.is_interrupted:
            # Without this the statement would go on, and its locks would block the next attempt.
            cancel(self.raw)
            self.wrapper.close()
        if not self._is_over:
            self._roll_back()

    def _roll_back(self) -> None:
        """Roll back. What fails here does no harm: the connection has ended, and all with it."""
        self._is_over = True
        del self.wrapper.savepoint_ids[self._depth :]  # of blocks that the handler has left open
        del self.wrapper.atomic_blocks[self._blocks :]
        self.wrapper.needs_rollback = True
        with suppress(DjangoError, psycopg.Error):
            self._atomic.__exit__(None, None, None)
