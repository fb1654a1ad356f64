"""Attributes: the declarations of the values of a model."""

from mintkey.attributes.base import Attribute
from mintkey.attributes.compressed import CompressedAttribute
from mintkey.attributes.containers import (
    BinarySetAttribute,
    ListAttribute,
    NumberSetAttribute,
    StringSetAttribute,
)
from mintkey.attributes.documents import JSONAttribute, MapAttribute
from mintkey.attributes.scalars import (
    BinaryAttribute,
    BooleanAttribute,
    DecimalAttribute,
    EnumAttribute,
    NumberAttribute,
    StringAttribute,
    UUIDAttribute,
    VersionAttribute,
)
from mintkey.attributes.times import DateAttribute, DatetimeAttribute, ExpiresIn, TTLAttribute

__all__ = [
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
    "JSONAttribute",
    "ListAttribute",
    "MapAttribute",
    "NumberAttribute",
    "NumberSetAttribute",
    "StringAttribute",
    "StringSetAttribute",
    "TTLAttribute",
    "UUIDAttribute",
    "VersionAttribute",
]
