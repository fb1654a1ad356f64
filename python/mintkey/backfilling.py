"""Backfill: methods of a model that write the defaults of attributes into the rows that lack them."""

from __future__ import annotations

import contextlib
import functools
import operator
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from mintkey import arguments, batches, updates
from mintkey.attributes.containers import SetAttribute
from mintkey.errors import ItemGone, nearest, shortened
from mintkey.stores import store_of
from mintkey.tables import Tabled

if TYPE_CHECKING:
    from mintkey.attributes.base import Attribute
    from mintkey.batches import Progress
    from mintkey.conditions import Condition
    from mintkey.queries import Result
    from mintkey.schema import Schema
    from mintkey.stores import Operation

__all__ = ["Backfilling"]


class Backfilling(Tabled):
    """The backfill of a model."""

    if TYPE_CHECKING:

        @classmethod
        def scan(cls, *conditions: Condition, attributes: Iterable[str] | None = None) -> Result[Any]: ...

    @classmethod
    def backfill(cls, *names: str, on_progress: Progress | None = None) -> int:
        """Write the defaults of attributes into the stored items that lack them; return the number of these items.

        A value that another program writes meanwhile is kept. After an interruption, call it again: it goes on with the
        items that still lack a value. A version counts the write, and `on_update` values are generated. No hooks run.

        Args:
            names: the attributes; without any, all with a plain default. A named one may have a strategy: each item
                gets a value of its own.
            on_progress: called after each chunk with the number of written items and None.

        Raises:
            TypeError: a name is not an attribute with a default, or is a key.
            BatchIncomplete: some items failed; `failed` lists them with their exceptions.
        """
        rows, filling = cls._filling(names)
        schema = cls.__mintkey_schema__
        return store_of(schema).run(batches.write(schema, rows, filling, on_progress))

    @classmethod
    async def abackfill(cls, *names: str, on_progress: Progress | None = None) -> int:
        """Async version of `backfill()`."""
        rows, filling = cls._filling(names)
        schema = cls.__mintkey_schema__
        return await store_of(schema).arun(batches.write(schema, rows, filling, on_progress, awaiting=True))

    @classmethod
    def _filling(cls, names: tuple[str, ...]) -> tuple[Iterable[Any], Any]:
        """Return the items that lack a value, and the operation that fills one of them."""
        schema = cls.__mintkey_schema__
        attributes = _attributes(schema, names)
        if not attributes:
            return (), None
        absent = functools.reduce(operator.or_, (attribute.does_not_exist() for attribute in attributes))

        def filling(row: Any) -> Operation[None]:
            key, known = arguments.key(schema, {name: getattr(row, name) for name in schema.given_keys})
            defaults = [(one, _default(one)) for one in attributes]
            actions = tuple(one.set_if_absent(value) for one, value in defaults if value is not None)
            if not actions:
                return
            changes = arguments.changes(schema, actions, {}, cls.backfill)
            # It was deleted since it was read.
            with contextlib.suppress(ItemGone):
                yield from updates.update_by_key(schema, key, known, changes)

        return cls.scan(absent, attributes=schema.given_keys), filling


def _attributes(schema: Schema, names: tuple[str, ...]) -> list[Attribute[Any]]:
    others = {*schema.keys, *schema.given_keys, schema.version}
    if not names:
        attributes = [one for name, one in schema.attributes.items() if one.default is not None and name not in others]
        return [one for one in attributes if not _is_empty(one)]
    for name in names:
        attribute = schema.attributes.get(name)
        has_default = attribute is not None and (attribute.default is not None or name in schema.minted_names)
        if not has_default or name in others:
            raise TypeError(
                f"{schema.model}.backfill() takes the names of attributes that have a default and are not keys, "
                f"not {shortened(name)}{nearest(name, schema.attributes)}"
            )
    return [one for one in map(schema.attributes.__getitem__, names) if not _is_empty(one)]


def _is_empty(attribute: Attribute[Any]) -> bool:
    """Return whether the default is an empty set, which is not stored."""
    form = getattr(attribute, "_form", attribute)
    return isinstance(form, SetAttribute) and not _default(attribute)


def _default(attribute: Attribute[Any]) -> Any:
    """Return the default for one item."""
    return attribute.initial() if attribute.default is None else attribute.new_default()
