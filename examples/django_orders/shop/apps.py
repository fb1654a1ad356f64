"""Connects the store when Django starts, and creates its tables when Django creates its own."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.db.models.signals import post_migrate

from mintkey import connect


def create_tables(**_: Any) -> None:
    """Create the tables of mintkey, as a part of `manage.py migrate`."""
    from .orders import Order

    Order.create_table()


class ShopConfig(AppConfig):
    """The app `shop`."""

    name = "shop"

    def ready(self) -> None:
        """Connect. The first request opens the connection."""
        connect(settings.MINTKEY_URL)
        post_migrate.connect(create_tables, sender=self)
