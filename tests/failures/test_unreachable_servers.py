"""Servers that are not there, not yet there, or do not let in: typed errors, and no password in them."""

from __future__ import annotations

import runpy
import socket
import traceback
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.behaviour.conftest import Do, dynamodb_address, dynamodb_prefix, redis_address, redis_prefix
from tests.failures.proxies import ByteProxy, HttpProxy, Proxy
from tests.servers import redis

from mintkey import AutoGenerate, Model, ModelConfig, connect
from mintkey.attributes import NumberAttribute, StringAttribute
from mintkey.errors import BatchIncomplete, ConfigurationError, MintkeyError, StoreTimeout, StoreUnavailable

SERVERS = Path(__file__).parents[1] / "servers"
HUSH = "HUSH-password"


class Row(Model):
    model_config = ModelConfig(table="rows")

    pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    n = NumberAttribute()


@pytest.fixture(params=[True, False], ids=["blocking", "async"])
def do(request) -> Do:
    return Do(blocking=request.param)


@pytest.fixture(autouse=True)
def credentials(monkeypatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDSHOWN")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", HUSH)


def told(error: BaseException) -> str:
    """All that a log may show of an error."""
    return "".join(traceback.format_exception(error)) + repr(vars(error))


async def every_way(do: Do) -> list[MintkeyError]:
    """What is raised by each kind of request."""
    raised = []
    for ask in (
        lambda: do.save(Row(n=1)),
        lambda: do.create(Row, pk="a"),
        lambda: do.get(Row, pk="a"),
        lambda: do.update_by_key(Row, {"pk": "a"}, Row.n.add(1)),
        lambda: do.delete(Row(pk="a")),
        lambda: do.create_table(Row),
        lambda: do.count(Row),
        lambda: do.all(do.query(Row, pk="a")),
        lambda: do.table_exists(Row),
    ):
        with pytest.raises(MintkeyError) as caught:
            await ask()
        raised.append(caught.value)
        assert HUSH not in told(caught.value)
        assert caught.value.model == "Row"
        assert "Row" in str(caught.value)
    for error in raised[1:5]:
        assert error.key == {"pk": "a"}
        assert 'Row "a"' in str(error)
    # An error of a read says nothing about writing.
    for error in (raised[2], *raised[6:]):
        assert "writ" not in str(error).replace("write redis://", "")
    return raised


@pytest.mark.parametrize(
    "url",
    [
        "dynamodb://us-east-1?endpoint=http://no-such-host.invalid&retries=0",
        f"redis://user:{HUSH}@no-such-host.invalid:6379/0",
    ],
)
async def test_an_unknown_host(do, url):
    with connect(url):
        for error in await every_way(do):
            # Whoever looks names up may take longer to say no than a connection may take.
            assert isinstance(error, (StoreUnavailable, StoreTimeout))
            assert error.outcome == "not_applied"
            assert "no-such-host.invalid" in str(error)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:HUSH@127.0.0.1:{port}?prefix=shop&timeout=0.1",
        "dynamodb://us-east-1?endpoint=http://127.0.0.1:{port}&table_prefix=shop&timeout=0.1",
    ],
)
async def test_a_server_that_says_nothing(do, url):
    with socket.create_server(("127.0.0.1", 0)) as silent, connect(url.format(port=silent.getsockname()[1])):
        for error in await every_way(do):
            assert isinstance(error, StoreTimeout)
            assert "?timeout=" in str(error)
            assert str(error.store).endswith("prefix=shop")
            assert "HUSH" not in told(error)


async def test_a_server_that_does_not_encrypt(do):
    endpoint = dynamodb_address().replace("http://", "https://")
    with connect(f"dynamodb://us-east-1?endpoint={endpoint}&retries=0&timeout=20"):
        for ask in (lambda: do.save(Row(n=1)), lambda: do.get(Row, pk="a")):
            with pytest.raises(StoreUnavailable, match=r"write http instead of https in [?]endpoint=") as failure:
                await ask()
            assert failure.value.outcome == "not_applied"


BEHIND: dict[str, tuple[type[Proxy], Any, Any]] = {
    "dynamodb": (HttpProxy, dynamodb_address, dynamodb_prefix),
    "redis": (ByteProxy, redis_address, redis_prefix),
}


@pytest.mark.parametrize("name", BEHIND)
async def test_a_server_that_comes_later(do, name, tmp_path):
    kind, address, prefix = BEHIND[name]
    place = urlsplit(address())
    port = redis.free_port()
    smooth = prefix(tmp_path)
    with connect(smooth.replace(f":{place.port}", f":{port}")):
        item = Row(n=1)
        for error in await every_way(do):
            assert isinstance(error, StoreUnavailable)
            assert error.outcome == "not_applied"
            assert str(port) in str(error)
        with pytest.raises(StoreUnavailable):
            await do.save(item)
        key = item.pk
        with kind((str(place.hostname), int(place.port or 0)), port=port):
            await do.create_table(Row)
            await do.save(item)
            assert item.pk == key
            assert (await do.get(Row, pk=key)).n == 1
            assert await do.count(Row) == 1
        with pytest.raises(StoreUnavailable):
            await do.save(Row(n=2))


@pytest.mark.parametrize("fault", ["expired", "unknown key", "denied"])
async def test_credentials_that_do_not_do(do, fault, tmp_path):
    place = urlsplit(dynamodb_address())
    between = HttpProxy((str(place.hostname), int(place.port or 80)))
    with between, connect(dynamodb_prefix(tmp_path).replace(f":{place.port}", f":{between.port}")):
        await do.create_table(Row)
        between.only = [fault] * 100
        for error in await every_way(do):
            assert isinstance(error, ConfigurationError)
        between.only = []
        await do.save(Row(pk="a", n=1))
        # Credentials that have ended are looked for once more.
        between.only = ["expired"]
        assert (await do.get(Row, pk="a")).n == 1
        assert between.seen[-2:] == ["expired", ""]


async def test_a_proxy_that_answers_instead(do, tmp_path):
    place = urlsplit(dynamodb_address())
    between = HttpProxy((str(place.hostname), int(place.port or 80)))
    url = dynamodb_prefix(tmp_path).replace(f":{place.port}", f":{between.port}")
    with between, connect(f"{url}&retries=0"):
        await do.create_table(Row)
        between.only = ["page before"] * 100
        raised = await every_way(do)
        for error in raised:
            assert isinstance(error, StoreUnavailable)
            assert "the response is not DynamoDB's (status " in str(error) or "the server failed (status " in str(error)
        # The sixth looks whether the table is there before it changes anything.
        unknown = [isinstance(error, StoreUnavailable) and error.outcome == "unknown" for error in raised]
        assert unknown == [True, True, False, True, True, False, False, False, False]
        for rows in ([Row(n=1), Row(n=2)], [Row(pk="a", n=1), Row(pk="b", n=2)]):
            with pytest.raises(BatchIncomplete) as caught:
                await do.batch_save(Row, rows)
            reasons = [reason for _, reason in caught.value.failed if isinstance(reason, StoreUnavailable)]
            assert len(reasons) == len(rows)
            outcomes = {reason.outcome for reason in reasons}
            assert "unknown" in outcomes
            assert outcomes <= {"unknown", "not_applied"}
        between.only = []
        await do.save(Row(pk="a", n=1))


async def test_a_password_that_does_not_do(do):
    with runpy.run_path(str(SERVERS / "redis.py"))["server"]("--requirepass", "right") as address:
        port = urlsplit(address).port
        for url in (
            f"redis://:{HUSH}@127.0.0.1:{port}",
            f"redis://127.0.0.1:{port}",
            f"redis://me:{HUSH}@127.0.0.1:{port}",
        ):
            with connect(url):
                for error in await every_way(do):
                    assert isinstance(error, ConfigurationError), error
        with connect(f"redis://:right@127.0.0.1:{port}"):
            await do.save(Row(pk="a", n=1))
            assert await do.count(Row) == 1
