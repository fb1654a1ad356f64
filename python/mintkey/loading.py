"""Loading: instances of stored items, with a limit on the memory of decompressed texts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

from mintkey import _core
from mintkey.errors import shortened
from mintkey.writing import run_hooks

if TYPE_CHECKING:
    from mintkey.schema import Schema
    from mintkey.stores import Operation

__all__ = ["attribute_names", "load", "loaded", "run_load_hooks"]

M = TypeVar("M")

#: The maximum size of the decompressed texts of one page in bytes, not counting its last instance.
_MAX_DECOMPRESSED = 64 << 20


def load(
    schema: Schema, items: list[_core.Item | None], make: Callable[[_core.Item], M]
) -> Operation[tuple[list[M | None], list[_core.Item | None]]]:
    """Load stored items and run their `after_load` hooks; return the instances and the items that are left.

    Items are left when the decompressed texts of the page reach the limit.
    """
    instances = loaded(schema, items, make)
    yield from run_load_hooks(schema, instances)
    return instances, items[len(instances) :]


def run_load_hooks(schema: Schema, instances: Iterable[Any]) -> Operation[None]:
    """Run the `after_load` hooks of loaded instances. None stands for a missing item."""
    if schema.family is not None or schema.hooks.of("after_load"):
        for instance in instances:
            if instance is not None:
                # It may be of a subclass.
                yield from run_hooks(instance.__mintkey_schema__, instance, "after_load")


def loaded(schema: Schema, items: list[_core.Item | None], make: Callable[[_core.Item], M]) -> list[M | None]:
    """Load the items, or only the first of them if their decompressed texts reach the limit of a page."""
    if not schema.decompresses:
        return [None if item is None else make(item) for item in items]
    instances: list[M | None] = []
    before = _core.decompressed()
    for item in items:
        instances.append(None if item is None else make(item))
        if _core.decompressed() - before > _MAX_DECOMPRESSED:
            break
    return instances


def attribute_names(
    schema: Schema, attributes: Iterable[str], available: Collection[str] | None = None
) -> tuple[str, ...]:
    """Return the names in `attributes=` and those that each instance needs, of those that are `available`."""
    if isinstance(attributes, str):
        raise TypeError(f"{schema.model}: attributes= takes a list of names, not the text {shortened(attributes)}")
    requested = list(chain(attributes)) if isinstance(attributes, Iterable) else [attributes]
    if not all(isinstance(name, str) for name in requested):
        raise TypeError(f"{schema.model}: attributes= takes a list of names, not {shortened(attributes)}")
    # An item cannot be written again without its version.
    version = () if schema.version is None else (schema.version,)
    shown = version if available is None or set(version).issubset(available) else ()
    names = tuple(dict.fromkeys((*schema.always_loaded, *shown, *requested)))
    unknown = [name for name in names if name not in schema.attributes]
    if unknown:
        raise schema.unexpected(unknown)
    return names
