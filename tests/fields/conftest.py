"""The fields run on the stores, and in the two worlds, of the behaviour suite."""

from __future__ import annotations

import logging

import pytest
from tests.behaviour.conftest import clock, do, store, url

__all__ = ["clock", "do", "store", "url"]


@pytest.fixture
def logged(caplog):
    caplog.set_level(logging.ERROR, logger="mintkey.fields")

    def messages():
        return [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "mintkey.fields"]

    return messages
