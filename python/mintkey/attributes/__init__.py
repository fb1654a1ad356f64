"""Attributes: the declarations of the values of a model."""

from mintkey.attributes.base import Attr, Attribute
from mintkey.attributes.compressed import CompressedAttribute
from mintkey.attributes.containers import (
    BinarySetAttribute,
    NumberSetAttribute,
    StringSetAttribute,
)
from mintkey.attributes.documents import JSONAttribute, ListAttribute, MapAttribute
from mintkey.attributes.scalars import (
    BinaryAttribute,
    BooleanAttribute,
    DecimalAttribute,
    EnumAttribute,
    IntegerAttribute,
    NumberAttribute,
    StringAttribute,
    UUIDAttribute,
    VersionAttribute,
)
from mintkey.attributes.times import (
    DateAttribute,
    DatetimeAttribute,
    ExpiresIn,
    TimeAttribute,
    TimedeltaAttribute,
    TTLAttribute,
)

__all__ = [
    "Attr",
    "Attribute",
    "BinaryAttribute",
    "BinarySetAttribute",
    "BooleanAttribute",
    "CompressedAttribute",
    "DateAttribute",
    "DatetimeAttribute",
    "DecimalAttribute",
    "EnumAttribute",
    "ExpiresIn",
    "IntegerAttribute",
    "JSONAttribute",
    "ListAttribute",
    "MapAttribute",
    "NumberAttribute",
    "NumberSetAttribute",
    "StringAttribute",
    "StringSetAttribute",
    "TTLAttribute",
    "TimeAttribute",
    "TimedeltaAttribute",
    "UUIDAttribute",
    "VersionAttribute",
]
