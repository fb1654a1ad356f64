"""Fields: an alternative syntax for attributes, with the names of Redis mappers.

>>> from mintkey import Model, connect
>>> from mintkey.fields import AutoKeyField, Field, KeyField, SortedField
>>> _ = connect("sqlite://")
>>> class Order(Model):
...     id = AutoKeyField(strategy="ulid")
...     country = KeyField()
...     total = SortedField(type=float, partition_by="country")
>>> order = Order.create(country="DE", total=9.5)
>>> len(order.id)
26
>>> Order.query.filter(country="DE", total__gte=9).first() == order
True

`null=False` stands for `required=True`, and `type=` for the class of the attribute. Fields and attributes can be mixed.
"""

from mintkey.fields.base import Field, KeyFieldMixin, SortedFieldMixin
from mintkey.fields.indexed import IndexedField, SortedField, SortedKeyField, UniqueField
from mintkey.fields.keys import AutoFieldMixin, AutoKeyField, KeyField, UniqueKeyField
from mintkey.fields.typed import (
    BooleanField,
    BytesField,
    DateField,
    DatetimeField,
    DecimalField,
    DictField,
    FloatField,
    IntField,
    ListField,
    SetField,
    StringField,
    TimedeltaField,
    TimeField,
    TupleField,
    UUIDField,
)

__all__ = [
    "AutoFieldMixin",
    "AutoKeyField",
    "BooleanField",
    "BytesField",
    "DateField",
    "DatetimeField",
    "DecimalField",
    "DictField",
    "Field",
    "FloatField",
    "IndexedField",
    "IntField",
    "KeyField",
    "KeyFieldMixin",
    "ListField",
    "SetField",
    "SortedField",
    "SortedFieldMixin",
    "SortedKeyField",
    "StringField",
    "TimeField",
    "TimedeltaField",
    "TupleField",
    "UUIDField",
    "UniqueField",
    "UniqueKeyField",
]
