"""Loading: instances of stored items, with a limit on the memory of decompressed texts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from mintkey import _core
from mintkey.conditions import Operand, invalid
from mintkey.errors import shortened
from mintkey.instance_state import Part, Selected
from mintkey.operations.writing import run_hooks

if TYPE_CHECKING:
    from mintkey.definitions.schema import Schema
    from mintkey.stores import Operation

M = TypeVar("M")

#: What `attributes=` takes.
Selectable: TypeAlias = "str | Operand[Any, Any]"

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
    if schema.family is not None or schema.hooks.of["after_load"]:
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


def _subclass_versions(schema: Schema) -> set[str]:
    """Return the stored names of the versions that only subclasses have. No item can be written without its version."""
    schemas = () if schema.family is None else schema.family.member_schemas()
    return {one.stored_version() for one in schemas if one.version is not None} - schema.attributes.keys()


def check_value_names(schema: Schema, names: Iterable[object]) -> None:
    """Raise `TypeError` if an argument of `values()` is no name."""
    for name in names:
        if not isinstance(name, str):
            raise TypeError(
                f"{schema.model}: values() and values_list() take names of attributes, not {shortened(name)}; "
                "attributes=[…] of query() and scan() loads a part of a map"
            )


def selection(
    schema: Schema, attributes: Iterable[Selectable | Part], available: Collection[str] | None = None
) -> tuple[Selected, ...]:
    """Return what `attributes=` selects, and what each instance needs of the `available` attributes.

    A part of what is selected anyway is left out.
    """
    if isinstance(attributes, (str, Operand)) or not isinstance(attributes, Iterable):
        # It is refused.
        return attribute_names(schema, attributes, available)
    # Not `list(attributes)`: a container may report a wrong length.
    given = list(chain(attributes))
    paths = [one for one in given if isinstance(one, Operand)]
    schema.check_roots(path._root for path in paths)
    # An index read loads what the index contains.
    versions = _subclass_versions(schema) if available is None else set[str]()
    names: list[Any] = [one for one in given if not isinstance(one, (Operand, Part))]
    names += [path._root.name for path in paths if len(path._steps) == 1]
    names = [name for name in names if not (isinstance(name, str) and name in versions)]
    whole = (*attribute_names(schema, names, available), *sorted(versions))
    parts = [one for one in given if isinstance(one, Part)]
    parts += [_part(path) for path in paths if len(path._steps) > 1]
    parts = [part for part in dict.fromkeys(parts) if part.name not in whole]
    unknown = [part.name for part in parts if part.name not in schema.attributes]
    if unknown:
        # An attribute of a subclass.
        raise schema.unexpected(unknown)
    return (*whole, *(part for part in parts if not any(map(part.is_inside, parts))))


def _part(path: Operand[Any, Any]) -> Part:
    """Return the part of a map to which a path leads. Raises `InvalidValue` if it cannot be loaded alone."""
    attribute, steps = path._root, []
    for step in path._steps[1:]:
        if not isinstance(step, str):
            raise invalid(
                path._label, f"an element of a list cannot be loaded alone: pass the whole list, or {path._root.name!r}"
            )
        if attribute is not None and getattr(attribute, "nested", None) is not None:
            kind = attribute.nested.__name__ if isinstance(attribute.nested, type) else shortened(attribute.nested)
            raise invalid(
                path._label,
                f"a part of a {kind} cannot be loaded, because it is not a complete value of "
                f"the class: pass the whole attribute, {path._root.name!r}",
            )
        attribute = None if attribute is None else attribute.member(path._label, step)
        steps.append(step)
    return Part(path._root.name, tuple(steps))


def with_names(selected: Iterable[Selected], names: Iterable[str]) -> tuple[Selected, ...]:
    """Return a selection with whole attributes added."""
    given = tuple(names)
    return (*dict.fromkeys((*(one for one in selected if root(one) not in given), *given)),)


def root(selected: Selected) -> str:
    """Return the name of the attribute."""
    return selected if isinstance(selected, str) else selected.name
