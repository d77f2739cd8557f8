import json

from django.http import JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from shop.celery import durable

from celery_durable import RunError
from orders.models import Order
from orders.workflows import fulfil


@csrf_exempt
@require_POST
def place(request):
    """Place an order. Its run is started in the transaction of this request, or not at all."""
    order = Order.objects.create(item=json.loads(request.body)["item"])
    run = fulfil.start({"order": order.pk}, key=f"order-{order.pk}")
    return JsonResponse({"order": order.pk, "run": str(run.id)}, status=201)


@csrf_exempt
@require_POST
def paid(request):
    """Called by the payment provider, perhaps twice: the payment's id is the key of the signal."""
    payment = json.loads(request.body)
    try:
        run = durable.run(workflow="fulfil", key=f"order-{payment['order']}")
    except RunError:
        return JsonResponse({"error": "no such order"}, status=404)
    Order.objects.filter(pk=payment["order"]).update(status=Order.Status.PAID)
    run.resume("paid", {"payment": payment["id"]}, key=payment["id"])
    return JsonResponse({"order": payment["order"]})
