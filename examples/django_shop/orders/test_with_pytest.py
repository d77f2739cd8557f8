from datetime import timedelta

import pytest

from celery_durable import RunFailed
from celery_durable.contrib.django import get_durable
from orders.models import Order
from orders.workflows import fulfil


@pytest.mark.django_db
def test_a_run_is_rolled_back_with_the_test():
    order = Order.objects.create(item="lamp")
    run = fulfil.start({"order": order.pk}, key="one")
    assert run.status().status == "running"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("time", ["first", "second"])
def test_a_transactional_test_begins_without_runs(time):
    assert get_durable().list() == []
    fulfil.start({"order": 1}, key="one")
    assert len(get_durable().list()) == 1


@pytest.mark.django_db(transaction=True)
def test_an_order_that_nobody_pays_is_not_shipped(client, durable_harness):
    placed = client.post("/orders/", {"item": "lamp"}, content_type="application/json").json()
    run = durable_harness.handle(placed["run"])
    durable_harness.advance(timedelta(days=8))
    with pytest.raises(RunFailed, match="SignalTimeout"):
        run.result()
    assert Order.objects.get().status == Order.Status.PLACED
