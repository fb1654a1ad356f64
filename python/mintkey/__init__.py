"""A typed object mapper for SQLite, Redis and DynamoDB. It generates keys and timestamps when an item is saved.

    >>> from mintkey import AutoGenerate, Model, connect
    >>> from mintkey.attributes import NumberAttribute, StringAttribute
    >>> _ = connect("sqlite://")
    >>> class Order(Model):
    ...     id = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    ...     total = NumberAttribute()
    >>> order = Order(total=99.99)
    >>> order.save()
    >>> Order.get(order.id) == order
    True

`help(mintkey.Model)` describes the methods of models, `help(mintkey.attributes)` the types of attributes,
`help(mintkey.errors)` the exceptions, and `help(mintkey.connect)` the URLs of stores.
"""

# Nothing is imported here: the command cannot report Ctrl-C in one line until this module is loaded. For type checkers,
# this name is always true.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from mintkey.attributes import Attr as Attr
    from mintkey.attributes import ExpiresIn as ExpiresIn
    from mintkey.collection import Collection as Collection
    from mintkey.copying import acopy as acopy
    from mintkey.copying import copy as copy
    from mintkey.errors import MintkeyError as MintkeyError
    from mintkey.fields import AutoFieldMixin as AutoFieldMixin
    from mintkey.fields import AutoKeyField as AutoKeyField
    from mintkey.fields import BooleanField as BooleanField
    from mintkey.fields import BytesField as BytesField
    from mintkey.fields import DateField as DateField
    from mintkey.fields import DatetimeField as DatetimeField
    from mintkey.fields import DecimalField as DecimalField
    from mintkey.fields import DictField as DictField
    from mintkey.fields import Field as Field
    from mintkey.fields import FloatField as FloatField
    from mintkey.fields import IndexedField as IndexedField
    from mintkey.fields import IntField as IntField
    from mintkey.fields import KeyField as KeyField
    from mintkey.fields import KeyFieldMixin as KeyFieldMixin
    from mintkey.fields import ListField as ListField
    from mintkey.fields import SetField as SetField
    from mintkey.fields import SortedField as SortedField
    from mintkey.fields import SortedFieldMixin as SortedFieldMixin
    from mintkey.fields import SortedKeyField as SortedKeyField
    from mintkey.fields import StringField as StringField
    from mintkey.fields import TimedeltaField as TimedeltaField
    from mintkey.fields import TimeField as TimeField
    from mintkey.fields import TupleField as TupleField
    from mintkey.fields import UniqueField as UniqueField
    from mintkey.fields import UniqueKeyField as UniqueKeyField
    from mintkey.fields import UUIDField as UUIDField
    from mintkey.generators import AutoGenerate as AutoGenerate
    from mintkey.generators import auto as auto
    from mintkey.indexes import Index as Index
    from mintkey.lookups import Q as Q
    from mintkey.mapping import Mapped as Mapped
    from mintkey.mapping import mapped as mapped
    from mintkey.model import Model as Model
    from mintkey.model_config import ModelConfig as ModelConfig
    from mintkey.pipelines import Pipeline as Pipeline
    from mintkey.pipelines import pipeline as pipeline
    from mintkey.references import Ref as Ref
    from mintkey.references import Reference as Reference
    from mintkey.references import aprefetch as aprefetch
    from mintkey.references import prefetch as prefetch
    from mintkey.stores import Store as Store
    from mintkey.stores import connect as connect
    from mintkey.stores import use_store as use_store
    from mintkey.transactions import Transaction as Transaction
    from mintkey.transactions import atransact_get as atransact_get
    from mintkey.transactions import transact_get as transact_get
    from mintkey.transactions import transaction as transaction
    from mintkey.typed import TypedModel as TypedModel

    __version__: str

# The names of each module. A module is imported on first use of a name: a program that only generates IDs loads neither
# models nor stores.
_NAMES = {
    "attributes": "Attr ExpiresIn",
    "collection": "Collection",
    "copying": "acopy copy",
    "errors": "MintkeyError",
    "fields": (
        "AutoFieldMixin AutoKeyField BooleanField BytesField DateField DatetimeField DecimalField DictField "
        "Field FloatField IndexedField IntField KeyField KeyFieldMixin ListField SetField SortedField "
        "SortedFieldMixin SortedKeyField StringField TimeField TimedeltaField TupleField UUIDField "
        "UniqueField UniqueKeyField"
    ),
    "generators": "AutoGenerate auto",
    "indexes": "Index",
    "lookups": "Q",
    "mapping": "Mapped mapped",
    "model": "Model",
    "model_config": "ModelConfig",
    "pipelines": "Pipeline pipeline",
    "references": "Ref Reference aprefetch prefetch",
    "stores": "Store connect use_store",
    "transactions": "Transaction atransact_get transact_get transaction",
    "typed": "TypedModel",
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names.split()}

# Type checkers read `__all__` only as a list of literal strings.
__all__ = [
    "Attr",
    "AutoFieldMixin",
    "AutoGenerate",
    "AutoKeyField",
    "BooleanField",
    "BytesField",
    "Collection",
    "DateField",
    "DatetimeField",
    "DecimalField",
    "DictField",
    "ExpiresIn",
    "Field",
    "FloatField",
    "Index",
    "IndexedField",
    "IntField",
    "KeyField",
    "KeyFieldMixin",
    "ListField",
    "Mapped",
    "MintkeyError",
    "Model",
    "ModelConfig",
    "Pipeline",
    "Q",
    "Ref",
    "Reference",
    "SetField",
    "SortedField",
    "SortedFieldMixin",
    "SortedKeyField",
    "Store",
    "StringField",
    "TimeField",
    "TimedeltaField",
    "Transaction",
    "TupleField",
    "TypedModel",
    "UUIDField",
    "UniqueField",
    "UniqueKeyField",
    "__version__",
    "acopy",
    "aprefetch",
    "atransact_get",
    "auto",
    "connect",
    "copy",
    "mapped",
    "pipeline",
    "prefetch",
    "transact_get",
    "transaction",
    "use_store",
]


# Hidden from type checkers, which would accept every misspelt name otherwise.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        from importlib import import_module

        if name == "__version__":
            value = import_module("mintkey._core").VERSION
        elif name in _MODULE_OF:
            value = getattr(import_module(f"mintkey.{_MODULE_OF[name]}"), name)
        else:
            raise AttributeError(f"module 'mintkey' has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    # Without the modules of the package: they are there only once something has imported them.
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
