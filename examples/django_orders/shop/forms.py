"""The forms."""

from __future__ import annotations

from django import forms


class OrderForm(forms.Form):
    """The values of an order that a customer may choose."""

    total = forms.DecimalField()
    note = forms.CharField(required=False, empty_value=None)
