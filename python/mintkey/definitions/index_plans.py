"""Index plans: the indexes of a model, checked against its attributes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mintkey.attributes.base import Attribute, is_utf8_text
from mintkey.errors import ConfigurationError, nearest, shortened
from mintkey.indexes import Index


@dataclasses.dataclass(frozen=True, slots=True)
class IndexPlan:
    """An index: its partition attributes, its sort attribute and its projection."""

    name: str
    partition: tuple[str, ...]
    sort: str | None
    projected: tuple[str, ...] | None = None
    """The projected attributes except the keys; None for all."""
    local: bool = False


def index_plans(
    model: str,
    attributes: Mapping[str, Attribute[Any]],
    declared: Iterable[Index],
    *,
    partition: str | None,
    sort: str | None,
    discriminator: str | None,
) -> Iterator[IndexPlan]:
    """Yield the indexes of the attributes and the `declared` ones of a model with these keys and discriminator."""
    names: set[str] = set()
    for name, attribute in attributes.items():
        if attribute.sorted_within is not None:
            for other in attribute.sorted_within:
                if other not in attributes:
                    raise ConfigurationError(
                        f"{model}.{name}: partition_by names {shortened(other)}, which {model} does not have"
                        f"{nearest(other, attributes)}",
                        model=model,
                        attribute=name,
                    )
            names.add(name)
            yield IndexPlan(name, attribute.sorted_within, name)
        elif attribute.value_indexed and name != partition:
            names.add(name)
            yield IndexPlan(name, (name,), None)
    for index in declared:
        problem = _problem(model, attributes, index, partition, sort)
        if problem is None and index.name in names:
            problem = f"{model} has two indexes with the name {index.name!r}: set another name="
        if problem is not None:
            raise ConfigurationError(problem, model=model, attribute=index.attribute_name)
        names.add(index.name)
        projected = index.projected()
        if projected is not None and discriminator is not None:
            projected = (*projected, discriminator)
        yield IndexPlan(index.name, (index.partition_key,), index.sort_key, projected, index.local)


def _problem(
    model: str, attributes: Mapping[str, Attribute[Any]], index: Index, partition: str | None, sort: str | None
) -> str | None:
    """Return what is wrong with the declaration of an index, or None."""
    label = f"{model}.{index.attribute_name}"
    if not is_utf8_text(index.name):
        return f"{model}: the index name {shortened(index.name)} is not valid UTF-8"
    if isinstance(index.projection, str) and index.projection not in {"all", "keys"}:
        return f"{label}: projection= takes 'all', 'keys' or a list of names, not {shortened(index.projection)}"
    for name in (index.partition_key, index.sort_key, *(index.projected() or ())):
        if name is not None and name not in attributes:
            return f"{label} names {name!r}, which {model} does not have{nearest(name, attributes)}"
    if index.local and (index.partition_key != partition or index.sort_key is None or sort is None):
        return (
            f"{label}: a local index needs the table's partition key ({partition!r}) and its own sort key, "
            "in a table that has a sort key"
        )
    return None
