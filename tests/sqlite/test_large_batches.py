"""Batches commit large chunks: what they report is stored, whatever ends them."""

from __future__ import annotations

import pytest

from mintkey import AutoGenerate, Model, connect
from mintkey.attributes import NumberAttribute, StringAttribute
from mintkey.errors import BatchIncomplete, UniqueViolation
from mintkey.operations import batches


class Row(Model):
    pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    n = NumberAttribute(index=True)
    who = StringAttribute()


class User(Model):
    pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    email = StringAttribute(unique=True)


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """Each chunk is as large as it can be, however long the one before took."""
    monkeypatch.setattr(batches, "_SECONDS", 1e9)
    monkeypatch.setattr(batches, "_AWAITED_SECONDS", 1e9)


def test_what_is_reported_is_committed(store):
    seen = []
    assert (
        Row.batch_save((Row(n=n) for n in range(4_200)), on_progress=lambda *made: seen.append((made, Row.count())))
        == 4_200
    )
    assert [made for made, _ in seen] == [(done, None) for done in (*range(500, 4_001, 500), 4_200)]
    assert [count for _, count in seen] == [500, *[1_500] * 2, *[3_500] * 4, *[4_200] * 2]


async def test_awaited_batches_report_in_the_same_way(store):
    async def source():
        for n in range(2_000):
            yield Row(n=n)

    seen = []
    assert await Row.abatch_save(source(), on_progress=lambda *made: seen.append((made[0], Row.count()))) == 2_000
    assert seen == [(500, 500), (1_000, 1_500), (1_500, 1_500), (2_000, 2_000)]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_a_source_that_fails_in_a_large_chunk(store, failure):
    items = [Row(n=n) for n in range(3_000)]

    def source():
        yield from items[:2_700]
        raise failure("no more")

    seen = []
    with pytest.raises(failure, match="no more"):
        Row.batch_save(source(), on_progress=lambda done, total: seen.append(done))
    assert seen == [500, 1_000, 1_500, 2_000, 2_500]
    assert [item.n for item in items if not item.is_dirty] == list(range(2_500))
    assert Row.batch_save(items) == 3_000
    assert {row.n for row in Row.scan()} == set(range(3_000))


async def test_an_awaited_source_that_fails_in_a_large_chunk(store):
    async def source():
        for n in range(1_300):
            yield Row(n=n)
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        await Row.abatch_save(source())
    assert await Row.acount() == 1_000


def test_a_value_that_is_taken_fails_alone_in_a_large_chunk(store):
    users = [User(email=f"{3 if n == 1_700 else n}@example.com") for n in range(2_000)]
    with pytest.raises(BatchIncomplete) as caught:
        User.batch_save(users)
    assert [(user, type(reason)) for user, reason in caught.value.failed] == [(users[1_700], UniqueViolation)]
    assert caught.value.written == User.count() == 1_999


def test_what_was_reported_survives_kill_minus_nine(store, start):
    program = start("""
from mintkey.operations import batches
batches._SECONDS = 1e9
Row.batch_save((Row(n=n) for n in range(10_000_000)), on_progress=lambda done, total: print(done, flush=True))
""")
    done = 0
    while done < 4_000:
        done = int(program.stdout.readline())
    program.kill()
    # The last line may be incomplete.
    lines = program.stdout.read().splitlines(keepends=True)
    done = max([done, *(int(line) for line in lines if line.endswith("\n"))])
    program.wait()
    assert Row.count() >= done


def test_a_source_may_fork_in_a_large_chunk(program):
    assert (
        program("""
from mintkey.operations import batches
batches._SECONDS = 1e9
def source():
    for n in range(4_000):
        if n % 1_000 == 900:
            child = os.fork()
            if child == 0:
                Row(n=-1).save()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        yield Row(n=n)
print(Row.batch_save(source()), Row.count())
""")
        == "4000 4004\n"
    )


def test_a_short_timeout_keeps_chunks_small(url):
    assert connect(f"{url}?timeout=0.9", name="hasty").largest_batch == 500
    assert connect(url, name="patient").largest_batch == 10_000
