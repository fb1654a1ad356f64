"""Queries, scans, counts, pages: which items come, in which order, and how little is read for them."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from mintkey import Model
from mintkey.attributes import (
    BinaryAttribute,
    DecimalAttribute,
    ListAttribute,
    NumberAttribute,
    StringAttribute,
    StringSetAttribute,
)
from mintkey.errors import ConditionFailed, InvalidCursor, InvalidValue, ItemGone, MintkeyError, NotLoaded
from mintkey.hooks import after_load

LOADED: list[Any] = []


class Event(Model):
    stream = StringAttribute(partition_key=True)
    at = NumberAttribute(sort_key=True)
    kind = StringAttribute()
    tags = StringSetAttribute()
    words = ListAttribute()

    @after_load
    def note(self) -> None:
        LOADED.append(self.at)


@pytest.fixture
async def events(do):
    """Ten events of stream A and three of B."""
    for at in range(10):
        await do.save(Event(stream="A", at=at, kind="even" if at % 2 == 0 else "odd", tags={"t", f"t{at}"}))
    for at in range(3):
        await do.save(Event(stream="B", at=at, kind="even"))
    LOADED.clear()


async def ats(do, *conditions, **named):
    return [event.at for event in await do.iterate(do.query(Event, *conditions, **named))]


async def test_a_partition_comes_in_the_order_of_the_sort_key(do, events):
    assert await ats(do, stream="A") == list(range(10))
    assert await ats(do, stream="A", descending=True) == list(range(9, -1, -1))
    assert await ats(do, Event.stream == "B") == [0, 1, 2]
    assert await ats(do, stream="C") == []


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ([Event.at == 3], [3]),
        ([Event.at < 3], [0, 1, 2]),
        ([Event.at <= 3], [0, 1, 2, 3]),
        ([Event.at > 7], [8, 9]),
        ([Event.at >= 7], [7, 8, 9]),
        ([Event.at.between(3, 5)], [3, 4, 5]),
        ([Event.at > 3, Event.at < 6], [4, 5]),
        ([Event.at >= 3, Event.at <= 6], [3, 4, 5, 6]),
        ([(Event.at >= 3) & (Event.at < 5)], [3, 4]),
        ([Event.at > 6, Event.at < 3], []),
        ([Event.at > 1, Event.at > 7], [8, 9]),
        ([Event.at < 8, Event.at < 2], [0, 1]),
        ([Event.at == 3, Event.at == 4], []),
        ([Event.at == 3, Event.at > 3], []),
        ([Event.at.between(1, 5), Event.at > 3], [4, 5]),
        ([Event.at != 3, Event.at < 5], [0, 1, 2, 4]),
        ([Event.at.is_in([2, 4, 99])], [2, 4]),
        ([(Event.at == 1) | (Event.at == 8)], [1, 8]),
        ([~(Event.at > 1)], [0, 1]),
        ([Event.kind == "odd"], [1, 3, 5, 7, 9]),
        ([Event.kind == "odd", Event.at > 4], [5, 7, 9]),
        ([Event.tags.contains("t4")], [4]),
        ([Event.kind == "none"], []),
        ([Event.stream == "B"], []),
    ],
    ids=repr,
)
async def test_conditions_beside_the_partition(do, events, conditions, expected):
    assert await ats(do, *conditions, stream="A") == expected
    assert await ats(do, *conditions, stream="A", descending=True) == expected[::-1]
    assert await do.count(do.query(Event, *conditions, stream="A")) == len(expected)
    assert await do.count(Event, *conditions, stream="A") == len(expected)
    first = await do.first(do.query(Event, *conditions, stream="A"))
    assert (None if first is None else first.at) == next(iter(expected), None)
    assert await ats(do, *conditions, stream="A", limit=2) == expected[:2]


async def test_a_keyword_on_the_sort_key_is_its_condition_and_others_filter(do, events):
    assert await ats(do, stream="A", at=3) == [3]
    assert await ats(do, stream="A", kind="odd") == [1, 3, 5, 7, 9]
    assert await ats(do, stream="A", at=3, kind="even") == []


class Word(Model):
    book = StringAttribute(partition_key=True)
    word = StringAttribute(sort_key=True)


async def test_prefixes_are_prefixes_and_never_patterns(do):
    words = ["", "a", "a%", "a%b", "a*", "a_b", "ab", "abc", "A", "a\U0010ffff", "a\0", "a\0b", "aé", "b", "[a]", "?"]
    for word in words[1:]:
        await do.save(Word(book="1", word=word))
    for prefix in words[1:]:
        found = [item.word for item in await do.iterate(do.query(Word, Word.word.begins_with(prefix), book="1"))]
        expected = sorted((word for word in words if word.startswith(prefix)), key=str.encode)
        assert found == expected, prefix
    assert await do.get(Word, book="*", word="a") is None
    assert await do.get(Word, book="1", word="%") is None
    assert await do.iterate(do.query(Word, book="_")) == []


class Blob(Model):
    pk = StringAttribute(partition_key=True)
    sk = BinaryAttribute(sort_key=True)


async def test_binary_prefixes_and_bounds(do):
    keys = [b"\x00", b"\x00\x00", b"\x00\xff", b"\x01", b"\xfe\xff", b"\xff", b"\xff\x00", b"\xff\xff", b"\xff\xff\x01"]
    for key in reversed(keys):
        await do.save(Blob(pk="a", sk=key))
    assert [item.sk for item in await do.iterate(do.query(Blob, pk="a"))] == keys
    for prefix in keys:
        found = [item.sk for item in await do.iterate(do.query(Blob, Blob.sk.begins_with(prefix), pk="a"))]
        assert found == [key for key in keys if key.startswith(prefix)]
        above = [item.sk for item in await do.iterate(do.query(Blob, Blob.sk > prefix, pk="a"))]
        assert above == [key for key in keys if key > prefix]


class Price(Model):
    pk = StringAttribute(partition_key=True)
    amount = DecimalAttribute(sort_key=True)


async def test_numbers_sort_as_numbers(do):
    from decimal import Decimal

    texts = "-9.9e125 -1e38 -100 -99.5 -10 -9 -1.5 -1 -0.1 -1e-130 0 1e-130 0.1 0.11 1 1.5 9 10 99.5 100 1e38 9.9e125"
    amounts = [Decimal(text) for text in texts.split()]
    for amount in amounts[::2] + amounts[1::2]:
        await do.save(Price(pk="a", amount=amount))
    assert [item.amount for item in await do.iterate(do.query(Price, pk="a"))] == amounts
    for amount in amounts:
        below = [item.amount for item in await do.iterate(do.query(Price, Price.amount < amount, pk="a"))]
        assert below == [other for other in amounts if other < amount]


async def test_a_query_without_a_partition_names_scan(do, events):
    for conditions, named in [((), {}), ((Event.at > 1,), {}), ((), {"kind": "odd"}), ((Event.stream > "A",), {})]:
        with pytest.raises(TypeError, match=r"scan\(\)"):
            do.query(Event, *conditions, **named)
    with pytest.raises(TypeError, match=r"scan\(\)"):
        do.query(Event, (Event.stream == "A") | (Event.stream == "B"))
    with pytest.raises(TypeError, match="stream"):
        do.query(Event, straem="A")


async def test_bad_conditions_are_refused_when_they_are_built(do, events):
    with pytest.raises(InvalidValue, match=r"Event\.at"):
        Event.at > "3"  # type: ignore[operator]  # noqa: B015
    with pytest.raises(InvalidValue, match=r"Event\.at"):
        do.query(Event, stream="A", at="3")
    with pytest.raises(InvalidValue, match="does_not_exist"):
        Event.kind == None  # noqa: B015, E711
    with pytest.raises(InvalidValue, match="does_not_exist"):
        do.query(Event, stream="A", kind=None)
    with pytest.raises(TypeError, match="&"):
        do.query(Event, (Event.at > 1) and (Event.at < 3), stream="A")
    with pytest.raises(TypeError, match="&"):
        do.query(Event, 1 < Event.at < 3, stream="A")
    with pytest.raises(TypeError):
        do.query(Event, "at > 1", stream="A")
    with pytest.raises(InvalidValue):
        await do.iterate(do.query(Event, Event.at.between(5, 3), stream="A"))
    with pytest.raises(InvalidValue):
        await do.count(Event, Event.kind.between("z", "a"))
    assert len(await do.iterate(do.query(Event, Event.at.is_in(list(range(100))), stream="A"))) == 10


# limits, first, laziness


async def test_limit_is_of_items_that_match(do, events):
    assert await ats(do, Event.kind == "odd", stream="A", limit=3) == [1, 3, 5]
    assert await ats(do, stream="A", limit=0) == []
    assert await ats(do, stream="A", limit=99) == list(range(10))
    assert await do.count(do.query(Event, stream="A", limit=3)) == 3
    for bad in (-1, 1.5, "1", True):
        with pytest.raises((TypeError, ValueError), match="limit"):
            do.query(Event, stream="A", limit=bad)


@pytest.mark.parametrize("value", ["x", 1, 0])
async def test_a_flag_is_true_or_false(do, events, value):
    told = f"Event: consistent= takes True or False, not {value!r}"
    with pytest.raises(TypeError, match=told):
        await do.get(Event, stream="A", at=1, consistent=value)
    with pytest.raises(TypeError, match=told):
        await do.refresh(Event(stream="A", at=1), consistent=value)
    with pytest.raises(TypeError, match=told):
        await do.iterate((Event.batch_get if do.blocking else Event.abatch_get)([("A", 1)], consistent=value))
    for result in (do.query, do.scan):
        with pytest.raises(TypeError, match=told):
            result(Event, Event.at > 0, Event.stream == "A", consistent=value)
    with pytest.raises(TypeError, match="Event: descending= takes"):
        do.query(Event, stream="A", descending=value)


@pytest.mark.parametrize("names", [5, [5], None, ["kind", None], [["kind"]]])
async def test_what_is_loaded_and_its_order_are_names(do, events, names):
    if names is not None:
        with pytest.raises(TypeError, match="Event: attributes= takes a list of names, not"):
            do.query(Event, stream="A", attributes=names)
    with pytest.raises(TypeError, match=r"Event: order_by\(\) takes the name of an attribute"):
        do.query(Event, stream="A").order_by(names)


async def test_nothing_is_read_before_it_is_asked_for(do, events):
    result = do.query(Event, stream="A")
    assert LOADED == []
    await do.save(Event(stream="A", at=10))
    assert len(await do.all(result)) == 11


async def test_first_reads_one_item(do, events):
    assert (await do.first(do.query(Event, stream="A", descending=True))).at == 9
    assert LOADED == [9]
    LOADED.clear()
    assert (await do.first(do.query(Event, Event.kind == "odd", stream="A"))).at == 1
    assert LOADED == [1]
    assert await do.first(do.query(Event, stream="nothing")) is None


async def test_iterating_twice_reads_twice(do, events):
    result = do.query(Event, stream="B")
    assert len(await do.iterate(result)) == 3
    await do.save(Event(stream="B", at=9))
    assert len(await do.iterate(result)) == 4


async def test_many_items_come_over_many_pages_in_order(do):
    import asyncio

    await asyncio.gather(*(Event(stream="L", at=at).asave() for at in range(700)))
    assert await ats(do, stream="L") == list(range(700))
    assert await ats(do, stream="L", descending=True) == list(range(699, -1, -1))
    assert await do.count(Event, stream="L") == 700
    assert await ats(do, Event.at >= 650, stream="L") == list(range(650, 700))
    assert [event.at for event in await do.iterate(do.query(Event, stream="L")[10:690])] == list(range(10, 690))
    assert [event.at for event in await do.iterate(do.query(Event, stream="L")[500:510])] == list(range(500, 510))
    assert await ats(do, stream="L", limit=300) == list(range(300))
    assert sorted(event.at for event in await do.iterate(do.scan(Event))) == list(range(700))


async def test_writing_while_iterating_does_no_harm(do):
    for at in range(150):
        await do.save(Event(stream="L", at=at))
    seen = []
    for event in Event.query(stream="L"):
        seen.append(event.at)
        await do.delete(event)
        await do.save(Event(stream="M", at=event.at))
    assert seen == list(range(150))
    assert await do.count(Event, stream="L") == 0
    assert await do.count(Event, stream="M") == 150


# as in Django (blocking only: Python's protocols have no async version)


def test_bool_len_index_and_slice(do, events):
    result = Event.query(stream="A")
    assert result
    assert not Event.query(stream="nothing")
    assert len(result) == 10
    assert result[3].at == 3
    assert Event.query(stream="A")[3].at == 3
    assert [event.at for event in Event.query(stream="A")[2:5]] == [2, 3, 4]
    assert [event.at for event in Event.query(stream="A", descending=True)[:2]] == [9, 8]
    assert [event.at for event in Event.query(stream="A")[2:][1:3]] == [3, 4]
    assert [event.at for event in Event.query(stream="A", limit=4)[2:]] == [2, 3]
    assert Event.query(stream="A")[2:5].count() == 3
    assert [event.at for event in Event.query(stream="A")[8:20]] == [8, 9]
    assert list(Event.query(stream="A")[20:]) == []
    assert Event.query(stream="A")[20:].first() is None
    first = Event.query(stream="A")[4:].first()
    assert first is not None
    assert first.at == 4
    with pytest.raises(IndexError):
        Event.query(stream="B")[3]
    with pytest.raises(IndexError):
        Event.query(stream="A", limit=2)[2]
    places: tuple[Any, ...] = ("x", 1.5, None, slice("a", None), slice(1.5), slice(0, 3, "x"))
    for place in places:
        with pytest.raises(TypeError, match="Event: the index of a result is an integer or a slice of integers, not"):
            result[place]
    for wrong in (lambda: result[-1], lambda: result[-2:], lambda: result[::2], lambda: result[1:-1]):
        with pytest.raises((TypeError, ValueError)):
            wrong()


def test_bool_and_index_read_no_more_than_they_need(do, events):
    assert Event.query(stream="A")
    assert len(LOADED) == 1


@pytest.mark.parametrize("collect", [list, tuple, set, lambda result: sorted(result, key=lambda item: item.at)])
def test_collecting_a_result_reads_each_item_once(do, events, collect):
    assert len(collect(Event.query(stream="A"))) == 10
    assert sorted(LOADED) == list(range(10))


# pages


async def test_pages_join_to_the_whole(do, events):
    for size in (1, 2, 3, 10, 11):
        for named in ({}, {"descending": True}, {"kind": "odd"}):
            result = do.query(Event, stream="A", **named)
            whole = [event.at for event in await do.iterate(result)]
            seen: list[Any] = []
            cursor = None
            while True:
                page = await do.page(result, size, cursor)
                assert len(page) <= size
                seen += [event.at for event in page]
                cursor = page.cursor
                if cursor is None:
                    break
                assert len(page.items) == size
                assert cursor.replace("-", "").replace("_", "").isalnum()
            assert seen == whole


async def test_pages_of_a_scan_join_to_the_whole(do, events):
    seen: list[Any] = []
    cursor = None
    while True:
        page = await do.page(do.scan(Event), 4, cursor)
        seen += [(event.stream, event.at) for event in page]
        cursor = page.cursor
        if cursor is None:
            break
    assert sorted(seen) == sorted([("A", at) for at in range(10)] + [("B", at) for at in range(3)])


async def test_a_cursor_stands_while_rows_come_and_go(do, events):
    page = await do.page(do.query(Event, stream="A"), 3)
    assert [event.at for event in page] == [0, 1, 2]
    await do.delete(page.items[2])
    await do.save(Event(stream="A", at=1.5))
    await do.save(Event(stream="A", at=2.5))
    page = await do.page(do.query(Event, stream="A"), 3, page.cursor)
    assert [event.at for event in page] == [2.5, 3, 4]


async def test_a_cursor_of_another_query_is_refused(do, events):
    cursor = (await do.page(do.query(Event, stream="A"), 2)).cursor
    others = [
        do.query(Event, stream="B"),
        do.query(Event, stream="A", descending=True),
        do.query(Event, Event.at > 0, stream="A"),
        do.query(Event, stream="A", kind="odd"),
        do.scan(Event),
        do.query(Word, book="A"),
    ]
    for other in others:
        with pytest.raises(InvalidCursor, match="cursor"):
            await do.page(other, 2, cursor)


@pytest.mark.parametrize("garbage", ["", "x", "AAAA", "é", "!!!", "A" * 500, "../..", "\0"])
async def test_garbage_is_no_cursor(do, events, garbage):
    with pytest.raises(InvalidCursor, match="cursor"):
        await do.page(do.query(Event, stream="A"), 2, garbage)


async def test_an_empty_cursor_names_the_way_to_begin(do, events):
    for result in (do.query(Event, stream="A"), do.scan(Event)):
        with pytest.raises(InvalidCursor, match="the cursor is empty: leave cursor= out") as caught:
            await do.page(result, 2, "")
        assert caught.value.model == "Event"


async def test_a_damaged_cursor_is_refused(do, events):
    cursor = (await do.page(do.query(Event, stream="A"), 2)).cursor
    for damaged in (cursor[:-1], cursor[:-4], cursor + "AAAA", cursor[:12], cursor[:11]):
        with pytest.raises(InvalidCursor, match="cursor"):
            await do.page(do.query(Event, stream="A"), 2, damaged)


async def test_a_page_has_at_least_one_item(do, events):
    for size in (0, -1, 1.5, "2", None, True):
        with pytest.raises((TypeError, ValueError), match="size"):
            await do.page(do.query(Event, stream="A"), size)


async def test_pages_keep_to_limit_and_slice(do, events):
    assert [event.at for event in await do.page(do.query(Event, stream="A", limit=2), 10)] == [0, 1]
    assert [event.at for event in await do.page(do.query(Event, stream="A")[1:3], 10)] == [1, 2]


CHILD = """
import sys
from mintkey import Model, connect
from mintkey.attributes import NumberAttribute, StringAttribute, StringSetAttribute

class Event(Model):
    stream = StringAttribute(partition_key=True)
    at = NumberAttribute(sort_key=True)
    tags = StringSetAttribute()

with connect(sys.argv[1]):
    result = Event.query(Event.at > 0, Event.tags != {"a", "b", "c", "d"}, stream="A")
    print([event.at for event in result.page(2, sys.argv[2])])
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", ["1", "2", "3"])
async def test_a_cursor_is_good_in_another_process(do, url, events, seed):
    result = do.query(Event, Event.at > 0, Event.tags != {"a", "b", "c", "d"}, stream="A")
    cursor = (await do.page(result, 2)).cursor
    done = subprocess.run(  # noqa: ASYNC221  nothing else runs in this loop
        [sys.executable, "-c", CHILD, url, cursor],
        env={**os.environ, "PYTHONHASHSEED": seed},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "[3, 4]\n", done.stderr


# projections


async def test_a_projection_loads_keys_and_what_it_names(do, events):
    (event,) = await do.iterate(do.query(Event, stream="A", at=3, attributes=["kind"]))
    assert (event.stream, event.at, event.kind) == ("A", 3, "odd")
    for name in ("tags", "words"):
        with pytest.raises(NotLoaded, match=f"Event.{name}") as caught:
            getattr(event, name)
        assert isinstance(caught.value, LookupError)
        assert caught.value.attribute == name
    assert event.to_dict() == {"stream": "A", "at": 3, "kind": "odd"}
    assert "tags" not in repr(event)


async def test_a_projection_still_filters_by_what_it_leaves_out(do, events):
    found = await do.iterate(do.query(Event, Event.kind == "odd", stream="A", attributes=["tags"]))
    assert [event.at for event in found] == [1, 3, 5, 7, 9]
    found = await do.iterate(do.scan(Event, Event.kind == "odd", attributes=[]))
    assert sorted(event.at for event in found) == [1, 3, 5, 7, 9]


async def test_a_save_after_a_projection_writes_only_what_was_assigned(do, events):
    (event,) = await do.iterate(do.query(Event, stream="A", at=3, attributes=["kind"]))
    assert not event.is_dirty
    await do.save(event)
    event.words = ["new"]
    assert event.changed == {"words"}
    await do.save(event)
    stored = await do.get(Event, stream="A", at=3)
    assert stored.to_dict() == {"stream": "A", "at": 3, "kind": "odd", "tags": {"t", "t3"}, "words": ["new"]}
    event.tags = None
    await do.save(event)
    assert (await do.get(Event, stream="A", at=3)).tags == set()
    event.kind = None
    await do.save(event)
    assert (await do.get(Event, stream="A", at=3)).to_dict() == {"stream": "A", "at": 3, "words": ["new"]}


async def test_a_projection_cannot_replace(do, events):
    (event,) = await do.iterate(do.query(Event, stream="A", at=3, attributes=["kind"]))
    event.kind = "x"
    with pytest.raises(MintkeyError):
        await do.save(event, replace=True)
    stored = await do.get(Event, stream="A", at=3)
    assert stored.tags == {"t", "t3"}
    await do.refresh(event)
    assert event.tags == {"t", "t3"}


async def test_an_update_after_a_projection(do, events):
    (event,) = await do.iterate(do.query(Event, stream="A", at=3, attributes=["kind"]))
    await do.update(event, kind="x")
    assert (await do.get(Event, stream="A", at=3)).tags == {"t", "t3"}


async def test_a_projection_of_what_does_not_exist(do, events):
    with pytest.raises(TypeError, match="kind"):
        do.query(Event, stream="A", attributes=["knid"])
    with pytest.raises(TypeError, match="list"):
        do.query(Event, stream="A", attributes="kind")


# scan and count


async def test_scan_gives_every_item_once(do, events):
    found = [(event.stream, event.at) for event in await do.iterate(do.scan(Event))]
    assert sorted(found) == sorted([("A", at) for at in range(10)] + [("B", at) for at in range(3)])
    assert len(await do.iterate(do.scan(Event, limit=4))) == 4
    assert len(await do.iterate(do.scan(Event, Event.kind == "odd", Event.at > 5))) == 2
    assert len(await do.all(do.scan(Event))) == 13
    assert (await do.first(do.scan(Event, Event.at == 7))).stream == "A"


async def test_count_counts(do, events):
    assert await do.count(Event) == 13
    assert await do.count(Event, Event.kind == "even") == 8
    assert await do.count(Event, stream="A") == 10
    assert await do.count(Event, kind="odd", stream="B") == 0
    assert await do.count(do.query(Event, Event.at > 5, stream="A")) == 4
    assert await do.count(do.scan(Event)) == 13
    assert LOADED == []
    with pytest.raises(TypeError, match="kind"):
        await do.count(Event, knid=1)


async def test_an_empty_table_is_empty(do):
    assert await do.count(Event) == 0
    assert await do.iterate(do.scan(Event)) == []
    assert await do.get(Event, stream="A", at=1) is None
    with pytest.raises(ItemGone):
        await do.refresh(Event(stream="A", at=1))
    with pytest.raises(ConditionFailed):
        await do.delete(Event(stream="A", at=1), condition=Event.at == 1)


async def test_explain_tells_the_plan(do, events):
    told = do.query(Event, Event.at > 3, kind="odd", stream="A").explain()
    assert "query" in told
    assert "'A'" in told
    assert "at" in told
    assert "kind" in told
    assert "scan" in do.scan(Event).explain()


async def test_a_condition_of_another_model_is_refused(do):
    class Other(Model):
        pk = StringAttribute(partition_key=True)
        elsewhere = NumberAttribute()

    wrong = (Other.elsewhere == 5) | ~(Other.elsewhere > 5)
    for ask in (
        lambda: do.query(Event, wrong, stream="A"),
        lambda: do.scan(Event, wrong),
        lambda: Event.query.filter(wrong),  # type: ignore[arg-type]
    ):
        with pytest.raises(TypeError, match="Event has no attribute 'elsewhere'"):
            ask()
    event = await do.create(Event, stream="Z", at=1)
    for write in (do.save, do.delete):
        with pytest.raises(TypeError, match="Event has no attribute 'elsewhere'"):
            await write(event, condition=wrong)
    with pytest.raises(TypeError, match="Event has no attribute 'elsewhere'"):
        await do.update(event, condition=wrong, kind="x")


async def test_a_misspelt_option_is_told_from_a_misspelt_attribute(do):
    event = await do.create(Event, stream="Z", at=1)
    for keywords in ({"limt": 3}, {"descendng": True}, {"atributes": ["kind"]}):
        (wrong,) = keywords
        with pytest.raises(TypeError, match=rf"no attribute '{wrong}' \(did you mean (limit|descending|attributes)=\?"):
            do.query(Event, stream="Z", **keywords)
    with pytest.raises(TypeError, match=r"'knd' \(did you mean 'kind'\?\).* takes: index=, descending=, limit="):
        do.query(Event, stream="Z", knd="x")
    with pytest.raises(TypeError, match=r"'consistant' \(did you mean consistent=\?\)"):
        await do.get(Event, stream="Z", at=1, consistant=True)
    with pytest.raises(TypeError, match=r"'segment' \(did you mean segments=\?\)"):
        await do.count(Event, stream="Z", segment=2)
    with pytest.raises(TypeError, match=r"'upser' \(did you mean upsert=\?\)"):
        await do.update(event, kind="x", upser=True)
    with pytest.raises(TypeError, match=r"'upser' \(did you mean upsert=\?\)"):
        await do.update_by_key(Event, ("Z", 1), kind="x", upser=True)
