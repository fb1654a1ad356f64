"""Unique plans: the attributes of a model whose values are unique, and among which items."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from mintkey.definitions.discriminators import relatives
from mintkey.errors import ConfigurationError, nearest, shortened
from mintkey.model_config import ModelConfig

if TYPE_CHECKING:
    from mintkey.attributes.base import Attribute
    from mintkey.definitions.discriminators import Discriminator, Family

#: The maximum size of a name in the catalog in bytes.
_LONGEST_NAME = 255

#: The stored name of a part of the key, the text with which it begins, and whether this is the whole text.
Literal: TypeAlias = tuple[str, str, bool]


@dataclasses.dataclass(frozen=True, slots=True)
class UniquePlan:
    """Attributes whose values are unique together."""

    name: str
    """The name in the store."""
    attributes: tuple[str, ...]
    stored_names: tuple[str, ...]
    literals: tuple[Literal, ...]
    """The texts with which the key of the declaring class begins."""
    discriminator: tuple[str, bool] | None
    """The stored name of the discriminator, and whether rows without a value belong to the declaring class."""
    values: tuple[str, ...]
    """The values of the discriminator for the declaring class and its subclasses, as far as they are defined."""

    @property
    def declaration(self) -> tuple[str, list[str], list[Literal], tuple[str, list[str], bool] | None]:
        """The declaration for the store."""
        stored_discriminator = None
        if self.discriminator is not None:
            stored_name, or_absent = self.discriminator
            stored_discriminator = (stored_name, list(self.values), or_absent)
        return self.name, list(self.stored_names), list(self.literals), stored_discriminator


def unique_plans(
    model: type,
    attributes: Mapping[str, Attribute[Any]],
    *,
    keys: tuple[str, ...],
    given_keys: tuple[str, ...],
    table: str,
    literals: tuple[Literal, ...],
    discriminator: Discriminator | None,
) -> tuple[UniquePlan, ...]:
    """Return the unique values that a model declares, and those of its base classes in the same table.

    Args:
        model: the model, which has a table.
        attributes: its attributes by name.
        keys: the names of the partition key and of the sort key.
        given_keys: the attributes by which a caller identifies an item.
        table: the name of the table.
        literals: the texts with which the keys of its items begin.
        discriminator: the source of its discriminator.
    """
    stored_discriminator = None if discriminator is None else attributes[discriminator.name].stored_name
    families = [] if stored_discriminator is None else relatives(model, (table, stored_discriminator))
    found: dict[frozenset[str], UniquePlan] = {}
    for family in families:
        for plan in family.unique:
            found.setdefault(frozenset(plan.stored_names), _extended(plan, family, discriminator))
    scope = _scope(attributes, literals, discriminator)
    for names in _declared(model, attributes, keys):
        _check(model.__name__, attributes, names, given_keys, keys)
        stored = tuple(attributes[name].stored_name for name in names)
        plan = UniquePlan(
            _name(model.__name__, names, stored, scope),
            names,
            stored,
            literals,
            None if stored_discriminator is None else (stored_discriminator, not families),
            () if discriminator is None else (discriminator.value,),
        )
        found.setdefault(frozenset(stored), plan)
    return tuple(found.values())


def unique_name(
    model: str,
    attributes: Mapping[str, Attribute[Any]],
    names: tuple[str, ...],
    literals: tuple[Literal, ...],
    discriminator: Discriminator | None,
) -> str:
    """Return the name in the store of the unique values that a model declares, or has declared, of these attributes.

    An attribute that the model no longer has is passed by its stored name.
    """
    stored = tuple(attributes[name].stored_name if name in attributes else name for name in names)
    return _name(model, names, stored, _scope(attributes, literals, discriminator))


def _scope(
    attributes: Mapping[str, Attribute[Any]], literals: tuple[Literal, ...], discriminator: Discriminator | None
) -> list[tuple[str, str]]:
    if discriminator is not None:
        return [(attributes[discriminator.name].stored_name, discriminator.value)]
    return [(name, text) for name, text, _ in literals]


def _extended(plan: UniquePlan, family: Family, discriminator: Discriminator | None) -> UniquePlan:
    """Return the plan of a base class with the value of a further subclass."""
    own = () if discriminator is None else (discriminator.value,)
    return dataclasses.replace(plan, values=tuple(sorted({*plan.values, *family.members(), *own})))


def _declared(
    model: type, attributes: Mapping[str, Attribute[Any]], keys: tuple[str, ...]
) -> Iterator[tuple[str, ...]]:
    """Yield the sets of names that the class and its base classes declare."""
    for name, attribute in attributes.items():
        if attribute.unique or (attribute.field_key == "whole" and name not in keys):
            yield (name,)
    for base in reversed(model.__mro__):
        config = vars(base).get("model_config")
        for names in config.unique if isinstance(config, ModelConfig) else ():
            yield tuple(names)


def _check(
    model: str,
    attributes: Mapping[str, Attribute[Any]],
    names: tuple[str, ...],
    given_keys: tuple[str, ...],
    keys: tuple[str, ...],
) -> None:
    one = len(names) == 1
    where = f"{model}.{names[0]}" if one else f"{model}: ModelConfig(unique=[{names!r}])"
    problem = None
    for name in names:
        if name not in attributes:
            problem = f"{model} has no attribute {shortened(name)}{nearest(name, attributes)}"
        elif attributes[name].key_kind is None:
            problem = (
                f"the values of this {attributes[name].described} cannot be unique: unique values are text, numbers, "
                "bytes, dates, times, UUIDs or enums"
                if one
                else f"the values of {name!r}, a {attributes[name].described}, cannot be unique"
            )
    if problem is None and len(set(names)) < len(names):
        problem = "a name occurs twice: write each name once"
    if problem is None and (set(given_keys) <= set(names) or set(keys) <= set(names)):
        what = "this is the whole key" if set(names) in (set(given_keys), set(keys)) else "the whole key is among them"
        problem = (
            f"{what}, and a key is unique already: remove unique=. save() of a new item with an existing key "
            "overwrites the row; create() and a UniqueKeyField never do"
        )
    if problem is None and all(attributes[name].has_constant_default for name in names):
        problem = (
            "with a constant default= all items would have the same values, which are unique: remove default=, or "
            "generate it, as with default=AutoGenerate.ULID"
        )
    if problem is not None:
        raise ConfigurationError(f"{where}: {problem}", model=model, attribute=names[0] if one else None)


def _name(model: str, names: tuple[str, ...], stored: tuple[str, ...], scope: Iterable[tuple[str, str]]) -> str:
    """Return the name in the store, which no other set and no other class in the table has."""
    name = ",".join(map(_escaped, stored)) + "".join(f"|{_escaped(one)}={_escaped(text)}" for one, text in scope)
    size = len(name.encode())
    if size > _LONGEST_NAME:
        raise ConfigurationError(
            f"{model}: the name of the unique values {', '.join(names)} in the store has {size} bytes, and may have "
            f"{_LONGEST_NAME}: it consists of the stored names of the attributes, and of the discriminator or the "
            "literal beginnings of the key: use shorter ones",
            model=model,
            attribute=names[0],
        )
    return name


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace(",", "%2C").replace("|", "%7C").replace("=", "%3D")
