"""The types of `mintkey.pydantic`."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import TypeAdapter, ValidationError

import mintkey.pydantic
from mintkey.errors import ConfigurationError
from mintkey.generators import auto, generate_value
from mintkey.pydantic import Id, Snowflake, TypeId, Ulid, Uuid7

STRATEGIES = {"EpochMs": "epoch_ms", "Iso8601Ms": "iso8601_ms", "TypeId": "typeid"}
TYPES = [name for name in mintkey.pydantic.__all__ if name != "Id"]
ULID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


def adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


@pytest.mark.parametrize("name", TYPES)
def test_each_type_accepts_what_its_strategy_generates(name):
    kind = adapter(getattr(mintkey.pydantic, name))
    value = generate_value(STRATEGIES.get(name, name.lower()))
    assert kind.validate_python(value) == value
    assert kind.validate_json(kind.dump_json(value)) == value
    assert kind.json_schema()["type"] == ("integer" if isinstance(value, int) else "string")


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("wrong", ["", "x", "{}", None, [], -1, 2**70, "01ARZ3NDEKTSV4RRFFQ69G5FA!"])
def test_malformed_ids(name, wrong):
    if name.startswith("Epoch") and wrong == -1:
        return  # a second before 1970
    with pytest.raises(ValidationError):
        adapter(getattr(mintkey.pydantic, name)).validate_python(wrong)


def test_the_form_in_which_ids_are_generated():
    assert adapter(Ulid).validate_python(ULID.lower()) == ULID
    assert adapter(Uuid7).validate_python("0190163D8694739BAEA5966C26F8AD91") == "0190163d-8694-739b-aea5-966c26f8ad91"
    assert adapter(Snowflake).validate_python("1541815603606036480") == 1541815603606036480


def test_parameters():
    order: Any = TypeId["order"]  # type: ignore[misc]
    text = generate_value(auto("typeid", prefix="order"))
    assert adapter(order).validate_python(text) == text
    assert adapter(TypeId).validate_python(text) == text
    assert adapter(order).json_schema() == {"type": "string", "format": "typeid", "minLength": 32, "maxLength": 32}
    with pytest.raises(ValidationError, match='its type is "user", not "order"'):
        adapter(order).validate_python(text.replace("order", "user"))
    assert len(adapter(Annotated[str, Id("nanoid", size=8)]).validate_python("q5Jb_d0Y")) == 8
    for wrong in ({"strategy": "none"}, {"strategy": "nanoid", "size": 0}):
        with pytest.raises(ConfigurationError):
            Id(**wrong)
    with pytest.raises(TypeError, match="a function is not a strategy"):
        Id(auto(lambda: 1))
