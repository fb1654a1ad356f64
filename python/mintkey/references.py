"""References: attributes that store the key of another model's item.

>>> from mintkey import Model, connect
>>> from mintkey.attributes import StringAttribute
>>> from mintkey.references import Reference, prefetch
>>> _ = connect("sqlite://")
>>> class Customer(Model):
...     id = StringAttribute(partition_key=True)
>>> class Order(Model):
...     id = StringAttribute(partition_key=True)
...     customer = Reference(Customer, index=True)
>>> ada = Customer.create(id="ada")
>>> order = Order.create(id="1", customer=ada)
>>> [found.customer.get() == ada for found in Order.query(customer=ada)]
[True]
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterable, Iterable, Iterator, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, overload

from mintkey import _core
from mintkey.attributes.base import Attribute, Normalized
from mintkey.attributes.options import Default, Maybe, Sure
from mintkey.attributes.reading import NUMBERS
from mintkey.definitions.derived import COMPOUND_KEY
from mintkey.definitions.schema import StoredKey
from mintkey.definitions.templates import key_text, key_value
from mintkey.errors import CONVERSION_ERRORS, InvalidValue, cause, nearest, shortened
from mintkey.model import Model
from mintkey.operations import arguments, item_operations
from mintkey.operations.writing import refuse_async_hooks
from mintkey.stores import store_of

if TYPE_CHECKING:
    from typing import TypeGuard

    from typing_extensions import TypeVar as DefaultingTypeVar
    from typing_extensions import Unpack

    from mintkey.attributes.base import ModelAttribute
    from mintkey.definitions.schema import Schema
    from mintkey.operations.arguments import Key
    from mintkey.stores import Operation

    M = DefaultingTypeVar("M", bound=Model, default=Any)
    Read = DefaultingTypeVar("Read", default="Ref[M] | None", covariant=True)
    Owner = TypeVar("Owner")
else:
    M, Read = map(TypeVar, ("M", "Read"))

__all__ = ["Ref", "Reference", "aprefetch", "prefetch"]

R = TypeVar("R", bound=Model)
T = TypeVar("T", bound=Model)


class Reference(Normalized[Any, Read], Generic[M, Read]):
    """The key of an item of another model, stored as text. Nothing is read until `get()` of the value is called.

    It takes an instance, a key as `batch_get()` takes it, or another `Ref`, and is read as a `Ref`. A key of one part
    is stored as its text; of a key of two parts both are stored, percent-escaped and joined by `:`. No row is checked,
    changed or deleted for a reference.

    Args:
        model: the model, or its name if it is defined later, or is the same class. A name that several modules have is
            written with the module: `"shop.models.Customer"`.
    """

    kind = "string"
    stored_types = (str, *NUMBERS, bytes)
    reads = "keys, which are text, numbers or binary"
    key_kind = "string"
    tests = "unordered"

    @overload
    def __init__(self: Reference[R, Ref[R] | None], model: type[R], **parameters: Unpack[Maybe]) -> None: ...
    @overload
    def __init__(
        self: Reference[R, Ref[R]], model: type[R], **parameters: Unpack[Sure[Default[Ref[R] | R | Key]]]
    ) -> None: ...
    @overload
    def __init__(self, model: str, **parameters: Unpack[Maybe]) -> None: ...
    @overload
    def __init__(self: Reference[Any, Ref[Any]], model: str, **parameters: Unpack[Sure[Any]]) -> None: ...
    def __init__(self, model: type[Any] | str, **parameters: Any) -> None:
        super().__init__(**parameters)
        self._model = model
        self._found: type[M] | None = None

    if TYPE_CHECKING:

        @overload  # type: ignore[override]
        def __get__(self, instance: None, owner: type[Owner]) -> ModelReference[Owner, M]: ...
        @overload
        def __get__(self, instance: object, owner: type) -> Read: ...
        def __get__(  # pyright: ignore[reportIncompatibleMethodOverride]
            self, instance: object, owner: type
        ) -> object: ...
        def __set__(  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
            self, instance: object, value: Ref[M] | M | Key | None
        ) -> None: ...

    @property
    def target(self) -> type[M]:
        """The model of the items. Raises `ConfigurationError` if no model has the name."""
        if self._found is None:
            given = self._model
            found: Any = self._named(given) if isinstance(given, str) else given
            self._found = found.__mintkey_schema__.owner
        return cast("type[M]", self._found)

    def _named(self, name: str) -> type[M]:
        found = [model for model in _models(Model) if name in {model.__name__, f"{model.__module__}.{_path(model)}"}]
        owner = self._owner
        near = [model for model in found if owner is not None and model.__module__ == owner.__module__]
        nearest = [model for model in near if _scope(model) == _scope(owner)]
        chosen = nearest or near or found
        if not chosen:
            raise self._declaration_error(f"no model has the name {name!r}: define or import it first")
        if len({(model.__module__, _path(model)) for model in chosen}) > 1:
            modules = ", ".join(sorted(f"{model.__module__}.{_path(model)}" for model in chosen))
            raise self._declaration_error(f"several models have the name {name!r}: write one of {modules}")
        return chosen[-1]

    def check_declaration(self) -> None:
        given: Any = self._model
        schema = getattr(given, "__mintkey_schema__", None) if isinstance(given, type) else None
        if not isinstance(given, str) and (schema is None or schema.config.abstract):
            raise self._declaration_error(
                f"a Reference takes a model with a table, or its name, not {shortened(given)}"
            )
        super().check_declaration()

    def check_default(self) -> None:
        # A model that is named may be defined later: then the save checks the default.
        if not isinstance(self._model, str):
            super().check_default()

    def normal(self, value: Any) -> Any:
        if value is None or isinstance(value, Ref):
            return value
        _ = self.target  # a name that no model has is reported at once
        return Ref(self, value)

    def encode(self, value: Any) -> str:
        ref = value if isinstance(value, Ref) else Ref(self, value)
        if ref.model is not self.target:
            raise TypeError(f"expected a reference to {self.target.__name__}, got one to {ref.model.__name__}")
        return ref._stored()

    def decode(self, stored: Any) -> Ref[M]:
        return Ref(self, None, key_text(stored))

    @property
    def described(self) -> str:
        return "Reference"

    def to_plain(self, value: Any) -> str:
        """Return the JSON of a reference: its stored text."""
        return self.encode(value)

    def from_plain(self, plain: Any) -> Any:
        """Return the reference of its JSON, or of a key."""
        ref = Ref(self, None, plain) if isinstance(plain, str) else self.normal(plain)
        ref._check()
        self.encode(ref)
        return ref


if TYPE_CHECKING:

    class ModelReference(ModelAttribute[Owner, "Ref[M] | M | Key"], Generic[Owner, M]):
        """A reference of a model, as `Order.customer` is one of `Order`."""

        target: type[M]


class _KeySerializer:
    """What pydantic uses for references where no type says what the value is, as in a `dict[str, Any]`: their key."""

    def __get__(self, instance: object, owner: type[Any]) -> Any:
        try:
            from pydantic_core import SchemaSerializer, core_schema
        except ImportError as error:
            raise AttributeError("__pydantic_serializer__") from error
        key = core_schema.plain_serializer_function_ser_schema(lambda ref: ref.key, when_used="json")
        owner.__pydantic_serializer__ = found = SchemaSerializer(core_schema.any_schema(serialization=key))
        return found


class Ref(Generic[M]):
    """The value of a `Reference`: the key of an item, and the instance if it was assigned or prefetched.

    Two references are equal if they have the same model and key.
    """

    __slots__ = ("_given", "_instance", "_is_known", "_reference", "_text")

    def __init__(
        self, reference: Reference[M, Any] | ModelReference[Any, M], given: Any, text: str | None = None
    ) -> None:
        self._reference = reference
        self._given = given
        self._text = text
        self._instance: Any = given if _is_item(given) else None
        #: Whether `get()` needs no I/O.
        self._is_known: bool = _is_item(given)

    @property
    def model(self) -> type[M]:
        """The model of the item."""
        return self._reference.target

    @property
    def key(self) -> Any:
        """The key as methods of the model take it: the value of its only part, or a tuple of the parts."""
        values = tuple(self._values().values())
        return values[0] if len(values) == 1 else values

    # What `dict()` needs, which FastAPI's `jsonable_encoder()` calls.

    def keys(self) -> tuple[str, ...]:
        """Return `("key",)`, so that `dict(ref)` is `{"key": ref.key}`."""
        return ("key",)

    def __getitem__(self, name: str) -> Any:
        if name != "key":
            raise KeyError(name)
        return self.key

    __pydantic_serializer__ = _KeySerializer()

    # Not a collection: conditions and batches take it for one value.
    __iter__ = None

    def get(self, *, consistent: bool | None = None) -> M | None:
        """Return the item, or None if it does not exist. An assigned or prefetched instance is returned without I/O.

        Args:
            consistent: include all writes that were acknowledged before the call. By default as the model of the item
                says.
        """
        if self._is_known:
            return self._instance  # type: ignore[no-any-return]
        schema = self.model.__mintkey_schema__
        refuse_async_hooks(schema, "after_load")
        return store_of(schema).run(self._reading(schema, consistent))

    async def aget(self, *, consistent: bool | None = None) -> M | None:
        """Async version of `get()`."""
        if self._is_known:
            return self._instance  # type: ignore[no-any-return]
        schema = self.model.__mintkey_schema__
        return await store_of(schema).arun(self._reading(schema, consistent))

    def _reading(self, schema: Schema, consistent: bool | None) -> Operation[M | None]:
        return item_operations.get(schema, self._stored_key().stored, self.model._loaded, consistent=consistent)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Ref):
            return NotImplemented
        if self is other:
            return True
        try:
            return self.model is other.model and self._stored() == other._stored()
        except CONVERSION_ERRORS:
            return False  # a value that is not a key

    def __hash__(self) -> int:
        return hash((self.model.__name__, self._stored()))

    def __repr__(self) -> str:
        try:
            return f"Ref({self.model.__name__}, {shortened(self._stored())})"
        except CONVERSION_ERRORS:
            return f"Ref({shortened(self._given)})"

    def __copy__(self) -> Ref[M]:
        return self

    def __deepcopy__(self, memo: object) -> Ref[M]:
        # Copies of an item refer to the same one.
        return self

    def _stored(self) -> str:
        """Return the stored text. Raises `ValueError` or `TypeError` with the reason if there is no key."""
        if self._text is not None:
            return self._text
        given: Any = self._given
        if _is_item(given):
            # The key of a new instance may change until it is saved.
            return _text_of(self._schema_of(given), _key_of(given))
        schema = self.model.__mintkey_schema__
        key, _ = arguments.key(schema, arguments.named_key(schema, given))
        self._text = _text_of(schema, key)
        return self._text

    def _schema_of(self, instance: Model) -> Schema:
        schema, own = self.model.__mintkey_schema__, instance.__mintkey_schema__
        if not isinstance(instance, self.model) or own.table != schema.table:
            raise TypeError(f"expected {self.model.__name__} or its key, got {type(instance).__name__}")
        return own

    def _parts(self) -> dict[str, str]:
        """Return the text of each part of the stored key, by attribute name."""
        names, text = self.model.__mintkey_schema__.keys, self._stored()
        return {names[0]: text} if len(names) == 1 else _pieces(text, names)

    def _values(self) -> dict[str, Any]:
        """Return the values of the key, by attribute name."""
        schema = self.model.__mintkey_schema__
        values: dict[str, Any] = {}
        try:
            for name, text in self._parts().items():
                if name == COMPOUND_KEY:
                    pieces = _pieces(text, schema.parts)
                    values.update((part, key_value(schema.attributes[part], piece)) for part, piece in pieces.items())
                elif schema.derived is not None and name in schema.derived.sources:
                    parsed = schema.derived.sources[name].parsed(text)
                    if parsed is None:
                        raise ValueError(f"{shortened(text)} does not fit the template of {schema.model}.{name}")
                    values.update(parsed)
                else:
                    values[name] = key_value(schema.attributes[name], text)
            return {name: values[name] for name in schema.given_keys}
        except CONVERSION_ERRORS as error:
            raise self._unusable(error) from error

    def _check(self) -> None:
        """Raise `InvalidValue` if the text is not one of a key that an item of the model can have."""
        values = self._values()
        try:
            arguments.key(self.model.__mintkey_schema__, values)
        except CONVERSION_ERRORS as error:
            raise self._unusable(error) from error

    def _stored_key(self) -> StoredKey:
        """Return the key for reading the item. The stored text of the row is kept, whatever form it has."""
        schema = self.model.__mintkey_schema__
        try:
            entries = (
                f"{json.dumps(schema.attributes[name].stored_name)}:{_json(schema.attributes[name], text)}"
                for name, text in self._parts().items()
            )
            key = schema.codec.key_of(_core.Item.from_json(f"{{{','.join(entries)}}}"))
        except CONVERSION_ERRORS as error:
            raise self._unusable(error) from error
        return StoredKey({}, schema.table, key)

    def _unusable(self, error: Exception) -> InvalidValue:
        label, model = self._reference._label, self.model.__name__
        shown = self._given if self._text is None else self._text
        return InvalidValue(
            f"{label}: {shortened(shown)} is not a key of {model}: {cause(error)}",
            model=self._reference.model,
            attribute=self._reference.name,
        )


def _is_item(given: object) -> TypeGuard[Model]:
    """Return whether this is an instance of a model, or of a class that is mapped like one."""
    return not isinstance(given, type) and hasattr(given, "__mintkey_schema__")


def _key_of(instance: Model) -> _core.Key:
    """Return the key of an instance, which may be new."""
    schema, state = instance.__mintkey_schema__, instance._state
    loaded = getattr(state, "loaded", None)
    if loaded is not None:
        return schema.codec.key_of(loaded)
    missing = [name for name in schema.given_keys if instance.__dict__.get(name) is None]
    if missing:
        raise ValueError(
            f"this {schema.model} has no {' and no '.join(missing)} yet: save() it first, "
            'or generate its key at construction with auto(…, when="init")'
        )
    return schema.codec.key(schema.with_key(instance.__dict__))


def _text_of(schema: Schema, key: _core.Key) -> str:
    parts = [key_text(stored) for stored in schema.codec.key_dict(key).values()]
    return parts[0] if len(parts) == 1 else ":".join(part.replace("%", "%25").replace(":", "%3A") for part in parts)


def _pieces(text: str, names: Sequence[str]) -> dict[str, str]:
    """Return the text of each part of a key that was joined by `:`, by name."""
    pieces = text.split(":")
    if len(pieces) != len(names):
        raise ValueError(f"expected the texts of {', '.join(names)}, joined by ':'")
    return {name: piece.replace("%3A", ":").replace("%25", "%") for name, piece in zip(names, pieces, strict=True)}


def _json(attribute: Attribute[Any], text: str) -> str:
    """Return the text of a key part in the JSON of stored items."""
    if attribute.key_kind == "string":
        return json.dumps(text, ensure_ascii=False)
    if attribute.key_kind == "binary":
        return json.dumps({"$B": base64.b64encode(bytes.fromhex(text)).decode()})
    return _core.number_text(Decimal(text))


def _models(base: type[Any]) -> Iterator[type[Any]]:
    """Return all models with a table, in the order of their definition below each base."""
    for model in base.__subclasses__():
        schema = vars(model).get("__mintkey_schema__")
        if schema is not None and not schema.config.abstract:
            yield model
        yield from _models(model)


def _path(model: type[Any]) -> str:
    return model.__qualname__.replace("<locals>.", "")


def _scope(model: type[Any] | None) -> str:
    return "" if model is None else model.__qualname__.rpartition(".")[0]


# Prefetching.


def prefetch(items: Iterable[T], *names: str, consistent: bool | None = None) -> list[T]:
    """Read the items that attributes of `items` refer to, in batches; return the items as a list.

    Afterwards `get()` and `aget()` of these references need no I/O. A reference whose instance is known is left as it
    is; `refresh()` of its item forgets the instance.

    Args:
        items: instances, which may be of several models, or a result such as `Order.query(…)`.
        names: the names of the references.
        consistent: include all writes that were acknowledged before the call. By default as the models of the items
            say.

    Raises:
        TypeError: an attribute is not a `Reference`.
    """
    listed = list(_checked_items(items))
    for model, wanted in _wanted(listed, names).items():
        for refs, instance in zip(wanted.values(), model.batch_get(_keys(wanted), consistent=consistent), strict=True):
            _take(refs, instance)
    return listed


async def aprefetch(items: Iterable[T] | AsyncIterable[T], *names: str, consistent: bool | None = None) -> list[T]:
    """Async version of `prefetch()`. Also takes async iterables."""
    listed = [item async for item in items] if isinstance(items, AsyncIterable) else list(_checked_items(items))
    for model, wanted in _wanted(listed, names).items():
        groups = iter(wanted.values())
        async for instance in model.abatch_get(_keys(wanted), consistent=consistent):
            _take(next(groups), instance)
    return listed


def _checked_items(items: Iterable[T]) -> Iterable[T]:
    """Check that the argument is not a single item."""
    if not isinstance(items, Iterable):
        raise TypeError(f"prefetch() takes several items, such as a list, not {shortened(items)}")
    return items


def _wanted(items: Iterable[Model], names: tuple[str, ...]) -> dict[type[Model], dict[str, list[Ref[Any]]]]:
    """Return the references without an instance, by model and stored key."""
    if not names:
        raise TypeError("prefetch() needs the name of a reference: prefetch(orders, 'customer')")
    wanted: dict[type[Model], dict[str, list[Ref[Any]]]] = {}
    for item in items:
        if item is None:
            continue  # as `batch_get()` yields for a missing item
        for name in names:
            schema = getattr(type(item), "__mintkey_schema__", None)
            if schema is None or not isinstance(schema.attributes.get(name), Reference):
                known = (
                    [one for one, kind in schema.attributes.items() if isinstance(kind, Reference)] if schema else []
                )
                raise TypeError(
                    f"prefetch(): {type(item).__name__} has no Reference {shortened(name)}{nearest(name, known)}; "
                    f"it has: {', '.join(known) or 'none'}"
                )
            ref = getattr(item, name)
            if ref is not None and not ref._is_known:
                wanted.setdefault(ref.model, {}).setdefault(ref._stored(), []).append(ref)
    return wanted


def _keys(wanted: dict[str, list[Ref[Any]]]) -> Iterator[StoredKey]:
    return (refs[0]._stored_key() for refs in wanted.values())


def _take(refs: list[Ref[Any]], instance: Model | None) -> None:
    for ref in refs:
        ref._instance, ref._is_known = instance, True
