"""Key plans: the attributes of a model that are its keys, and the hidden attributes that it has for a key."""

from __future__ import annotations

import dataclasses
from typing import Any

from mintkey.attributes import StringAttribute
from mintkey.attributes.base import Attribute
from mintkey.definitions.declarations import KEY_TYPES, hidden, refusal
from mintkey.definitions.derived import COMPOUND_KEY

#: The hidden key of a class with fields only that declares no key.
IMPLICIT_KEY = "_auto_key"


@dataclasses.dataclass(frozen=True, slots=True)
class KeyPlan:
    """The names of the attributes that are keys."""

    partition: str | None = None
    sort: str | None = None
    parts: tuple[str, ...] = ()
    """The attributes that make up a compound key."""
    insert_only: bool = False
    """Whether a save of a new item never overwrites a row."""

    @property
    def names(self) -> tuple[str, ...]:
        """The partition key and the sort key."""
        return tuple(name for name in (self.partition, self.sort) if name is not None)


def key_plan(model: type, attributes: dict[str, Attribute[Any]]) -> KeyPlan:
    """Return the keys of a model with these attributes. A hidden key is added to them."""
    plan = _found(model, attributes)
    _check(model.__name__, attributes, plan)
    return plan


def _found(model: type, attributes: dict[str, Attribute[Any]]) -> KeyPlan:
    partitions = [name for name, attribute in attributes.items() if attribute.partition_key]
    sorts = [name for name, attribute in attributes.items() if attribute.sort_key]
    whole = [name for name, attribute in attributes.items() if attribute.field_key == "whole"]
    parts = tuple(name for name, attribute in attributes.items() if attribute.field_key == "part")
    if IMPLICIT_KEY in whole and len(partitions) + len(whole) + len(parts) > 1:
        # The base class has a hidden key; this class declares its own key, which replaces it.
        whole.remove(IMPLICIT_KEY)
        del attributes[IMPLICIT_KEY]
    # Next to another key, a UniqueKeyField is a unique value.
    generated = [name for name in whole if attributes[name].mints_at_init]
    whole = generated if partitions or generated else whole[:1]
    for kind, names in (("partition", partitions + whole), ("sort", sorts)):
        if len(names) > 1:
            raise refusal(
                model.__name__,
                f"{model.__name__} has two {kind} keys, {names[0]!r} and {names[1]!r}: keep one",
                names[1],
            )
    sort = sorts[0] if sorts else None
    if partitions or whole:
        return KeyPlan((partitions or whole)[0], sort, insert_only=bool(whole))
    if len(parts) == 1:
        return KeyPlan(parts[0], sort)
    if parts:
        attributes[COMPOUND_KEY] = hidden(model, StringAttribute(), COMPOUND_KEY)
        return KeyPlan(COMPOUND_KEY, sort, parts)
    if attributes and all(attribute.is_field for attribute in attributes.values()):
        key = next(iter(attributes.values())).implicit_key()
        declared = dict(attributes)
        attributes.clear()
        attributes[IMPLICIT_KEY] = hidden(model, key, IMPLICIT_KEY)
        attributes.update(declared)
        key.check_declaration()
        return KeyPlan(IMPLICIT_KEY, sort, insert_only=True)
    raise refusal(
        model.__name__,
        f"{model.__name__} has no partition key. Declare one, such as "
        "pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID), "
        "or mark a base class with ModelConfig(abstract=True)",
    )


def _check(model: str, attributes: dict[str, Attribute[Any]], plan: KeyPlan) -> None:
    if plan.partition is not None and plan.partition == plan.sort:
        raise refusal(model, f"{model}.{plan.sort} cannot be both partition key and sort key", plan.sort)
    for name in (*plan.names, *plan.parts):
        if attributes[name].nullable:
            raise refusal(model, f"{model}.{name}: a key always has a value: remove null=True", name)
    overwrites = plan.partition is not None and plan.sort is None and not plan.insert_only
    if overwrites and attributes[plan.names[0]].has_constant_default:
        raise refusal(
            model,
            f"{model}.{plan.partition}: with a constant default= all items would have the same key, and each "
            "save would overwrite the previous item: use default=AutoGenerate.ULID, or add a sort key",
            plan.partition,
        )
    for name in plan.names:
        if attributes[name].key_kind is None:
            raise refusal(
                model,
                f"{model}.{name}: this {type(attributes[name]).__name__} cannot be a key; {KEY_TYPES}",
                name,
            )
