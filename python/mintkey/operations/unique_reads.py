"""Reads by unique values: the item that has the values, read consistently."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from mintkey import _core
from mintkey.errors import InvalidValue, UniqueViolation, shortened
from mintkey.instance_state import fetched
from mintkey.operations.writing import run_hooks

if TYPE_CHECKING:
    from mintkey.conditions import Condition
    from mintkey.definitions.schema import Schema
    from mintkey.definitions.unique_plans import UniquePlan
    from mintkey.instance_state import Selected
    from mintkey.stores import Operation


class UniqueLookup(NamedTuple):
    """The values of a unique set, by which an item is looked up.

    Attributes:
        plan: the unique set.
        encoded: the encoded values, in the order of the set.
    """

    plan: UniquePlan
    encoded: tuple[Any, ...]

    def text(self, schema: Schema) -> str:
        """Return the names and values for a message."""
        pairs = zip(self.plan.attributes, self.encoded, strict=True)
        return f"{schema.model} {', '.join(f'{name}={shortened(value)}' for name, value in pairs)}"

    def is_violated(self, violation: UniqueViolation) -> bool:
        """Return whether an error says that another item has these values."""
        wanted = [_core.checked("any", self.plan.name, value) for value in self.encoded]
        return any(
            stored == self.plan.stored_names and list(values) == wanted for stored, values, _ in violation._violations
        )


def unique_names(schema: Schema) -> str:
    """Return the unique sets of a model for a message, as a caller passes them; empty if it has none."""
    return " or ".join(", ".join(f"{name}=…" for name in plan.attributes) for plan in _readable(schema))


def _readable(schema: Schema) -> list[UniquePlan]:
    # A subclass may have removed an attribute of its base class.
    return [plan for plan in schema.unique if schema.attributes.keys() >= set(plan.attributes)]


def unique_in(schema: Schema, values: Mapping[str, Any]) -> UniqueLookup | None:
    """Return the first unique set whose values are all among these; None if there is none."""
    for plan in _readable(schema):
        if values.keys() >= set(plan.attributes) and all(values[name] is not None for name in plan.attributes):
            return _lookup(schema, plan, values)
    return None


def by_unique(schema: Schema, values: Mapping[str, Any], call: Callable[..., object]) -> UniqueLookup:
    """Return the unique set that consists of the attributes of a `call`."""
    given = frozenset(values)
    for plan in _readable(schema):
        if given == frozenset(plan.attributes):
            return _lookup(schema, plan, values)
    known = unique_names(schema)
    unique = (
        f"unique are: {known}"
        if known
        else "the model has no unique values: pass unique=True to an attribute, or ModelConfig(unique=[…])"
    )
    unknown = [name for name in values if name not in schema.attributes]
    if unknown:
        raise TypeError(f"{schema.unexpected(unknown, call)}; {unique}")
    got = f"{', '.join(values)} {'are' if len(values) > 1 else 'is'} not unique" if values else "got no values"
    raise TypeError(f"{schema.model}.{call.__name__}(): {got}; {unique}")


def _lookup(schema: Schema, plan: UniquePlan, values: Mapping[str, Any]) -> UniqueLookup:
    for name in plan.attributes:
        if values[name] is None:
            raise InvalidValue(
                f"{schema.model}.{name}: a read by unique values takes no None, because None means absent, and any "
                "number of items may lack the value",
                model=schema.model,
                attribute=name,
            )
    return UniqueLookup(plan, tuple(schema.attributes[name]._operand(values[name]) for name in plan.attributes))


def read(
    schema: Schema, lookup: UniqueLookup, attributes: Collection[Selected] | None = None
) -> Operation[_core.Item | None]:
    """Read the stored item that has the values; return None if there is none."""
    names = None if attributes is None else list(attributes)
    stored: _core.Item | None = yield schema.codec.get_unique(lookup.plan.name, lookup.encoded, attributes=names)
    return stored


def get(
    schema: Schema,
    lookup: UniqueLookup,
    make: Callable[[_core.Item, set[str] | None], Any],
    must: Sequence[Condition] = (),
    attributes: Collection[Selected] | None = None,
) -> Operation[Any]:
    """Read the item that has the values; return an instance, or None if there is none or `must` is not fulfilled."""
    stored = yield from read(schema, lookup, attributes)
    if stored is None or not all(condition.matches(stored) for condition in must):
        return None
    instance = make(stored, None if attributes is None else fetched(attributes))
    if instance is not None:
        # It may be of a subclass.
        yield from run_hooks(instance.__mintkey_schema__, instance, "after_load")
    return instance
