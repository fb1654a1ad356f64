"""Keys that look like something else: they come back as they were, are no other key, and are never patterns."""

from __future__ import annotations

import itertools

import pytest

from mintkey import Index, Model
from mintkey.attributes import BinaryAttribute, StringAttribute
from mintkey.errors import InvalidValue
from mintkey.fields import Field, KeyField, SortedField

# fmt: off
HOSTILE = [
    "*", "?", "[a]", "[^a]", "a*", "%", "_", "%25", "%3A", "^", "$", ".", "#", "@", "/", "../x", "|", "\\", "\\x00",
    ":", "::", "a:b", ":v0", "{t}", "{", "}", "{}", "{}:", "\0", "\0\0", "a\0", "a\0b", "\x01", "\x7f", "\r\n", "\t",
    "'", '"', "`", "''", "--", "'); DROP TABLE x; --", "None", "none", "null", "NULL", "nil", "True", "0", "-1", "1e5",
    " ", "a ", " a", "a", "A", "b", "é", "e\u0301", "\ufeff", "\u202e", "\ud7ff", "\ue000", "\uffff", "\U0010ffff",
    "\U0001f600", "\U0001f468\u200d\U0001f469", "@Plain:rows", "$B", "$$", "pk", "x" * 900, "x" * 899 + "y", "é" * 450,
]
SHIFTED = [*HOSTILE[1:], HOSTILE[0]]
REFUSED = ["", "\ud800", "a\udfff", "\udcff" * 3]
# fmt: on


class Plain(Model):
    pk = StringAttribute(partition_key=True)
    note = StringAttribute()


class Ordered(Model):
    pk = StringAttribute(partition_key=True)
    sk = StringAttribute(sort_key=True)
    kind = StringAttribute()
    label = StringAttribute()
    by_kind = Index(partition_key="kind", sort_key="label")


class Bytes(Model):
    pk = BinaryAttribute(partition_key=True)
    sk = BinaryAttribute(sort_key=True)


class Person(Model):
    name = KeyField()
    city = KeyField()
    nick = SortedField(type=str)
    job = Field()


async def test_partition_keys(do):
    await do.batch_save(Plain, [Plain(pk=key, note=key) for key in HOSTILE])
    assert await do.count(Plain) == len(HOSTILE)
    assert {item.pk for item in await do.all(do.scan(Plain))} == set(HOSTILE)
    for key in HOSTILE:
        found = await do.get(Plain, pk=key)
        assert (found.pk, found.note) == (key, key)
        assert [item.note for item in await do.all(do.query(Plain, pk=key))] == [key]
    assert [item.pk for item in await do.all(do.scan(Plain, Plain.pk.begins_with("*")))] == ["*"]
    gone = HOSTILE[::2]
    for key in gone:
        await do.delete(Plain(pk=key))
    assert {item.pk for item in await do.all(do.scan(Plain))} == set(HOSTILE) - set(gone)
    for key in HOSTILE:
        assert (await do.get(Plain, pk=key) is None) == (key in gone)


async def test_partition_keys_beside_sort_keys(do):
    await do.batch_save(Ordered, [Ordered(pk=pk, sk=sk, label=pk) for pk, sk in zip(HOSTILE, SHIFTED, strict=True)])
    for pk, sk in zip(HOSTILE, SHIFTED, strict=True):
        assert [item.sk for item in await do.all(do.query(Ordered, pk=pk))] == [sk]
        assert (await do.get(Ordered, pk=pk, sk=sk)).label == pk
        assert await do.get(Ordered, pk=sk, sk=pk) is None


async def test_sort_keys(do):
    await do.batch_save(Ordered, [Ordered(pk="{p}", sk=key, label=key) for key in HOSTILE])
    ordered = sorted(HOSTILE, key=str.encode)
    assert [item.sk for item in await do.all(do.query(Ordered, pk="{p}"))] == ordered
    for key in HOSTILE:
        assert (await do.get(Ordered, pk="{p}", sk=key)).label == key
        for prefix in {key, key[:1]}:
            found = [item.sk for item in await do.all(do.query(Ordered, Ordered.sk.begins_with(prefix), pk="{p}"))]
            assert found == [other for other in ordered if other.startswith(prefix)], prefix
        above = await do.count(do.query(Ordered, Ordered.sk > key, pk="{p}"))
        assert above == len(ordered) - ordered.index(key) - 1
    assert await do.all(do.query(Ordered, pk="p")) == []


async def test_index_keys(do):
    items = [Ordered(pk="p", sk=key, kind=key, label=key) for key in HOSTILE]
    items += [Ordered(pk="q", sk=key, kind="*", label=key) for key in HOSTILE if key != "*"]
    await do.batch_save(Ordered, items)
    ordered = sorted(HOSTILE, key=str.encode)
    for key in HOSTILE:
        found = [item.label for item in await do.all(do.query(Ordered, kind=key))]
        assert found == (ordered if key == "*" else [key])
        exact = [item.label for item in await do.all(do.query(Ordered, kind="*", label=key))]
        assert exact == [key]
        found = [item.label for item in await do.all(do.query(Ordered, Ordered.label.begins_with(key), kind="*"))]
        assert found == [other for other in ordered if other.startswith(key)]
    await do.update_by_key(Ordered, {"pk": "p", "sk": "?"}, kind="[a]")
    assert await do.all(do.query(Ordered, kind="?")) == []
    assert {item.sk for item in await do.all(do.query(Ordered, kind="[a]"))} == {"?", "[a]"}


async def test_binary_keys(do):
    keys = [b"\0", b"\0\0", b"\xff", b"\xff\xff", b"*", b"a\0", b"a\0\xff", b":", b"{t}", b"\x01", b"\0\x01", b"\0\xff"]
    await do.batch_save(Bytes, [Bytes(pk=pk, sk=sk) for pk, sk in itertools.product(keys, keys)])
    assert await do.count(Bytes) == len(keys) ** 2
    for key in keys:
        assert [item.sk for item in await do.all(do.query(Bytes, pk=key))] == sorted(keys)


async def test_parts_of_a_compound_key(do):
    parts = [":", "::", "a:", ":a", "a", "%", "%3A", "%25", "*", "{t}", "\0", "None", "x" * 500]
    people = [Person(name=name, city=city, nick=name, job=city) for name, city in itertools.product(parts, parts)]
    await do.batch_save(Person, people)
    assert await do.count(Person) == len(parts) ** 2
    for name, city in itertools.product(parts, parts):
        found = await do.get(Person, name=name, city=city)
        assert (found.name, found.city, found.job) == (name, city, city)


async def test_lookups_of_fields(do):
    names = [key for key in HOSTILE if len(key) < 100]
    await do.batch_save(Person, [Person(name=key, city="x", nick=key, job=key) for key in names])
    access = Person.query
    for key in names:
        assert (await do.get(access, name=key, city="x")).nick == key
        assert (await do.get(access, job=key)).name == key
        assert [person.name for person in await do.all(access.filter(name=key))] == [key]
        found = {person.name for person in await do.all(access.filter(nick__startswith=key))}
        assert found == {other for other in names if other.startswith(key)}
        found = {person.name for person in await do.all(access.filter(job__contains=key))}
        assert found == {other for other in names if key in other}
        assert await do.count(access.filter(name__in=[key, "nobody"])) == 1
    assert await do.get(access, name="nobody*", city="x") is None


@pytest.mark.parametrize("key", REFUSED)
async def test_what_is_no_key_is_refused(do, key):
    with pytest.raises(InvalidValue, match=r"Plain\.pk"):
        await do.save(Plain(pk=key))
    with pytest.raises(InvalidValue, match=r"Ordered\.sk"):
        await do.save(Ordered(pk="p", sk=key))
    with pytest.raises(InvalidValue, match=r"Plain\.pk"):
        await do.get(Plain, pk=key)
    with pytest.raises(InvalidValue, match=r"Ordered\.sk"):
        await do.get(Ordered, pk="p", sk=key)
    with pytest.raises(InvalidValue, match=r"Person\.name"):
        await do.save(Person(name=key, city="x"))
    for model in (Plain, Ordered, Person):
        assert await do.count(model) == 0


@pytest.mark.parametrize("key", REFUSED)
async def test_what_is_no_key_finds_nothing(do, key):
    await do.save(Ordered(pk="p", sk="s", kind="k", label="l"))
    if not key:
        # It can be asked for, as one end of a range can; it is just nowhere.
        assert await do.all(do.query(Ordered, pk=key)) == []
        assert await do.all(do.query(Ordered, pk="p", sk=key)) == []
        assert await do.all(do.query(Ordered, kind=key)) == []
        assert [item.sk for item in await do.all(do.query(Ordered, Ordered.sk >= key, pk="p"))] == ["s"]
        return
    for ask in (
        lambda: do.query(Ordered, pk=key),
        lambda: do.query(Ordered, pk="p", sk=key),
        lambda: do.query(Ordered, kind=key),
    ):
        with pytest.raises(InvalidValue, match="Ordered"):
            await do.all(ask())


async def test_none_is_not_the_word(do):
    with pytest.raises(InvalidValue, match=r"Plain\.pk"):
        await do.save(Plain(pk=None))
    with pytest.raises(InvalidValue, match=r"Person\.city"):
        await do.save(Person(name="None", city=None))
    await do.save(Plain(pk="None"))
    await do.save(Person(name="None", city="None", nick="None"))
    assert (await do.get(Plain, pk="None")).note is None
    with pytest.raises((InvalidValue, TypeError)):
        await do.get(Plain, pk=None)
    assert [person.job for person in await do.all(Person.query.filter(job__isnull=True))] == [None]
    assert await do.all(Person.query.filter(job="None")) == []


@pytest.mark.parametrize(("letter", "most_first", "most_second"), [("x", 2048, 1024), ("é", 1024, 512)])
async def test_keys_have_their_lengths(do, letter, most_first, most_second):
    long = Ordered(pk=letter * most_first, sk=letter * most_second, kind="k", label="l")
    await do.save(long)
    assert await do.get(Ordered, pk=long.pk, sk=long.sk) == long
    assert await do.all(do.query(Ordered, pk=long.pk)) == [long]
    with pytest.raises(InvalidValue, match="2048"):
        await do.save(Ordered(pk=letter * (most_first + 1), sk="s"))
    with pytest.raises(InvalidValue, match="1024"):
        await do.save(Ordered(pk="p", sk=letter * (most_second + 1)))
    assert await do.count(Ordered) == 1
