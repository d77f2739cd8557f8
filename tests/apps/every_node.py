"""The workflow of `examples.every_node` on workers that die where the test says.

A worker passes three moments of each commit: before it is sent; inside, where it is part of a
longer transaction that has not ended; and after it. A row of `doom` names one of them for a tree of
runs, and the process that passes there first is killed. What a tree without doom passes is written
into `passing`.

A claim has no moments of its own: a worker that dies right after one leaves the same rows behind
as one that dies before the commit that follows.
"""

import json
import os
import signal
from functools import cache
from typing import Any
from uuid import UUID

import psycopg
from psycopg.pq import TransactionStatus

from celery_durable.core.claim import Claim
from celery_durable.core.decision import Decision
from celery_durable.engine.attempt import Attempt
from celery_durable.engine.commit import Committed, Committer
from celery_durable.store.commit import statement
from celery_durable.store.commit.statement import Written
from celery_durable.store.connection import PsycopgConnection
from celery_durable.store.rows import kind_of
from celery_durable.workflow.execute import Execution
from examples.every_node.app import app, durable
from tests.addresses import conninfo
from tests.apps import configure

__all__ = ["app", "durable"]

CONFIG = "TEST_EVERY_NODE_CONFIG"
BEFORE, INSIDE, AFTER = "before", "inside", "after"

TABLES = """
    CREATE TABLE passing (
        id bigserial PRIMARY KEY, root uuid NOT NULL, point text NOT NULL, moment text NOT NULL);
    CREATE TABLE doom (
        root uuid, point text, moment text, killed integer, PRIMARY KEY (root, point, moment));
"""

PASS = "INSERT INTO passing (root, point, moment) VALUES (%s, %s, %s)"
DIE = """
    UPDATE doom SET killed = %s
    WHERE (root, point, moment) = (%s, %s, %s) AND killed IS NULL
"""


@cache
def connected(_pid: int) -> psycopg.Connection[Any]:
    return psycopg.connect(conninfo(os.environ["DURABLE_DATABASE_URL"]), autocommit=True)


@cache
def dooms_of(root: UUID) -> frozenset[tuple[str, str]]:
    """Where the tree of runs is to be struck; it is said in the transaction that starts them."""
    found = connected(os.getpid()).execute("SELECT point, moment FROM doom WHERE root = %s", [root])
    return frozenset(found.fetchall())


def point_of(claim: Claim, decision: Decision) -> str:
    """What a commit is called, alike in every run: where the token stands, and what it does."""
    token = claim.token
    waits = kind_of(token.wait) or "nothing"
    then = type(decision.then).__name__
    return f"{claim.run.workflow}.{token.unit}, which waits for {waits}: {then}"


def pass_by(claim: Claim, decision: Decision, moment: str) -> None:
    """Note that this process is here; or if it is to die here, it does."""
    root, point = claim.run.root_run_id or claim.run.id, point_of(claim, decision)
    database, pid = connected(os.getpid()), os.getpid()
    dooms = dooms_of(root)
    if not dooms:
        database.execute(PASS, [root, point, moment])
    elif (point, moment) in dooms and database.execute(DIE, [pid, root, point, moment]).rowcount:
        os.kill(pid, signal.SIGKILL)


def is_within_transaction(connection: Any) -> bool:
    if not isinstance(connection, PsycopgConnection):
        return True
    return connection.raw.info.transaction_status is TransactionStatus.INTRANS


commit, continue_with = statement.commit, Committer.continue_with


def observed_commit(
    connection: Any, claim: Claim, decision: Decision, routed: Any
) -> statement.Answer:
    pass_by(claim, decision, BEFORE)
    outcome = commit(connection, claim, decision, routed)
    if isinstance(outcome, Written) and is_within_transaction(connection):
        pass_by(claim, decision, INSIDE)
    return outcome


def observed_continue_with(
    self: Committer, attempt: Attempt, execution: Execution, committed: Committed
) -> Claim | None:
    if isinstance(committed.answer, Written):
        pass_by(attempt.claim, committed.decision, AFTER)
    return continue_with(self, attempt, execution, committed)


configure(app)
app.conf.update(json.loads(os.environ.get(CONFIG) or "{}"))
if CONFIG in os.environ:
    statement.commit = observed_commit
    Committer.continue_with = observed_continue_with  # type: ignore[method-assign]
