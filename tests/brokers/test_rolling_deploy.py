"""Workers of several releases at once (P10)."""

import pytest

from tests.apps.shop import VERSION
from tests.brokers.shop import Shop

pytestmark = pytest.mark.usefixtures("shift")


def test_a_run_of_an_unknown_version_is_left_to_a_worker_that_knows_it(shop: Shop) -> None:
    old = shop.worker()
    known, unknown = shop.start(), shop.durable.start("order", {}, version=2)
    known.result(timeout=30)
    old.wait_for_log("workflow 'order' version 2 is not known to this worker (versions known: 1)")
    assert unknown.status().status == "running"
    assert shop.ledger(unknown) == []
    assert old.logs().count("is left to other workers") <= 2  # each child says it once
    assert "Traceback" not in old.logs()
    old.kill()  # beside it, each offer of the run would be anybody's to take
    new = shop.worker(env={VERSION: "2"})
    unknown.result(timeout=60)
    assert {entry.pid for entry in shop.ledger(unknown)} <= {*new.children()}
    assert [(entry.unit, entry.attempt) for entry in unknown.history()] == [
        ("reserve", 1),
        ("charge", 1),
        ("ship", 1),
    ]


@pytest.mark.parametrize("shop", ["redis"], indirect=True)
def test_the_plans_of_a_worker_are_stored_when_it_starts(shop: Shop) -> None:
    """So that a process which imports no workflow can start one."""
    shop.query("DELETE FROM durable_definition")
    shop.worker(env={VERSION: "2"})
    stored = shop.query("SELECT workflow, version FROM durable_definition ORDER BY 1, 2")
    assert stored == [("booking", 1), ("order", 1), ("order", 2), ("stocktaking", 1)]
