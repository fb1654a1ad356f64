"""Collections: one query of a table for items of several classes."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from mintkey.conditions import Action, Condition
from mintkey.definitions.discriminators import share_ttl
from mintkey.definitions.schema import Schema
from mintkey.errors import ConfigurationError, InvalidValue, UnreadableItem, WrongModel, nearest, shortened
from mintkey.lookups import Q, Test, resolved
from mintkey.operations.writing import run_hooks
from mintkey.queries import OnUnreadable, Options, Page, Result
from mintkey.results import plans
from mintkey.stores import store_of

if TYPE_CHECKING:
    from typing_extensions import Self

    from mintkey import _core
    from mintkey.attributes.base import Attribute
    from mintkey.stores import Operation

__all__ = ["Collection", "CollectionResult", "Items"]

M = TypeVar("M")
N = TypeVar("N")


def _check_class(given: object, models: tuple[type, ...]) -> None:
    """Raise `TypeError` for what is not a class, or is a model that is not related to these models."""
    if not isinstance(given, type):
        raise TypeError(f"of() takes a class, not {shortened(given)}")
    schema: Schema | None = getattr(given, "__mintkey_schema__", None)
    is_model = schema is not None and not schema.config.abstract
    if is_model and models and not any(issubclass(one, given) or issubclass(given, one) for one in models):
        names = ", ".join(one.__name__ for one in models)
        raise TypeError(f"{given.__name__} is not in the collection, whose items are of {names}")


class Items(list[M]):
    """A list of items of several classes, which are of these `models` and their subclasses."""

    def __init__(self, items: Iterable[M] = (), models: tuple[type, ...] = ()) -> None:
        super().__init__(items)
        self._models = models

    def of(self, model: type[N]) -> list[N]:
        """Return the items of one class and its subclasses.

        Raises:
            TypeError: it is not a class, or a model that is not in the collection.
        """
        _check_class(model, self._models)
        return [item for item in self if isinstance(item, model)]


class Collection(Generic[M]):
    """Several models of one table, to read the items of all of them with one query.

    >>> from mintkey import Model, ModelConfig, connect
    >>> from mintkey.attributes import StringAttribute
    >>> _ = connect("sqlite://")
    >>> class User(Model):
    ...     model_config = ModelConfig(table="shop")
    ...     pk = StringAttribute(partition_key=True, template="USER#{email}")
    ...     sk = StringAttribute(sort_key=True, template="PROFILE")
    ...     email = StringAttribute()
    >>> class Order(Model):
    ...     model_config = ModelConfig(table="shop")
    ...     pk = StringAttribute(partition_key=True, template="USER#{user}")
    ...     sk = StringAttribute(sort_key=True, template="ORDER#{id}")
    ...     user = StringAttribute()
    ...     id = StringAttribute()
    >>> for item in (User(email="a"), Order(user="a", id="1"), Order(user="a", id="2")):
    ...     item.save()
    >>> found = Collection([User, Order]).query(pk="USER#a")
    >>> [order.id for order in found.of(Order)], len(found.of(User))
    (['1', '2'], 1)

    Args:
        models: model classes with the same table, keys and store.
    """

    _schemas: Sequence[Schema] = ()

    def __init__(self, models: Iterable[type[M]]) -> None:
        if not isinstance(models, Iterable):
            raise TypeError(f"Collection takes a list of models, not {shortened(models)}")
        self._models: tuple[Any, ...] = tuple(models)
        if not self._models:
            raise ConfigurationError("Collection takes at least one model")
        self._schemas = [_schema_of(model) for model in self._models]
        first = self._schemas[0]
        for schema in self._schemas[1:]:
            if (schema.table, _key(schema)) != (first.table, _key(first)):
                raise ConfigurationError(
                    f"Collection: {first.model} and {schema.model} differ in table or key: a collection is read by one "
                    "query of one table",
                    model=schema.model,
                )
        share_ttl(self._schemas)

    def __repr__(self) -> str:
        return f"Collection([{', '.join(schema.model for schema in self._schemas)}])"

    def query(
        self,
        *conditions: Condition | Q,
        index: str | None = None,
        descending: bool = False,
        limit: int | None = None,
        consistent: bool | None = None,
        on_unreadable: OnUnreadable = "raise",
        **equal: Any,
    ) -> CollectionResult[M]:
        """Return the items of one partition that belong to one of the models, in the order of the sort key.

        The keywords are attributes of one of the models, or parts of its templates. A part of different sort keys
        selects the items of all classes that have it. Same parameters as `Model.query()`. By default the read is
        consistent if one of the models has `ModelConfig(consistent=True)`.
        """
        stores = {id(store_of(schema)._core) for schema in self._schemas}
        if len(stores) > 1:
            raise ConfigurationError(f"{self!r}: the models have different stores: set the same ModelConfig(store=…)")
        given = self._conditions(conditions)
        lead, how = self._plan(given, equal, index)
        if consistent is None and how.index is None:
            consistent = any(schema.config.consistent for schema in self._schemas)
        options = Options(descending=descending, limit=limit, consistent=consistent, on_unreadable=on_unreadable)
        return CollectionResult(lead, self._models, how, options)

    #: Async version of `query()`: returns the same lazy result, for `async for`.
    aquery = query

    def _conditions(self, conditions: Iterable[Condition | Q]) -> list[Test]:
        given: list[Test] = []
        for condition in conditions:
            problems: list[TypeError] = []
            for schema in self._schemas:
                try:
                    given.extend(resolved(schema, (condition,)))
                except TypeError as error:  # a WrongModel, or a lookup that the model does not have
                    problems.append(error)
                else:
                    break
            else:
                raise self._of_no_model(condition, problems[0])
        return given

    def _of_no_model(self, condition: Condition | Q, problem: TypeError) -> TypeError:
        """Return the error for a condition whose attributes are not all of one of the models."""
        roots = list(condition.roots()) if isinstance(condition, Condition) else []
        known = {id(attribute) for schema in self._schemas for attribute in schema.attributes.values()}
        if not roots or any(id(root) not in known for root in roots):
            return problem
        models = " and ".join(dict.fromkeys(root.model for root in roots))
        return WrongModel(
            f"{self!r}.query(): {condition!r} combines attributes of {models}: pass conditions that are each of one "
            "model, or select the items that the query returns"
        )

    def _plan(self, given: list[Test], equal: dict[str, Any], index: str | None) -> tuple[Schema, plans.Plan]:
        """Return the first model that has the attributes in `equal` and can be queried by them, with the plan."""
        # A condition on the part of a sort key selects keys of its own model.
        for schema in sorted(self._schemas, key=lambda one: not all(_accepts(one, test) for test in given)):
            if equal.keys() - schema.attributes.keys() or (index is not None and schema.index(index) is None):
                continue
            named = {name: schema.attributes[name] == value for name, value in equal.items()}
            tests = [self._shared(schema, index, test, equal[name]) for name, test in named.items()]
            how = plans.plan(schema, [*given, *tests, *self._filters()], index)
            if how is not None:
                self._check_meaning(schema, how, given, named, equal)
                return schema, how
        raise self._unplanned(equal, index)

    def _unplanned(self, equal: dict[str, Any], index: str | None) -> Exception:
        """Return the error for keywords by which no model can be queried."""
        nowhere = [name for name in equal if all(name not in schema.attributes for schema in self._schemas)]
        if nowhere:
            return self._schemas[0].unexpected(nowhere, self.query)
        usable = [schema for schema in self._schemas if index is None or schema.index(index) is not None]
        if not usable:
            known = dict.fromkeys(plan.name for schema in self._schemas for plan in schema.indexes)
            return ConfigurationError(
                f"{self!r}: no model has an index {shortened(index)}{nearest(index, known)}; they have: "
                f"{', '.join(known) or 'none'}"
            )
        if all(equal.keys() - schema.attributes.keys() for schema in usable):
            wanted = ", ".join(equal) + ("" if index is None else f" and the index {index!r}")
            return TypeError(
                f"{self!r}.query(): no model has all of {wanted}: pass conditions, as in "
                f"{usable[0].model}.{usable[0].keys[0]} == …"
            )
        key = self._schemas[0].keys[0]
        keys = dict.fromkeys((key, *("+".join(schema.named_by(schema.keys[0])) or key for schema in self._schemas)))
        return TypeError(f"{self!r}.query() needs a partition key: {'=… or '.join(keys)}=…")

    def _shared(self, lead: Schema, index: str | None, test: Condition, value: Any) -> Condition:
        """Return the test of a keyword: a filter if it names a part of different sort keys, so that all items match."""
        name = test.attribute.name
        about = [one for one in self._schemas if name in one.attributes]
        templates = [_sort_template(one, index) for one in about]
        is_part = any(name in parts for _, parts in templates)
        if not is_part or len({text for text, _ in templates}) == 1 or name in lead.named_by(lead.keys[0]):
            return test
        if not all(_is_stored_alike(one.attributes[name], test, value) for one in about):
            raise self._ambiguous_name(name, about)
        # A combination is not a condition of a key.
        return Condition.some([test])

    def _ambiguous_name(self, name: str, about: list[Schema]) -> TypeError:
        return TypeError(
            f"{self!r}.query(): {name} has several meanings, because the models store it under other names or "
            f"in other keys: pass a condition of one model, as in {about[0].model}.{name} == …"
        )

    def _check_meaning(
        self, lead: Schema, how: plans.Plan, given: list[Test], named: dict[str, Condition], equal: dict[str, Any]
    ) -> None:
        """Refuse conditions that the plan of the `lead` model applies and that mean something else in other models."""
        filters = {id(test) for test in how.rest}
        for test in (*given, *named.values()):
            name = "" if test.attribute is None else test.attribute.name
            if named.get(name) is not test:
                about = [one for one in self._schemas if _accepts(one, test)]
                is_clear = id(test) in filters or lead in about
            else:
                # Keywords that are not filters select the keys of the lead model.
                about = [one for one in self._schemas if name in one.attributes]
                is_clear = id(test) not in filters or all(
                    _is_stored_alike(one.attributes[name], named[name], equal[name]) for one in about
                )
            if not is_clear:
                raise self._ambiguous_name(name, about)

    def _filters(self) -> list[Condition]:
        """Return the conditions that only items of the models fulfil."""
        each = [schema.own_rows() for schema in self._schemas]
        return [functools.reduce(operator.or_, map(Condition.every, each))] if all(each) else []


class CollectionResult(Result[M]):
    """The lazy result of a query for several classes. See `Result`."""

    def __init__(self, schema: Schema, models: tuple[Any, ...], how: plans.Plan, options: Options) -> None:
        super().__init__(schema, self._instance_of, how, options)
        self._models = models

    def _instance_of(self, item: _core.Item, fetched: set[str] | None = None) -> M:
        """Return an instance of the class whose templates and discriminator an item fits best."""
        problem: UnreadableItem | None = None
        fitting = [
            model for model in self._models if all(one.matches(item) for one in model.__mintkey_schema__.own_rows())
        ]
        for model in sorted(fitting, key=_specificity, reverse=True):
            shown = model.__mintkey_schema__.fetched_by(self._plan.index)
            try:
                instance: M | None = model._loaded(item, None if shown is None else set(shown))
            except UnreadableItem as error:
                problem = error
            else:
                if instance is not None:
                    return instance
        if problem is None:
            # A class was defined between the query and the load of its items.
            problem = UnreadableItem(f"{self!r}: an item is of none of the models", item=item.to_dict())
        raise problem

    def _make_instance(self, item: _core.Item) -> M:
        return self._instance_of(item)

    def _run_load_hooks(self, instances: Iterable[Any]) -> Operation[None]:
        for instance in instances:
            yield from run_hooks(instance.__mintkey_schema__, instance, "after_load")

    def _read_page(self, size: int, cursor: str | None) -> Operation[Page[M]]:
        page = yield from super()._read_page(size, cursor)
        return Page(Items(page.items, self._models), page.cursor)

    def all(self) -> Items[M]:
        """Return all items as a list with the method `of`."""
        return Items(super().all(), self._models)

    async def aall(self) -> Items[M]:
        """Async version of `all()`."""
        return Items(await super().aall(), self._models)

    def of(self, model: type[N]) -> list[N]:
        """Return the items of one class and its subclasses. The first call reads and keeps all items."""
        return Items(self._read_all(), self._models).of(model)

    async def aof(self, model: type[N]) -> list[N]:
        """Async version of `of()`."""
        if self._all_items is None:
            self._all_items = [item async for item in self]
        return Items(self._all_items, self._models).of(model)

    def _narrowed(self, call: str, q: Q) -> Self:
        raise self._refusal(call, "pass the conditions to query()")

    def _of_values(self, names: tuple[str, ...], shape: Callable[[Any], Any]) -> Result[Any]:
        raise self._refusal("values", "read the items")

    def _updater(self, actions: tuple[Action, ...], values: dict[str, Any]) -> NoReturn:
        raise self._refusal("update", "update the items of each class by themselves, with Model.query")

    def _refusal(self, call: str, way_out: str) -> TypeError:
        names = " and ".join(model.__name__ for model in self._models)
        return TypeError(f"{call}() is not possible on a collection, whose items are of {names}: {way_out}")

    def order_by(self, *names: str) -> Self:
        """Refused: items of several classes have the order of the sort key only."""
        raise TypeError(f"{self!r}: items of several classes have the order of the sort key: use descending=True")


def _schema_of(model: Any) -> Schema:
    schema = getattr(model, "__mintkey_schema__", None) if isinstance(model, type) else None
    if not isinstance(schema, Schema) or schema.config.abstract:
        raise ConfigurationError(f"Collection takes model classes that have a table, not {shortened(model)}")
    return schema


def _key(schema: Schema) -> list[tuple[str, str | None]]:
    return [(schema.attributes[name].stored_name, schema.attributes[name].key_kind) for name in schema.keys]


def _sort_template(schema: Schema, index: str | None) -> tuple[str | None, tuple[str, ...]]:
    """Return the template of the sort key of a table or an index, and its parts; None without one."""
    how = schema.index(index)
    name = schema.sort if how is None else how.sort
    text = None if name is None else schema.attributes[name].template
    return (None, ()) if name is None or text is None else (text, schema.named_by(name))


def _accepts(schema: Schema, test: Test) -> bool:
    """Return whether a condition is on attributes of a model."""
    try:
        schema.check_roots(test.roots())
    except WrongModel:
        return False
    return True


def _is_stored_alike(attribute: Attribute[Any], test: Condition, value: Any) -> bool:
    """Return whether an equality that was built for another attribute selects the same values of this one."""
    if attribute.stored_name != test.attribute.stored_name:
        return False
    try:
        return bool(attribute._operand(value) == test.operands[0])
    except InvalidValue:
        # No item of this model has the value.
        return True


def _specificity(model: Any) -> tuple[int, int]:
    """Return the length of the literal texts in the templates of the key, and the number of base classes."""
    schema: Schema = model.__mintkey_schema__
    return 0 if schema.derived is None else schema.derived.literal_length, len(model.__mro__)
