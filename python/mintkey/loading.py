"""Loading: instances out of stored items, without holding more decompressed text than a page may."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from mintkey import _core
from mintkey.operations import run_hooks

if TYPE_CHECKING:
    from mintkey.schema import Schema
    from mintkey.stores import Operation

__all__ = ["load", "made", "run_load_hooks"]

M = TypeVar("M")

#: The bytes of decompressed texts that the instances of one page hold together, but for the last of them.
_MOST_DECOMPRESSED = 64 << 20


def load(
    schema: Schema, items: list[_core.Item | None], make: Callable[[_core.Item], M]
) -> Operation[tuple[list[M | None], list[_core.Item | None]]]:
    """Make instances of stored items, with their `after_load` hooks; gives them, and the items that are left to make.

    Some are left where long texts would take more memory than a page may.
    """
    instances = made(schema, items, make)
    yield from run_load_hooks(schema, instances)
    return instances, items[len(instances) :]


def run_load_hooks(schema: Schema, instances: Iterable[Any]) -> Operation[None]:
    """Run the hooks of instances that were read; None stands for an item that is not there."""
    if schema.hooks.of("after_load"):
        for instance in instances:
            if instance is not None:
                yield from run_hooks(schema, instance, "after_load")


def made(schema: Schema, items: list[_core.Item | None], make: Callable[[_core.Item], M]) -> list[M | None]:
    """Instances of the first of these items: of all, unless their decompressed texts fill the memory of a page."""
    if not schema.decompresses:
        return [None if item is None else make(item) for item in items]
    instances: list[M | None] = []
    before = _core.decompressed()
    for item in items:
        instances.append(None if item is None else make(item))
        if _core.decompressed() - before > _MOST_DECOMPRESSED:
            break
    return instances
