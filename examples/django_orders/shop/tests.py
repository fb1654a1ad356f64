"""Tests of the views. `MINTKEY_URL=sqlite:// python manage.py test shop` runs them."""

from __future__ import annotations

from django.test import TestCase

from mintkey import connect

from .models import Customer
from .orders import Order


class OrderTests(TestCase):
    """Django undoes what a test writes to the database. The store is a new one for each test."""

    def setUp(self) -> None:
        """Connect an empty store in memory."""
        self.addCleanup(connect("sqlite://").close)
        self.ada = Customer.objects.create(name="ada")

    def test_an_order_is_stored_and_counted(self) -> None:
        """Both databases have the order."""
        self.client.post(f"/customers/{self.ada.pk}/orders", {"total": "5"})
        self.ada.refresh_from_db()
        assert [order.total for order in Order.query(customer=self.ada.pk)] == [5]
        assert self.ada.orders == 1

    def test_a_refused_order_is_not_counted(self) -> None:
        """Neither database has the order."""
        self.client.post(f"/customers/{self.ada.pk}/orders", {"total": "-1"})
        self.ada.refresh_from_db()
        assert Order.count() == self.ada.orders == 0
