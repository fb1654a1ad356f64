"""Derived attributes: keys that are built from other attributes, and discriminators.

Each derived attribute has a source: several plain key fields (`CompoundKey`), a template (`templates.py`), or the class
itself (`discriminators.py`). Instances do not hold the values; they are built for each write and each read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, Protocol

from mintkey import _core
from mintkey.definitions.discriminators import Discriminator
from mintkey.definitions.templates import Template, key_text
from mintkey.errors import InvalidValue, UnreadableItem, shortened

if TYPE_CHECKING:
    from mintkey.attributes.base import Attribute
    from mintkey.conditions import Condition
    from mintkey.instance_state import State

#: The hidden partition key that several plain key fields form together.
COMPOUND_KEY = "_key"
#: The longest partition key.
MAX_PARTITION_BYTES = 2048


_NOTHING: Mapping[str, Any] = {}
_NO_NAMES: AbstractSet[str] = frozenset()


class Source(Protocol):
    """The source of the values of one attribute.

    Attributes:
        name: the name of the attribute.
        parts: the names of the attributes that the value is built from, in order.
        prefix: the text with which all values begin.
        literal_length: the number of characters that all values have in common.
        is_static: whether all items of the class have the same value.
        is_visible: whether users have declared the attribute.
    """

    name: str
    parts: tuple[str, ...]
    prefix: str
    literal_length: int
    is_static: bool
    is_visible: bool

    def built(self, stored: Mapping[str, Any]) -> str:
        """Return the value for encoded parts. Raises `InvalidValue` for a part that does not fit."""
        ...

    def beginning(self, stored: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
        """Return the longest beginning of the value that the encoded parts determine, and the names of these parts."""
        ...

    def parsed(self, text: Any) -> dict[str, Any] | None:
        """Return the values of the parts of a stored value; None if it does not fit."""
        ...


class CompoundKey:
    """The hidden key of a model with several plain key fields: the parts, percent-escaped and joined by `:`."""

    prefix = ""
    literal_length = 0
    is_static = False
    is_visible = False

    def __init__(self, model: str, name: str, parts: tuple[str, ...]) -> None:
        self.model = model
        self.name = name
        self.parts = parts

    def built(self, stored: Mapping[str, Any]) -> str:
        """Return the key of encoded parts."""
        escaped = []
        for name in self.parts:
            part = stored.get(name)
            if part is None or part == "":
                problem = (
                    "a part of a key cannot be empty"
                    if part == ""
                    else "a key needs a value: pass one, or generate it with an AutoFieldMixin"
                )
                raise InvalidValue(f"{self.model}.{name}: {problem}", model=self.model, attribute=name)
            escaped.append(key_text(part).replace("%", "%25").replace(":", "%3A"))
        key = ":".join(escaped)
        size = len(key.encode())
        if size > MAX_PARTITION_BYTES:
            longest = max(zip(self.parts, escaped, strict=True), key=lambda part: len(part[1]))[0]
            raise InvalidValue(
                f"{self.model}.{longest}: the key of {' and '.join(self.parts)} has {size:,} bytes together, "
                f"and may have {MAX_PARTITION_BYTES:,}: use shorter values",
                model=self.model,
                attribute=longest,
            )
        return key

    def beginning(self, stored: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
        """Return the key and all parts, or nothing if a part is missing: parts are compared as a whole."""
        if any(name not in stored for name in self.parts):
            return "", ()
        return self.built(stored), self.parts

    def parsed(self, text: Any) -> dict[str, Any] | None:
        """Return no values: each row of such a model has its parts."""
        return {}


class Derived:
    """The derived attributes of a model.

    Attributes:
        sources: the source of each attribute, by name.
        names: the names of the attributes.
        is_visible: whether users have declared one of them.
        codec: the compiled schema of the model.
    """

    def __init__(
        self, model: str, attributes: Mapping[str, Attribute[Any]], sources: Mapping[str, Source], keys: tuple[str, ...]
    ) -> None:
        self.model = model
        self.sources = sources
        self.names = frozenset(sources)
        self._attributes = attributes
        self._sets = frozenset(name for name, attribute in attributes.items() if attribute.empty_is_absent)
        self._keys = keys
        self._key_sources = tuple(sources[name] for name in keys if name in sources)
        #: The sources of the values that are built from others and are not of the key: those of index keys.
        self.index_sources = tuple(
            source for name, source in sources.items() if name not in keys and not source.is_static
        )
        self.codec: Any = None
        #: The number of literal characters in the templates of the key.
        self.literal_length = sum(source.literal_length for source in self._key_sources)
        #: The conditions that only the rows of this model fulfil.
        self.filters = tuple(self._filters())
        #: The sources of the values that users have declared.
        self.visible_sources = tuple(source for source in sources.values() if source.is_visible)
        self.is_visible = bool(self.visible_sources)
        #: The stored name of each part of the key whose texts begin alike, this beginning, and whether that is all.
        self.literals = tuple(
            (attributes[source.name].stored_name, source.prefix, source.is_static)
            for source in self._key_sources
            if source.is_visible and source.prefix
        )
        for source in self.visible_sources:
            attributes[source.name].derived = self

    def parts_of(self, name: str) -> tuple[str, ...]:
        """Return the attributes by which callers name the value of an attribute."""
        source = self.sources.get(name)
        return (name,) if source is None else source.parts

    def built_from(self, parts: Iterable[str]) -> list[str]:
        """Return the names of the values, apart from keys, that are built from one of these parts."""
        changed = set(parts)
        return [source.name for source in self.index_sources if not changed.isdisjoint(source.parts)]

    def rebuilt(self, names: Iterable[str], values: Mapping[str, Any]) -> dict[str, str | None]:
        """Return values that are not keys, built from their parts; None if a part has no value."""
        return {name: self._optional(self.sources[name], values) for name in names}

    def _filters(self) -> Iterator[Condition]:
        for source in self._key_sources:
            attribute = self._attributes[source.name]
            if source.is_static:
                yield attribute == source.built({})
            elif source.prefix:
                yield attribute.begins_with(source.prefix)

    # Build values.

    def keys(self, values: Mapping[str, Any], loaded: _core.Item | None = None) -> dict[str, Any]:
        """Return the derived parts of the key.

        The key of the `loaded` item is kept if no part of it was changed: its text may have another form.
        """
        found = {}
        for source in self._key_sources:
            text = source.built(self._encoded(source, values))
            stored = None if loaded is None else self._stored(source.name, loaded)
            if stored is not None and stored != text and self._has_same_parts(source, values, loaded, stored):
                text = stored
            found[source.name] = text
        return found

    def check(self, values: Mapping[str, Any]) -> None:
        """Raise `InvalidValue` for a value that no save would build. Values whose parts are missing are not checked."""
        for source in self.sources.values():
            if any(values.get(part) is None for part in source.parts):
                continue
            is_key = source.name in self._keys
            text = source.built(self._encoded(source, values)) if is_key else self._optional(source, values)
            if is_key:
                label = f"{self.model}.{source.name}"
                _core.checked("string", label, text, "partition" if source.name == self._keys[0] else "sort")

    def _has_same_parts(self, source: Source, values: Mapping[str, Any], loaded: Any, stored: Any) -> bool:
        """Return whether no part of a loaded key was changed."""
        if set(source.parts).isdisjoint(self.codec.changed(dict(values), loaded)):
            return True
        return source.is_visible and source.parsed(stored) == {part: values.get(part) for part in source.parts}

    def overrides(
        self,
        values: dict[str, Any],
        loaded: _core.Item | None = None,
        state: State | None = None,
        generated: Mapping[str, Any] = _NOTHING,
        accompanying: AbstractSet[str] = _NO_NAMES,
    ) -> dict[str, Any]:
        """Return all derived values of an item that is written; None for those without a value.

        The write also has the values that it has `generated`. The `accompanying` attributes are written only together
        with others.
        """
        overrides = self.keys(values, loaded)
        written = {**values, **generated}
        for name, source in self.sources.items():
            stored = None if loaded is None else self._stored(name, loaded)
            if name not in overrides:
                if state is None or state.fetched is None or source.is_static:
                    overrides[name] = self._optional(source, written)
                else:
                    overrides[name] = self._of_partial(source, written, state, stored, accompanying)
            # Assignments are checked; this one was made to the `__dict__`, as by the pickle of an older class.
            given = values.get(name)
            if source.is_visible and given is not None:
                if given not in (overrides[name], stored):
                    raise self._differs(source, given, overrides[name])
                del values[name]
        return overrides

    def _of_partial(
        self, source: Source, written: Mapping[str, Any], state: State, stored: Any, accompanying: AbstractSet[str]
    ) -> str | None:
        """Return a value that is not a key, for an item that was loaded in part; None also if it is not written."""
        unknown = self._lacks_parts(source, state, accompanying)
        changed = self._changed_parts(source, written, state, accompanying)
        if not changed and (unknown or not self._is_known(source, state, stored)):
            return str(stored) if stored is not None else None
        return self._optional(source, written)

    def emptied(
        self, overrides: Mapping[str, Any], written: Mapping[str, Any], state: State, accompanying: AbstractSet[str]
    ) -> list[str]:
        """Return the names of values without a value any more, of an item that was loaded without them."""
        if state.fetched is None or state.loaded is None:
            return []
        return [
            name
            for name, source in self.sources.items()
            if overrides[name] is None
            and not self._is_known(source, state, self._stored(name, state.loaded))
            and self._changed_parts(source, written, state, accompanying)
        ]

    def _is_known(self, source: Source, state: State, stored: Any) -> bool:
        """Return whether the stored value was loaded."""
        return state.fetched is None or stored is not None or source.name in state.fetched

    def _changed_parts(
        self, source: Source, values: Mapping[str, Any], state: State, accompanying: AbstractSet[str]
    ) -> list[str]:
        """Return the parts of a value that a save writes."""
        names = {*self.codec.changed(dict(values), state.loaded), *state.cleared(values, self._sets)}
        if not names - accompanying - self.names:
            return []
        return [part for part in source.parts if part in names or part in accompanying]

    def _lacks_parts(self, source: Source, state: State | None, generated: AbstractSet[str] = _NO_NAMES) -> bool:
        """Return whether a part of a value was not loaded."""
        return state is not None and any(state.is_unknown(part) and part not in generated for part in source.parts)

    def _optional(self, source: Source, values: Mapping[str, Any]) -> str | None:
        """Return a value that is not a key; None if a part has no value."""
        given = [values.get(part) for part in source.parts]
        # `==` on an attribute, which somebody may pass for a value, is a condition.
        if any(value is None or (isinstance(value, str) and value == "") for value in given):
            return None
        return source.built(self._encoded(source, values))

    def _encoded(self, source: Source, values: Mapping[str, Any]) -> dict[str, Any]:
        named = {part: values.get(part) for part in source.parts}
        return {part: self._attributes[part]._operand(value) for part, value in named.items() if value is not None}

    def _stored(self, name: str, item: _core.Item) -> Any:
        return item.get(self._attributes[name].stored_name)

    def _differs(self, source: Source, given: Any, built: str | None) -> InvalidValue:
        way_out = f"assign {' and '.join(source.parts)} instead" if source.parts else "leave it out"
        return InvalidValue(
            f"{self.model}.{source.name}: {shortened(given)} differs from {shortened(built)}, which is built for this "
            f"item: {way_out}",
            model=self.model,
            attribute=source.name,
        )

    def refusal(self, name: str) -> InvalidValue:
        """Return the error for an update of a derived value."""
        parts = self.sources[name].parts
        way_out = f"change {' or '.join(parts)} instead" if parts else "it cannot be updated"
        return InvalidValue(
            f"{self.model}.{name}: the value is built for each item: {way_out}", model=self.model, attribute=name
        )

    def uncounted(self, loaded: _core.Item | None) -> set[str]:
        """Return the names of values that are only written together with others: no user has changed them.

        They are the discriminator, and the parts of a key in the row of a program that stores only the key.
        """
        names = {name for name, source in self.sources.items() if source.is_static}
        if loaded is not None:
            for source in self._key_sources:
                names.update(part for part in source.parts if self._stored(part, loaded) is None)
        return names

    def changes(
        self, names: frozenset[str], values: Mapping[str, Any], state: State | None, defaults: AbstractSet[str]
    ) -> frozenset[str]:
        """Return the names of changed attributes, without derived ones that no save would change.

        The stored item lacks the values that are `defaults`: they are no changes.
        """
        loaded = None if state is None else state.loaded
        names = names - self.names - self.uncounted(loaded)
        if state is None or loaded is None:
            return names
        changed = set()
        without_defaults = {name: value for name, value in values.items() if name not in defaults}
        for name, source in self.sources.items():
            if name in self._keys or not source.parts or self._lacks_parts(source, state):
                continue
            stored = self._stored(name, loaded)
            if not self._is_known(source, state, stored) and names.isdisjoint(source.parts):
                continue
            with contextlib.suppress(InvalidValue):
                if stored not in (self._optional(source, values), self._optional(source, without_defaults)):
                    changed.add(name)
        return names | changed

    def read(self, name: str, instance: Any) -> Any:
        """Return the value of an instance: of its stored row, or built from the present parts."""
        source, state = self.sources[name], instance._state
        loaded = None if state is None else state.loaded
        stored = None if loaded is None else self._stored(name, loaded)
        if stored is not None and (name in self._keys or source.is_static):
            return stored
        if self._lacks_parts(source, state):
            return stored
        values = {part: getattr(instance, part) for part in source.parts}
        try:
            return self._optional(source, values)
        except InvalidValue:
            return None

    def visible(self, instance: Any) -> dict[str, Any]:
        """Return the values that an instance shows."""
        return {source.name: self.read(source.name, instance) for source in self.visible_sources}

    # Read keys.

    def key_values(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Replace keys that a caller passes as text by their parts. Raises `InvalidValue` for one that does not fit."""
        named = dict(values)
        for source in self._key_sources:
            if source.is_visible and named.get(source.name) is not None:
                named = {**self.split(source, named.pop(source.name), named), **named}
        return named

    def split(self, source: Source, text: Any, named: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parts of a value that a caller passes.

        Raises `InvalidValue` if the value does not fit, or if it contradicts the parts that are `named` too.
        """
        label = f"{self.model}.{source.name}"
        parts = source.parsed(text)
        if source.is_static and text != source.built({}):
            problem = (
                f"{shortened(text)} differs from {source.built({})!r}, which is built for this class: leave it out"
            )
        elif parts is None:
            problem = f"{shortened(text)} does not fit the template {self._attributes[source.name].template!r}"
        else:
            different = next((part for part in parts if not self._agree(part, parts, named)), None)
            if different is None:
                return parts
            problem = (
                f"{shortened(text)} contradicts {different}={shortened(named[different])}: pass only one of them, or "
                f"assign only {different}"
            )
        raise InvalidValue(f"{label}: {problem}", model=self.model, attribute=source.name)

    def _agree(self, part: str, parts: Mapping[str, Any], named: Mapping[str, Any]) -> bool:
        if named.get(part) is None or named[part] == parts[part]:
            return True
        attribute = self._attributes[part]
        return bool(attribute._operand(named[part]) == attribute._operand(parts[part]))

    def assign(self, name: str, value: Any, instance: Any) -> dict[str, Any]:
        """Return the parts to set on an instance to which a derived value is assigned.

        Raises `InvalidValue` if it differs from the value that is built for the instance.
        """
        source, state, values = self.sources[name], instance._state, instance.__dict__
        if value is None or (state is not None and any(state.is_unknown(part) for part in source.parts)):
            current = self.read(name, instance)
            if value != current:
                raise self._differs(source, value, current)
            return {}
        # A part that a hook has not read yet is not generated for this.
        parts = self.split(source, value, values)
        return {part: value for part, value in parts.items() if values.get(part) is None}

    def complete(self, values: dict[str, Any], item: _core.Item) -> None:
        """Add the parts that only the key of a loaded item has. Raises `UnreadableItem` if the key does not fit."""
        for source in self._key_sources:
            stored = self._stored(source.name, item)
            parts = source.parsed(stored)
            if parts is None:
                raise UnreadableItem(
                    f"{self.model}.{source.name}: the stored key {shortened(stored)} does not fit the template",
                    item=item.to_dict(),
                    model=self.model,
                    attribute=source.name,
                    key=self.codec.key_dict(self.codec.key_of(item)),
                )
            for part, value in parts.items():
                values.setdefault(part, value)
        for source in self.visible_sources:
            values.pop(source.name, None)


def derived_attributes(
    model: str,
    attributes: Mapping[str, Attribute[Any]],
    *,
    keys: tuple[str, ...],
    sorts: frozenset[str],
    compound: tuple[str, ...],
    discriminator: Discriminator | None,
) -> Derived | None:
    """Return the derived attributes of a model with these `keys`; None if it has none.

    Args:
        model: the name of the model.
        attributes: all attributes by name.
        keys: the names of the partition key and of the sort key.
        sorts: the names of the sort keys of the table and of its indexes, whose text must have the order of its parts.
        compound: the parts of the hidden compound key.
        discriminator: the source of the discriminator.
    """
    sources: dict[str, Source] = {}
    if compound:
        sources[COMPOUND_KEY] = CompoundKey(model, COMPOUND_KEY, compound)
    for name, attribute in attributes.items():
        if attribute.template is not None:
            is_sort = name in sorts and name != keys[0]
            sources[name] = Template(attribute, attribute.template, attributes, ordered=is_sort)
    if discriminator is not None:
        sources[discriminator.name] = discriminator
    return Derived(model, attributes, sources, keys) if sources else None
