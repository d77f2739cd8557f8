"""What moves a run on, as an operator types it; `<app>` stands for what Celery's -A takes."""

from __future__ import annotations

from itertools import count
from shlex import quote

from celery_durable.core.situation import Facts, Locker
from celery_durable.core.token import Token


def start_worker(facts: Facts, queue: str) -> str:
    """Return the command that starts a worker of the queue, by a node name that no live one has."""
    taken = {
        worker.hostname.partition("@")[0] for worker in facts.workers if worker.is_live(facts.at)
    }
    free = next(name for n in count(2) if (name := f"worker{n}") not in taken)
    return worker_command(queue) + (f" -n {free}@%h" if taken else "")


def worker_command(queue: str) -> str:
    """Return the command of the queue's workers."""
    return f"celery -A <app> worker -Q {quote(queue)}"


def mend_and_retry(facts: Facts, token: Token) -> str:
    """Return the words and the command for a unit that fails."""
    return f"Mend the cause, then:\n{command('retry-now', facts, '--unit', token.unit)}"


def end_session(locker: Locker) -> str:
    """Return the SQL that ends the session which holds a lock."""
    return f"SELECT pg_terminate_backend({locker.pid})"


def command(name: str, facts: Facts | None = None, *words: str) -> str:
    """Return a command of `durable`, about the run of these facts."""
    run = [str(facts.run_id)] if facts else []
    return " ".join(["celery -A <app> durable", name, *run, *map(quote, words)])
