"""Operations on tables, each written once for blocking and async calls."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from mintkey import _core
from mintkey.definitions.derived import MAX_PARTITION_BYTES
from mintkey.errors import InvalidValue, UniqueViolation, check_flags, shortened
from mintkey.operations.writing import add_model_to_error

if TYPE_CHECKING:
    from mintkey.definitions.index_plans import IndexPlan
    from mintkey.definitions.schema import Schema
    from mintkey.stores import Operation

#: The maximum size of the values of an index in bytes, on DynamoDB.
_MAX_SORT_BYTES = 1024
#: How many rows are read at a time, and how many of them an error names.
_PAGE, _SHOWN_ROWS = 1000, 10


def create_table(
    schema: Schema, drop_unique: Iterable[str | tuple[str, ...]] = (), *, force: bool = False
) -> Operation[None]:
    """Drop unique values; then create the table, or add missing indexes and unique values.

    Without `force`, an index is not added if the store would refuse further writes of existing rows because of it.
    """
    check_flags(schema.model, force=force)
    dropped = yield from _dropped(schema, drop_unique)
    if dropped:
        yield schema.codec.drop_unique(dropped)
    if schema.indexes and not force:
        names = yield schema.codec.refusing_indexes()
        if names:
            yield from _refuse_unwritable(schema, [plan for plan in schema.indexes if plan.name in names])
    try:
        yield schema.codec.create_table()
    except UniqueViolation as error:
        add_model_to_error(schema, error)
        raise


def _dropped(schema: Schema, given: object) -> Operation[list[str]]:
    """Return the names in the store of the unique values to drop.

    An attribute is known by the class, or by the table: it may have been removed from the class.
    """
    if isinstance(given, str):
        raise TypeError(f"{schema.model}: drop_unique= takes a list: write drop_unique=[{given!r}]")
    sets = [(one,) if isinstance(one, str) else one for one in given] if isinstance(given, Iterable) else [given]
    dropped = {}
    for one in sets:
        if not isinstance(one, tuple) or not one or not all(isinstance(name, str) for name in one):
            raise TypeError(
                f"{schema.model}: drop_unique= takes a list of names and tuples of names, not {shortened(given)}"
            )
        dropped[schema.unique_name(one)] = one
    unknown = {
        stored: [name for name in names if name not in schema.attributes]
        for stored, names in dropped.items()
        if not schema.attributes.keys() >= set(names)
    }
    if unknown:
        found = yield _core.Request.describe_table(schema.table)
        kept = () if found is None else [declared["name"] for declared in found[0].to_dict()["unique"]]
        misspelt = [name for stored, names in unknown.items() if stored not in kept for name in names]
        if misspelt:
            raise schema.unexpected(misspelt)
    return list(dropped)


def table_exists(schema: Schema) -> Operation[bool]:
    """Return whether the table exists."""
    exists: bool = yield schema.codec.table_exists()
    return exists


def delete_table(schema: Schema) -> Operation[None]:
    """Delete the table and all its items."""
    yield schema.codec.delete_table()


def _refuse_unwritable(schema: Schema, plans: Iterable[IndexPlan]) -> Operation[None]:
    """Raise `InvalidValue` if rows have values that the indexes cannot hold."""
    limits = {}
    for plan in plans:
        if plan.sort is not None:
            limits[plan.sort] = (plan.name, _MAX_SORT_BYTES)
        if plan.partition:
            # Of several partition attributes, DynamoDB's index has the first.
            limits.setdefault(plan.partition[0], (plan.name, MAX_PARTITION_BYTES))
    for name in schema.keys:
        limits.pop(name, None)  # the key itself is valid
    number = 0
    found: list[tuple[str, str, str, _core.Key]] = []
    after = None
    while limits:
        page = yield schema.codec.scan(attributes=[*schema.keys, *limits], after=after, limit=_PAGE)
        for item in page.items:
            for row in _unwritable(schema, limits, item):
                number += 1
                if len(found) < _SHOWN_ROWS:
                    found.append(row)
        after = page.next
        if after is None:
            break
    if found:
        raise _not_added(schema, found, number)


def _unwritable(
    schema: Schema, limits: dict[str, tuple[str, int]], item: _core.Item
) -> Iterable[tuple[str, str, str, _core.Key]]:
    """Yield the values of an item that an index cannot hold: the index, the attribute, the value, the key."""
    stored = item.to_dict()
    for name, (index, limit) in limits.items():
        attribute = schema.attributes[name]
        if attribute.stored_name in stored:
            value = stored[attribute.stored_name]
            if not _is_indexable(attribute.key_kind, value, limit):
                yield index, name, shortened(value), schema.codec.key_of(item)


def _is_indexable(kind: str | None, value: Any, limit: int) -> bool:
    if kind == "number":
        return isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)
    if kind == "string":
        return isinstance(value, str) and 0 < len(value.encode()) <= limit
    return isinstance(value, bytes) and 0 < len(value) <= limit


def _not_added(schema: Schema, found: list[tuple[str, str, str, _core.Key]], number: int) -> InvalidValue:
    index, attribute, _, key = found[0]
    rows = ", ".join(f"{row} ({name} = {value})" for _, name, value, row in found)
    more = f" and {number - len(found):,} more" if number > len(found) else ""
    return InvalidValue(
        f"{schema.model}: the index {index!r} was not added, because it cannot hold the values of these rows, and the "
        f"store would refuse every later write of them: {rows}{more}. Correct these rows, or add the index with "
        f"{schema.model}.create_table(force=True)",
        model=schema.model,
        attribute=attribute,
        key=schema.codec.key_dict(key),
    )
