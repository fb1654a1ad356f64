"""The paths of the service."""

from __future__ import annotations

from django.urls import path

from . import views

urlpatterns = [
    path("customers/<str:key>/orders", views.orders),
    path("customers/<str:key>/newest", views.newest),
]
