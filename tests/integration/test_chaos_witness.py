"""The witness of the chaos run sees what is committed, from outside."""

import os
from typing import Any, cast

import psycopg

from tests.addresses import conninfo
from tests.chaos.field import Field
from tests.chaos.witness import Witness
from tests.integration.driving import World, defining
from tests.waiting import wait_until


class Place:
    """As much of a `Field` as a witness needs."""

    def __init__(self, world: World) -> None:
        self._url = world.url

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(conninfo(self._url), autocommit=True)


def test_a_witness_sees_every_row_of_the_journal_and_every_death(world: World) -> None:
    durable = world.worker(defining([], "a", "b"))
    witness = Witness(cast("Field", Place(world)))
    witness.begin()
    try:
        for _ in range(3):
            durable.start_many("w", [{}] * 40)
            world.drain(durable)
        durable.liveness.leave()
        wait_until(lambda: len(witness.recorded) == 240, message="every row")
        wait_until(lambda: witness.deaths, message="the death")
    finally:
        witness.close()
    rows = world.rows("SELECT seq, run_id, unit FROM durable_journal")
    assert witness.recorded == {row["seq"]: (row["run_id"], row["unit"]) for row in rows}
    assert [pid for pid, _ in witness.deaths.values()] == [os.getpid()]
