"""Servers that fail at every step: right answers or typed errors, nothing lost or written twice, no secret told."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.behaviour.conftest import PATIENCE, Do, dynamodb_address, dynamodb_prefix, redis_address, redis_prefix
from tests.failures.proxies import ByteProxy, HttpProxy, Proxy

from mintkey import AutoGenerate, Model, ModelConfig, connect
from mintkey.attributes import NumberAttribute, StringAttribute, VersionAttribute
from mintkey.errors import BatchIncomplete, MintkeyError, StoreTimeout, StoreUnavailable, Throttled

pytestmark = pytest.mark.slow

SECRETS = ["HUSH-secret-key", "HUSH-session-token"]
TRIES = 40


class Minted(Model):
    model_config = ModelConfig(table="minted")

    pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    n = NumberAttribute()


class Given(Model):
    model_config = ModelConfig(table="given")

    pk = StringAttribute(partition_key=True)
    n = NumberAttribute()


class Counted(Model):
    model_config = ModelConfig(table="counted")

    pk = StringAttribute(partition_key=True)
    n = NumberAttribute()
    version = VersionAttribute()


class Rough:
    """A store behind a proxy, and the way to the same server past it."""

    def __init__(self, between: Proxy, rough: str, smooth: str) -> None:
        self.between = between
        self.rough = rough
        self.smooth = smooth


def behind_http(folder: Any, seed: int) -> tuple[Proxy, str, str]:
    place = urlsplit(dynamodb_address())
    between = HttpProxy((str(place.hostname), int(place.port or 80)), seed, often=0.25)
    smooth = dynamodb_prefix(folder)
    rough = smooth.replace(f":{place.port}", f":{between.port}")
    return between, rough.replace(PATIENCE, "timeout=0.5"), smooth


def behind_bytes(folder: Any, seed: int) -> tuple[Proxy, str, str]:
    place = urlsplit(redis_address())
    between = ByteProxy((str(place.hostname), int(place.port or 6379)), seed, often=1.0)
    smooth = redis_prefix(folder)
    rough = smooth.replace(f":{place.port}", f":{between.port}")
    return between, rough.replace(PATIENCE, "timeout=0.5"), smooth


BEHIND: dict[str, Callable[[Any, int], tuple[Proxy, str, str]]] = {"dynamodb": behind_http, "redis": behind_bytes}


@pytest.fixture(params=BEHIND)
def behind(request, tmp_path, monkeypatch) -> Iterator[Callable[[int], Rough]]:
    """Makes a store behind a proxy with a seed; the tables are there."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDSHOWN")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRETS[0])
    monkeypatch.setenv("AWS_SESSION_TOKEN", SECRETS[1])
    entered: list[tuple[Proxy, str]] = []
    models = Minted, Given, Counted

    def make(seed: int) -> Rough:
        between, rough, smooth = BEHIND[request.param](tmp_path, seed)
        entered.append((between.__enter__(), smooth))
        with connect(smooth):
            for model in models:
                model.create_table()
        return Rough(between, rough, smooth)

    yield make
    for between, smooth in entered:
        between.__exit__(None, None, None)
        # The more tables DynamoDB Local has, the longer it takes to create one.
        with connect(smooth):
            for model in models:
                model.delete_table()


@pytest.fixture(params=[True, False], ids=["blocking", "async"])
def do(request) -> Do:
    return Do(blocking=request.param)


def check(error: BaseException) -> str:
    """An error is one that a caller can be told; gives its outcome."""
    told = f"{error!r} {error} {error.__cause__!r} {vars(error)}"
    assert not any(secret in told for secret in SECRETS), told
    if isinstance(error, Throttled):
        return "not_applied"
    assert isinstance(error, (StoreUnavailable, StoreTimeout)), told
    assert error.outcome in {"not_applied", "unknown"}
    return error.outcome


async def until_done(step: Callable[[], Awaitable[Any]]) -> list[str]:
    """Repeat a step until it succeeds; gives the outcomes of the failures."""
    outcomes: list[str] = []
    for _ in range(TRIES):
        try:
            await step()
        except MintkeyError as error:
            outcomes.append(check(error))
        else:
            return outcomes
    raise AssertionError(f"never done: {outcomes}")


class Program:
    """Random operations, and what must be in the store after them."""

    def __init__(self, do: Do, seed: int) -> None:
        self.do = do
        self.chance = random.Random(seed)
        self.minted: list[Minted] = []
        # What each row may hold now; None is no row.
        self.possible: dict[str, set[Any]] = {f"k{number}": {None} for number in range(4)}
        self.added = {"done": 0, "unknown": 0}
        self.counter: Counted | None = None
        self.steps = 0

    async def run(self, steps: int) -> None:
        actions = [self.insert, self.insert, self.put, self.delete, self.get, self.add, self.increment, self.batch]
        for self.steps in range(steps):
            await self.chance.choice(actions)()

    async def insert(self) -> None:
        """A minted key is never written twice, and never met by itself."""
        item = Minted(n=self.steps)
        await until_done(lambda: self.do.save(item))
        self.minted.append(item)

    async def batch(self) -> None:
        items = [Minted(n=number) for number in range(self.chance.randrange(1, 60))]
        try:
            await self.do.batch_save(Minted, items)
        except BatchIncomplete as error:
            incomplete = error
            assert incomplete.written + len(incomplete.failed) <= len(items)
            for _, reason in incomplete.failed:
                check(reason)
        for item in items:
            await until_done(lambda item=item: self.do.save(item))  # type: ignore[misc]
        self.minted += items

    async def put(self) -> None:
        key, value = self.chance.choice(list(self.possible)), self.steps
        try:
            await self.do.save(Given(pk=key, n=value))
        except MintkeyError as error:
            if check(error) == "unknown":
                self.possible[key] = self.possible[key] | {value}
        else:
            self.possible[key] = {value}

    async def delete(self) -> None:
        key = self.chance.choice(list(self.possible))
        try:
            await self.do.delete(Given(pk=key))
        except MintkeyError as error:
            if check(error) == "unknown":
                self.possible[key] = self.possible[key] | {None}
        else:
            self.possible[key] = {None}

    async def get(self) -> None:
        key = self.chance.choice(list(self.possible))
        found: list[Any] = []

        async def get() -> None:
            found.append(await self.do.get(Given, pk=key, consistent=True))

        assert set(await until_done(get)) <= {"not_applied"}
        assert (None if found[0] is None else found[0].n) in self.possible[key]

    async def add(self) -> None:
        try:
            await self.do.update_by_key(Given, {"pk": "sum"}, Given.n.add(1), upsert=True)
        except MintkeyError as error:
            self.added["unknown"] += check(error) == "unknown"
        else:
            self.added["done"] += 1

    async def increment(self) -> None:
        """A version is never in conflict with the write that it itself made."""
        if self.counter is None:
            self.counter = Counted(pk="c", n=0)
        else:
            self.counter.n = (self.counter.n or 0) + 1
        await until_done(lambda: self.do.save(self.counter))

    def verify(self) -> None:
        """Look at everything, past the proxy."""
        rows = {row.pk: row.n for row in Minted.scan()}
        assert rows == {item.pk: item.n for item in self.minted}
        for key, possible in self.possible.items():
            found = Given.get(pk=key, consistent=True)
            assert (None if found is None else found.n) in possible
        total = Given.get(pk="sum", consistent=True)
        counted = 0 if total is None else total.n or 0
        assert self.added["done"] <= counted <= self.added["done"] + self.added["unknown"]
        if self.counter is not None:
            stored = Counted.get(pk="c", consistent=True)
            assert stored is not None
            assert (stored.n, stored.version) == (self.counter.n, self.counter.version)


@pytest.mark.parametrize("seed", range(8))
async def test_no_fault_loses_repeats_or_tells_anything(behind, do, seed):
    place = behind(seed)
    program = Program(do, seed)
    with connect(place.rough) as store:
        await program.run(30)
        assert not any(secret in f"{store!r} {store.url}" for secret in SECRETS)
    assert any(place.between.seen)
    place.between.calm = True
    with connect(place.smooth):
        program.verify()


@pytest.mark.parametrize("seed", range(6))
async def test_a_long_batch_through_faults(behind, do, seed):
    place = behind(200 + seed)
    items = [Minted(n=number) for number in range(1_600)]
    keys: dict[int, str] = {}
    with connect(place.rough):
        # One chunk is prepared while another is on its way, and either may fail.
        for _ in range(TRIES):
            try:
                await do.batch_save(Minted, items)
            except BatchIncomplete as error:
                incomplete = error
                assert incomplete.written + len(incomplete.failed) <= len(items)
                for _, reason in incomplete.failed:
                    check(reason)
                for number, item in enumerate(items):
                    if item.pk is not None:
                        assert keys.setdefault(number, item.pk) == item.pk
            else:
                break
            place.between.often /= 2
        else:
            raise AssertionError("never done")
    assert any(place.between.seen)
    place.between.calm = True
    with connect(place.smooth):
        assert {row.pk: row.n for row in Minted.scan()} == {item.pk: item.n for item in items}


async def test_a_batch_that_stops_accounts_for_every_item(behind, do):
    place = behind(300)
    place.between.often = 0.0
    items = [Minted(n=number) for number in range(2_600)]

    def source() -> Iterator[Minted]:
        for item in items:
            if item.n == 1_100:
                place.between.vanish()
            yield item

    rest = source()
    with connect(place.rough):
        with pytest.raises(BatchIncomplete) as caught:
            await do.batch_save(Minted, rest)
        for _, reason in caught.value.failed:
            check(reason)
    # On a busy machine a request before the end of the proxy may end with its timeout, too.
    assert 0 < caught.value.written <= 1_100
    again = [item for item, _ in caught.value.failed] + list(rest)
    assert len({item.n for item in again}) == len(again) == 2_600 - caught.value.written
    with connect(place.smooth):
        assert await do.batch_save(Minted, again) == len(again)
        assert {row.pk: row.n for row in Minted.scan()} == {item.pk: item.n for item in items}


@pytest.mark.parametrize("seed", range(3))
async def test_many_at_once_through_faults(behind, seed):
    place = behind(100 + seed)
    with connect(place.rough):
        items = [Minted(n=number) for number in range(60)]

        async def save(item: Minted) -> None:
            await until_done(item.asave)

        await asyncio.gather(*(save(item) for item in items))
    place.between.calm = True
    with connect(place.smooth):
        assert {row.pk: row.n for row in Minted.scan()} == {item.pk: item.n for item in items}
