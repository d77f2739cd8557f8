"""A link says what it answers, and nothing of it can be changed without its secret."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_durable.errors import PayloadTooLarge
from celery_durable.workflow.callbacks import (
    Callback,
    key_of_wait,
    read,
    signed,
    wait_of_key,
)

SECRET = "a secret of the tests"
MARCH = datetime(2026, 3, 1, tzinfo=UTC)
LINK = Callback(UUID(int=7), "go", "ask", wait=2, expires_at=MARCH, data='{"ok":true}')
SECONDS = st.datetimes(timezones=st.just(UTC)).map(lambda at: at.replace(microsecond=0))

CALLBACKS = st.builds(
    Callback,
    run_id=st.uuids(),
    signal=st.text(min_size=1, max_size=50),
    unit=st.none() | st.text(max_size=50),
    wait=st.none() | st.integers(0, 2**31),
    key=st.none() | st.text(min_size=1, max_size=50),
    expires_at=st.none() | SECONDS,
    data=st.none() | st.text(max_size=50),
)


@given(CALLBACKS)
def test_a_link_says_what_it_was_made_of(callback: Callback) -> None:
    assert read(signed(callback, SECRET), SECRET) == callback


@pytest.mark.parametrize(
    "other",
    [
        replace(LINK, run_id=UUID(int=8)),
        replace(LINK, signal="stop"),
        replace(LINK, unit="other"),
        replace(LINK, wait=3),
        replace(LINK, wait=None, key="k"),
        replace(LINK, expires_at=datetime(2027, 3, 1, tzinfo=UTC)),
        replace(LINK, expires_at=None),
        replace(LINK, data='{"ok":false}'),
        replace(LINK, data=None),
    ],
)
def test_no_part_can_be_taken_from_another_link(other: Callback) -> None:
    """Each part is under the signature: what one link says does not go with that of another."""
    (ours, signature), (theirs, _) = (
        signed(callback, SECRET).split(".") for callback in (LINK, other)
    )
    assert ours != theirs
    assert read(f"{theirs}.{signature}", SECRET) is None


def test_another_secret_signs_nothing() -> None:
    assert read(signed(LINK, "another secret of theirs"), SECRET) is None


def test_a_signature_by_the_bare_secret_is_none() -> None:
    """The page's cookies are signed with the same secret: neither stands for the other."""
    body = signed(LINK, SECRET).split(".")[0]
    raw = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
    bare = base64.urlsafe_b64encode(hmac.digest(SECRET.encode(), raw, hashlib.sha256)).decode()
    assert read(f"{body}.{bare.rstrip('=')}", SECRET) is None


def test_every_change_of_a_character_is_found() -> None:
    text = signed(LINK, SECRET)
    for place, sign in enumerate(text):
        for other in ("A", "B", "_", ".", "=", "é", ""):
            if other != sign:
                assert read(text[:place] + other + text[place + 1 :], SECRET) is None, place


@pytest.mark.parametrize(
    "text", ["", ".", "a.b", "a", "a.b.c", "=.=", "é.é", "\0", " ", "%", "A" * 100_000]
)
def test_what_is_no_link_is_refused(text: str) -> None:
    assert read(text, SECRET) is None


@given(st.text())
def test_any_text_is_refused(text: str) -> None:
    assert read(text, SECRET) is None


def test_a_link_that_says_too_much_is_refused() -> None:
    with pytest.raises(PayloadTooLarge, match="what the link for the signal 'go' says is"):
        signed(replace(LINK, data="x" * 1_500), SECRET)


def test_a_link_is_made_of_signs_that_an_address_may_hold() -> None:
    text = signed(replace(LINK, signal="größe/ä?#", data=json.dumps("+/=")), SECRET)
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")


def test_the_answers_to_one_wait_have_one_key() -> None:
    assert key_of_wait(3) == "#wait:3"
    assert wait_of_key("#wait:3") == 3
    for other in (None, "", "3", "#wait:", "#wait:x", "#wait:²", "wait:3", "a#wait:3"):
        assert wait_of_key(other) is None
