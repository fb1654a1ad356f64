"""A model's schema: what its class declares, checked once and compiled.

Everything that can be known when the class is defined is worked out here, so that an operation on an instance
only walks prepared tuples: which attributes mint, which are the key, which indexes serve a lookup.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from keyword import iskeyword
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import ReferenceType

from mintkey import _core
from mintkey.attributes import (
    Attribute,
    StringAttribute,
    TTLAttribute,
    VersionAttribute,
    is_utf8_text,
    unconverted,
)
from mintkey.errors import ConfigurationError, InvalidValue, shortened
from mintkey.generators import Auto
from mintkey.hooks import Hooks
from mintkey.indexes import Index
from mintkey.rate_limit import RateLimit, checked

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["IndexPlan", "Mint", "ModelConfig", "Schema", "State"]

M = TypeVar("M")

#: The hidden partition key that several plain key fields form together.
COMPOUND_KEY = "_key"
#: The hidden key of a class made only of fields that declares none.
IMPLICIT_KEY = "_auto_key"

#: From this many random bits on, a collision means something else than bad luck.
WIDE = 64

_TABLE_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
_SHORTEST_TABLE, _LONGEST_TABLE = 3, 255
_KEY_TYPES = "keys and indexed values are text, numbers or bytes: hold it in a StringAttribute, or another of those"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The configuration of a model, as its class attribute `model_config`. What is None is inherited.

    Args:
        table: the table's name, 3 to 255 of `A-Z a-z 0-9 _ . -`; the class's name without it. Not inherited.
        store: the store, or the name of the connected store, that holds the table.
        skip_hooks: run no hooks, whatever a call says.
        rate_limit: how fast the table is read and written, beside the limit that its store may have: a `FixedRate` or
            an `AdaptiveRate` of `mintkey.rate_limit`. Classes that inherit it, or are given the same one, share it.
        abstract: a base without table or key, or a class whose instances nest in a map. Not inherited.
    """

    table: str | None = None
    store: object | str | None = None
    skip_hooks: bool | None = None
    rate_limit: RateLimit | None = None
    abstract: bool = False

    def __post_init__(self) -> None:
        checked(self.rate_limit)

    def over(self, inherited: ModelConfig) -> ModelConfig:
        """This configuration, with what it leaves open taken from `inherited`."""
        return ModelConfig(
            table=self.table,
            store=inherited.store if self.store is None else self.store,
            skip_hooks=inherited.skip_hooks if self.skip_hooks is None else self.skip_hooks,
            rate_limit=inherited.rate_limit if self.rate_limit is None else self.rate_limit,
            abstract=self.abstract,
        )


_NO_NAMES: frozenset[str] = frozenset()
_NOTHING: Mapping[str, Any] = {}


class State:
    """What an instance knows of itself beside its values; one that is new and untouched has none.

    Attributes:
        loaded: the stored item as this instance last read or wrote it; None while it is new.
        sent: the items of writes whose outcomes nobody knows; any of them may be what is stored.
        saving: the save that is running, which mints what a hook reads.
        fetched: the names of the loaded attributes, when a query's `attributes=` left some out.
        cleared: the names that were set to None without having been loaded.
        assigned: the names of `on_update` attributes that were assigned since the load.
        made: key parts that were minted, or made by a hook, with the value they got: such a key never overwrites.
        noting: a set for each write under way, to which the names of attributes are added that are assigned meanwhile.
        waiting: the pipeline in which a write of the instance waits.
        deleted: whether the row was deleted by this instance, and not written since.
    """

    __slots__ = ("assigned", "cleared", "deleted", "fetched", "loaded", "made", "noting", "saving", "sent", "waiting")

    def __init__(self, loaded: _core.Item | None = None, fetched: set[str] | None = None) -> None:
        self.loaded = loaded
        self.sent: tuple[_core.Item, ...] = ()
        self.saving: Any = None
        self.fetched = fetched
        # Replaced, never changed in place: most instances share the empty ones.
        self.cleared: frozenset[str] = _NO_NAMES
        self.assigned: frozenset[str] = _NO_NAMES
        self.made: Mapping[str, Any] = _NOTHING
        self.noting: tuple[set[str], ...] = ()
        # Weak, so that a pipeline that nobody can send any more holds nothing back.
        self.waiting: ReferenceType[Any] | None = None
        self.deleted = False

    def settle(self, loaded: _core.Item | None, since: AbstractSet[str] = _NO_NAMES) -> None:
        """Begin anew from what is stored now, None when nothing is; what was assigned `since` it was sent stays."""
        self.loaded = loaded
        self.sent = ()
        self.deleted = False
        self.cleared, self.assigned = self.cleared & since, self.assigned & since
        self.made = _NOTHING

    def copy(self) -> State:
        """A state of its own for a copy of the instance."""
        twin = State(self.loaded, None if self.fetched is None else set(self.fetched))
        twin.sent = self.sent
        twin.cleared, twin.assigned, twin.made = self.cleared, self.assigned, self.made
        twin.deleted = self.deleted
        return twin


class StateWhenAsked:
    """Makes the `State` of an instance that has only its stored item, when somebody asks for it.

    Most rows that are read or written are never asked, and an item costs less than a state. Python finds a state in
    the instance's `__dict__` before it comes here.
    """

    def __get__(self, instance: Any, owner: type) -> State | None:
        if instance is None:
            return None
        values = instance.__dict__
        item = values.get("_stored")
        if item is None:
            # Another thread may have come first.
            return values.get("_state")  # type: ignore[no-any-return]
        state: State = values.setdefault("_state", State(item))
        values.pop("_stored", None)
        return state


@dataclasses.dataclass(frozen=True, slots=True)
class Mint:
    """An attribute that mints, with its strategy and what makes the attribute's value of the minted one."""

    name: str
    auto: Auto
    convert: Callable[[Any], Any]


@dataclasses.dataclass(frozen=True, slots=True)
class IndexPlan:
    """An index: the attributes looked up for equality, then the one that orders."""

    name: str
    partition: tuple[str, ...]
    sort: str | None
    projected: tuple[str, ...] | None = None
    """What it gives beside the keys; None for everything."""
    local: bool = False


class Schema:
    """One model's schema."""

    def __init__(self, model: type, config: ModelConfig, reserved: frozenset[str]) -> None:
        self.model = model.__name__
        self.identity = (model.__module__, model.__qualname__)
        self.config = config
        self.skip_hooks = bool(config.skip_hooks)
        self._check_members(model)
        self.attributes = _collect(model)
        self.declared_indexes = _collect_indexes(model)
        self.parts: tuple[str, ...] = ()
        self._check_attributes(reserved)
        self.partition: str | None = None
        self.sort: str | None = None
        self.insert_only = False
        if not config.abstract:
            self._find_keys(model)
        self.table = self._table_name()
        self.hooks = Hooks(model)
        self.shown = tuple(name for name in self.attributes if name != COMPOUND_KEY)
        self.keys = tuple(name for name in (self.partition, self.sort) if name is not None)
        #: The attributes that a caller gives to name an item.
        self.given_keys = (*(self.parts or ((self.partition,) if self.partition else ())), *self._sort_names())
        self.stored_names = frozenset(attribute.stored_name for attribute in self.attributes.values())
        #: The same as a set, where they are the stored key as they stand.
        self.plain_key = frozenset() if self.parts else frozenset(self.given_keys)
        #: The store in which the table was last claimed for this model.
        self.claimed_in: Any = None
        self.ttl = self._single(TTLAttribute)
        self.version = self._single(VersionAttribute)
        self.minted = tuple(
            Mint(name, attribute.minted, attribute.minted_converter(attribute.minted))
            for name, attribute in self.attributes.items()
            if attribute.minted is not None
        )
        self.on_update = tuple(
            Mint(name, attribute.on_update, attribute.minted_converter(attribute.on_update))
            for name, attribute in self.attributes.items()
            if attribute.on_update is not None
        )
        #: The attributes that only a save mints, which a nested instance never sees.
        self.saved_strategies = tuple(
            name
            for name, attribute in self.attributes.items()
            if attribute.on_update is not None or (attribute.minted is not None and attribute.minted.when == "save")
        )
        self.minted_names = frozenset(mint.name for mint in self.minted)
        self.on_update_names = frozenset(mint.name for mint in self.on_update)
        self.decompresses = any(attribute.decompresses for attribute in self.attributes.values())
        self.checked = tuple(attribute for attribute in self.attributes.values() if attribute.checks_writes)
        self.indexes = tuple(self._plan_indexes())
        self.codec = self._compile()
        #: What saves new instances in one step, where nothing but their values has a say in it: when hooks are skipped,
        #: and always.
        self.unhooked_save = self._compile_plain_save()
        hooked = not self.skip_hooks and (self.hooks.of("before_save") or self.hooks.of("after_save"))
        self.plain_save = None if hooked else self.unhooked_save

    # What the class declares.

    def _label(self, name: str) -> str:
        return f"{self.model}.{name}"

    def _refuse(self, message: str, attribute: str | None = None) -> ConfigurationError:
        return ConfigurationError(message, model=self.model, attribute=attribute)

    def _check_members(self, model: type) -> None:
        for name, member in vars(model).items():
            if isinstance(member, tuple) and len(member) == 1 and isinstance(member[0], Attribute):
                raise self._refuse(f"{self._label(name)}: the comma behind it makes it a tuple; drop it", name)
            if isinstance(member, type) and issubclass(member, Attribute) and member.__name__ != name:
                raise self._refuse(f"{self._label(name)}: write {member.__name__}(), with parentheses", name)

    def _check_attributes(self, reserved: frozenset[str]) -> None:
        stored: dict[str, str] = {}
        for name, attribute in self.attributes.items():
            if not name.isidentifier() or iskeyword(name):
                raise self._refuse(
                    f"{self.model}: {shortened(name)} is no name of an attribute: "
                    "give it one that Python can write, and the name in the store as alias=",
                    name,
                )
            if name in reserved or name.startswith("_mk_"):
                raise self._refuse(
                    f"{self._label(name)}: the name {name!r} is taken by Model itself. "
                    f'Write {name}_ = {type(attribute).__name__}(…, alias="{name}"): '
                    f"the alias is the name in the store",
                    name,
                )
            if attribute.name != name:
                raise self._refuse(
                    f"{self._label(name)}: the same attribute object is {attribute.name!r} too; declare two", name
                )
            attribute.check_declaration()
            twin = stored.setdefault(attribute.stored_name, name)
            if twin != name:
                raise self._refuse(
                    f"{self._label(name)} and {self._label(twin)} are both stored as {attribute.stored_name!r}; "
                    "give one of them another alias",
                    name,
                )

    def _find_keys(self, model: type) -> None:
        attributes = self.attributes
        partitions = [name for name, attribute in attributes.items() if attribute.partition_key]
        sorts = [name for name, attribute in attributes.items() if attribute.sort_key]
        whole = [name for name, attribute in attributes.items() if attribute.field_key == "whole"]
        parts = [name for name, attribute in attributes.items() if attribute.field_key == "part"]
        if IMPLICIT_KEY in whole and len(partitions) + len(whole) + len(parts) > 1:
            # A base class had no key of its own and was given one; this class declares a key, so that one goes.
            whole.remove(IMPLICIT_KEY)
            del attributes[IMPLICIT_KEY]
        for kind, names in (("partition", partitions + whole), ("sort", sorts)):
            if len(names) > 1:
                raise self._refuse(
                    f"{self.model} has two {kind} keys, {names[0]!r} and {names[1]!r}; keep one", names[1]
                )
        if set(partitions) & set(sorts):
            raise self._refuse(
                f"{self._label(partitions[0])} cannot be partition key and sort key at once", partitions[0]
            )
        if partitions or whole:
            self.partition = (partitions or whole)[0]
            self.insert_only = bool(whole)
        elif len(parts) == 1:
            self.partition = parts[0]
        elif parts:
            self.partition = COMPOUND_KEY
            self.parts = tuple(parts)
            attributes[COMPOUND_KEY] = hidden(model, StringAttribute(), COMPOUND_KEY)
        elif attributes and all(attribute.is_field for attribute in attributes.values()):
            key = next(iter(attributes.values())).implicit_key()
            self.partition = IMPLICIT_KEY
            self.insert_only = True
            self.attributes = {IMPLICIT_KEY: hidden(model, key, IMPLICIT_KEY), **attributes}
            key.check_declaration()
        else:
            raise self._refuse(
                f"{self.model} has no partition key. Declare one, such as "
                "pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID), "
                "or mark a base class with ModelConfig(abstract=True)"
            )
        self.sort = sorts[0] if sorts else None
        for name in (self.partition, self.sort):
            if name is not None and self.attributes[name].key_kind is None:
                raise self._refuse(
                    f"{self._label(name)}: this {type(self.attributes[name]).__name__} cannot be a key; {_KEY_TYPES}",
                    name,
                )

    def _sort_names(self) -> tuple[str, ...]:
        return () if self.sort is None else (self.sort,)

    def _single(self, kind: type[Attribute[Any]]) -> str | None:
        names = [name for name, attribute in self.attributes.items() if isinstance(attribute, kind)]
        if len(names) > 1:
            raise self._refuse(
                f"{self.model} has two {kind.__name__}s, {names[0]!r} and {names[1]!r}; keep one", names[1]
            )
        return names[0] if names else None

    def _table_name(self) -> str:
        name = self.model if self.config.table is None else self.config.table
        if not isinstance(name, str):
            raise self._refuse(f"{self.model}: a table's name is text, not {shortened(name)}")
        if self.config.abstract and self.config.table is None:
            return name
        if not _SHORTEST_TABLE <= len(name) <= _LONGEST_TABLE or not _TABLE_NAME.issuperset(name):
            raise self._refuse(
                f"{self.model}: the table name {shortened(name)} is not "
                f"{_SHORTEST_TABLE} to {_LONGEST_TABLE} of A-Z a-z 0-9 _ . -; give one with ModelConfig(table=…)"
            )
        return name

    def _plan_indexes(self) -> Iterator[IndexPlan]:
        for name, attribute in self.attributes.items():
            if attribute.sorted_within is not None:
                for other in attribute.sorted_within:
                    self._check_partition_by(name, other)
                yield IndexPlan(name, attribute.sorted_within, name)
            elif attribute.value_indexed and name != self.partition:
                yield IndexPlan(name, (name,), None)
        for index in self.declared_indexes:
            yield self._plan_declared(index)

    def _plan_declared(self, index: Index) -> IndexPlan:
        label = self._label(index.name)
        if not is_utf8_text(index.name):
            raise self._refuse(f"{self.model}: {shortened(index.name)} is no name of an index, which UTF-8 has to hold")
        projected = index.projected()
        if isinstance(index.projection, str) and index.projection not in {"all", "keys"}:
            raise self._refuse(
                f"{label}: projection= is 'all', 'keys' or a list of names, not {shortened(index.projection)}"
            )
        for name in (index.partition_key, index.sort_key, *(projected or ())):
            if name is not None and name not in self.attributes:
                raise self._refuse(f"{label} names {name!r}, which {self.model} does not have", index.name)
        if index.local and (index.partition_key != self.partition or index.sort_key is None or self.sort is None):
            raise self._refuse(
                f"{label}: a local index has the table's partition key ({self.partition!r}) and a sort key of its own, "
                "and its table has a sort key",
                index.name,
            )
        return IndexPlan(index.name, (index.partition_key,), index.sort_key, projected, index.local)

    def index(self, name: str | None) -> IndexPlan | None:
        """The index of this name."""
        return next((plan for plan in self.indexes if plan.name == name), None)

    def fetched_by(self, name: str | None) -> frozenset[str] | None:
        """The attributes that a read by this index gives; None for all."""
        plan = self.index(name)
        if plan is None or plan.projected is None:
            return None
        sort = () if plan.sort is None else (plan.sort,)
        return frozenset((*self.given_keys, *self.keys, *plan.partition, *sort, *plan.projected))

    def _check_partition_by(self, name: str, other: str) -> None:
        if other not in self.attributes:
            raise self._refuse(
                f"{self._label(name)}: partition_by names {shortened(other)}, which {self.model} does not have", name
            )

    def _compile(self) -> _core.Codec:
        fields = []
        for name, attribute in self.attributes.items():
            convert = (attribute.encode, attribute.decode) if attribute.converts else None
            fields.append(
                (name, attribute.stored_name, attribute.kind, attribute.required, convert, attribute.key_kind)
            )
        for plan in self.indexes:
            for name in (*plan.partition, *((plan.sort,) if plan.sort else ())):
                if self.attributes[name].key_kind is None:
                    raise self._refuse(
                        f"{self._label(name)}: this {type(self.attributes[name]).__name__} cannot be indexed; "
                        + _KEY_TYPES,
                        name,
                    )
        if self.config.abstract:
            return _core.Codec(self.model, fields)
        return _core.Codec(
            self.model,
            fields,
            table=self.table,
            partition=self.partition,
            sort=self.sort,
            ttl=self.ttl,
            indexes=[
                (
                    plan.name,
                    list(plan.partition),
                    plan.sort,
                    None if plan.projected is None else list(plan.projected),
                    plan.local,
                )
                for plan in self.indexes
            ],
        )

    def _compile_plain_save(self) -> _core.PlainSave | None:
        if self.config.abstract or self.version or self.parts or self.checked:
            return None
        mints = []
        for mint in self.minted:
            strategy = mint.auto.strategy
            if strategy is None or mint.auto.when != "save":
                return None
            is_key = mint.name in self.given_keys
            convert = None if mint.convert is unconverted else mint.convert
            mints.append((mint.name, strategy, convert, is_key, is_key and strategy.random_bits >= WIDE))
        return _core.PlainSave(self.codec, mints, self.insert_only)

    # What operations ask.

    def stored_version(self) -> str:
        """The version attribute's name in the store."""
        return self.attributes[self.version].stored_name if self.version else ""

    def with_key(self, values: dict[str, Any]) -> dict[str, Any]:
        """`values` with the compound key that its parts form, if the model has one."""
        if not self.parts:
            return values
        return {**values, COMPOUND_KEY: self.compound(values)}

    def compound(self, values: Mapping[str, Any]) -> str:
        """The compound key: the parts in their stored form, percent-escaped and joined by `:`."""
        stored = {}
        for name in self.parts:
            value = values.get(name)
            if value is None:
                raise InvalidValue(
                    f"{self._label(name)}: a key needs a value: give one, or mint it with an AutoFieldMixin",
                    model=self.model,
                    attribute=name,
                )
            stored[name] = self.attributes[name]._operand(value)
        return self.compound_of_stored(stored)

    def compound_of_stored(self, values: Mapping[str, Any]) -> str:
        """The compound key of parts that are in their stored form already."""
        escaped = []
        for name in self.parts:
            stored = values[name]
            if stored == "":
                raise InvalidValue(
                    f"{self._label(name)}: a part of a key cannot be empty", model=self.model, attribute=name
                )
            escaped.append(key_text(stored).replace("%", "%25").replace(":", "%3A"))
        return ":".join(escaped)

    def named(self, stored_name: str | int) -> str:
        """The attribute that is stored under a name."""
        for name, attribute in self.attributes.items():
            if attribute.stored_name == stored_name:
                return name
        raise self.unexpected([str(stored_name)])

    def check_names(self, stored_names: Iterable[str | int]) -> None:
        """Refuse a condition on attributes that the model does not have."""
        for stored_name in stored_names:
            if stored_name not in self.stored_names:
                raise self.unexpected([str(stored_name)])

    def unexpected(self, names: Iterable[str], call: Callable[..., object] | None = None) -> TypeError:
        """The error for names that are no attributes, with the nearest ones that are, or options of the `call`."""
        import difflib
        import inspect

        parameters = () if call is None else inspect.signature(call).parameters.values()
        named = {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
        options = {one.name: f"{one.name}=" for one in parameters if one.kind in named}
        told = []
        for name in names:
            near = difflib.get_close_matches(name, (*self.shown, *options), n=1)
            told.append(shortened(name) + (f" (did you mean {options.get(near[0], repr(near[0]))}?)" if near else ""))
        taken = f". This call takes: {', '.join(options.values())}" if options else ""
        return TypeError(f"{self.model} has no attribute {', '.join(told)}. It has: {', '.join(self.shown)}{taken}")

    def nested_instance(self, nested: type[M], stored: dict[str, Any]) -> M:
        """An instance of an abstract model out of the plain stored form of a map."""
        instance = nested.__new__(nested)
        instance.__dict__.update(self.codec.decode_plain(stored))
        return instance


class NoSchema:
    """Stands where a derived class has its schema."""

    def __get__(self, instance: object | None, owner: type) -> Any:
        raise ConfigurationError(f"{owner.__name__} itself has no attributes: derive a class from it")


def key_text(stored: Any) -> str:
    """A stored key value as text: itself, a number's canonical digits, or hexadecimal bytes."""
    if isinstance(stored, str):
        return stored
    return stored.hex() if isinstance(stored, bytes) else _core.number_text(stored)


def hidden(model: type, attribute: Attribute[Any], name: str) -> Attribute[Any]:
    """An attribute that the schema itself adds to the class."""
    attribute.__set_name__(model, name)
    setattr(model, name, attribute)
    return attribute


def _collect(model: type) -> dict[str, Attribute[Any]]:
    """The attributes in the order of declaration, base class first; a subclass may replace or remove one."""
    attributes: dict[str, Attribute[Any]] = {}
    for base in reversed(model.__mro__):
        for name, member in vars(base).items():
            if isinstance(member, Attribute):
                if name != COMPOUND_KEY:
                    attributes[name] = member
            elif name in attributes and not name.startswith("__"):
                del attributes[name]
    return attributes


def _collect_indexes(model: type) -> tuple[Index, ...]:
    """The declared indexes, those of base classes first; a subclass may replace or remove one."""
    found: dict[str, Index] = {}
    for base in reversed(model.__mro__):
        for name, member in vars(base).items():
            if isinstance(member, Index):
                found[name] = member
            else:
                found.pop(name, None)
    return tuple(found.values())


# The constructor.

_ABSENT: Any = type("Absent", (), {"__repr__": lambda _: "…", "__slots__": ()})()


def constructor(model: type, schema: Schema) -> Callable[..., None]:
    """The model's `__init__`, generated once for its attributes: two to three times quicker than a loop over them."""
    names: dict[str, Any] = {
        "_mk_absent": _ABSENT,
        "_mk_model": model,
        "_mk_type": type,
        "_mk_unexpected": schema.unexpected,
        "_mk_begin": _begin,
    }
    parameters, lines = [], []
    init_keys = []
    for name in schema.shown:
        attribute = schema.attributes[name]
        normal = getattr(attribute, "normal", None)
        value = name
        if normal is not None:
            names[f"_mk_normal_{name}"] = normal
            value = f"_mk_normal_{name}({name})"
        if attribute.mints_at_init:
            names[f"_mk_mint_{name}"] = attribute.initial
            parameters.append(f"{name}=None")
            if name in schema.given_keys:
                init_keys.append(name)
                lines.append(f"_mk_given_{name} = {name}")
            lines.append(f"if {name} is None: {name} = _mk_mint_{name}()")
            lines.append(f"if {name} is not None: _mk_values[{name!r}] = {value}")
        elif attribute.default is not None:
            names[f"_mk_new_{name}"] = attribute.new_default
            parameters.append(f"{name}=_mk_absent")
            fresh = f"_mk_new_{name}()" if normal is None else f"_mk_normal_{name}(_mk_new_{name}())"
            lines.append(f"if {name} is _mk_absent: {name} = {fresh}")
            lines.append(f"if {name} is not None: _mk_values[{name!r}] = {value}")
        else:
            parameters.append(f"{name}=None")
            lines.append(f"if {name} is not None: _mk_values[{name!r}] = {value}")
    if init_keys:
        given = ", ".join(f"({name!r}, _mk_given_{name})" for name in init_keys)
        lines.append(f"_mk_begin(self, ({given},))")
    passed = ", ".join(["self", *(f"{name}={name}" for name in schema.shown), "**_mk_unknown"])
    source = "\n    ".join(
        [
            f"def __init__({', '.join(['self', *(['*', *parameters] if parameters else []), '**_mk_unknown'])}):",
            # A subclass with an `__init__` of its own calls this one; the values are for its attributes then.
            "if _mk_type(self) is not _mk_model:",
            f"    return _mk_type(self).__mintkey_init__({passed})",
            "if _mk_unknown: raise _mk_unexpected(_mk_unknown)",
            "_mk_values = self.__dict__",
            *lines,
        ]
    )
    exec(compile(source, f"<mintkey {schema.model}.__init__>", "exec"), names)  # noqa: S102 - built from identifiers
    made: Callable[..., None] = names["__init__"]
    made.__qualname__ = f"{model.__qualname__}.__init__"
    made.__module__ = model.__module__
    return made


def _begin(instance: Any, given: tuple[tuple[str, Any], ...]) -> None:
    """Remember the key parts that the constructor minted."""
    values = instance.__dict__
    made = {name: values[name] for name, value in given if value is None and name in values}
    if made:
        state = values["_state"] = State()
        state.made = made
