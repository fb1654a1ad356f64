"""What `model_dump()` returns of structured values can be validated and saved, and fits the schema where it can."""

from __future__ import annotations

import dataclasses
import json
import warnings
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Json, TypeAdapter, computed_field

from mintkey import Model, ModelConfig, connect
from mintkey.attributes import IntegerAttribute, JSONAttribute, ListAttribute, MapAttribute, StringAttribute


class Settings(BaseModel):
    numbers: Json[list[int]]
    more: list[Json[dict[str, Decimal]]] = []


class Counted(Settings):
    @computed_field
    def count(self) -> int:
        return len(self.numbers)


@dataclasses.dataclass
class Blob:
    content: bytes
    size: Decimal = Decimal("0.1")
    other: Any = None


@dataclasses.dataclass
class Encoded:
    __pydantic_config__ = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    content: bytes


class Part(Model):
    model_config = ModelConfig(abstract=True)

    n = IntegerAttribute(required=True)


class File(Model):
    model_config = ModelConfig(table="File")

    pk = StringAttribute(partition_key=True)
    settings = MapAttribute(Settings)
    counted = JSONAttribute(Counted)
    several = JSONAttribute(list[Settings])
    blob = MapAttribute(Blob)
    encoded = MapAttribute(Encoded)
    parts = ListAttribute(of=Part)


SETTINGS: Any = {"numbers": "[1,2]", "more": ['{"a":"1.5"}']}
VALUES: list[dict[str, Any]] = [
    {"settings": Settings(**SETTINGS)},
    {"counted": Counted(**SETTINGS)},
    {"several": [Settings(**SETTINGS), Settings.model_validate({"numbers": "[]"})]},
    {"blob": Blob(b"text")},
    {"blob": Blob(b"\xff\0", Decimal("1E+3"), {"a": [b"\xfe"]})},
    {"blob": Blob(b"text", other=b"\0")},
    {"blob": Blob(b"", Decimal("1.50"), {"$B": "AAE="})},
    {"encoded": Encoded(b"\xff\0")},
]


@pytest.mark.parametrize("values", VALUES, ids=str)
async def test_each_dump_is_validated_and_saved_again(do, values):
    file = File(pk="a", **values)
    await do.save(file)
    response = TypeAdapter(File)
    for dumped in (
        file.model_dump(),
        file.model_dump(mode="json"),
        file.model_dump(by_alias=True, exclude_none=True),
        response.dump_python(file),
        response.dump_python(file, mode="json"),
    ):
        read = File.model_validate(dumped)
        assert read.to_dict() == file.to_dict()
        await do.save(read)
        found = await do.get(File, pk="a")
        assert found.to_dict() == file.to_dict()
    text = json.dumps(response.dump_python(file, mode="json"))
    assert File.model_validate_json(text).to_dict() == response.validate_json(text).to_dict() == file.to_dict()


def test_dumps_fit_the_schema_unless_bytes_are_no_text():
    def blob(value: Blob) -> Any:
        return File(pk="a", blob=value).model_dump(mode="json")["blob"]

    assert blob(Blob(b"text")) == {"content": "text", "size": "0.1", "other": None}
    assert blob(Blob(b"text", other=b"\0")) == {"content": {"$B": "dGV4dA=="}, "size": "0.1", "other": {"$B": "AA=="}}
    assert blob(Blob(b"\xff")) == {"content": {"$B": "/w=="}, "size": "0.1", "other": None}
    assert File(pk="a", encoded=Encoded(b"\xff")).model_dump(mode="json")["encoded"] == {"content": "_w=="}
    assert File(pk="a", counted=Counted(**SETTINGS)).model_dump()["counted"] == SETTINGS


def test_a_null_among_elements_is_dumped_with_a_warning():
    class Raw(Model):
        model_config = ModelConfig(table="File")

        pk = StringAttribute(partition_key=True)
        parts = ListAttribute()

    with connect("sqlite://"):
        Raw(pk="a", parts=[None, {"n": 1}]).save()
        file = File.get("a")
    assert file is not None
    with pytest.warns(
        UserWarning, match=r"File\.parts\[…\] contains a null, which is no value of its elements: remove"
    ):
        assert TypeAdapter(File).dump_python(file, mode="json")["parts"] == [None, {"n": 1}]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert file.model_dump(mode="json")["parts"] == [None, {"n": 1}]
