"""The views."""

from __future__ import annotations

from django.db import transaction
from django.db.models import F
from django.http import HttpRequest, JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.csrf import csrf_exempt

from mintkey.errors import InvalidValue

from .forms import OrderForm
from .models import Customer
from .orders import Order


@csrf_exempt
def orders(request: HttpRequest, key: str) -> JsonResponse:
    """List the orders of a customer, or add one."""
    customer = get_object_or_404(Customer, pk=key)
    if request.method != "POST":
        found = Order.query(customer=customer.pk, descending=True)
        return JsonResponse([order.to_dict(mode="json") for order in found], safe=False)
    form = OrderForm(request.POST)
    if not form.is_valid():
        return JsonResponse(form.errors, status=400)
    order = Order(customer=customer.pk, **form.cleaned_data)
    try:
        with transaction.atomic():
            Customer.objects.filter(pk=customer.pk).update(orders=F("orders") + 1)
            # Last in the block: if the store refuses the order, the database does not count it.
            order.save()
    except InvalidValue as error:
        form.add_error(error.attribute if error.attribute in form.fields else None, str(error))
        return JsonResponse(form.errors, status=400)
    return JsonResponse(order.to_dict(mode="json"), status=201)


async def newest(_request: HttpRequest, key: str) -> JsonResponse:
    """Return the newest order of a customer."""
    order = await Order.aquery(customer=key, descending=True).afirst()
    return JsonResponse(None if order is None else order.to_dict(mode="json"), safe=False)
