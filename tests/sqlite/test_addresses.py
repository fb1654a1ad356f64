"""Addresses: where the database is, and what is refused before anything is opened."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mintkey import Model, ModelConfig, Store, connect
from mintkey.attributes import NumberAttribute, StringAttribute
from mintkey.errors import ConfigurationError


class Row(Model):
    pk = StringAttribute(partition_key=True)
    n = NumberAttribute()


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("mysql://localhost/x", "mysql"),
        ("shop.db", "sqlite:///"),
        ("", "sqlite:///"),
        (":memory:", "sqlite://"),
        ("sqlite:", "sqlite://"),
        ("sqlite://:memory:", "sqlite://"),
        ("sqlite:///:memory:", "sqlite://"),
        ("sqlite://shop.db", "sqlite:///"),
        ("sqlite:///x.db?tiemout=5", "tiemout"),
        ("sqlite:///x.db?timeout=abc", "timeout"),
        ("sqlite:///x.db?timeout=-1", "timeout"),
        ("sqlite:///x.db?timeout=nan", "timeout"),
        ("sqlite:///x.db?timeout=inf", "timeout"),
        ("sqlite:///x.db?timeout=", "timeout"),
        ("sqlite:///x.db?sync=off", "sync"),
        ("sqlite:///x.db?sync=full&sync=normal", "sync"),
        ("sqlite:///x.db?max_item=ten", "max_item"),
        ("sqlite:///x.db?=5", ""),
        ("sqlite:///a%00b.db", ""),
        ("sqlite:///a%ffb.db", ""),
        (5, "int"),
        (None, "NoneType"),
    ],
)
def test_an_address_that_cannot_be_is_refused_at_once(url, named, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError) as caught:
        connect(url, name="refused")
    assert named in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("password", ["HUSH", "6379?HUSH", "a/HUSH", "a@HUSH", "#HUSH"])
@pytest.mark.parametrize("scheme", ["sqlite", "mysql"])
def test_a_password_in_an_address_without_one_is_not_shown(scheme, password):
    with pytest.raises(ConfigurationError) as caught:
        connect(f"{scheme}://user:{password}@localhost/shop", name="refused")
    assert "HUSH" not in repr(caught.value)


@pytest.mark.parametrize(
    "url", ["redis://u:6379?HUSH", "rediss://u:1/?HUSH", "sqlite:///x.db?HUSH", "dynamodb://u?HUSH"]
)
def test_a_password_in_place_of_parameters_is_not_shown(url):
    with pytest.raises(ConfigurationError, match="may be a part of a password") as caught:
        connect(url, name="refused")
    assert "HUSH" not in repr(caught.value)


@pytest.mark.parametrize(
    "parameters", ["", "?timeout=0.5", "?sync=normal", "?sync=full&timeout=9", "?max_item=1000000"]
)
def test_parameters_that_there_are(path, parameters):
    with connect(f"sqlite:///{path}{parameters}"):
        assert not path.exists(), "nothing is opened before it is needed"
        Row(pk="a").save()
        assert path.exists()


def test_a_relative_path_is_meant_when_the_store_is_connected(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with connect("sqlite:///here.db"):
        (tmp_path / "below").mkdir()
        monkeypatch.chdir(tmp_path / "below")
        Row(pk="a").save()
        assert (tmp_path / "here.db").exists()


@pytest.mark.parametrize("name", ["a b.db", "a%20b.db", "é.db", "a?b.db", "a#b.db", "a'b\".db", "%.db"])
def test_a_path_may_hold_anything(tmp_path, name):
    from urllib.parse import quote

    with connect(f"sqlite:///{tmp_path}/{quote(name)}") as store:
        Row(pk="a").save()
        assert (tmp_path / name).exists()
        assert Row.count() == 1
        assert store.url.startswith("sqlite:///")


def test_memory_is_each_stores_own():
    with connect("sqlite://", name="one"), connect("sqlite://", name="two"):

        class One(Model):
            model_config = ModelConfig(table="rows", store="one")
            pk = StringAttribute(partition_key=True)

        class Two(One):
            model_config = ModelConfig(table="rows", store="two")

        One(pk="a").save()
        assert (One.count(), Two.count()) == (1, 0)


def test_memory_is_shared_by_threads():
    import threading

    with connect("sqlite://"):
        threads = [threading.Thread(target=lambda n=n: Row(pk=str(n), n=n).save()) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert Row.count() == 8


def test_a_model_names_its_store_or_holds_it(tmp_path):
    with connect(f"sqlite:///{tmp_path}/a.db", name="a") as one, connect(f"sqlite:///{tmp_path}/b.db", name="b") as two:

        class Named(Model):
            model_config = ModelConfig(table="rows", store="a")
            pk = StringAttribute(partition_key=True)

        class Holding(Model):
            model_config = ModelConfig(table="rows", store=two)
            pk = StringAttribute(partition_key=True)

        Named(pk="x").save()
        assert Holding.count() == 0
        Holding(pk="y").save()
        assert [row.pk for row in Named.scan()] == ["x"]
        assert isinstance(one, Store)
        assert "a.db" in repr(one)


def test_connecting_a_name_again_replaces_the_store(tmp_path):
    with connect(f"sqlite:///{tmp_path}/1.db"):
        Row(pk="a").save()
        with connect(f"sqlite:///{tmp_path}/2.db"):
            assert Row.count() == 0
        with connect(f"sqlite:///{tmp_path}/1.db"):
            assert Row.count() == 1


async def test_a_closed_store_says_so_and_keeps_its_name(url):
    store = connect(url)
    row = Row(pk="a")
    row.save()
    store.close()
    store.close()
    row.n = 1
    for call in (row.save, Row.count, lambda: Row.get(pk="a"), lambda: list(Row.scan()), row.delete, Row.create_table):
        with pytest.raises(ConfigurationError, match="closed"):
            call()
    with pytest.raises(ConfigurationError, match="closed"):
        await row.asave()
    assert row.changed == {"n"}
    await store.aclose()
    async with connect(url) as again:
        await row.asave()
        assert (await Row.aget(pk="a")) == row
    await again.aclose()


def test_two_classes_of_one_defaulted_table_are_refused(store):
    def make(n: int) -> type[Model]:
        class Same(Model):
            __qualname__ = f"Same{n}"
            pk = StringAttribute(partition_key=True)

        return Same

    one, two = make(1), make(2)
    one(pk="a").save()
    with pytest.raises(ConfigurationError, match="table=") as caught:
        two(pk="a").save()
    assert "Same1" in str(caught.value)
    assert "Same2" in str(caught.value)
    with pytest.raises(ConfigurationError):
        two.count()
    assert one.count() == 1


def test_naming_the_table_on_one_of_two_is_not_enough(store):
    class Events(Model):
        pk = StringAttribute(partition_key=True)

    class Others(Model):
        model_config = ModelConfig(table="Events")
        pk = StringAttribute(partition_key=True)

    Events(pk="a").save()
    with pytest.raises(ConfigurationError, match="Events"):
        Others.count()


def test_defining_the_same_class_again_is_fine(store):
    def cell(*, more: bool) -> type[Model]:
        class Again(Model):
            pk = StringAttribute(partition_key=True)
            if more:
                n = NumberAttribute()

        return Again

    first = cell(more=False)
    first(pk="a").save()
    second = cell(more=True)
    second(pk="b", n=1).save()
    assert first.count() == second.count() == 2


def test_the_environment_and_then_a_file_here_are_the_default(program, path, tmp_path):
    program("Row(pk='a').save()")
    assert path.exists()
    output = program(
        """
os.environ.pop("MINTKEY_URL")
os.chdir(sys.argv[2])
Row(pk="a").save()
print(os.path.exists("mintkey.db"))
""",
        tmp_path,
    )
    assert output == "True\n"
    assert Path(tmp_path, "mintkey.db").exists()
    assert os.environ.get("MINTKEY_URL") != str(path)
