"""Classes that do not fit the table that is there: that is said, and is no fault of the values."""

from __future__ import annotations

from typing import Any

import pytest
from tests.behaviour.conftest import Do

from mintkey import Index, Model, ModelConfig, connect
from mintkey.attributes import BinaryAttribute, JSONAttribute, NumberAttribute, StringAttribute
from mintkey.errors import BatchIncomplete, ConfigurationError, InvalidValue, TableMissing

PLAIN, SORTED = ModelConfig(table="plain"), ModelConfig(table="sorted")


class Plain(Model):
    model_config = PLAIN
    pk = StringAttribute(partition_key=True)
    kind = StringAttribute(index=True)


class Sorted(Model):
    model_config = SORTED
    pk = StringAttribute(partition_key=True)
    sk = StringAttribute(sort_key=True)


class OneMore(Model):
    """A sort key that the table does not have."""

    model_config = PLAIN
    pk = StringAttribute(partition_key=True)
    sk = StringAttribute(sort_key=True)


class OneLess(Model):
    """No sort key, where the table has one."""

    model_config = SORTED
    pk = StringAttribute(partition_key=True)


class OtherName(Model):
    """The key under another name."""

    model_config = PLAIN
    id = StringAttribute(partition_key=True)


class OtherIndex(Model):
    """An indexed attribute of another type."""

    model_config = PLAIN
    pk = StringAttribute(partition_key=True)
    kind = NumberAttribute(index=True)


@pytest.fixture(params=["blocking", "async"])
def do(request, store) -> Do:
    Plain.create_table()
    Sorted.create_table()
    return Do(blocking=request.param == "blocking")


def several(do: Do, model: type[Model], key: Any) -> object:
    """Several rows by key."""
    return do.iterate((model.batch_get if do.blocking else model.abatch_get)([key]))


async def refused(model: type[Model], *asked: object) -> None:
    for operation in asked:
        with pytest.raises(ConfigurationError, match=rf"(?s)table .*{model.__name__} declares .*: give ") as caught:
            await operation  # type: ignore[misc]  # a coroutine
        assert caught.value.model == model.__name__


async def test_a_sort_key_too_many(do):
    key = {"pk": "a", "sk": "b"}
    gone = do.delete(OneMore(**key))
    await refused(OneMore, do.get(OneMore, **key), gone, several(do, OneMore, ("a", "b")))


async def test_a_sort_key_too_few(do):
    save = do.save(OneLess(pk="a"))
    await refused(OneLess, do.get(OneLess, pk="a"), save, do.create(OneLess, pk="a"), several(do, OneLess, "a"))
    with pytest.raises(BatchIncomplete) as caught:
        await do.batch_save(OneLess, [OneLess(pk="a")])
    assert isinstance(caught.value.failed[0][1], ConfigurationError)


async def test_a_key_of_another_name(do):
    query = do.all(do.query(OtherName, id="a"))
    await refused(OtherName, do.get(OtherName, id="a"), do.save(OtherName(id="a")), query)


async def test_an_indexed_attribute_of_another_type(do):
    query = do.all(do.query(OtherIndex, kind=1))
    change = do.update_by_key(OtherIndex, "a", kind=1, upsert=True)
    await refused(OtherIndex, do.save(OtherIndex(pk="a", kind=1)), change, query)
    with pytest.raises(BatchIncomplete) as caught:
        await do.batch_save(OtherIndex, [OtherIndex(pk="a", kind=1)])
    assert isinstance(caught.value.failed[0][1], ConfigurationError)


async def test_a_name_that_is_too_long_with_its_prefix(do, endpoint):
    with connect(f"dynamodb://us-east-1?endpoint={endpoint}&table_prefix={'x' * 251}"):
        for operation in (do.create_table(Plain), do.get(Plain, pk="a"), do.save(Plain(pk="a"))):
            with pytest.raises(ConfigurationError, match=r"256 characters .*table_prefix=.*ModelConfig") as caught:
                await operation
            assert caught.value.model == "Plain"


class Before(Model):
    model_config = ModelConfig(table="indexed-later")
    pk = StringAttribute(partition_key=True)
    kind: Any = JSONAttribute()
    at: Any = BinaryAttribute()


async def test_an_index_that_would_make_rows_unwritable_is_not_added(do):
    class After(Model):
        model_config = ModelConfig(table="indexed-later")
        pk = StringAttribute(partition_key=True)
        kind = StringAttribute(index=True)
        at = NumberAttribute()
        by_kind = Index("kind", "at", name="by-kind")

    await do.create_table(Before)
    rows = [Before(pk="good", kind=None), Before(pk="typed", at=b"x"), Before(pk="long", kind=["x" * 2100])]
    await do.batch_save(Before, rows)
    with pytest.raises(InvalidValue, match=r"the index .* was not added") as caught:
        await do.create_table(After)
    assert caught.value.attribute in {"kind", "at"}
    assert caught.value.key in ({"pk": "typed"}, {"pk": "long"})
    for told in ("\"typed\" (at = b'x')", '"long" (kind = ', "create_table(force=True)"):
        assert told in str(caught.value)
    with pytest.raises(TableMissing, match="lacks an index"):
        await do.all(do.query(After, kind="a", index="by-kind"))
    await do.delete_by_key(Before, "long")
    await do.update_by_key(Before, "typed", at=None)
    await do.create_table(After)
    await do.save(After(pk="new", kind="a", at=1))
    assert [one.pk for one in await do.all(do.query(After, kind="a", index="by-kind"))] == ["new"]


async def test_an_index_is_added_by_force(do):
    class After(Model):
        model_config = ModelConfig(table="indexed-by-force")
        pk = StringAttribute(partition_key=True)
        at = NumberAttribute(index=True)

    class Earlier(Model):
        model_config = ModelConfig(table="indexed-by-force")
        pk = StringAttribute(partition_key=True)
        at = StringAttribute()

    await do.create_table(Earlier)
    await do.save(Earlier(pk="a", at="x"))
    with pytest.raises(InvalidValue, match=r'"a" \(at = .x.\)'):
        await do.create_table(After)
    await do.create_table(After, force=True)
    assert await do.all(do.query(After, at=1)) == []
