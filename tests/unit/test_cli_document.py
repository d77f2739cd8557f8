"""Values as `--json` prints them."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import given

from celery_durable.view.document import as_json
from tests.unit.shapes import Address, Color, Customer, Extensible, Level, Point, Shade
from tests.unit.storable import values


@given(values)
def test_every_value_that_can_be_stored_can_be_printed(value: object) -> None:
    text = as_json(value)
    json.loads(text.encode())


def test_text_is_printed_as_it_is_but_for_what_moves_a_cursor_or_is_no_text() -> None:
    assert as_json("größe 日本 😀 a\u200cb") == '"größe 日本 😀 a\u200cb"'
    value = {"\ud800": "\x9b2J \u202e \x7f \u2028", ("ö",): "\x1b"}
    assert as_json(value).isprintable() is False  # its line ends
    assert as_json(value, indent=None).isprintable()
    assert json.loads(as_json(value)) == {"\ud800": value["\ud800"], '["ö"]': "\x1b"}


def test_values_are_printed_plainly() -> None:
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    value = {
        "enums": (Color.RED, Level.HIGH, Shade.DARK),
        "set": {2, 1},
        "bytes": b"a",
        "times": [noon, noon.date(), timedelta(minutes=1)],
        "objects": [Address("x"), Point(1, 2), Customer(fullName="Ada", address=Address("y"))],
        "more": Extensible.model_validate({"name": "a", "b": Decimal("1.0")}),
        Level.HIGH: {(1, 2): 1, None: 2, True: 3},
    }
    assert json.loads(as_json(value)) == {
        "enums": ["red", 3, "DARK"],
        "set": [1, 2],
        "bytes": "YQ==",
        "times": ["2026-03-01T12:00:00+00:00", "2026-03-01", 60.0],
        "objects": [
            {"street": "x", "zip": None},
            {"x": 1, "y": 2},
            {"name": "Ada", "address": {"street": "y", "zip": None}},
        ],
        "more": {"name": "a", "b": "1.0"},
        "3": {"[1, 2]": 1, "null": 2, "true": 3},
    }
