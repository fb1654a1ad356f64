"""The schema of a model: the declarations of its class, checked and compiled once.

It computes everything that is known when the class is defined (the keys, the strategies, the indexes), so that
operations on instances only read prepared tuples.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from mintkey import _core
from mintkey.attributes import Attribute, TTLAttribute, VersionAttribute
from mintkey.attributes.base import unconverted
from mintkey.attributes.reading import reader
from mintkey.definitions.declarations import (
    KEY_TYPES,
    adopt,
    check_attributes,
    check_members,
    collect,
    collect_indexes,
    refusal,
    set_default_ttl,
    single,
    table_name,
)
from mintkey.definitions.derived import COMPOUND_KEY, derived_attributes
from mintkey.definitions.discriminators import Family, Footprint, discriminator_of, share_ttl, table_of
from mintkey.definitions.index_plans import IndexPlan, index_plans
from mintkey.definitions.key_plans import KeyPlan, key_plan
from mintkey.definitions.unique_plans import UniquePlan, unique_name, unique_plans
from mintkey.errors import CONVERSION_ERRORS, ConfigurationError, InvalidValue, UnreadableItem, WrongModel, shortened
from mintkey.generators import Auto
from mintkey.hooks import Hooks
from mintkey.model_config import ModelConfig

if TYPE_CHECKING:
    from mintkey.conditions import Condition
    from mintkey.definitions.derived import Derived
    from mintkey.instance_state import State

M = TypeVar("M")

#: Keys with at least this many random bits count as free of collisions.
COLLISION_FREE_BITS = 64

#: No version counts as many writes.
MAX_VERSION = 1 << 62


@dataclasses.dataclass(frozen=True, slots=True)
class Mint:
    """An attribute with a strategy, and the function that converts a generated value to the attribute's type."""

    name: str
    auto: Auto
    convert: Callable[[Any], Any]


class Schema:
    """The schema of one model."""

    def __init__(self, model: type, config: ModelConfig, reserved: frozenset[str]) -> None:
        self.model = model.__name__
        self.identity = (model.__module__, model.__qualname__)
        self.owner: Any = model
        #: Whether the instances are those of a mapped class, which does not report reads and assignments.
        self.is_mapped = False
        check_members(model)
        self.attributes = collect(model)
        self._discriminator = discriminator_of(self.model, self.attributes, config)
        self.config = config = table_of(model, config, self._discriminator)
        self._find_keys(model, reserved)
        self.table = table_name(self.model, config)
        #: The identities of all attributes of the class and its base classes, also of replaced ones.
        self._inherited = frozenset(
            id(member) for base in model.__mro__ for member in vars(base).values() if isinstance(member, Attribute)
        )
        #: The store in which this model last registered its table.
        self.claimed_in: Any = None
        self.ttl = single(self.model, self.attributes, TTLAttribute)
        if config.ttl is not None and not config.abstract:
            set_default_ttl(model, self.attributes, self.ttl, config.ttl)
        self.version = single(self.model, self.attributes, VersionAttribute)
        self._find_strategies()
        #: The attributes whose default is set on loaded items that lack them.
        self.load_defaults = tuple(one for one in self.attributes.values() if one.default_on_load)
        #: Whether `complete` must be called for loaded values.
        self.completes = bool(self.load_defaults) or (self.derived is not None and self.derived.is_visible)
        self.decompresses = any(attribute.decompresses for attribute in self.attributes.values())
        self.checked = tuple(attribute for attribute in self.attributes.values() if attribute.checks_writes)
        #: The attributes whose empty sets are not stored.
        self.sets = frozenset(name for name, attribute in self.attributes.items() if attribute.empty_is_absent)
        self._plan_indexes(model)
        self.codec = self._compile()
        if self.derived is not None:
            self.derived.codec = self.codec
        self.new_save = self._compile_new_save()
        self._find_hooks(model)
        self._find_relatives(model)
        #: What `json_values`, `pydantic_schema` and `serializing` keep of the class when they are used.
        self.forms: Any = None
        self.adapter: Any = None
        self.dataclass: Any = None

    def _find_keys(self, model: type, reserved: frozenset[str]) -> None:
        abstract = self.config.abstract
        if not abstract:
            adopt(model, self.attributes)
        self.declared_indexes = collect_indexes(model)
        check_attributes(self.model, self.attributes, reserved)
        plan = KeyPlan() if abstract else key_plan(model, self.attributes)
        self.partition = plan.partition
        self.sort = plan.sort
        self.keys = plan.names
        #: The attributes that make up a compound key.
        self.parts = plan.parts
        self.insert_only = plan.insert_only
        self.shown = tuple(name for name in self.attributes if name != COMPOUND_KEY)
        #: The attributes that are built from others; None if there are none.
        self.derived = self._derived()
        #: The attributes by which a caller identifies an item.
        self.given_keys = tuple(dict.fromkeys(part for name in self.keys for part in self.named_by(name)))
        #: The same as a set; None if they are not the stored key itself.
        self.plain_key = frozenset(self.given_keys) if self.given_keys == self.keys else None

    def _find_strategies(self) -> None:
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
        #: The attributes that only a save generates. Nested instances are never saved by themselves.
        self.saved_strategies = tuple(
            name
            for name, attribute in self.attributes.items()
            if attribute.on_update is not None or (attribute.minted is not None and attribute.minted.when == "save")
        )
        self.minted_names = frozenset(mint.name for mint in self.minted)
        self.minted_keys = tuple(mint for mint in self.minted if mint.name in self.given_keys)
        self.on_update_names = frozenset(mint.name for mint in self.on_update)

    def _plan_indexes(self, model: type) -> None:
        discriminator = self._discriminator
        self.indexes = tuple(
            index_plans(
                self.model,
                self.attributes,
                self.declared_indexes,
                partition=self.partition,
                sort=self.sort,
                discriminator=None if discriminator is None else discriminator.name,
            )
        )
        #: The attributes whose values are unique.
        self.unique: tuple[UniquePlan, ...] = ()
        if not self.config.abstract:
            self.unique = unique_plans(
                model,
                self.attributes,
                keys=self.keys,
                given_keys=self.given_keys,
                table=self.table,
                literals=self._literals(),
                discriminator=discriminator,
            )

    def _find_hooks(self, model: type) -> None:
        self.hooks = Hooks(model)
        self.skip_hooks = bool(self.config.skip_hooks)
        #: Whether a new instance can be saved in one step: if hooks are skipped, and in general.
        self.saves_unhooked_directly = all(
            mint.auto.strategy is not None and mint.auto.when == "save" for mint in self.minted
        )
        hooked = not self.skip_hooks and (self.hooks.of["before_save"] or self.hooks.of["after_save"])
        self.saves_directly = self.saves_unhooked_directly and not hooked

    def _find_relatives(self, model: type) -> None:
        discriminator = self._discriminator
        #: The class and its subclasses in the same table; None without a discriminator.
        self.family: Family | None = None
        if discriminator is not None:
            self.family = Family(model, self.table, self.attributes, discriminator)
            self.family.unique = self.unique
            self.identity = self.family.identity
            share_ttl([self, *self.family.relative_schemas()])
        #: By which rows of the table the model is known.
        self.footprint = Footprint(
            None if discriminator is None else self.attributes[discriminator.name].stored_name,
            self._literals(),
        )
        #: The attributes that all reads load.
        self.always_loaded = self.given_keys if discriminator is None else (*self.given_keys, discriminator.name)

    def named_by(self, name: str) -> tuple[str, ...]:
        """Return the attributes by which a caller names the value of an attribute: itself, or its parts."""
        return (name,) if self.derived is None else self.derived.parts_of(name)

    def _derived(self) -> Derived | None:
        if self.config.abstract:
            return None
        sorts = (self.sort, *(index.sort_key for index in self.declared_indexes))
        derived = derived_attributes(
            self.model,
            self.attributes,
            keys=self.keys,
            sorts=frozenset(name for name in sorts if name is not None),
            compound=self.parts,
            discriminator=self._discriminator,
        )
        parts = derived.parts_of(self.keys[0]) if derived is not None and self.sort is None else ()
        if parts and all(self.attributes[part].has_constant_default for part in parts):
            raise refusal(
                self.model,
                f"{self.model}.{parts[0]}: with a constant default= of each part of the key all items would have the "
                "same key, and each save would overwrite the previous item: remove default=, or add a sort key",
                parts[0],
            )
        return derived

    def index(self, name: str | None) -> IndexPlan | None:
        """Return the index that has this name in the store or in the class, or None."""
        if name is None:
            return None
        plans = {plan.name: plan for plan in self.indexes}
        stored = next((one.name for one in self.declared_indexes if one.attribute_name == name), "")
        return plans.get(name) or plans.get(stored)

    def fetched_by(self, name: str | None) -> frozenset[str] | None:
        """Return the attributes that a read of this index loads; None for all."""
        plan = self.index(name)
        if plan is None or plan.projected is None:
            return None
        sort = () if plan.sort is None else (plan.sort,)
        return frozenset((*self.given_keys, *self.keys, *plan.partition, *sort, *plan.projected))

    def _literals(self) -> tuple[tuple[str, str, bool], ...]:
        return () if self.derived is None else self.derived.literals

    def unique_name(self, given: str | tuple[str, ...]) -> str:
        """Return the name in the store of unique values: of one attribute, or of several together."""
        names = (given,) if isinstance(given, str) else tuple(given)
        return unique_name(self.model, self.attributes, names, self._literals(), self._discriminator)

    def _compile(self) -> _core.Codec:
        fields = []
        for name, attribute in self.attributes.items():
            convert = (attribute.encode, reader(attribute)) if attribute.converts else None
            structure = (attribute.fitted, attribute.merged) if attribute.fits else None
            fields.append(
                (
                    name,
                    attribute.stored_name,
                    attribute.kind,
                    attribute.required,
                    convert,
                    attribute.key_kind,
                    structure,
                )
            )
        for plan in self.indexes:
            for name in (*plan.partition, *((plan.sort,) if plan.sort else ())):
                if self.attributes[name].key_kind is None:
                    raise refusal(
                        self.model,
                        f"{self.model}.{name}: this {type(self.attributes[name]).__name__} cannot be indexed; "
                        + KEY_TYPES,
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
            unique=[plan.declaration for plan in self.unique],
            colocate=self.config.colocate,
        )

    def _compile_new_save(self) -> _core.NewSave:
        mints = []
        for mint in self.minted:
            strategy = mint.auto.strategy
            is_key = mint.name in self.given_keys
            collision_free = is_key and strategy is not None and strategy.random_bits >= COLLISION_FREE_BITS
            convert = None if mint.convert is unconverted else mint.convert
            in_save = strategy if mint.auto.when == "save" else None
            mints.append((mint.name, in_save, convert, is_key, collision_free))
        return _core.NewSave(
            self.codec,
            mints,
            insert_only=self.insert_only,
            version=self.stored_version() or None,
            overrides=self.new_overrides if self.version or self.derived is not None else None,
            check=self._check_new if self.checked else None,
        )

    # Used by operations.

    def new_overrides(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return the values of a new row that its instance does not have: the derived ones and the version."""
        overrides = self.overrides(values)
        if self.version is not None:
            overrides[self.version] = self._counted(values.get(self.version)) + 1
        return overrides

    def overrides(
        self,
        values: dict[str, Any],
        loaded: _core.Item | None = None,
        state: State | None = None,
        generated: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Return the derived values of an item that is written with these `generated` values, too."""
        if self.derived is None:
            return {}
        together = self._accompanying(values, loaded, state, generated or {})
        return self.derived.overrides(values, loaded, state, generated or {}, together)

    def removed(
        self, values: dict[str, Any], state: State, overrides: Mapping[str, Any], generated: Mapping[str, Any]
    ) -> list[str]:
        """Return the names of the attributes that a save removes without having loaded them."""
        names = [*state.cleared(values, self.sets)]
        if self.derived is None or state.fetched is None:
            return names
        together = self._accompanying(values, state.loaded, state, generated)
        return [*names, *self.derived.emptied(overrides, {**values, **generated}, state, together)]

    def _accompanying(
        self,
        values: Mapping[str, Any],
        loaded: _core.Item | None,
        state: State | None,
        generated: Mapping[str, Any],
    ) -> frozenset[str]:
        """Return the names that a save of an item which was loaded in part writes only together with others."""
        if self.derived is None or state is None or state.fetched is None:
            return frozenset()
        return self.unsaved_defaults(values, loaded).union(generated, self.derived.uncounted(loaded))

    def _counted(self, version: Any) -> int:
        """Return the number of writes that the version of a new instance starts from."""
        if not isinstance(version, int) or isinstance(version, bool) or version < 0:
            return 0
        if version >= MAX_VERSION:
            raise InvalidValue(
                f"{self.model}.{self.version}: {shortened(version)} is not a count of writes: leave the version out",
                model=self.model,
                attribute=self.version,
            )
        return version

    def _check_new(self, instance: Any, pipeline: object) -> None:
        self.check_fields(instance, self.attributes.keys(), pipeline)

    def check_fields(
        self, instance: Any, changed: Collection[str], pipeline: object, generated: Mapping[str, Any] | None = None
    ) -> None:
        """Check the changed values, and those that were `generated` for this write. Notify fields of the write."""
        values = instance.__dict__ if generated is None else {**instance.__dict__, **generated}
        for attribute in self.checked:
            name = attribute.name
            is_new = name in changed or (generated is not None and name in generated)
            attribute.check_write(instance, values.get(name), changed=is_new, pipeline=pipeline)

    def stored_version(self) -> str:
        """Return the stored name of the version attribute."""
        return self.attributes[self.version].stored_name if self.version else ""

    def part_of_key(self, name: str) -> Literal["partition", "sort"] | None:
        """Return which part of the key an attribute is; None if it is none."""
        if name == self.partition:
            return "partition"
        return "sort" if name == self.sort else None

    def with_key(self, values: dict[str, Any], loaded: _core.Item | None = None) -> dict[str, Any]:
        """Return `values` with the derived parts of the key."""
        if self.plain_key is not None or self.derived is None:
            return values
        return {**values, **self.derived.keys(values, loaded)}

    def decode(self, item: _core.Item) -> dict[str, Any]:
        """Return the values of a stored item, with the defaults that are missing in it."""
        values = self.decode_stored(item)
        self.add_defaults(values)
        return values

    def decode_stored(self, item: _core.Item, names: Iterable[str] | None = None) -> dict[str, Any]:
        """Return the values of a stored item, and the parts of its key. With `names` only these are decoded."""
        try:
            if names is None:
                values = self.codec.decode(item)
            else:
                stored = {name: item.get(name) for name in (self.attributes[name].stored_name for name in names)}
                values = self.codec.decode_plain(stored)
        except UnreadableItem as error:
            raise self.located(error, item) from error.__cause__
        self._complete_key(values, item)
        return values

    def complete(self, values: dict[str, Any], item: _core.Item, fetched: Collection[str] | None = None) -> None:
        """Add what a loaded item lacks: the parts of its key, and the defaults of the attributes that were read."""
        self._complete_key(values, item)
        self.add_defaults(values, fetched)

    def _complete_key(self, values: dict[str, Any], item: _core.Item) -> None:
        if self.derived is not None:
            try:
                self.derived.complete(values, item)
            except UnreadableItem as error:
                raise self.located(error, item) from None

    def located(self, error: UnreadableItem, item: _core.Item) -> UnreadableItem:
        """Add the store and the key of the item to an error."""
        error.store = None if self.claimed_in is None else self.claimed_in.url
        names = self.given_keys if self.parts else self.keys
        values = {name: item.get(self.attributes[name].stored_name) for name in names}
        for name, stored in values.items():
            with contextlib.suppress(*CONVERSION_ERRORS):
                values[name] = reader(self.attributes[name])(stored)
        if error.key is not None and None not in values.values():
            error.key = StoredKey(values, self.table, self.codec.key_of(item))
        return error

    def add_defaults(self, values: dict[str, Any], fetched: Collection[str] | None = None) -> None:
        """Add the missing defaults to the values of a loaded item, of which `fetched` were read (None: all)."""
        for attribute in self.load_defaults:
            if attribute.name not in values and (fetched is None or attribute.name in fetched):
                values[attribute.name] = attribute.new_default()

    def unsaved_defaults(self, values: Mapping[str, Any], loaded: _core.Item | None) -> frozenset[str]:
        """Return the names of the attributes that have their default only because the loaded item lacks them."""
        return frozenset(
            attribute.name
            for attribute in self.load_defaults
            if loaded is not None
            and loaded.get(attribute.stored_name) is None
            and values.get(attribute.name) == attribute.new_default()
        )

    def on_own_row(self, condition: Condition | None) -> Condition | None:
        """Return the condition of a write by key, which does not change the rows of other classes in the table."""
        own = [] if self.family is None else self.family.conditions()
        for one in own:
            mine = self.attributes[self.keys[0]].does_not_exist() | one
            condition = mine if condition is None else mine & condition
        return condition

    def on_same_class(self, condition: Condition | None, state: State) -> Condition | None:
        """Return the condition of a write of an instance: the row is still of the class that was loaded."""
        if self.family is None or state.deleted:
            return condition
        name = self.family.attribute_name
        if state.loaded is None or state.is_unknown(name):
            return self.on_own_row(condition)
        attribute = self.attributes[name]
        value = state.loaded.get(attribute.stored_name)
        same = attribute.does_not_exist() if value is None else attribute == value
        same = self.attributes[self.keys[0]].does_not_exist() | same
        return same if condition is None else same & condition

    def own_rows(self) -> list[Condition]:
        """Return the conditions that only the rows of this model fulfil, where others share its table."""
        if self.derived is None:
            return []
        if self.family is None:
            return list(self.derived.filters)
        return [*self.family.key_conditions(self.derived), *self.family.conditions()]

    def unwritten(
        self, values: Mapping[str, Any], loaded: _core.Item, state: State, generated: Mapping[str, Any]
    ) -> frozenset[str]:
        """Return the names of the attributes that a save of a loaded item writes only together with others."""
        names = self.unsaved_defaults(values, loaded).union(generated)
        if self.derived is None:
            return names
        # What is built from a generated value changes with each save.
        built = set(self.derived.built_from(names)) - self.derived.changes(frozenset(), values, state, names)
        return names.union(self.derived.uncounted(loaded), built)

    def check_roots(self, attributes: Iterable[Attribute[Any]]) -> None:
        """Raise an error for conditions and changes of attributes that are not of this model or of a base class."""
        for attribute in attributes:
            own = self.attributes.get(attribute.name)
            if own is attribute:
                continue
            inherited = id(attribute) in self._inherited
            if own is None and self.family is not None and self.family.knows(attribute):
                continue
            if not inherited or own is None or own.stored_name != attribute.stored_name:
                remedy = self.unexpected([attribute.name]) if own is None else f"use {self.model}.{attribute.name}"
                raise WrongModel(
                    f"{self.model}: {attribute.model}.{attribute.name} is an attribute of another model, "
                    f"{attribute.model}: {remedy}",
                    model=self.model,
                    attribute=attribute.name,
                )

    def unexpected(self, names: Iterable[str], call: Callable[..., object] | None = None) -> TypeError:
        """Return the error for unknown names, with the most similar attributes or options of the `call`."""
        import difflib
        import inspect

        parameters = () if call is None else inspect.signature(call).parameters.values()
        named = {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
        options = {one.name: f"{one.name}=" for one in parameters if one.kind in named}
        problems = []
        for name in names:
            near = difflib.get_close_matches(name, (*self.shown, *options), n=1)
            problems.append(
                shortened(name) + (f" (did you mean {options.get(near[0], repr(near[0]))}?)" if near else "")
            )
        taken = f". This call takes: {', '.join(options.values())}" if options else ""
        return TypeError(f"{self.model} has no attribute {', '.join(problems)}. It has: {', '.join(self.shown)}{taken}")

    def nested_instance(self, nested: type[M], stored: dict[str, Any]) -> M:
        """Return an instance of an abstract model from the encoded value of a map."""
        instance = nested.__new__(nested)
        instance.__dict__.update(self.codec.decode_plain(stored))
        self.add_defaults(instance.__dict__)
        return instance


class StoredKey(dict[str, Any]):
    """The key of a stored item: its values by attribute name, of which some may be readable only as stored.

    Methods that take a key find the item by the `stored` key.
    """

    def __init__(self, values: dict[str, Any], table: str | None, stored: _core.Key) -> None:
        super().__init__(values)
        self.table = table
        self.stored = stored

    def __reduce__(self) -> Any:
        return dict, (dict(self),)


class _NoAttributes(ConfigurationError, AttributeError):
    """Also an `AttributeError`: `help()` and `inspect` read all members of a class, and skip those that raise it."""


class NoSchema:
    """A descriptor in place of the schema of a class that has none."""

    def __get__(self, instance: object | None, owner: type) -> Any:
        raise _NoAttributes(f"{owner.__name__} itself has no attributes: define a subclass")
