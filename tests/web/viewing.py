"""What somebody sees who opens the page, and the forms that they send."""

from __future__ import annotations

from typing import Any, cast

from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.testclient import TestClient

from celery_durable.web.access import Gate


class SomeoneAt:
    """A browser without script: it keeps cookies, and sends forms with the token that they hold."""

    def __init__(self, client: TestClient, name: str = "ann") -> None:
        self.client = client
        self.name = name

    def get(self, path: str, **options: Any) -> Any:
        """The answer to a GET."""
        return self.client.get(path, **options)

    def see(self, path: str) -> str:
        """The page, which is there."""
        answer = self.client.get(path)
        assert answer.status_code == 200, (answer.status_code, answer.text)
        return str(answer.text)

    @property
    def csrf_token(self) -> str:
        """The token that the forms of this session hold."""
        self.see("/")
        gate: Gate = cast("Starlette", self.client.app).state.gate
        cookie = "; ".join(f"{name}={value}" for name, value in self.client.cookies.items())
        headers = [(b"cookie", cookie.encode())]
        session = gate.sessions.read(HTTPConnection({"type": "http", "headers": headers}))
        assert session is not None
        return gate.sessions.csrf_token(session, session.name or self.name)

    def post_as_it_is(self, path: str, **options: Any) -> Any:
        """The answer to a POST without the token."""
        return self.client.post(path, **options)

    def post(self, path: str, fields: dict[str, str] | None = None, **options: Any) -> Any:
        """The answer to a form of the page."""
        data = {"csrf_token": self.csrf_token, **(fields or {})}
        return self.client.post(path, data=data, **options)
