"""The walk of `why-is-it-stuck.md`: its sections, and somebody who follows them.

Each section breaks something, asks why, and mends it. What it says that `why` says is waited for
and compared; what a page cannot know (ids, processes, hosts) is read there, and put in its place in
what is typed later.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import psycopg

from celery_durable import Durable, Run
from celery_durable.core.fleet import WorkerState
from celery_durable.core.reason import Reason
from celery_durable.core.status import FINISHED, Status
from tests.addresses import ROOT, conninfo
from tests.cluster.rabbitmq import RabbitMQServer
from tests.docs.pages import Block, blocks
from tests.docs.reader import Reader
from tests.waiting import wait_until

PAGE = ROOT / "docs/how-to/why-is-it-stuck.md"
SETUP = "Set up"
SLOW = 60.0

_TIMES = re.compile(r"  (?:for|since|until) .*$", re.MULTILINE)
_OWN = re.compile(
    r"(?P<id>0199b0c\d-\.\.\.)|(?P<pid>\b\d{4,}\b)|(?P<name>laptop|\bada\b)|(?P<any>\.\.\.)"
)


def sections() -> dict[str, list[Block]]:
    """The blocks below each heading of the page, hidden ones left out."""
    headings = [
        (number, line.removeprefix("## "))
        for number, line in enumerate(PAGE.read_text(encoding="utf-8").splitlines(), start=1)
        if line.startswith("## ")
    ]
    found = [block for block in blocks(PAGE) if block.language in ("bash", "python", "text")]
    ends = [*(number for number, _ in headings[1:]), 10**6]
    return {
        title: [block for block in found if begin < block.line < end]
        for (begin, title), end in zip(headings, ends, strict=True)
    }


def expected(text: str, known: Mapping[str, str]) -> "re.Pattern[str]":
    """A pattern for what the page shows; what is unknown of the reader's own has a name in it."""
    parts: list[str] = []
    at, seen = 0, set[str]()
    text = without_times(text)
    for own in _OWN.finditer(text):
        parts.append(re.escape(text[at : own.start()]))
        at = own.end()
        word, kind = own.group(), own.lastgroup
        name = "_" + re.sub(r"\W", "_", word)
        if word in known:
            parts.append(re.escape(known[word]))
        elif word in seen:
            parts.append(f"(?P={name})")
        elif kind in ("id", "pid"):
            seen.add(word)
            parts.append(f"(?P<{name}>{'[0-9a-f-]{36}' if kind == 'id' else '[0-9]+'})")
        else:
            parts.append(r".*" if kind == "any" else r"[\w.-]+")
    return re.compile("".join([*parts, re.escape(text[at:])]))


def learned(text: str, printed: "re.Match[str]") -> dict[str, str]:
    """What stands for the page's words in what was printed."""
    groups = printed.groupdict()
    words = {own.group() for own in _OWN.finditer(text)}
    return {
        word: groups[name] for word in words if (name := "_" + re.sub(r"\W", "_", word)) in groups
    }


def without_times(text: str) -> str:
    return _TIMES.sub("", text).strip()


class Walk:
    """A reader of the page, and what the reader cannot see: whether it is time to go on.

    `server` is a broker that is not typed: its terminal starts and stops it.
    """

    def __init__(self, reader: Reader, client: Durable, server: RabbitMQServer | None) -> None:
        self.reader = reader
        self.client = client
        self._server = server
        self._is_served = True

    def set_up(self) -> None:
        """Type what is below "Set up"."""
        self.follow(sections()[SETUP])

    def follow(self, section: Sequence[Block]) -> None:
        """Type a section; what `why` says is what the page shows."""
        known: dict[str, str] = {}
        for block, after in pairwise([*section, None]):
            if block is None or block.language == "text":
                continue
            code = block.code
            for word, own in known.items():
                code = code.replace(word, own)
            typed = replace(block, code=code)
            if after is not None and after.language == "text":
                known |= self._ask(typed, after.code, known)
            else:
                self._type(typed)

    def await_end(self) -> None:
        """Wait until no run is left, and the last that was started has completed."""
        going_on = [status for status in Status if status not in FINISHED]
        wait_until(
            lambda: not any(self.client.list(status=status, limit=1) for status in going_on),
            timeout=SLOW,
            message=lambda: (
                f"{[self.client.why(one.run_id) for one in self.client.list(limit=3)]}"
                f"\nthe worker's terminal:\n{self.reader.log('worker')}"
            ),
        )
        (last,) = self.client.list(limit=1)
        assert last.status is Status.COMPLETED, self.client.why(last.run_id)

    def _ask(self, block: Block, shown: str, known: Mapping[str, str]) -> dict[str, str]:
        """Type a block that ends with `why`, when that says what the page shows."""
        *before, last = block.code.strip().splitlines()
        assert re.fullmatch(r"celery -A shop durable why \$RUN", last), last
        self._type(replace(block, code="\n".join(before)))
        run, pattern = self.client.run(self.reader.variable("RUN")), expected(shown, known)
        wait_until(
            lambda: pattern.fullmatch(told(run)),
            timeout=SLOW,
            message=lambda: f"{shown}\nit says:\n{told(run)}",
        )
        printed = without_times(self.reader.shell(last))
        found = pattern.fullmatch(printed)
        assert found is not None, f"{shown}\nit says:\n{printed}"
        return learned(shown, found)

    def _type(self, block: Block) -> None:
        terminal = block.directives.get("terminal")
        if self._server is not None and "broker" in (terminal, block.directives.get("ctrl-c")):
            self._serve(self._server, is_on=terminal == "broker")
            if terminal == "broker":
                return
        if block.code:
            self.reader.follow(block)
        if terminal is not None:
            self._await(terminal, block.code)

    def _serve(self, server: RabbitMQServer, *, is_on: bool) -> None:
        if is_on and not self._is_served:
            server.start()
        if not is_on:
            server.kill()
        self._is_served = is_on

    def _await(self, terminal: str, code: str) -> None:
        """Wait until what was begun in a terminal is there, as a reader would."""
        match terminal:
            case "worker" if "-Q durable" in code:
                wait_until(
                    self._has_worker, timeout=SLOW, message=lambda: self.reader.log(terminal)
                )
            case "psql":
                wait_until(self._is_locked, message=lambda: self.reader.log(terminal))
            case _:
                pass

    def _has_worker(self) -> bool:
        return any(one.state is WorkerState.ALIVE for one in self.client.workers())

    def _is_locked(self) -> bool:
        asleep = "SELECT FROM pg_stat_activity WHERE datname = current_database()"
        with psycopg.connect(conninfo(self.client.settings.database_url)) as connection:
            return bool(connection.execute(f"{asleep} AND wait_event = 'PgSleep'").rowcount)


def told(run: Run) -> str:
    """What `durable why` prints, without times."""

    def lines(reasons: Sequence[Reason], indent: str) -> Iterator[str]:
        for reason in reasons:
            yield indent + reason.text
            for line in reason.help.splitlines():
                yield f"{indent}  " + line.replace("<app>", "shop")
            yield from lines(reason.inner, f"{indent}  ")

    return "\n".join(lines(run.why().reasons, ""))
