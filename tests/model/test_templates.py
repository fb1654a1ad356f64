"""Declarations of templates and discriminators: what is wrong is reported when the class is defined."""

from __future__ import annotations

from typing import Any

import pytest

from mintkey import AutoGenerate, Index, Model, ModelConfig
from mintkey.attributes import (
    BooleanAttribute,
    DateAttribute,
    DatetimeAttribute,
    NumberAttribute,
    StringAttribute,
    VersionAttribute,
)
from mintkey.errors import ConfigurationError
from mintkey.fields import KeyField

PARTS: dict[str, Any] = {
    "text": StringAttribute,
    "n": NumberAttribute,
    "at": DatetimeAttribute,
    "day": DateAttribute,
    "flag": BooleanAttribute,
    "version": VersionAttribute,
    "gsi": lambda: StringAttribute(template="G#{text}"),
}


def define(template: Any, *, key: str = "sk", **parameters: Any) -> Any:
    """Define a model with this template of its sort key, or of its partition key."""
    others = {"pk": StringAttribute(partition_key=True), **{name: make() for name, make in PARTS.items()}}
    keys: dict[str, dict[str, Any]] = {"pk": {"partition_key": True}, "sk": {"sort_key": True}, "other": {}}
    return type("Thing", (Model,), {**others, key: StringAttribute(template=template, **keys[key], **parameters)})


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("A#{missing}", "Thing has no attribute 'missing'"),
        ("A#{}", "Thing has no attribute ''"),
        ("A#{text", "expected '}' before end of string: write a literal brace twice"),
        ("A#}text", "Single '}' encountered in format string"),
        ("{text}{n:02d}", r"write a literal text between \{text\} and \{n\}"),
        ("{text}#{text}", "a part is named twice"),
        ("{text:8}", "only numbers, dates and times take a format: remove :8"),
        ("{text!r}", "conversions are not supported: remove !r"),
        ("{n}", r"a number takes a format .* \{n:08d\}"),
        ("{n:d}", "a number takes a format"),
        ("{n:8d}", "a number takes a format"),
        ("{n:099d}", "a number takes a format"),
        ("{n:04.3f}", "a number takes a format"),
        ("{n:{text}d}", "a number takes a format"),
        ("{at:%d.%m.%Y}", "a format of times begins with the year"),
        ("{at:%Y-%d}", "a format of times begins with the year"),
        ("{at:%Y-%m-%d %H:%M %p}", "a format of times begins with the year"),
        ("{at:now}", "a format of times begins with the year"),
        ("{day:%Y-%m-%d %H}", "a format of times begins with the year"),
        ("{flag}", "this BooleanAttribute cannot be a part of a key"),
        ("{version:08d}", "this VersionAttribute cannot be a part of a key"),
        ("{sk}", "this StringAttribute cannot be a part of a key"),
        ("{gsi}", "is built from a template itself: name its parts"),
        ("{text.upper}", "Thing has no attribute 'text.upper'"),
        ("", "a template is text that is not empty"),
        (7, "a template is text that is not empty"),
        ("\ud800", "a template is text that is not empty"),
    ],
)
def test_what_is_no_template(template, message):
    with pytest.raises(ConfigurationError, match=rf"Thing\.sk: template=.*: .*{message}") as wrong:
        define(template)
    assert (wrong.value.model, wrong.value.attribute) == ("Thing", "sk")


def test_a_discriminator_is_no_part():
    with pytest.raises(
        ConfigurationError, match=r"Thing\.group: .*\{kind\} is the discriminator, which cannot be a part"
    ):

        class Thing(Model):
            id = StringAttribute(partition_key=True)
            kind = StringAttribute(discriminator=True)
            group = StringAttribute(template="{kind}#{id}")


@pytest.mark.parametrize(
    "template",
    [
        "A",
        "{text}",
        "{{{text}}}",
        "A#{text}#{n:02d}",
        "{n:01d}",
        "{n:038d}",
        "{n:03.1f}",
        "{n:05.2f}",
        "{at}",
        "{at:%Y}",
        "{day:%Y%m%d}",
    ],
)
def test_what_is_a_template(template):
    assert define(template).sk.template == template


def test_a_number_of_a_partition_key_needs_no_format():
    assert define("A#{n}", key="pk").__mintkey_schema__.given_keys == ("n",)
    assert define("A#{n}", key="other").other.template == "A#{n}"


@pytest.mark.parametrize(
    "parameters",
    [
        {"default": "x"},
        {"default": AutoGenerate.ULID},
        {"on_update": AutoGenerate.ULID},
        {"required": True},
        {"max_length": 9},
        {"discriminator": True},
    ],
)
def test_a_built_value_has_no_other_source(parameters):
    with pytest.raises(ConfigurationError, match=r"Thing\.sk: the value .*: remove"):
        define("A#{text}", **parameters)


def test_constant_parts_would_overwrite():
    with pytest.raises(ConfigurationError, match=r"Thing\.a: with a constant default= of each part"):
        type(
            "Thing",
            (Model,),
            {"pk": StringAttribute(partition_key=True, template="A#{a}"), "a": StringAttribute(default="x")},
        )
    with pytest.raises(ConfigurationError, match=r"Pair\.a: with a constant default= of each part"):
        type("Pair", (Model,), {"a": KeyField(default="x"), "b": KeyField(default="y")})
    type("Pair", (Model,), {"a": KeyField(default="x"), "b": KeyField()})


def test_discriminators():
    with pytest.raises(ConfigurationError, match="has two discriminators"):
        type(
            "Thing",
            (Model,),
            {
                "pk": StringAttribute(partition_key=True),
                "a": StringAttribute(discriminator=True),
                "b": StringAttribute(discriminator=True),
            },
        )
    with pytest.raises(ConfigurationError, match=r"Thing\.pk: the value comes from the class: remove partition_key="):
        type("Thing", (Model,), {"pk": StringAttribute(partition_key=True, discriminator=True)})
    with pytest.raises(ConfigurationError, match="this class lacks"):
        type(
            "Thing",
            (Model,),
            {"model_config": ModelConfig(discriminator="x"), "pk": StringAttribute(partition_key=True)},
        )
    for wrong in ("", 7):
        with pytest.raises(ConfigurationError, match=r"Thing: discriminator= takes text"):
            type(
                "Thing",
                (Model,),
                {
                    "model_config": ModelConfig(discriminator=wrong),  # type: ignore[arg-type]
                    "pk": StringAttribute(partition_key=True),
                    "kind": StringAttribute(discriminator=True),
                },
            )


@pytest.mark.parametrize("name", ["ab", "x" * 256, "a b", "é" * 3, 7, ""])
def test_names_of_indexes(name):
    with pytest.raises(ConfigurationError, match="Index: name= takes text of 3 to 255 characters"):
        Index("status", name=name)


def test_two_indexes_have_two_names():
    with pytest.raises(ConfigurationError, match="Thing has two indexes with the name 'by_name'"):
        type(
            "Thing",
            (Model,),
            {
                "pk": StringAttribute(partition_key=True),
                "by_name": Index("pk"),
                "other": Index("pk", name="by_name"),
            },
        )
