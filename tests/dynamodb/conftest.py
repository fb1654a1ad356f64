"""A DynamoDB server, for what only DynamoDB has: other programs on the same tables, its own judgement of conditions."""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from tests.behaviour.conftest import PATIENCE, dynamodb_address

from mintkey import Store, connect


@pytest.fixture(scope="session")
def endpoint() -> str:
    """The server's address."""
    return dynamodb_address()


@pytest.fixture
def prefix() -> str:
    """What the names of a test's tables begin with."""
    return f"{uuid.uuid4()}-"


@pytest.fixture
def store(endpoint, prefix) -> Iterator[Store]:
    """A store of its own tables, connected as the default one."""
    with connect(f"dynamodb://us-east-1?endpoint={endpoint}&table_prefix={prefix}&{PATIENCE}") as opened:
        yield opened


def boto(endpoint: str) -> Any:
    """What boto3 knows as the service; it is told everything, and so asks nobody."""
    with warnings.catch_warnings():
        # It announces the end of its support for old versions of Python.
        warnings.simplefilter("ignore")
        return boto3.resource(
            "dynamodb",
            region_name="us-east-1",
            endpoint_url=endpoint,
            aws_access_key_id="key",
            aws_secret_access_key="secret",
            config=Config(retries={"total_max_attempts": 1}),
        )


@pytest.fixture
def service(endpoint) -> Iterator[Any]:
    """The same server through boto3."""
    opened = boto(endpoint)
    yield opened
    opened.meta.client.close()
