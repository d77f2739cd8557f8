"""Waiting for something to read."""

import select
import socket

import pytest

from celery_durable.process.sockets import readable


@pytest.mark.parametrize("has_poll", [True, False])
def test_what_can_be_read_is_found_on_every_platform(
    monkeypatch: pytest.MonkeyPatch, has_poll: bool
) -> None:
    if not has_poll:
        monkeypatch.delattr(select, "poll")
    one, its_peer = socket.socketpair()
    other, peer = socket.socketpair()
    both = [one.fileno(), other.fileno()]
    with one, its_peer, other, peer:
        assert readable(both, 0.01) == set()
        its_peer.send(b".")
        assert readable(both, 20) == {one.fileno()}
        peer.close()
        assert readable(both, 20) == {*both}
