"""Index keys from templates: they follow their parts, whatever changes these."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import mintkey
from mintkey import AutoGenerate, Index, Model, ModelConfig
from mintkey.attributes import (
    DatetimeAttribute,
    NumberAttribute,
    StringAttribute,
)
from mintkey.errors import (
    ConditionFailed,
    InvalidValue,
    ItemGone,
)
from mintkey.pipelines import pipeline
from mintkey.testing import frozen


class Task(Model):
    model_config = ModelConfig(table="tasks")
    pk = StringAttribute(partition_key=True, template="TASK#{id}")
    id = StringAttribute()
    status = StringAttribute()
    owner = StringAttribute()
    n = NumberAttribute()
    changed_at = DatetimeAttribute(on_update=AutoGenerate.ISO8601_MS)
    board = StringAttribute(template="{owner}#{status}")
    rank = StringAttribute(template="{n:04d}#{id}")
    latest = StringAttribute(template="{changed_at}")
    by_board = Index("board", "rank", name="board-index")
    by_time = Index("board", "latest", projection="keys")


async def ranked(do: Any, owner: str, status: str) -> list[tuple[Any, Any]]:
    """The tasks that the index holds, in its order."""
    found = await do.all(Task.by_board.query(owner=owner, status=status))
    return [(task.id, task.n) for task in found]


async def test_index_keys_follow_their_parts(do):
    first = Task(id="1", status="open", owner="ada", n=20)
    await do.save(first)
    await do.save(Task(id="2", status="open", owner="ada", n=3))
    await do.save(Task(id="3", status="open", owner="ada"))
    await do.save(Task(id="4", status="", owner="ada", n=1))
    assert await ranked(do, "ada", "open") == [("2", 3), ("1", 20)]
    assert [task.id for task in await do.all(Task.by_board.query(owner="ada", status="open", n=3))] == ["2"]
    plan = do.query(Task, index="board-index", owner="ada", status="open", n=3).explain()
    assert plan == (
        "query of index 'board-index' of table 'tasks'; partition 'ada#open'; rank begins_with '0003#'; "
        "filter: Task.pk.begins_with('TASK#')"
    )
    with pytest.raises(TypeError, match=r"the index 'board-index' needs owner\+status=…"):
        do.query(Task, index="board-index", owner="ada")
    for index in (None, "board-index"):
        with pytest.raises(InvalidValue, match=r"Task\.owner: board is built from it .* cannot be empty"):
            do.query(Task, index=index, owner="", status="open")
    first.status = "done"
    assert first.board == "ada#done"
    assert first.changed == {"status", "board"}
    await do.save(first)
    assert await ranked(do, "ada", "open") == [("2", 3)]
    assert await ranked(do, "ada", "done") == [("1", 20)]
    first.owner = None
    await do.save(first)
    assert first.board is None
    assert await ranked(do, "ada", "done") == []
    with pytest.raises(InvalidValue, match=r"Task\.n: .*does not fit the format"):
        await do.save(Task(id="5", n=-1))
    with pytest.raises(InvalidValue, match=r"Task\.owner: .* cannot be separated from '#'"):
        await do.save(Task(id="5", owner="a#b", status="open"))
    assert (await do.get(Task, id="5")) is None


async def test_updates_build_index_keys_again(do):
    task = await do.create(Task, id="1", status="open", owner="ada", n=1)
    await do.update(task, status="done")
    assert (task.board, await ranked(do, "ada", "done")) == ("ada#done", [("1", 1)])
    await do.update(task, Task.n.add(4))
    assert (task.rank, task.n) == ("0005#1", 5)
    await do.update_by_key(Task, "1", owner="bob")
    assert await ranked(do, "bob", "done") == [("1", 5)]
    await do.update_by_key(Task, "1", Task.n.add(1), owner="cy", status="new")
    assert await ranked(do, "cy", "new") == [("1", 6)]
    # The instance is out of date: the parts of the stored row count.
    await do.update(task, status="old")
    assert await ranked(do, "cy", "old") == [("1", 6)]
    await do.update(task, status=None)
    assert await ranked(do, "cy", "old") == []
    stored = await do.get(Task, id="1")
    assert (stored.board, stored.rank, stored.owner) == (None, "0006#1", "cy")
    before = stored.latest
    with frozen("2100-01-01T00:00:00Z"):
        await do.update_by_key(Task, "1", status="end")
    stored = await do.get(Task, id="1")
    assert stored.latest == "2100-01-01T00:00:00.000000+00:00" != before
    assert [one.id for one in await do.all(Task.by_time.query(owner="cy", status="end"))] == ["1"]
    with pytest.raises(InvalidValue, match=r"Task\.board: the value is built for each item: change owner or status"):
        await do.update(task, board="x")
    with pytest.raises(InvalidValue, match=r"Task\.n: .*does not fit the format"):
        await do.update_by_key(Task, "1", Task.n.add(9999))
    assert (await do.get(Task, id="1")).n == 6


async def test_rows_of_programs_that_write_no_index_keys(do, raw):
    assert await do.count(Task) == 0  # the table is created with its indexes
    other = raw(Task, id=StringAttribute(), status=StringAttribute(), owner=StringAttribute(), n=NumberAttribute())
    await do.save(other(pk="TASK#1", id="1", status="open", owner="ada", n=1))
    assert await ranked(do, "ada", "open") == []
    (task,) = await do.all(do.scan(Task))
    assert task.changed == {"board", "rank"}
    await do.save(task)
    assert await ranked(do, "ada", "open") == [("1", 1)]
    assert not task.is_dirty


async def test_index_keys_of_generated_parts(do):
    task = await do.create(Task, id="1", status="open", owner="ada", n=1)
    assert task.latest is None
    task.n = 2
    await do.save(task)
    first = await do.get(Task, id="1")
    assert first == task
    assert first.latest == task.latest is not None
    assert first.latest.startswith(first.changed_at.isoformat()[:19])
    # Nothing is written without a change.
    await do.save(task)
    assert await do.get(Task, id="1") == first
    (part,) = await do.all(do.scan(Task, attributes=["owner"]))
    await do.save(part)
    assert await do.get(Task, id="1") == first
    (part,) = await do.all(do.scan(Task, attributes=["n"]))
    part.n = 3
    with frozen("2100-01-01T00:00:00Z"):
        await do.save(part)
    assert (await do.get(Task, id="1")).latest > first.latest


async def test_conditions_and_missing_rows_of_such_updates(do):
    await do.create(Task, id="1", status="open", owner="ada", n=1)
    with pytest.raises(ConditionFailed):
        await do.update_by_key(Task, "1", condition=Task.n > 5, status="done")
    await do.update_by_key(Task, "1", condition=Task.n == 1, status="done")
    assert await ranked(do, "ada", "done") == [("1", 1)]
    with pytest.raises(ItemGone):
        await do.update_by_key(Task, "2", status="done")
    await do.update_by_key(Task, "2", Task.n.add(7), upsert=True, status="done", owner="ada")
    assert await ranked(do, "ada", "done") == [("1", 1), ("2", 7)]
    fresh = Task(id="3", owner="ada")
    await do.update(fresh, upsert=True, status="done", n=4)
    assert await ranked(do, "ada", "done") == [("1", 1), ("3", 4), ("2", 7)]


async def test_parts_that_change_meanwhile(do, store, monkeypatch):
    task = await do.create(Task, id="1", status="open", owner="ada", n=1)
    execute = store._core.execute

    class Meanwhile:
        """Another writer changes the owner before each update arrives, as long as there are names."""

        def __init__(self, *names: str) -> None:
            self.names = iter(names)

        def __call__(self, request: Any) -> Any:
            name = next(self.names, None) if request.writes else None
            if name is not None:
                Task.update_by_key(("1"), owner=name)
            return execute(request)

    if do.blocking:
        from mintkey import _core
        from mintkey.operations import stored_parts, updates
        from mintkey.operations.arguments import changes

        schema = Task.__mintkey_schema__
        # More often than a row may be inserted and deleted during one update.
        names = Meanwhile(*(f"n{n}" for n in range(updates.MAX_TRIES)), "cy")
        _core.drive(updates.update(schema, task, changes(schema, (), {"status": "done"})), names, execute)
        assert (task.board, task.owner) == ("cy#done", "cy")
        assert await ranked(do, "cy", "done") == [("1", 1)]
        # The row was there all the time.
        monkeypatch.setattr(stored_parts, "MAX_TRIES", 3)
        names = Meanwhile("a", "b", "c", "d")
        with pytest.raises(
            ConditionFailed, match=r"other writers changed owner or status .* 3 times .*builds board"
        ) as failure:
            _core.drive(updates.update(schema, task, changes(schema, (), {"status": "new"})), names, execute)
        assert failure.value.key == {"pk": "TASK#1"}


async def test_such_updates_with_others(do):
    task = await do.create(Task, id="1", status="open", owner="ada", n=1)
    with pipeline() as together:
        task.update(status="done", pipeline=together)
        assert len(together) == 1
    assert await ranked(do, "ada", "done") == [("1", 1)]
    with pipeline() as together:
        Task.update_by_key("1", status="new", owner="bob", n=2, pipeline=together)
        # The owner that this update reads is another one when it is sent.
        Task.update_by_key("1", status="newer", pipeline=together)
    assert await ranked(do, "bob", "newer") == [("1", 2)]
    await do.create(Task, id="2", status="newer", owner="bob", n=1)
    assert await do.update(Task.query.filter(owner="bob"), owner="cy") == 2
    assert await ranked(do, "cy", "newer") == [("2", 1), ("1", 2)]


@pytest.mark.parametrize("loaded", [None, ["status"]], ids=str)
@pytest.mark.parametrize("way", ["save", "batch", "pipeline", "transaction"])
async def test_another_writer_changes_a_part_before_a_save(do, way, loaded):
    async def write(task: Task) -> None:
        if way == "save":
            await do.save(task)
        elif way == "batch":
            await do.batch_save(Task, [task])
        elif way == "pipeline":
            with pipeline() as together:
                await do.save(task, pipeline=together)
        else:
            with mintkey.transaction() as tx:
                tx.save(task)

    await do.create(Task, id="1", status="open", owner="ada", n=1)
    for owner, status in (("bob", "done"), (None, "new"), ("cy", None), ("dan", "old")):
        (task,) = await do.all(do.scan(Task, attributes=loaded))
        await do.update_by_key(Task, "1", owner=owner)
        task.status = status
        await write(task)
        assert (task.owner, task.is_dirty) == (owner, False)
        row = await do.get(Task, "1")
        assert (row.owner, row.status, row.is_dirty) == (owner, status, False)
        if owner and status:
            assert await ranked(do, owner, status) == [("1", 1)]
        assert await do.count(Task.by_board.query(owner="ada", status="open")) == 0


async def test_a_save_with_a_condition_and_a_changed_part(do):
    await do.create(Task, id="1", status="open", owner="ada", n=1)
    first, second = await do.get(Task, "1"), await do.get(Task, "1")
    first.owner, second.status = "bob", "done"
    await do.save(first)
    with pytest.raises(ConditionFailed) as refused:
        await do.save(second, condition=Task.n > 1)
    assert refused.value.item.owner == "bob"
    assert await ranked(do, "bob", "open") == [("1", 1)]
    await do.save(second, condition=Task.owner == "bob")
    assert await ranked(do, "bob", "done") == [("1", 1)]
    await do.delete(first)
    for names in (None, ["status"]):
        await do.create(Task, id="2", status="open", owner="ada", n=1)
        (task,) = await do.all(do.scan(Task, attributes=names))
        await do.delete_by_key(Task, "2")
        task.status = "done"
        with pytest.raises(ItemGone):
            await do.save(task)
        assert await do.count(Task) == 0


@pytest.mark.parametrize("owner", ["eve", None])
@pytest.mark.parametrize("loaded", [None, ["status"]], ids=str)
async def test_a_part_is_assigned_while_a_save_is_under_way(store, loaded, owner):
    await Task.acreate(id="1", status="open", owner="ada", n=1)
    (task,) = await Task.ascan(attributes=loaded).aall()
    await Task.aupdate_by_key("1", owner="bob")
    task.status = "done"
    saving = asyncio.ensure_future(task.asave())
    await asyncio.sleep(0)  # its request is sent
    task.owner = owner
    await saving
    assert task.owner == owner
    await task.asave()
    (row,) = await Task.ascan().aall()
    assert (row.owner, row.status, row.is_dirty, task.is_dirty) == (owner, "done", False, False)
    assert await Task.by_board.query(owner="eve", status="done").acount() == (owner == "eve")
    assert await Task.by_board.query(owner="bob", status="done").acount() == 0


async def test_such_updates_in_a_transaction(do, url):
    if url.startswith("redis-cluster:"):
        pytest.skip("the rows are in different slots")
    task = await do.create(Task, id="1", status="open", owner="ada", n=1)
    await do.create(Task, id="2", status="open", owner="ada", n=2)
    with mintkey.transaction() as tx:
        tx.update(task, status="done")
        tx.update_by_key(Task, "2", Task.n.add(-2), status="done")
    assert await ranked(do, "ada", "done") == [("2", 0), ("1", 1)]


async def test_parts_that_were_not_loaded(do):
    await do.create(Task, id="1", status="open", owner="ada", n=1)
    (task,) = await do.all(do.scan(Task, attributes=["status"]))
    task.status = "done"
    await do.save(task)
    assert await ranked(do, "ada", "done") == [("1", 1)]
    assert (task.owner, task.is_dirty) == ("ada", False)
    (task,) = await do.all(do.scan(Task, attributes=["status"]))
    await do.update(task, status="later")
    assert await ranked(do, "ada", "later") == [("1", 1)]
    (task,) = await do.all(do.scan(Task, attributes=["status", "owner"]))
    task.status = "new"
    await do.save(task)
    assert await ranked(do, "ada", "new") == [("1", 1)]
