"""A TCP proxy in front of Postgres that cuts connections at a chosen statement.

It reads the frontend protocol as far as it must to know which statement is about to reach the
server, and when the server has answered it:
https://www.postgresql.org/docs/current/protocol-message-formats.html. One thread does everything;
`judge`, which says what becomes of a statement, is called in it.
"""

from __future__ import annotations

import selectors
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import make_url

from tests.addresses import conninfo

CHUNK = 1 << 16
WAKE_UP = 0.02
"""Seconds until what a test asks for is seen."""

PLAIN = {"sslmode": "disable", "gssencmode": "disable"}
"""The proxy has to read what passes."""


class Moment(Enum):
    """Where a connection is cut."""

    BEFORE = "before"
    """The statement never reaches the server."""
    AFTER = "after"
    """The server has executed it; the answer never arrives."""


Judge = Callable[[str], Moment | None]
"""Told each statement that is about to be forwarded; None lets it pass."""


class Link:
    """One client's connection, and its statements by name."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.asked = b""
        self.answered = b""
        self.has_begun = False
        self.is_doomed = False
        self._statements: dict[bytes, str] = {}

    def messages(self) -> Iterator[bytes]:
        """What the client has sent in whole; the first message has no letter before its length."""
        while True:
            at = 1 if self.has_begun else 0
            length = length_of(self.asked, at)
            if length is None:
                return
            message, self.asked = self.asked[:length], self.asked[length:]
            self.has_begun = True
            yield message

    def statement_in(self, message: bytes) -> str | None:
        """The text of the statement that this message has executed, if it is one that does."""
        kind, body = message[:1], message[5:]
        if kind == b"P":
            name, text, _ = body.split(b"\0", 2)
            self._statements[name] = text.decode()
        if kind == b"B":
            _, name, _ = body.split(b"\0", 2)
            return self._statements[name]
        return body.rstrip(b"\0").decode() if kind == b"Q" else None

    def is_ready(self, data: bytes) -> bool:
        """Whether the server has said that it is done with what it was sent."""
        self.answered += data
        while (length := length_of(self.answered, 1)) is not None:
            kind, self.answered = self.answered[:1], self.answered[length:]
            if kind == b"Z":
                return True
        return False


def length_of(data: bytes, at: int) -> int | None:
    """How long the first message is whose length stands at `at`; None when it is not all there."""
    if len(data) < at + 4:
        return None
    (length,) = struct.unpack_from("!I", data, at)
    return at + length if len(data) >= at + length else None


class Proxy:
    """Listens on 127.0.0.1, for one database. `url` is its address, as SQLAlchemy has it."""

    def __init__(self, database_url: str, judge: Judge | None = None) -> None:
        self._target = conninfo_to_dict(conninfo(database_url))
        self._judge = judge
        self._links: list[Link] = []
        self._lock = threading.RLock()
        self._is_silent = False
        self._selector = selectors.DefaultSelector()
        self._door: socket.socket | None = socket.create_server(("127.0.0.1", 0))
        self._port: int = self._door.getsockname()[1]
        self.url = (
            make_url(database_url)
            .set(host="127.0.0.1", port=self._port, query=PLAIN)
            .render_as_string(hide_password=False)
        )
        self._selector.register(self._door, selectors.EVENT_READ)
        self._is_open = True
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()

    def judge(self, judge: Judge | None) -> None:
        """Ask this about statements from now on."""
        with self._lock:
            self._judge = judge

    def cut_all(self) -> int:
        """Cut every connection; how many there were."""
        with self._lock:
            links = list(self._links)
            for link in links:
                self._cut(link)
            return len(links)

    def refuse(self) -> None:
        """Cut every connection and refuse new ones, as a host does whose Postgres is down."""
        with self._lock:
            if self._door is not None:
                self._selector.unregister(self._door)
                self._door.close()
                self._door = None
            self.cut_all()

    def accept(self) -> None:
        """Take new connections again."""
        with self._lock:
            if self._door is None:
                self._door = socket.create_server(("127.0.0.1", self._port))
                self._selector.register(self._door, selectors.EVENT_READ)

    def hold(self) -> None:
        """Fall silent: connections stay, and nothing passes in either direction."""
        with self._lock:
            self._is_silent = True

    def release(self) -> None:
        """Let pass what was held, and what comes."""
        with self._lock:
            self._is_silent = False

    def close(self) -> None:
        """Cut everything and end."""
        self.refuse()
        self._is_open = False
        self._thread.join()
        self._selector.close()

    def _run(self) -> None:
        while self._is_open:
            with self._lock:
                # What is held stays in the sockets' buffers.
                ready = [] if self._is_silent else self._selector.select(0)
                for key, _ in ready:
                    if key.fileobj is self._door:
                        self._welcome(self._door)
                    elif isinstance(key.data, Link) and key.data in self._links:
                        self._pass_on(key.data, key.fileobj is key.data.client)
            if not ready:
                self._wait_for_something()

    def _wait_for_something(self) -> None:
        """Without the lock, so that the test can ask for something meanwhile."""
        if self._is_silent:
            threading.Event().wait(WAKE_UP)
        else:
            self._selector.select(WAKE_UP)

    def _welcome(self, door: socket.socket) -> None:
        client, _ = door.accept()
        try:
            server = self._connected()
        except OSError:
            client.close()
            return
        link = Link(client, server)
        self._links.append(link)
        self._selector.register(client, selectors.EVENT_READ, link)
        self._selector.register(server, selectors.EVENT_READ, link)

    def _connected(self) -> socket.socket:
        host, port = str(self._target["host"]), int(self._target.get("port") or 5432)
        if not host.startswith("/"):
            return socket.create_connection((host, port))
        server = socket.socket(socket.AF_UNIX)
        server.connect(str(Path(host) / f".s.PGSQL.{port}"))
        return server

    def _pass_on(self, link: Link, is_from_client: bool) -> None:
        try:
            data = (link.client if is_from_client else link.server).recv(CHUNK)
            if not data:
                self._cut(link)
            elif is_from_client:
                self._forward(link, data)
            elif not link.is_doomed:
                link.client.sendall(data)
            elif link.is_ready(data):
                self._cut(link)
        except OSError:
            self._cut(link)

    def _forward(self, link: Link, data: bytes) -> None:
        link.asked += data
        for message in link.messages():
            statement = link.statement_in(message)
            moment = self._judge(statement) if statement and self._judge else None
            if moment is Moment.BEFORE:
                self._cut(link)
                return
            link.is_doomed = link.is_doomed or moment is Moment.AFTER
            link.server.sendall(message)

    def _cut(self, link: Link) -> None:
        if link not in self._links:
            return
        self._links.remove(link)
        for end in (link.client, link.server):
            self._selector.unregister(end)
            end.close()
