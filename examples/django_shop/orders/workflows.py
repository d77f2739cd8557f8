"""What becomes of an order. Django imports this module in each process that is set up."""

from datetime import timedelta

from shop.celery import durable

from celery_durable.contrib.django import shared_step
from orders.models import Order, Parcel


@shared_step
def reserve(ctx):
    """An ordinary step: it is repeated if its worker dies, so what it does is repeatable."""
    order = Order.objects.get(pk=ctx.input["order"])
    return {"reservation": f"{order.item}-{ctx.idempotency_key}"}


@shared_step(transactional=True)
def ship(ctx):
    """A transactional step: what the ORM does here is committed with the step, once."""
    order = Order.objects.select_for_update().get(pk=ctx.input["order"])
    order.status = Order.Status.SHIPPED
    order.save()
    parcel = Parcel.objects.create(order=order, label=ctx.results["reserve"]["reservation"])
    return {"parcel": parcel.pk}


fulfil = (
    durable.workflow("fulfil")
    .step(reserve)
    .wait_for_signal("paid", timeout=timedelta(days=7))
    .step(ship)
)
