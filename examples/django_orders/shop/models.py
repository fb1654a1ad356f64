"""The models of Django."""

from __future__ import annotations

from django.db import models

from mintkey.generators import ulid


class Customer(models.Model):
    """A customer."""

    id = models.CharField(primary_key=True, max_length=26, default=ulid)
    name = models.CharField(max_length=100)
    orders = models.IntegerField(default=0)

    def __str__(self) -> str:
        """Return the name."""
        return str(self.name)
