import json

from django.db import transaction
from django.test import TestCase, TransactionTestCase
from shop.celery import durable

from celery_durable.testing import Harness
from orders.models import Order
from orders.workflows import fulfil


class PlaceTests(TestCase):
    """The run is started in the test's transaction: nothing is left of it."""

    def test_an_order_and_its_run_are_placed_together(self):
        response = self.client.post("/orders/", {"item": "lamp"}, content_type="application/json")
        placed = response.json()
        self.assertEqual(response.status_code, 201)
        run = durable.run(placed["run"])
        self.assertEqual(run.status().input, {"order": placed["order"]})

    def test_the_webhook_of_an_unknown_order_is_refused(self):
        response = self.client.post(
            "/payments/webhook/", {"order": 7, "id": "p1"}, content_type="application/json"
        )
        self.assertEqual(response.status_code, 404)

    def test_a_payment_counts_once(self):
        placed = self.client.post(
            "/orders/", {"item": "lamp"}, content_type="application/json"
        ).json()
        for _ in range(2):
            response = self.client.post(
                "/payments/webhook/",
                {"order": placed["order"], "id": "p1"},
                content_type="application/json",
            )
            self.assertEqual(json.loads(response.content), {"order": placed["order"]})
        self.assertEqual(Order.objects.get().status, Order.Status.PAID)


class FulfilTests(TransactionTestCase):
    """Runs are executed in the thread of the test, in its database: no broker, no worker."""

    def test_an_order_is_shipped_once_it_is_paid(self):
        placed = self.client.post(
            "/orders/", {"item": "lamp"}, content_type="application/json"
        ).json()
        with Harness(durable) as harness:
            harness.drain()
            self.assertEqual(durable.run(placed["run"]).status().status, "suspended")
            self.client.post(
                "/payments/webhook/",
                {"order": placed["order"], "id": "p1"},
                content_type="application/json",
            )
            harness.handle(placed["run"]).result()
        self.assertEqual(Order.objects.get().status, Order.Status.SHIPPED)


class RollbackTests(TransactionTestCase):
    def test_a_transaction_that_is_rolled_back_starts_no_run(self):
        with transaction.atomic():
            order = Order.objects.create(item="lamp")
            fulfil.start({"order": order.pk})
            transaction.set_rollback(True)
        self.assertEqual(list(durable.list()), [])
