"""How many hints share a message, and which."""

from __future__ import annotations

from collections import Counter
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_durable.background.bundling import CROWDED_FROM, bundled, size_of
from celery_durable.background.relay import Published, of_rows
from celery_durable.store.due import DueMessage
from celery_durable.store.outbox import ADVANCE, COMPENSATE


def hint(id: int, queue: str = "q", priority: int = 0, **values: Any) -> DueMessage:
    options = {"queue": queue, "priority": priority, "shadow": f"w.s{id}"}
    defaults = {"task": ADVANCE, "args": [str(uuid4())], "kwargs": {}, "tries": 0}
    return DueMessage(id=id, options=options, **{**defaults, "token_id": uuid4(), **values})


@pytest.mark.parametrize(
    ("due", "slots", "size"),
    [
        (1, 1, 1),
        (3, 1, 1),
        (4, 1, 2),
        (7, 2, 1),
        (8, 2, 2),
        (64, 2, 16),
        (1000, 2, 16),
        (1000, 100, 5),
        (10, 0, 5),
    ],
)
def test_every_slot_gets_two_messages(due: int, slots: int, size: int) -> None:
    assert size_of(16, due, slots) == size


def test_a_bundle_names_tokens_in_the_order_in_which_they_are_due() -> None:
    hints = [hint(n) for n in range(5)]
    first, second, third = bundled(hints, {("q", False): 2})

    assert [first.args, second.args] == [
        [*hints[0].args, *hints[1].args],
        [*hints[2].args, *hints[3].args],
    ]
    assert (first.id, first.others) == (0, (1,))
    assert third is hints[4]


def test_a_bundle_is_shown_by_its_first_token_and_how_many_more() -> None:
    (made,) = bundled([hint(1), hint(2), hint(3)], {("q", False): 3})
    assert made.options == {"queue": "q", "priority": 0, "shadow": "w.s1 +2"}


@pytest.mark.parametrize(
    "alone",
    [
        hint(1, single=True),
        hint(1, task=COMPENSATE),
        hint(1, tries=1),
        hint(1, args=[str(uuid4()), str(uuid4())]),
        hint(1, task="shop.tasks.mail", token_id=None, args=[]),
    ],
)
def test_what_is_sent_alone(alone: DueMessage) -> None:
    """A suspect, a unit with a limit or that is slow; a rollback; what was refused; a chunk."""
    assert alone in bundled([alone, hint(2), hint(3)], {("q", False): 16})


queues = st.sampled_from(["a", "b"])
priorities = st.integers(0, 2)


@given(
    st.lists(st.tuples(queues, priorities, st.booleans()), max_size=40),
    st.fixed_dictionaries({"a": st.integers(1, 5), "b": st.integers(1, 5)}),
)
def test_every_hint_is_in_one_message_of_its_queue_and_priority(
    rows: list[tuple[str, int, bool]], sizes: dict[str, int]
) -> None:
    hints = [
        hint(n, queue, priority, single=single) for n, (queue, priority, single) in enumerate(rows)
    ]
    made = bundled(hints, {(queue, False): size for queue, size in sizes.items()})

    by_token = {one.args[0]: one for one in hints}
    named = Counter(token for message in made for token in message.args)
    assert named == Counter(by_token.keys())
    for message in made:
        of_message = [by_token[token] for token in message.args]
        assert [one.id for one in of_message] == [message.id, *message.others]
        assert len({(one.queue, one.options["priority"]) for one in of_message}) == 1
        assert len(of_message) <= sizes[message.queue or ""]
        assert len(of_message) == 1 or not any(one.single for one in of_message)


def test_the_branches_of_a_large_map_share_larger_messages() -> None:
    """A crowd is in lanes of its own; what is before it of its run is no crowd yet."""
    few, many = [hint(n) for n in range(4)], [hint(n, crowd=CROWDED_FROM) for n in range(4, 12)]
    made = bundled([*few, *many], {("q", False): 2, ("q", True): 8})
    assert [len(message.args) for message in made] == [2, 2, 8]


def test_what_is_told_of_a_message_is_told_of_all_its_rows() -> None:
    messages = bundled([hint(n) for n in range(1, 6)], {("q", False): 2})
    published = of_rows(Published([1], {3: "too large"}, {"q": "full"}), messages)

    assert (published.sent, published.refused) == ([1, 2], {3: "too large", 4: "too large"})
    assert published.full == {"q": "full"}
