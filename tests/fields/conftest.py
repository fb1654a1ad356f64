"""The fields run on the stores, and in the two worlds, of the behaviour suite."""

from __future__ import annotations

from tests.behaviour.conftest import clock, do, store, url

__all__ = ["clock", "do", "store", "url"]
