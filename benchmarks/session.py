"""One contender at work: what it needs is prepared once, and its programs are started for each
round.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import Any

import redis as redis_client
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from benchmarks import peers
from benchmarks.contenders import Contender
from benchmarks.processes import Process
from benchmarks.processor import Processor, Roles
from benchmarks.services import Services

ANSWER_SECONDS = 300.0
"""A client gives up earlier by itself."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a client answered, and the processor time used until then."""

    answer: Mapping[str, Any]
    processor: Processor

    @property
    def rate(self) -> float:
        """Units per second."""
        return float(self.answer["units"] / self.answer["seconds"])

    @property
    def cost(self) -> float:
        """Processor seconds per unit, of all processes."""
        return self.processor.all / max(1.0, float(self.answer["units"]))

    @property
    def is_complete(self) -> bool:
        """False if it was stopped before its end."""
        return bool(self.answer.get("complete", True))

    def microseconds(self, role: str) -> float | None:
        """Processor time per unit."""
        used = getattr(self.processor, role)
        return None if used is None else 1e6 * used / max(1, self.answer["units"])


class Session:
    """The running programs of a contender."""

    def __init__(self, client: Process, roles: Roles, database: str, seconds: float) -> None:
        self.roles = roles
        self.database = database
        """The name of its database."""

        self.seconds = seconds
        """How long one measurement should take."""

        self._client = client

    def ask(self, verb: str, **arguments: Any) -> Any:
        """Have the client do something that is not measured."""
        return self._client.ask(ANSWER_SECONDS, do=verb, **arguments)

    def measure(self, verb: str, **arguments: Any) -> Reading:
        """Have the client do something, and measure what all processes use meanwhile."""
        before = self.roles.look()
        answer = self.ask(verb, **arguments)
        return Reading(answer, self.roles.look().since(before))

    def check(self) -> None:
        """Raise `ContenderFailed` unless all that was asked for has happened, and can be seen."""
        self.ask("check")


class Stage:
    """A contender's place: its database, its broker, its Python."""

    def __init__(self, contender: Contender, services: Services) -> None:
        self._contender = contender
        self._services = services
        self._kept = ExitStack()
        self._rounds = count(1)

    def close(self) -> None:
        """Drop what was prepared."""
        self._kept.close()

    @contextmanager
    def session(self, seconds: float) -> Iterator[Session]:
        """Start all programs, on an empty database; they are gone afterwards.

        They are killed: their database is dropped, and no later round uses their queue.
        """
        number = next(self._rounds)
        with ExitStack() as stack:
            name = stack.enter_context(self._database())
            self._empty_redis()
            env = self._environment(name, number)
            workers = []
            for words in self._contender.workers:
                workers.append(self._worker(words, env))
                stack.callback(workers[-1].end)
            client = self._client(env)
            stack.callback(client.end)
            for worker in workers:
                worker.wait_ready()
            roles = Roles(
                workers=tuple(worker.pid for worker in workers),
                postgres=self._services.postgres.pid if self._has_database else None,
                broker=self._broker_pids(env["BENCH_RESULTS"]),
                client=client.pid,
                database=None if self._services.postgres.is_ours else name,
            )
            yield Session(client, roles, name, seconds)

    @contextmanager
    def _database(self) -> Iterator[str]:
        """The name of the database for a round."""
        crowd, postgres = self._contender.beside, self._services.postgres
        if crowd is None:
            with postgres.database(self._template) as name:
                yield name
        else:
            with postgres.connect(self._template) as connection, crowd.present(connection):
                yield self._template

    @cached_property
    def _template(self) -> str:
        """A database in which everything is as it was before the first run."""
        if not self._has_database:
            return "template1"
        name = self._kept.enter_context(self._services.postgres.database())
        client = self._client(self._environment(name, 0))
        try:
            client.ask(ANSWER_SECONDS, do="prepare")
        finally:
            client.end()
        if self._contender.beside:
            with self._services.postgres.connect(name) as connection:
                self._contender.beside.fill(connection)
        return name

    @property
    def _has_database(self) -> bool:
        return self._contender.system != "chain"

    @cached_property
    def _python(self) -> str:
        peer = self._contender.peer
        return peers.python(peer) if peer else sys.executable

    @cached_property
    def _broker_urls(self) -> tuple[str, str]:
        """URLs for messages and for results."""
        match self._contender.broker:
            case "RabbitMQ":
                return self._services.rabbitmq.new_host(), "rpc://"
            case "Redis":
                return self._services.redis_databases()
            case "pgmq":
                return "pgmq://", ""
            case _:
                return "", ""

    def _environment(self, database: str, number: int) -> dict[str, str]:
        messages, results = self._broker_urls
        url = self._services.postgres.url(database)
        transport: dict[str, Any] = {}
        if self._contender.broker == "pgmq":
            transport = {"conn_string": conninfo(url), "init_extension": False}
            transport |= {"wait_time_seconds": 0, "polling_interval": 0.02, "pool_size": 2}
        ended = self._services.folder / f"{self._services.next_number()}.ended"
        return {
            "BENCH_DATABASE": url,
            "BENCH_BROKER": messages,
            "BENCH_RESULTS": self._results(results),
            "BENCH_TRANSPORT": json.dumps(transport),
            "BENCH_SETTINGS": json.dumps(dict(self._contender.settings)),
            "BENCH_QUEUE": f"bench_{number}",
            "BENCH_ENDED": str(ended),
        }

    def _results(self, own: str) -> str:
        """Where Celery tasks keep results, if they do. A chord needs a backend that counts."""
        if not self._contender.results:
            return ""
        if "chord" in self._contender.name and own == "rpc://":
            return self._chord_results
        return own

    @cached_property
    def _chord_results(self) -> str:
        return self._services.redis_databases()[1]

    def _empty_redis(self) -> None:
        for url in self._broker_urls:
            if url.startswith("redis:"):
                with redis_client.Redis.from_url(url) as connection:
                    connection.flushdb()

    def _broker_pids(self, results: str) -> tuple[int | None, ...]:
        """The servers of messages and of results."""
        servers: list[int | None] = []
        if self._contender.broker == "RabbitMQ":
            servers.append(self._services.rabbitmq.pid)
        if self._contender.broker == "Redis" or results.startswith("redis:"):
            servers.append(self._services.redis.pid)
        return tuple(servers)

    def _worker(self, words: str, env: Mapping[str, str]) -> Process:
        return self._process(words.format(QUEUE=env["BENCH_QUEUE"]), env)

    def _client(self, env: Mapping[str, str]) -> Process:
        return self._process(self._contender.client, env, answers=True)

    def _process(self, words: str, env: Mapping[str, str], *, answers: bool = False) -> Process:
        log = self._services.folder / f"{self._services.next_number()}.log"
        command = [self._python, "-m", *shlex.split(words)]
        return Process(command, log, env, answers=answers)


def conninfo(url: str) -> str:
    """The form (`host=... dbname=...`) that kombu's pgmq transport takes without parsing it."""
    return make_conninfo("", **conninfo_to_dict(url))
