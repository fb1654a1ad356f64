"""`mapped`: gives existing dataclasses and pydantic models the methods of `Model`.

>>> import dataclasses
>>> import mintkey
>>> _ = mintkey.connect("sqlite://")
>>> @mintkey.mapped(table="users", partition_key="id", index=["city"])
... @dataclasses.dataclass
... class User:
...     id: str
...     city: str = "Berlin"
>>> User(id="ada").save()
>>> User.get("ada")
User(id='ada', city='Berlin')
>>> [user.id for user in User.query(city="Berlin")]
['ada']

The methods of `Model` work on any object with a schema, a state, and its values in `__dict__`. So the class gets these
methods, and a hidden model holds the schema. Instances are constructed, validated and dumped as before.
"""

from __future__ import annotations

import dataclasses
import enum
import sys
import typing
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from mintkey import _core
from mintkey.attributes import (
    Attribute,
    BinarySetAttribute,
    ExpiresIn,
    JSONAttribute,
    ListAttribute,
    MapAttribute,
    NumberSetAttribute,
    StringSetAttribute,
    TTLAttribute,
)
from mintkey.attributes.base import own_copy
from mintkey.attributes.comparing import is_model
from mintkey.attributes.containers import SetAttribute
from mintkey.attributes.elements import scalar_attribute
from mintkey.attributes.members import allows_none, annotated, without_none
from mintkey.attributes.structures import refuse_init_only
from mintkey.definitions.declarations import table_name
from mintkey.errors import CONVERSION_ERRORS, ConfigurationError, InvalidValue, UnreadableItem, cause, shortened
from mintkey.generators import auto
from mintkey.indexes import Index
from mintkey.instance_state import LazyState, WeakSlot, all_values, pickled, set_slot, unpickled
from mintkey.methods.batched import BatchMixin
from mintkey.methods.expiring import ExpiryMixin
from mintkey.methods.query_access import QueryAccess
from mintkey.methods.serializing import JsonMixin
from mintkey.methods.tables import TableMixin
from mintkey.model import ConstructedModel, Model
from mintkey.model_config import ModelConfig
from mintkey.operations import arguments

__all__ = ["Mapped", "mapped"]

C = TypeVar("C", bound=type)

if TYPE_CHECKING:

    class Mapped(ConstructedModel):
        """A base class that declares the methods of `mapped` for type checkers."""

        __dataclass_fields__: ClassVar[Any]
        model_config: ClassVar[Any]
        model_dump: Any
        model_validate: Any
        model_validate_json: Any

else:

    class Mapped:
        """A base class that declares the methods of `mapped` for type checkers: `class User(BaseModel, Mapped)`.

        It has no members.
        """


_REQUIRED: Any = object()
#: Members of `Model` that are about construction and conversion, which the class does in its own way.
_NOT_TAKEN = {"model_config", "to_dict", "from_dict", "_assign", "_constructed", "_shown", "_loaded"}


def mapped(
    *,
    partition_key: str,
    table: str | None = None,
    sort_key: str | None = None,
    index: Iterable[str] = (),
    unique: Iterable[str] = (),
    attributes: Mapping[str, Attribute[Any] | Index] | None = None,
    config: ModelConfig | None = None,
) -> Callable[[C], C]:
    """Return a decorator that gives a dataclass or a pydantic model the methods of `Model`.

    The attribute of each field follows from its type. On the class, `User.age > 5` is a condition. Rows are loaded
    without validation; a row that lacks a required value is `UnreadableItem`. Absent values of optional fields are read
    as None, others as their defaults. With `attributes=`, reads return instances of a model of the same name instead.

    Args:
        partition_key: the field that is the partition key.
        table: the table name, by default the class name.
        sort_key: the field that is the sort key.
        index: fields with an index of their own.
        unique: fields of which no two items have the same value. `ModelConfig(unique=…)` has fields that are unique
            together.
        attributes: the attributes of fields that are stored in another way or generated, such as
            `{"id": StringAttribute(default=AutoGenerate.ULID)}`, and `Index(…)` objects by name.
        config: further options, such as `ModelConfig(consistent=True)`.

    Raises:
        ConfigurationError: the class is neither a dataclass nor a pydantic model, or a field cannot be stored.
    """

    def decorate(cls: C) -> C:
        fields = _fields_of(cls, sys._getframe(1).f_locals)
        settings = _config(cls, config, table)
        given = _declared(cls, attributes)
        namespace: dict[str, Any] = {name: one for name, one in given.items() if isinstance(one, Index)}
        roles: dict[str, tuple[Any, ...]] = {
            "partition_key=": (partition_key,),
            "sort_key=": () if sort_key is None else (sort_key,),
            "index=": _names(cls, "index=", index),
            "unique=": _names(cls, "unique=", unique),
            "attributes=": tuple(name for name in given if name not in namespace),
        }
        for option, names in roles.items():
            for name in names:
                if not isinstance(name, str) or name not in fields:
                    raise ConfigurationError(
                        f"{cls.__name__}: {option} names {shortened(name)}, which is not a field. "
                        f"The fields are {', '.join(fields)}",
                        model=cls.__name__,
                    )
        taken = sorted(fields.keys() & arguments.reserved(Model, BatchMixin, ExpiryMixin, TableMixin, QueryAccess))
        if taken:
            raise ConfigurationError(
                f"{cls.__name__}.{taken[0]}: methods of Model use this name: rename the field. "
                f'attributes={{"{taken[0]}_": StringAttribute(alias="{taken[0]}")}} keeps the name in the store',
                model=cls.__name__,
                attribute=taken[0],
            )
        for name, field in fields.items():
            # The caller may use the same attribute for several classes.
            attribute: Any = given[name].copied(cls) if name in given else field.attribute(cls)
            # A field that is the whole key says so itself.
            is_key = name == partition_key and attribute.field_key != "whole"
            attribute.partition_key = attribute.partition_key or is_key
            attribute.sort_key = attribute.sort_key or name == sort_key
            attribute.value_indexed = attribute.value_indexed or name in roles["index="]
            attribute.unique = attribute.unique or name in roles["unique="]
            if name in given:
                _generate_default(attribute, settings.ttl)
            namespace[name] = attribute
        namespace.update(_hooks_of(cls))
        namespace["model_config"] = settings
        namespace.update(__module__=cls.__module__, __qualname__=cls.__qualname__)
        hidden: Any = type(cls.__name__, (Model,), namespace)
        _attach(cls, hidden, fields)
        return cls

    return decorate


def _uses_enum_values(cls: Any) -> bool:
    """Return whether pydantic replaces the members of an Enum with their values."""
    configs = (getattr(cls, name, None) for name in ("__pydantic_config__", "model_config"))
    return any(isinstance(config, dict) and config.get("use_enum_values") for config in configs)


def _has_enum(hint: Any) -> bool:
    """Return whether a type names an Enum, or a member of one."""
    kind = hint if isinstance(hint, type) else type(hint)
    return issubclass(kind, enum.Enum) or any(map(_has_enum, typing.get_args(hint)))


def _generate_default(attribute: Attribute[Any], ttl: timedelta | None) -> None:
    """Generate the default of an attribute when an item is saved. The constructor of the class does not know it."""
    default = attribute.default
    if attribute.minted is not None or attribute.default_on_load:
        return
    if callable(default):
        attribute.minted, attribute.default = auto(default), None
    elif default is not None and not (attribute.partition_key or attribute.sort_key):
        attribute.minted, attribute.default = auto(lambda: own_copy(default)), None
    elif ttl is not None and isinstance(attribute, TTLAttribute):
        attribute.minted = auto(lambda: ExpiresIn.seconds(ttl.total_seconds()))


def _declared(cls: type, attributes: object) -> dict[str, Any]:
    """Return `attributes=`, checked."""
    if attributes is None:
        return {}
    if isinstance(attributes, Mapping) and all(isinstance(one, (Attribute, Index)) for one in attributes.values()):
        for name, one in attributes.items():
            if isinstance(one, Attribute) and (one.template is not None or one.discriminator):
                raise ConfigurationError(
                    f"{cls.__name__}.{name}: template= and discriminator= need a subclass of Model, because instances "
                    "of this class lack such values: set them in a @before_save hook, or write a Model",
                    model=cls.__name__,
                    attribute=name,
                )
        return dict(attributes)
    raise ConfigurationError(
        f"{cls.__name__}: attributes= takes a dict of attributes and indexes by name, such as "
        f'{{"id": StringAttribute(default=AutoGenerate.ULID)}}, not {shortened(attributes)}',
        model=cls.__name__,
    )


def _names(cls: type, option: str, names: object) -> tuple[Any, ...]:
    """Return the names that an option lists."""
    if isinstance(names, Iterable) and not isinstance(names, (str, bytes)):
        return tuple(names)
    example = f"[{shortened(names)}]" if isinstance(names, str) else '["city"]'
    raise ConfigurationError(
        f"{cls.__name__}: {option} takes a list of fields, such as {option}{example}, not {shortened(names)}",
        model=cls.__name__,
    )


def _config(cls: type, config: object, table: str | None) -> ModelConfig:
    """Return the configuration of the hidden model."""
    if config is not None and not isinstance(config, ModelConfig):
        raise ConfigurationError(
            f"{cls.__name__}: config= takes a ModelConfig(…), not {shortened(config)}", model=cls.__name__
        )
    found = config or ModelConfig()
    if table is not None:
        found = dataclasses.replace(found, table=table)
    table_name(cls.__name__, found, "@mapped(table=…)")
    return found


class _Field:
    """A field of the class: its type, and its value in an item that lacks it."""

    def __init__(self, name: str, hint: Any, default: Any, make: Callable[[], Any] | None) -> None:
        self.name = name
        self._hint = hint
        self._default = default
        self._make = make

    def attribute(self, cls: type) -> Attribute[Any]:
        """Return the attribute that stores the values of the type."""
        if _uses_enum_values(cls) and _has_enum(self._hint):
            raise ConfigurationError(
                f"{cls.__name__}.{self.name}: use_enum_values=True of the class replaces members of an Enum with their "
                "values, which the type of the field does not allow: remove this option, or store the values with "
                f'attributes={{"{self.name}": StringAttribute()}}',
                model=cls.__name__,
                attribute=self.name,
            )
        try:
            found = _attribute_of(self._hint)
        except CONVERSION_ERRORS as error:
            raise ConfigurationError(
                f"{cls.__name__}.{self.name}: {cause(error)}", model=cls.__name__, attribute=self.name
            ) from error
        if isinstance(found, SetAttribute) and not self._starting_value():
            return found  # an empty set is not stored
        if self._make is not None:
            found.default = self._make
        elif self._default is not _REQUIRED and self._default is not None:
            # A moment is refused as a plain default.
            fixed = self._default
            found.default = (lambda: fixed) if isinstance(fixed, (datetime, set, frozenset)) else fixed
        elif self._default is _REQUIRED and not allows_none(self._hint) and not isinstance(found, SetAttribute):
            found.required = True
        return found

    def _starting_value(self) -> Any:
        if self._make is not None:
            return self._make()
        return None if self._default is _REQUIRED else self._default

    @property
    def stored_name(self) -> str:
        """The name in the store, for the schema."""
        return self.name

    def new_default(self) -> Any:
        """Return the value of the field in an item that lacks it; `_REQUIRED` if it has none."""
        if allows_none(self._hint):
            return None
        if self._make is not None:
            return self._make()
        if self._default is _REQUIRED and typing.get_origin(without_none(self._hint)) is set:
            return set()
        return self._default if self._default is _REQUIRED else own_copy(self._default)


def _fields_of(cls: Any, local: Mapping[str, Any]) -> dict[str, _Field]:
    """Return the stored fields of a dataclass or a pydantic model. `local` are names that annotations may use."""
    if hasattr(cls, "__pydantic_fields__") and not dataclasses.is_dataclass(cls):
        return _fields_of_pydantic(cls)
    name = getattr(cls, "__name__", shortened(cls))
    if not isinstance(cls, type) or not dataclasses.is_dataclass(cls) or is_model(cls):
        raise ConfigurationError(
            f"{name} is neither a dataclass nor a pydantic model: write @mapped(…) above @dataclass", model=name
        )
    if "__slots__" in vars(cls):
        raise ConfigurationError(f"{name}: slots=True leaves no room for the state of a row: remove it", model=name)
    try:
        refuse_init_only(cls)
    except TypeError as error:
        raise ConfigurationError(str(error), model=name) from error
    try:
        hints = typing.get_type_hints(cls, localns={**local, name: cls}, include_extras=True)
    except NameError as error:
        raise ConfigurationError(f"{name}: an annotation cannot be resolved: {cause(error)}", model=name) from error
    # Those of pydantic's dataclasses may be declared with pydantic's `Field()`.
    declared = getattr(cls, "__pydantic_fields__", {})
    return {
        field.name: _Field(
            field.name,
            hints[field.name],
            *(_defaults(declared[field.name]) if field.name in declared else _dataclass_defaults(field)),
        )
        for field in dataclasses.fields(cls)
    }


def _dataclass_defaults(field: dataclasses.Field[Any]) -> tuple[Any, Callable[[], Any] | None]:
    missing = dataclasses.MISSING
    return (
        _REQUIRED if field.default is missing else field.default,
        None if field.default_factory is missing else field.default_factory,
    )


def _defaults(field: Any) -> tuple[Any, Callable[[], Any] | None]:
    """Return the default of a field of pydantic, or `_REQUIRED`, and the function that makes it."""
    make = None if field.default_factory_takes_validated_data else field.default_factory
    has_none = field.is_required() or field.default_factory is not None
    return (_REQUIRED if has_none else field.default), make


def _fields_of_pydantic(cls: Any) -> dict[str, _Field]:
    if cls.model_config.get("extra") == "allow":
        raise ConfigurationError(
            f'{cls.__name__}: extra="allow" takes values without fields, which would not be stored: '
            "declare a field for them, such as more: dict[str, Any]",
            model=cls.__name__,
        )
    if not cls.__weakrefoffset__:
        raise ConfigurationError(
            f"{cls.__name__}: __slots__ leaves no room for the state of a row: remove it", model=cls.__name__
        )
    cls.model_rebuild()
    fields = {}
    for name, field in cls.__pydantic_fields__.items():
        hint = annotated(field.annotation, field.metadata) if field.metadata else field.annotation
        fields[name] = _Field(name, hint, *_defaults(field))
    return fields


_SETS: dict[Any, Callable[[], Attribute[Any]]] = {
    str: StringSetAttribute,
    bytes: BinarySetAttribute,
    int: NumberSetAttribute,
    float: NumberSetAttribute,
}


def _attribute_of(hint: Any) -> Attribute[Any]:
    """Return the attribute that stores the values of a type."""
    kind = without_none(hint)
    if typing.get_origin(kind) is typing.Literal:
        kinds = {type(value) for value in typing.get_args(kind)}
        kind = kinds.pop() if len(kinds) == 1 else kind
    scalar = scalar_attribute(kind)
    if scalar is not None:
        return scalar
    if kind is typing.Any:
        return Attribute()
    if kind in {list, dict}:
        return ListAttribute() if kind is list else MapAttribute()
    if typing.get_origin(kind) is set and typing.get_args(kind)[0] in _SETS:
        return _SETS[typing.get_args(kind)[0]]()
    nested = MapAttribute(kind)
    return JSONAttribute(kind) if nested._structure is None or nested._structure.is_scalar else nested


def _hooks_of(cls: type) -> dict[str, Any]:
    """Return the methods of the class that are marked as hooks."""
    members = {name: member for base in reversed(cls.__mro__) for name, member in vars(base).items()}
    return {name: member for name, member in members.items() if getattr(member, "__mintkey_hooks__", ())}


class _OwnSchema:
    """The schema of the class. A subclass may have further fields, which this schema would not store."""

    def __init__(self, owner: type, schema: Any) -> None:
        self._owner = owner
        self._schema = schema

    def __get__(self, instance: Any, owner: type) -> Any:
        if owner is not self._owner:
            raise ConfigurationError(
                f"{owner.__name__} is a subclass of the mapped class {self._owner.__name__}: write @mapped(…) above it"
            )
        return self._schema


class _Column:
    """A field on the class, for conditions. Instances have their values in `__dict__`."""

    def __init__(self, owner: type, attribute: Attribute[Any], field: _Field) -> None:
        self._owner = owner
        self._attribute = attribute
        self._field = field

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None and owner is self._owner:
            return self._attribute
        value = self._field.new_default()
        if instance is None or value is _REQUIRED:
            # pydantic asks subclasses for the defaults of their fields.
            raise AttributeError(f"{owner.__name__} has no value of {self._field.name!r}")
        return value


def _attach(cls: Any, hidden: Any, fields: dict[str, _Field]) -> None:
    """Give the class the schema and the methods of a model."""
    schema = hidden.__mintkey_schema__
    schema.owner = cls
    schema.load_defaults = tuple(field for field in fields.values() if field.new_default() is not _REQUIRED)
    schema.completes = schema.is_mapped = True
    cls.__mintkey_schema__ = _OwnSchema(cls, schema)
    cls.__mintkey_init__ = None
    cls.__mintkey_mapped__ = hidden
    cls._stored, cls._kept, cls._state = WeakSlot(), WeakSlot(), LazyState()
    for name, member in _members_of_model().items():
        if name in fields or (name in vars(cls) and not name.startswith("_")):
            import logging

            logging.getLogger("mintkey").warning("%s.%s hides the method Model.%s()", cls.__name__, name, name)
        else:
            setattr(cls, name, member)
    cls._constructed = classmethod(_constructed)
    cls._loaded = classmethod(_loader(cls, fields))
    hidden._loaded = cls._loaded
    hidden.__reduce__ = lambda part: (_empty_part, (cls,), part.__getstate__())
    for name, attribute in schema.attributes.items():
        attribute._owner = cls
        setattr(cls, name, _Column(cls, attribute, fields[name]))
    for declared in schema.declared_indexes:
        setattr(cls, declared.attribute_name, declared)
    for name in ("__copy__", "__deepcopy__"):
        if hasattr(cls, name):
            setattr(cls, name, _copying(getattr(cls, name)))
    cls.__getstate__, cls.__setstate__ = _getting_state(cls), _setting_state(cls)


def _members_of_model() -> dict[str, Any]:
    """Return the methods and properties of `Model`, also the private ones that they call."""
    members: dict[str, Any] = {}
    for base in reversed(Model.__mro__[:-1]):
        if base is JsonMixin:
            continue
        for name, member in vars(base).items():
            is_own = not name.startswith("__") and name not in _NOT_TAKEN and name not in {"_stored", "_kept", "_state"}
            if is_own and not isinstance(member, (str, int, float, type(None))):
                members[name] = member
    return members


def _empty_part(cls: Any) -> Any:
    """Return an instance of the hidden model, which no program can import, for a pickle."""
    return object.__new__(cls.__mintkey_mapped__)


def _loader(cls: Any, fields: dict[str, _Field]) -> Callable[..., Any]:
    is_pydantic = hasattr(cls, "__pydantic_fields__") and not dataclasses.is_dataclass(cls)

    load_part = Model.__dict__["_loaded"].__func__

    def _loaded(cls: Any, item: _core.Item, fetched: set[str] | None = None) -> Any:
        schema = cls.__mintkey_schema__
        if fetched is not None:
            # An instance of the class would be incomplete, so it is one of the hidden model.
            return load_part(cls.__mintkey_mapped__, item, fetched)
        values = schema.decode(item)
        try:
            missing = [name for name in fields if name not in values]
            if missing:
                raise ValueError(f"the row has no value of {', '.join(missing)}")
            instance = cls.model_construct(**values) if is_pydantic else _dataclass_instance(cls, values)
        except CONVERSION_ERRORS as error:
            problem = UnreadableItem(f"{schema.model}: {cause(error)}", item=item.to_dict(), model=schema.model, key={})
            raise schema.located(problem, item) from error
        set_slot(instance, "_stored", item)
        return instance

    return _loaded


def _constructed(cls: Any, values: dict[str, Any]) -> Any:
    """Return an instance of values by field name. pydantic would take only the aliases of fields that have one."""
    if not hasattr(cls, "__pydantic_fields__"):
        return cls(**values)
    from pydantic_core import ArgsKwargs

    validator: Any = cls.__pydantic_validator__
    given: Any = values
    if dataclasses.is_dataclass(cls):
        given = ArgsKwargs((), values)
    elif getattr(cls, "__pydantic_custom_init__", False):
        # pydantic hands the values to the `__init__` of the class, which looks for aliases only.
        given = _by_alias(cls, values)
    return validator.validate_python(given, by_alias=True, by_name=True)


def _by_alias(cls: Any, values: dict[str, Any]) -> dict[str, Any]:
    """Return values by field name with the aliases that `__init__` takes."""
    settings = cls.model_config
    if settings.get("validate_by_name") or settings.get("populate_by_name"):
        return values
    named = {}
    for name, value in values.items():
        field = cls.__pydantic_fields__.get(name)
        alias = None if field is None else field.validation_alias
        choices = [one for one in getattr(alias, "choices", [alias]) if isinstance(one, str)]
        if alias is not None and not choices:
            raise InvalidValue(
                f"{cls.__name__}.{name}: its alias is a path, which cannot be passed to {cls.__name__}.__init__(): "
                "construct the instance, and save() it",
                model=cls.__name__,
                attribute=name,
            )
        named[choices[0] if choices else name] = value
    return named


def _dataclass_instance(cls: Any, values: dict[str, Any]) -> Any:
    """Return an instance with these values. `__post_init__` runs, as at any construction."""
    init = {field.name for field in dataclasses.fields(cls) if field.init}
    instance = _constructed(cls, {name: value for name, value in values.items() if name in init})
    instance.__dict__.update({name: value for name, value in values.items() if name not in init})
    return instance


def _getting_state(cls: Any) -> Callable[[Any], dict[str, Any]]:
    """Return a `__getstate__` that adds what is known of the row: the class's own, or one of all values."""
    own = getattr(cls, "__getstate__", None)
    if own is getattr(object, "__getstate__", None):
        own = None

    def state(self: Any) -> dict[str, Any]:
        return {**(all_values(self) if own is None else own(self)), **pickled(self)}

    return state


def _setting_state(cls: Any) -> Callable[[Any, dict[str, Any]], None]:
    own = getattr(cls, "__setstate__", None)

    def set_state(self: Any, values: dict[str, Any]) -> None:
        values = unpickled(self, values)
        if own is None:
            self.__dict__.update(values)
        else:
            own(self, values)

    return set_state


def _copying(original: Callable[..., Any]) -> Callable[..., Any]:
    def copying(self: Any, *memo: Any) -> Any:
        copied = original(self, *memo)
        unpickled(copied, pickled(self))
        return copied

    return copying
