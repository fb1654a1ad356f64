"""What is refused when a model class is defined, before any store is there."""

from __future__ import annotations

import enum
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from mintkey import Attr, AutoGenerate, Model, ModelConfig, TypedModel, auto
from mintkey.attributes import (
    Attribute,
    BinaryAttribute,
    BinarySetAttribute,
    BooleanAttribute,
    CompressedAttribute,
    DateAttribute,
    DatetimeAttribute,
    DecimalAttribute,
    EnumAttribute,
    JSONAttribute,
    ListAttribute,
    MapAttribute,
    NumberAttribute,
    NumberSetAttribute,
    StringAttribute,
    StringSetAttribute,
    TTLAttribute,
    UUIDAttribute,
    VersionAttribute,
)
from mintkey.errors import ConfigurationError, MintkeyError
from mintkey.fields import AutoKeyField, DatetimeField, KeyField


def define(**members: Any) -> Any:
    """A model class `Order` with these members, and a partition key unless it has one."""
    keyed = any(isinstance(one, Attribute) and one.partition_key for one in members.values())
    if not keyed:
        members = {"pk": StringAttribute(partition_key=True), **members}
    return type("Order", (Model,), members)


def refused(match: str, **members: Any) -> ConfigurationError:
    with pytest.raises(ConfigurationError, match=match) as caught:
        define(**members)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, MintkeyError)
    assert caught.value.model == "Order"
    return caught.value


# Strategies and attribute types.

TEXTS = {"UUID4", "UUID7", "ULID", "KSUID", "NANOID", "TYPEID", "XID", "CUID2", "ISO8601", "ISO8601_MS"}
INTEGERS = {"SNOWFLAKE", "EPOCH", "EPOCH_MS"}
TIMES = {"EPOCH", "EPOCH_MS", "ISO8601", "ISO8601_MS"}
IDENTS = {"UUID4", "UUID7", "ULID", "TYPEID"}
FITTING: dict[type[Attribute[Any]], set[str]] = {
    StringAttribute: TEXTS,
    NumberAttribute: INTEGERS,
    DecimalAttribute: INTEGERS,
    DatetimeAttribute: TIMES,
    DateAttribute: TIMES,
    TTLAttribute: TIMES,
    UUIDAttribute: IDENTS,
    BinaryAttribute: IDENTS,
    BooleanAttribute: set(),
    ListAttribute: set(),
    MapAttribute: set(),
    StringSetAttribute: set(),
    NumberSetAttribute: set(),
    BinarySetAttribute: set(),
    CompressedAttribute: set(),
}


@pytest.mark.parametrize("parameter", ["default", "on_update"])
@pytest.mark.parametrize("member", AutoGenerate, ids=lambda member: member.name)
@pytest.mark.parametrize("kind", FITTING)
def test_a_strategy_fits_its_attribute_or_is_refused(kind, member, parameter):
    if member.name in FITTING[kind]:
        define(value=kind(**{parameter: member}))
        return
    error = refused(r"Order\.value", value=kind(**{parameter: member}))
    assert member.value in str(error).lower()
    assert error.attribute == "value"


def test_the_two_examples_of_strategies_that_do_not_fit():
    assert "ulid" in str(refused(r"Order\.n", n=NumberAttribute(default=AutoGenerate.ULID))).lower()  # type: ignore[call-overload]
    assert "epoch" in str(refused(r"Order\.n", n=StringAttribute(default=AutoGenerate.EPOCH))).lower()  # type: ignore[call-overload]
    with pytest.raises(ConfigurationError, match=r"Order\.pk"):
        define(pk=StringAttribute(partition_key=True, default=AutoGenerate.EPOCH))  # type: ignore[call-overload]


def test_a_strategys_name_as_a_default_is_literal_text():
    model = define(kind=StringAttribute(default="ulid"))
    assert model(pk="a").kind == "ulid"


def test_on_update_takes_a_strategy_only():
    for wrong in ("iso8601", "text", 5, lambda: "x"):
        refused(r"Order\.at.*on_update", at=StringAttribute(on_update=wrong))  # type: ignore[call-overload]
    define(at=StringAttribute(on_update=auto(lambda: "x")))


@pytest.mark.parametrize("length", [8, 26, 31])
def test_a_cut_uuid_is_no_uuid(length):
    refused(
        r"Order\.ident: the strategy 'uuid4' works with a UUIDAttribute only without length=",
        ident=UUIDAttribute(default=auto("uuid4", length=length)),
    )


@pytest.mark.parametrize("parameter", ["default", "on_update"])
@pytest.mark.parametrize(
    ("kind", "strategy"),
    [
        (DatetimeAttribute, auto("iso8601", prefix="X")),
        (DateAttribute, auto("iso8601_ms", prefix="X", plus=timedelta(1))),
        (TTLAttribute, auto("iso8601", prefix="X")),
        (UUIDAttribute, auto("uuid7", prefix="X")),
        (UUIDAttribute, auto("ulid", prefix="ten-digits")),
        (BinaryAttribute, auto("typeid", prefix="user")),
    ],
    ids=str,
)
def test_a_prefix_is_for_text_only(kind, strategy, parameter):
    name = strategy.strategy.name
    error = refused(
        rf"^Order\.value: the strategy '{name}' works with a {kind.__name__} only without prefix=: leave it out",
        value=kind(**{parameter: strategy}),
    )
    assert error.attribute == "value"


def test_a_fixed_expiry_is_refused_and_a_lambda_proposed():
    error = refused(r"Order\.until", until=TTLAttribute(default=datetime(2024, 1, 1, tzinfo=timezone.utc)))  # type: ignore[call-overload]
    assert "lambda" in str(error)
    assert "ExpiresIn.hours(24)" in str(error)


# Keys.


def test_two_keys_of_a_kind_are_refused():
    pk = StringAttribute(partition_key=True)
    error = refused("partition", pk=pk, qk=StringAttribute(partition_key=True))
    assert "'pk'" in str(error)
    assert "'qk'" in str(error)
    refused("sort", sk=StringAttribute(sort_key=True), tk=NumberAttribute(sort_key=True))


def test_one_attribute_cannot_be_both_keys():
    refused(r"pk", pk=StringAttribute(partition_key=True, sort_key=True))


def test_a_model_of_attributes_needs_a_partition_key():
    with pytest.raises(ConfigurationError, match="partition key") as caught:
        type("Order", (Model,), {"sk": StringAttribute(sort_key=True)})
    assert "partition_key=True" in str(caught.value)
    with pytest.raises(ConfigurationError, match="partition key"):
        type("Order", (Model,), {})


@pytest.mark.parametrize(
    "kind",
    [
        BooleanAttribute,
        ListAttribute,
        MapAttribute,
        JSONAttribute,
        CompressedAttribute,
        StringSetAttribute,
        NumberSetAttribute,
        BinarySetAttribute,
        TTLAttribute,
        VersionAttribute,
    ],
)
@pytest.mark.parametrize("key", ["partition_key", "sort_key"])
def test_keys_are_text_numbers_or_bytes(kind, key):
    refused(r"Order\.key", key=kind(**{key: True}))


def test_keys_may_be_of_any_type_that_is_stored_as_one():
    for kind in (NumberAttribute, DecimalAttribute, BinaryAttribute, DatetimeAttribute, DateAttribute, UUIDAttribute):
        define(pk=kind(partition_key=True), sk=kind(sort_key=True))


def test_an_attribute_of_a_kind_that_there_is_once():
    refused("VersionAttribute", v=VersionAttribute(), w=VersionAttribute())
    refused("TTLAttribute", t=TTLAttribute(), u=TTLAttribute())


def test_a_version_counts_by_itself():
    for parameters in ({"default": 1}, {"default": AutoGenerate.EPOCH}, {"on_update": AutoGenerate.EPOCH}):
        refused(r"Order\.v", v=VersionAttribute(**parameters))


@pytest.mark.parametrize(
    "parameters",
    [
        {"algorithm": "rar"},
        {"algorithm": "zstd", "level": 23},
        {"algorithm": "gzip", "level": 0},
        {"algorithm": "lz4", "level": 1},
        {"min_size": -1},
        {"threshold": 0},
        {"threshold": 1.5},
    ],
    ids=str,
)
def test_compression_that_does_not_exist(parameters):
    refused(r"Order\.packed", packed=CompressedAttribute(**parameters))


def test_the_name_of_a_strategy_is_no_default_of_a_key():
    told = r"Order\.sk: default='ulid' is plain text, .*: use auto\('ulid'\) or AutoGenerate\.ULID to generate"
    refused(told, sk=StringAttribute(sort_key=True, default="ulid"))
    define(kind=StringAttribute(default="ulid"))
    for key in (StringAttribute(partition_key=True, default="iso8601_ms"), KeyField(default="iso8601_ms")):
        with pytest.raises(ConfigurationError, match=r"Named\.key: .* AutoGenerate\.ISO8601_MS"):
            type("Named", (Model,), {"key": key})


@pytest.mark.parametrize("attribute", [DatetimeAttribute, DatetimeField, TTLAttribute])
def test_a_fixed_moment_is_no_default(attribute):
    error = refused(r"Order\.at", at=attribute(default=datetime(2024, 1, 1, tzinfo=timezone.utc)))
    assert "lambda" in str(error)


@pytest.mark.parametrize("key", [{"default": "x"}, {"default": 5}], ids=["text", "number"])
def test_a_constant_partition_key_needs_a_sort_key(key):
    kind = StringAttribute if key["default"] == "x" else NumberAttribute
    with pytest.raises(ConfigurationError, match=r"Named\.pk: with a constant default="):
        type("Named", (Model,), {"pk": kind(partition_key=True, **key)})
    type("Named", (Model,), {"pk": kind(partition_key=True, **key), "sk": StringAttribute(sort_key=True)})


def test_a_key_is_never_null():
    for names in ({"pk": KeyField(null=True)}, {"a": KeyField(), "b": KeyField(null=True)}):
        with pytest.raises(ConfigurationError, match=r"Named\.(pk|b): a key always has a value: remove null=True"):
            type("Named", (Model,), names)
    type("Named", (Model,), {"id": AutoKeyField(), "b": KeyField(null=True)})


@pytest.mark.parametrize("attribute", [DatetimeAttribute, DateAttribute, UUIDAttribute])
def test_stored_as_takes_known_forms(attribute):
    for given in ("other", 5, ["micro"]):
        refused(r"Order\.at: stored_as= takes", at=attribute(stored_as=given))


def test_an_enum_attribute_takes_an_enum():
    refused(r"Order\.colour", colour=EnumAttribute(str))
    refused(r"Order\.colour", colour=EnumAttribute("red"))  # type: ignore[call-overload]
    define(colour=EnumAttribute(enum.IntEnum))


def test_a_map_does_not_hold_scalars():
    refused(r"Order\.data", data=MapAttribute(int))


# Names.


PUBLIC = sorted(name for name in vars(Model) if not name.startswith("_"))
KEYWORDS = ["limit", "index", "condition", "upsert", "descending", "attributes", "consistent", "skip_hooks"]
KEYWORDS += ["pipeline", "replace", "segments"]


@pytest.mark.parametrize(
    "name", sorted({*PUBLIC, *KEYWORDS, "query", "count", "save", "asave", "model_config", "self", "cls"})
)
def test_names_that_model_uses_are_refused_and_a_way_out_is_proposed(name):
    if name == "model_config":
        with pytest.raises(ConfigurationError, match="model_config"):
            define(model_config=NumberAttribute())
        return
    error = refused(rf"Order\.{name}", **{name: NumberAttribute()})
    assert f'{name}_ = NumberAttribute(…, alias="{name}")' in str(error)
    model = define(**{f"{name}_": NumberAttribute(alias=name)})
    assert model(pk="a", **{f"{name}_": 1}).to_dict() == {"pk": "a", f"{name}_": 1}


@pytest.mark.parametrize("name", ["type", "id", "dict", "None_", "print", "object", "values", "isinstance", "cls_"])
@pytest.mark.parametrize("parameters", [{}, {"default": "x"}, {"default": auto("ulid", when="init")}], ids=str)
def test_names_of_builtins_are_good_names(name, parameters):
    model = define(**{name: StringAttribute(**parameters)})
    assert getattr(model(pk="a", **{name: "given"}), name) == "given"
    default = getattr(model(pk="a"), name)
    assert (default is None) == (not parameters)


def test_two_attributes_of_one_stored_name():
    error = refused("x", x=NumberAttribute(), y=NumberAttribute(alias="x"))
    assert "alias" in str(error)


def test_one_attribute_object_under_two_names():
    one = NumberAttribute()
    refused("declare two", x=one, y=one)


@pytest.mark.parametrize("table", ["ab", "x" * 256, "a b", "a/b", "é23", "a\0b", "", "a'b", "tab\nle", 5])
def test_table_names_that_no_store_takes(table):
    with pytest.raises(ConfigurationError, match="table"):
        define(model_config=ModelConfig(table=table))


@pytest.mark.parametrize("table", ["abc", "x" * 255, "a.b-c_D9", "...", "---", "sqlite_master", "select", "123"])
def test_table_names_that_every_store_takes(table):
    define(model_config=ModelConfig(table=table))


def test_a_class_name_that_is_no_table_name():
    with pytest.raises(ConfigurationError, match="table="):
        type("Ab", (Model,), {"pk": StringAttribute(partition_key=True)})
    type("Ab", (Model,), {"pk": StringAttribute(partition_key=True), "model_config": ModelConfig(table="long-enough")})


def test_model_config_is_a_model_config():
    for wrong in ({"table": "orders"}, "orders", ModelConfig, None):
        with pytest.raises(ConfigurationError, match="ModelConfig"):
            define(model_config=wrong)


def test_unknown_parameters_are_type_errors():
    for make in (
        lambda: ModelConfig(tabel="x"),  # type: ignore[call-arg]
        lambda: StringAttribute(partitionkey=True),  # type: ignore[call-overload]
        lambda: StringAttribute(primary=True),  # type: ignore[call-overload]
        lambda: auto("ulid", size=3),
    ):
        with pytest.raises(TypeError):
            make()


# Inheritance.


class Base(Model):
    model_config = ModelConfig(abstract=True, skip_hooks=True, store="elsewhere", table="bases")
    pk = StringAttribute(partition_key=True)
    created = StringAttribute(default=AutoGenerate.ISO8601)
    kind = StringAttribute(default="base")


class Child(Base):
    kind = StringAttribute(default="child")
    extra = NumberAttribute()


class Grandchild(Child):
    model_config = ModelConfig(store="here")
    created = None  # type: ignore[assignment]


def test_attributes_and_configuration_are_inherited_but_no_table_and_no_abstract():
    schema = Child.__mintkey_schema__
    assert (schema.table, schema.config.store, schema.skip_hooks, schema.config.abstract) == (
        "Child",
        "elsewhere",
        True,
        False,
    )
    assert Child(pk="a").to_dict() == {"pk": "a", "kind": "child"}
    assert Child(pk="a").unminted == {"created"}
    schema = Grandchild.__mintkey_schema__
    assert (schema.table, schema.config.store, schema.skip_hooks) == ("Grandchild", "here", True)
    assert list(schema.shown) == ["pk", "kind", "extra"]


def test_an_attribute_can_be_replaced_and_taken_away_in_a_subclass():
    with pytest.raises(TypeError, match="created"):
        Grandchild(pk="a", created="x")
    assert Base.__mintkey_schema__.attributes["kind"].default == "base"


def test_several_bases():
    class Stamped(Model):
        model_config = ModelConfig(abstract=True)
        stamp = NumberAttribute(default=AutoGenerate.EPOCH)

    class Tagged(Model):
        model_config = ModelConfig(abstract=True)
        tag = StringAttribute()

    class Both(Stamped, Tagged):
        pk = StringAttribute(partition_key=True)

    assert set(Both.__mintkey_schema__.shown) == {"stamp", "tag", "pk"}
    assert Both(pk="a", tag="x").unminted == {"stamp"}


def test_an_abstract_base_needs_no_key():
    class Keyless(Model):
        model_config = ModelConfig(abstract=True)
        n = NumberAttribute()

    with pytest.raises(ConfigurationError, match="partition key"):
        type("Concrete", (Keyless,), {})


def test_models_work_with_annotations_and_as_typed_models():
    class Typed(TypedModel):
        pk: Attr[str] = StringAttribute(partition_key=True)
        total: Attr[float] = NumberAttribute()

    assert Typed(pk="a", total=5).to_dict() == {"pk": "a", "total": 5}
