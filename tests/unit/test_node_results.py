"""What the functions between steps return: what is taken, and what is refused with a reason."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum

import pytest

from celery_durable.core.event import Chosen, Listed, SleepRequested
from celery_durable.core.plan import MOST_ITEM_BYTES, MOST_ITEMS
from celery_durable.errors import LONGEST, NotSerializable, PayloadTooLarge, UnknownRoute
from celery_durable.workflow import node_results
from tests.unit.nodes import COOLDOWN, LINES, RAIL, choosing
from tests.unit.values import NOW, at, claim, encode


def kind(value: object) -> str:
    return type(value).__name__


def three() -> Iterator[int]:
    yield from (1, 2, 3)


@pytest.mark.parametrize(
    "given", [[1, 2, 3], (1, 2, 3), range(1, 4), three(), {1: 0, 2: 0, 3: 0}.keys()], ids=kind
)
def test_the_items_of_a_map_are_whatever_can_be_walked_through(given: object) -> None:
    assert node_results.items(LINES, given, encode) == ("1", "2", "3")


def test_a_map_of_nothing_has_no_items() -> None:
    assert node_results.items(LINES, [], encode) == ()


@pytest.mark.parametrize("given", ["abc", b"abc", {"a": 1}, 7, None, object()], ids=kind)
def test_what_is_no_list_is_refused_with_its_type(given: object) -> None:
    told = rf"over= of 'lines' returned {type(given).__name__}; a map needs a list of items"
    with pytest.raises(TypeError, match=told):
        node_results.items(LINES, given, encode)


def test_an_item_without_json_is_refused_with_its_place() -> None:
    with pytest.raises(NotSerializable, match=r"item 1 of lines"):
        node_results.items(LINES, [1, object()], encode)


def test_an_item_over_the_limit_is_refused_with_its_place() -> None:
    with pytest.raises(PayloadTooLarge, match=r"item 0 of lines"):
        node_results.items(LINES, ["x" * 2_000], encode)


def endless() -> Iterator[int]:
    while True:
        yield 1


def test_a_map_has_as_many_items_as_are_allowed_and_not_one_more() -> None:
    assert len(node_results.items(LINES, range(MOST_ITEMS), lambda _item, _what: "1")) == MOST_ITEMS
    with pytest.raises(ValueError, match=f"more than {MOST_ITEMS} items; split the work"):
        node_results.items(LINES, endless(), lambda _item, _what: "1")


def test_the_items_of_a_map_have_a_limit_together_of_bytes() -> None:
    half = "€" * (MOST_ITEM_BYTES // 6)
    assert len(node_results.items(LINES, [half, half], lambda item, _what: str(item))) == 2
    with pytest.raises(PayloadTooLarge) as told:
        node_results.items(LINES, endless(), lambda _item, _what: half)
    assert "the list of items of lines, up to item 2, is" in str(told.value)
    assert "durable_max_payload_bytes" not in str(told.value)
    assert told.value.limit == MOST_ITEM_BYTES


def test_the_items_are_told_with_the_time_their_unit_began() -> None:
    assert node_results.listed_event(LINES, [1], claim(at("lines")), encode) == Listed(("1",), NOW)


class Rail(Enum):
    WIRE = "wire"


@pytest.mark.parametrize("answer", ["wire", Rail.WIRE], ids=repr)
def test_an_answer_that_names_a_case_takes_it(answer: object) -> None:
    held = claim(choosing())
    assert node_results.chosen_event(RAIL, answer, held, encode) == Chosen('"wire"', "wire", NOW)


@pytest.mark.parametrize("answer", ["gold", "", "Wire", None, 1, True, ["wire"]], ids=repr)
def test_an_answer_that_names_no_case_is_refused_with_the_known_ones(answer: object) -> None:
    told = r"selector of 'rail' answered .*; the cases are wire, card\. .* default="
    with pytest.raises(UnknownRoute, match=told):
        node_results.chosen_event(RAIL, answer, claim(choosing()), encode)


@pytest.mark.parametrize("default", ["card", None])
def test_an_answer_that_names_no_case_goes_where_the_default_leads(default: str | None) -> None:
    node = replace(RAIL, default=default)
    held = claim(choosing())
    assert node_results.chosen_event(node, "gold", held, encode) == Chosen('"gold"', default, NOW)
    assert node_results.chosen_event(node, None, held, encode) == Chosen("null", default, NOW)
    assert node_results.chosen_event(node, "wire", held, encode) == Chosen('"wire"', "wire", NOW)


def test_an_answer_without_json_is_refused_even_where_there_is_a_default() -> None:
    with pytest.raises(NotSerializable, match="the answer of rail#route"):
        node_results.chosen_event(
            replace(RAIL, default="card"), object(), claim(choosing()), encode
        )


PARIS = timezone(timedelta(hours=1))


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [
        (0, 0.0),
        (90, 90.0),
        (0.5, 0.5),
        (timedelta(hours=1), 3600.0),
        (NOW + timedelta(minutes=1), 60.0),
        ((NOW + timedelta(minutes=1)).astimezone(PARIS), 60.0),
        (NOW - timedelta(minutes=1), -60.0),
        (LONGEST, LONGEST),
    ],
)
def test_a_sleep_is_as_long_as_its_duration_or_until_its_time(
    duration: object, seconds: float
) -> None:
    assert node_results.sleep_event(COOLDOWN, duration, claim(at("cooldown"))) == SleepRequested(
        seconds, NOW
    )


@pytest.mark.parametrize(
    "duration",
    [
        *(-1, -0.1, timedelta(seconds=-1), float("nan"), float("inf"), 2 * LONGEST),
        *(
            datetime.max.replace(tzinfo=UTC),
            datetime.max.replace(tzinfo=timezone(timedelta(1) / -2)),
        ),
    ],
    ids=str,
)
def test_a_duration_that_no_clock_reaches_is_refused(duration: object) -> None:
    with pytest.raises(ValueError, match="The duration of 'cooldown' is"):
        node_results.sleep_event(COOLDOWN, duration, claim(at("cooldown")))


@pytest.mark.parametrize("duration", [None, "1h", True, [1]], ids=repr)
def test_a_duration_that_is_no_time_is_refused_with_its_type(duration: object) -> None:
    with pytest.raises(TypeError, match=f"The duration of 'cooldown' is {type(duration).__name__}"):
        node_results.sleep_event(COOLDOWN, duration, claim(at("cooldown")))


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="without a time zone; return an aware one"):
        node_results.sleep_event(COOLDOWN, datetime(2026, 3, 1), claim(at("cooldown")))  # noqa: DTZ001
