"""Rate limits on DynamoDB: they count what the service counts, and hear of throttling that the store sits out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.behaviour.conftest import Do
from tests.failures import proxies as proxy
from tests.failures.proxies import HttpProxy

from mintkey import AutoGenerate, Model, ModelConfig, connect
from mintkey.attributes import NumberAttribute, StringAttribute
from mintkey.errors import ConditionFailed, Throttled
from mintkey.rate_limit import AdaptiveRate, FixedRate


class Row(Model):
    model_config = ModelConfig(table="rows")

    pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    n = NumberAttribute(index=True)
    text = StringAttribute()


@pytest.fixture(params=[True, False], ids=["blocking", "async"])
def do(request) -> Do:
    return Do(blocking=request.param)


@pytest.fixture
def between(endpoint) -> Iterator[HttpProxy]:
    place = urlsplit(endpoint)
    with HttpProxy((str(place.hostname), int(place.port or 80))) as entered:
        yield entered


@pytest.fixture
def url(between, prefix) -> str:
    url = f"dynamodb://us-east-1?endpoint=http://127.0.0.1:{between.port}&table_prefix={prefix}"
    with connect(url):
        Row.create_table()
    return url


def adaptive() -> AdaptiveRate:
    return AdaptiveRate(max_rcu=20_000, max_wcu=10_000)


async def test_throttling_that_was_sat_out_is_heard(do, between, url):
    limit = adaptive()
    with connect(url, rate_limit=limit):
        between.only = ["throttle", "throttle"]
        await do.save(Row(pk="a", n=1))
        assert between.seen[-3:] == ["throttle", "throttle", ""]
        assert (limit.throttle_count, limit.current_wcu, limit.current_rcu) == (1, 4_000, 10_000)
        between.only = ["throttle"]
        assert (await do.get(Row, pk="a")).n == 1
        assert (limit.throttle_count, limit.current_wcu, limit.current_rcu) == (2, 4_000, 8_000)
        await do.save(Row(pk="b", n=1))
        assert limit.throttle_count == 2


async def test_throttling_before_another_failure_is_heard(do, between, url):
    limit = adaptive()
    with connect(url, rate_limit=limit):
        await do.save(Row(pk="a", n=1))
        between.only = ["throttle"]
        with pytest.raises(ConditionFailed):
            await do.update_by_key(Row, {"pk": "a"}, n=2, condition=Row.n == 7)
        assert (limit.throttle_count, limit.current_wcu) == (1, 4_000)
        between.only = ["throttle"] * 10
        with pytest.raises(Throttled, match=r"slow down \(rate_limit=\), or raise the table's capacity"):
            await do.save(Row(pk="b", n=1))
        assert (limit.throttle_count, limit.current_wcu) == (2, 3_200)


async def test_what_a_batch_had_no_room_for_is_heard(do, between, url):
    limit = adaptive()
    with connect(url, rate_limit=limit):
        between.only = ["unprocessed"]
        await do.batch_save(Row, [Row(n=n) for n in range(20)])
        assert await do.count(Row) == 20
        assert (limit.throttle_count, limit.current_wcu) == (1, 4_000)


async def test_units_are_those_of_the_service(do, url):
    limit = FixedRate(rcu=100_000, wcu=100_000)
    with connect(url, rate_limit=limit):
        big = Row(pk="big", text="x" * 3_000)
        await do.save(big)
        assert limit.consumed_wcu == 3
        # One unit more for the entry in the index.
        await do.save(Row(pk="a", n=1))
        assert limit.consumed_wcu == 5
        await do.update(big, n=2)
        assert limit.consumed_wcu > 8
        limit.reset()
        assert await do.get(Row, pk="nothing") is None
        assert limit.consumed_rcu == 0.5
        await do.get(Row, pk="big", consistent=True)
        assert limit.consumed_rcu == 1.5
        limit.reset()
        await do.batch_save(Row, [Row(text="x" * 3_500) for _ in range(60)])
        assert limit.consumed_wcu == 240
        limit.reset()
        # A filter leaves nothing over, and everything was read for it.
        assert await do.all(do.scan(Row, Row.text == "none")) == []
        assert 25 <= limit.consumed_rcu <= 40
        limit.reset()
        assert await do.count(Row, segments=4) == 62
        assert 25 <= limit.consumed_rcu <= 40
        limit.reset()
        keys = [{"pk": "a"}, {"pk": "big"}]
        found: list[Any] = list(Row.batch_get(keys)) if do.blocking else [row async for row in Row.abatch_get(keys)]
        assert [row.pk for row in found] == ["a", "big"]
        assert limit.consumed_rcu == 1


async def test_nothing_is_asked_for_without_a_limit(do, url, monkeypatch):
    asked: list[bytes] = []
    read = proxy._message

    def noting(source: Any) -> tuple[bytes, bytes]:
        head, body = read(source)
        asked.append(body)
        return head, body

    monkeypatch.setattr(proxy, "_message", noting)
    with connect(url):
        await do.save(Row(pk="a", n=1))
        assert await do.count(Row) == 1
        await do.table_exists(Row)
    assert asked
    assert not any(b"ReturnConsumedCapacity" in body for body in asked)
