"""Ids of runs: UUID version 7."""

from datetime import UTC, datetime
from types import SimpleNamespace
from uuid import RFC_4122

import pytest

from celery_durable.engine import ids


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The Unix milliseconds that the next ids are made at; the first is taken each time."""
    milliseconds: list[int] = []
    stopped = SimpleNamespace(time_ns=lambda: milliseconds.pop(0) * 1_000_000 + 999_999)
    monkeypatch.setattr(ids, "time", stopped)
    return milliseconds


def test_version_and_variant_are_those_of_rfc_9562() -> None:
    for _ in range(200):
        made = ids.uuid7()
        assert (made.version, made.variant) == (7, RFC_4122)


def test_the_first_48_bits_are_unix_milliseconds(clock: list[int]) -> None:
    # The time of the example in RFC 9562, appendix A.6.
    moment = datetime(2022, 2, 22, 19, 22, 22, tzinfo=UTC)
    clock.append(int(moment.timestamp() * 1000))
    assert str(ids.uuid7()).startswith("017f22e2-79b0-7")


def test_ids_sort_by_the_millisecond_they_were_made_in(clock: list[int]) -> None:
    clock.extend(range(1_700_000_000_000, 1_700_000_000_500))
    made = [ids.uuid7() for _ in range(500)]
    assert sorted(made) == made
    assert sorted(map(str, made)) == [str(one) for one in made]


@pytest.mark.parametrize("bits", [0, 2**80 - 1])
def test_every_bit_but_time_version_and_variant_is_random(
    bits: int, clock: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = SimpleNamespace(urandom=lambda count: bits.to_bytes(10)[:count])
    monkeypatch.setattr(ids, "os", loaded)
    clock.append(0x0123_4567_89AB)
    expected = {
        0: "01234567-89ab-7000-8000-000000000000",
        2**80 - 1: "01234567-89ab-7fff-bfff-ffffffffffff",
    }
    assert str(ids.uuid7()) == expected[bits]


def test_ids_of_the_same_millisecond_differ(clock: list[int]) -> None:
    clock.extend([1_700_000_000_000] * 1000)
    assert len({ids.uuid7() for _ in range(1000)}) == 1000
