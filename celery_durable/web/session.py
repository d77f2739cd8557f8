"""A viewer's session: a signed cookie, and the token by which a form is known to be of our page."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict
from dataclasses import asdict, dataclass, field

from itsdangerous import BadData, URLSafeTimedSerializer
from starlette.requests import HTTPConnection
from starlette.responses import Response

LONGEST_SESSION = 86400
"""Seconds without a request after which a session ends."""

RENEWED_AFTER = 3600
"""Seconds after which a cookie that is still in use is made anew."""

MOST_ENDED = 10_000
"""Sessions that a process remembers to have ended, the last ones."""


@dataclass(frozen=True, slots=True)
class Session:
    """What the cookie of one browser says; `name` is None for one that has shown no token."""

    name: str | None = None
    id: str = field(default_factory=lambda: secrets.token_urlsafe(24))


class Sessions:
    """Signs and reads the cookies of one page.

    They are signed with `secret`, and end when it changes. Its digest is in the cookie's name:
    browsers send the cookies of one host to all of its ports. Nothing is stored: that a viewer has
    left is known to the process that they have told, until it ends.
    """

    def __init__(self, secret: str) -> None:
        self._key = hashlib.sha256(secret.encode()).digest()
        self._signer = URLSafeTimedSerializer(self._key, salt="celery_durable.web.session")
        self._ended: OrderedDict[str, None] = OrderedDict()
        self.cookie = f"durable_{hashlib.sha256(self._key).hexdigest()[:8]}"

    def read(self, connection: HTTPConnection) -> Session | None:
        """The session of a request; None without a cookie of ours, or with one that has ended."""
        found = self._read(connection, LONGEST_SESSION)
        return None if found is None or found.id in self._ended else found

    def is_to_be_renewed(self, connection: HTTPConnection) -> bool:
        """True if the cookie is not a new one any more."""
        return self._read(connection, RENEWED_AFTER) is None

    def _read(self, connection: HTTPConnection, longest: int) -> Session | None:
        said = connection.cookies.get(self.cookie, "")
        try:
            return Session(**self._signer.loads(said, max_age=longest))
        except BadData:
            return None

    def first(self, connection: HTTPConnection) -> Session:
        """The session of a viewer of the host application's who has no cookie of ours yet.

        Requests that a browser sends at once, with the same cookies of that application, have the
        same one: whichever answer comes last, the forms of all are good.
        """
        cookies = connection.headers.get("cookie")
        if not cookies:
            return Session()
        return Session(id=self._digest(b"first", cookies))

    def write(self, request: HTTPConnection, response: Response, session: Session) -> None:
        """Set the cookie; it is `Secure` where the page is opened by https."""
        response.set_cookie(
            self.cookie,
            self._signer.dumps(asdict(session)),
            max_age=LONGEST_SESSION,
            path=_path(request),
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="strict",
        )

    def end(self, request: HTTPConnection, response: Response) -> None:
        """Delete the cookie, and take it no more in this process."""
        if (found := self.read(request)) is not None:
            self._ended[found.id] = None
            if len(self._ended) > MOST_ENDED:
                self._ended.popitem(last=False)
        response.delete_cookie(self.cookie, path=_path(request))

    def csrf_token(self, session: Session, viewer: str) -> str:
        """The token of the forms that this session and viewer are shown."""
        return self._digest(b"csrf", f"{session.id}\0{viewer}")

    def _digest(self, what: bytes, said: str) -> str:
        return hmac.new(self._key, what + b"\0" + said.encode(), hashlib.sha256).hexdigest()


def _path(connection: HTTPConnection) -> str:
    return str(connection.scope.get("durable_root", "")) + "/"
