"""Discriminators: the attribute that says of which class an item is, where several classes share a table."""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakSet, ref

from mintkey import _core
from mintkey.attributes.base import is_utf8_text
from mintkey.errors import ConfigurationError, UnreadableItem, shortened

if TYPE_CHECKING:
    from mintkey.attributes.base import Attribute
    from mintkey.conditions import Condition
    from mintkey.model_config import ModelConfig

#: The families of all classes with a discriminator, by the table and the stored name of the discriminator.
_families: dict[tuple[str, str], WeakSet[Family]] = {}


class Footprint(NamedTuple):
    """What distinguishes the rows of a model from the rows of another model in the same table.

    Attributes:
        discriminator: the stored name of the discriminator, or None.
        literals: the stored name of each part of the key that has a template, the text with which it begins, and
            whether this is the whole text.
    """

    discriminator: str | None
    literals: tuple[tuple[str, str, bool], ...]

    def is_disjoint(self, other: Footprint) -> bool:
        """Return whether no row belongs to both models."""
        if self.discriminator is not None and self.discriminator == other.discriminator:
            return True
        theirs = {name: (text, is_whole) for name, text, is_whole in other.literals}
        return any(name in theirs and _differ((text, whole), theirs[name]) for name, text, whole in self.literals)


def _differ(one: tuple[str, bool], other: tuple[str, bool]) -> bool:
    """Return whether no text fits both literals: each is a whole text, or the beginning of longer ones."""
    (short, short_is_whole), (long, long_is_whole) = sorted((one, other), key=lambda literal: len(literal[0]))
    if not long.startswith(short):
        return True
    if short_is_whole:
        return not (long_is_whole and long == short)
    return long_is_whole and long == short


class Discriminator:
    """The source of a discriminator: the class of the item."""

    parts: tuple[str, ...] = ()
    prefix = ""
    literal_length = 0
    is_static = True
    is_visible = True

    def __init__(self, name: str, value: str) -> None:
        self.name = name
        self.value = value

    def built(self, stored: Mapping[str, Any]) -> str:
        """Return the value of the class."""
        return self.value

    def beginning(self, stored: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
        """Return nothing: items of subclasses have other values."""
        return "", ()

    def parsed(self, text: Any) -> dict[str, Any] | None:
        """Return no values."""
        return {}


class Family:
    """A class with a discriminator, and its subclasses in the same table.

    Attributes:
        base: the family of the next base class in the same table, or None.
        value: the value of the class itself.
        identity: the module and the qualified name of the class at the top.
    """

    def __init__(
        self, model: type, table: str, attributes: Mapping[str, Attribute[Any]], discriminator: Discriminator
    ) -> None:
        self._model = ref(model)
        self._name = model.__name__
        self._attributes = attributes
        self._attribute = attributes[discriminator.name]
        self._subfamilies: list[ref[Family]] = []
        self._table = table
        self.value = discriminator.value
        self.identity = (model.__module__, model.__qualname__)
        self.base: Family | None = next(iter(relatives(model, self._column)), None)
        #: The unique values of the class.
        self.unique: tuple[Any, ...] = ()
        self._check_stored_names()
        self._join()
        self._peers = _families.setdefault(self._column, WeakSet())
        self._peers.add(self)

    @property
    def attribute_name(self) -> str:
        """The name of the discriminator."""
        return self._attribute.name

    @property
    def _column(self) -> tuple[str, str]:
        return self._table, self._attribute.stored_name

    def _check_stored_names(self) -> None:
        """Refuse an attribute that the base class reads and writes under another name of the same row."""
        inherited = {} if self.base is None else self.base._attributes
        for name, attribute in self._attributes.items():
            stored = inherited.get(name, attribute).stored_name
            if attribute.stored_name != stored:
                raise ConfigurationError(
                    f"{self._name}.{name}: the base class in the same table stores this attribute as "
                    f"{shortened(stored)}, and this class as {shortened(attribute.stored_name)}: use the same alias=, "
                    "or another name",
                    model=self._name,
                    attribute=name,
                )

    def _join(self) -> None:
        """Register the class in its base classes. A class that is defined again replaces the former one."""
        own, base = self.identity, self.base
        while base is not None:
            # One table belongs to one family, which is known by the class at its top.
            self.identity = base.identity
            for value, member in base.members().items():
                if value == self.value and (member.__module__, member.__qualname__) != own:
                    raise ConfigurationError(
                        f"{self._name}.{self._attribute.name}: {member.__name__} has the same value "
                        f"{shortened(value)}: set another one with ModelConfig(discriminator=…)",
                        model=self._name,
                        attribute=self._attribute.name,
                    )
            base._subfamilies.append(ref(self))
            base = base.base

    def members(self) -> dict[str, type]:
        """Return the class and its subclasses by their values."""
        found = {}
        for family in (self, *(one for one in (known() for known in self._subfamilies) if one is not None)):
            model = family._model()
            if model is not None:
                found[family.value] = model
        return found

    def relative_schemas(self) -> list[Any]:
        """Return the schemas of all classes of the table that are defined already."""
        top = self
        while top.base is not None:
            top = top.base
        return top.member_schemas()

    def member_schemas(self) -> list[Any]:
        """Return the schemas of the class and of its subclasses that are defined already."""
        schemas = (vars(model).get("__mintkey_schema__") for model in self.members().values())
        return [schema for schema in schemas if schema is not None]

    def _others(self) -> set[str]:
        """Return the values of all other classes in the table."""
        own = self.members()
        return {family.value for family in self._peers if family._model() is not None} - own.keys()

    def conditions(self) -> list[Condition]:
        """Return the conditions of the items of this class and its subclasses.

        A base class reads values that no class has, so that such items are reported as unreadable.
        """
        if self.base is not None:
            return [self._attribute.is_in(sorted(self.members()))]
        others = self._others()
        return [~self._attribute.is_in(sorted(others))] if others else []

    def key_conditions(self, derived: Any) -> list[Condition]:
        """Return the conditions of the keys of this class, whose derived attributes these are, and its subclasses."""
        every = [vars(model)["__mintkey_schema__"].derived for model in self.members().values()]
        if all(other.literals == derived.literals for other in every):
            return list(derived.filters)
        if not all(other.filters for other in every):
            return []
        return [functools.reduce(operator.or_, (_core.Condition.every(list(other.filters)) for other in every))]

    def class_of(self, item: _core.Item) -> type | None:
        """Return the class of a stored item; None if the class is not in this family.

        Raises `UnreadableItem` for a value that no class of the table has.
        """
        value = item.get(self._attribute.stored_name)
        if value is None:
            return self._model() if self.base is None else None
        members = self.members()
        found = members.get(value) if isinstance(value, str) else None
        if found is not None or self.base is not None or (isinstance(value, str) and value in self._others()):
            return found
        raise UnreadableItem(
            f"{self._name}.{self._attribute.name}: no class of table {shortened(self._table)} has the discriminator "
            f"{shortened(value)}: import the module of its class",
            item=item.to_dict(),
            model=self._name,
            attribute=self._attribute.name,
            key={},
        )

    def any_class_of(self, item: _core.Item) -> type | None:
        """Return the class of a stored item, also of another class in the table; None if it is not known."""
        value = item.get(self._attribute.stored_name)
        families = [self, *self._peers]
        found = [family._model() for family in families if family.value == value or (value is None and not family.base)]
        return next((model for model in found if model is not None), None)

    def knows(self, attribute: Attribute[Any]) -> bool:
        """Return whether a subclass has this attribute."""
        return any(
            vars(model)["__mintkey_schema__"].attributes.get(attribute.name) is attribute
            for model in self.members().values()
        )


def share_ttl(schemas: Iterable[Any]) -> None:
    """Let all classes of a table know the expiry that one of them declares: it concerns all rows."""
    schemas = list(schemas)
    for declaring in schemas:
        if declaring.ttl is not None:
            for schema in schemas:
                schema.codec.share_ttl(declaring.attributes[declaring.ttl].stored_name)


def relatives(model: type, column: tuple[str, str]) -> list[Family]:
    """Return the families of the base classes in a table with the same discriminator, the next one first."""
    schemas = (vars(parent).get("__mintkey_schema__") for parent in model.__mro__[1:])
    families: Iterator[Family | None] = (getattr(schema, "family", None) for schema in schemas)
    return [family for family in families if family is not None and family._column == column]


def discriminator_of(model: str, attributes: Mapping[str, Attribute[Any]], config: ModelConfig) -> Discriminator | None:
    """Return the discriminator of a class; None if it has none."""
    names = [name for name, attribute in attributes.items() if attribute.discriminator]
    if len(names) > 1:
        raise ConfigurationError(
            f"{model} has two discriminators, {names[0]!r} and {names[1]!r}: keep one", model=model, attribute=names[1]
        )
    value = model if config.discriminator is None else config.discriminator
    if not is_utf8_text(value) or not value:
        raise ConfigurationError(f"{model}: discriminator= takes text, not {shortened(value)}", model=model)
    if names and not config.abstract:
        return Discriminator(names[0], value)
    if config.discriminator is not None:
        raise ConfigurationError(
            f"{model}: discriminator={shortened(value)} is the value of an attribute that this class lacks: "
            "declare kind = StringAttribute(discriminator=True) in a class with a table",
            model=model,
        )
    return None


def table_of(model: type, config: ModelConfig, discriminator: Discriminator | None) -> ModelConfig:
    """Return the configuration of a class, with the table of its base class if they share a discriminator."""
    if discriminator is None or config.table is not None:
        return config
    for parent in model.__mro__[1:]:
        schema: Any = vars(parent).get("__mintkey_schema__")
        if getattr(schema, "family", None) is not None and discriminator.name in schema.attributes:
            return dataclasses.replace(config, table=schema.table)
    return config


def loader(load: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function like `load`, a method that returns an instance of an item, that finds the class of the item.

    It returns None for an item of another class.
    """

    def _loaded(cls: Any, item: _core.Item, fetched: set[str] | None = None) -> Any:
        schema = cls.__mintkey_schema__
        try:
            found = schema.family.class_of(item)
        except UnreadableItem as error:
            raise schema.located(error, item) from None
        return None if found is None else load(found, item, fetched)

    return _loaded
