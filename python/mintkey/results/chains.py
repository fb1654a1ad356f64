"""Chains: methods of a result that return another result, or one fact about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeAlias, TypeVar

from mintkey.conditions import Condition
from mintkey.errors import InvalidValue, UnreadableItem, shortened
from mintkey.lookups import Q, resolved
from mintkey.monitoring import check_callback
from mintkey.results import plans
from mintkey.results.page_cursors import Last, Order, PageCursor, check_sortable, orders
from mintkey.stores import store_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from typing_extensions import Self

    from mintkey.definitions.schema import Schema
    from mintkey.stores import Operation

M = TypeVar("M")
#: What to do with an item that cannot be read: raise the error, skip the item, or call a function with the error.
OnUnreadable: TypeAlias = Literal["raise", "skip"] | Callable[[UnreadableItem], object]

#: More items than any table has.
MAX_ITEMS = (1 << 63) - 1


class Options(NamedTuple):
    """The options of a result.

    Attributes:
        attributes: what the caller selects; then what `loading.selection` returns for it.
        order: the order of a result that is sorted in memory.
        offset: the number of items that a slice leaves out.
        ordering: the order that the caller has asked for; None if nobody has asked.
    """

    descending: bool = False
    limit: int | None = None
    attributes: Iterable[Any] | None = None
    consistent: bool | None = None
    segments: int = 1
    order: tuple[Order, ...] = ()
    offset: int = 0
    on_unreadable: OnUnreadable = "raise"
    ordering: tuple[Order, ...] | None = None


class ChainMixin(Generic[M]):
    """The part of a result that is a chain of further calls."""

    _schema: Schema
    _plan: plans.Plan
    _options: Options

    if TYPE_CHECKING:

        def _copied(self, how: plans.Plan, options: Options) -> Self: ...
        def _with_options(self, **changes: Any) -> Self: ...
        def _shaped(self, instances: Iterable[Any]) -> list[M]: ...
        def _instances(self) -> Iterator[Any]: ...
        def _ainstances(self) -> AsyncIterator[Any]: ...
        def _page_cursor(self, *, load: bool = True) -> PageCursor: ...
        def first(self) -> M | None: ...
        async def afirst(self) -> M | None: ...

    # Return another result.

    def filter(self, *conditions: Condition[M] | Q, **lookups: Any) -> Self:
        """Return the items of this result that match all conditions and lookups, too; see `Model.query.filter()`.

        Raises:
            TypeError: an attribute or a lookup does not exist, or the result has a limit or is a slice.
            InvalidValue: a value has the wrong type, or is None.
        """
        return self._narrowed("filter", Q(*conditions, **lookups))

    def exclude(self, *conditions: Condition[M] | Q, **lookups: Any) -> Self:
        """Return the items of this result that do not match all these conditions and lookups; see `filter()`."""
        return self._narrowed("exclude", ~Q(*conditions, **lookups))

    def _narrowed(self, call: str, q: Q) -> Self:
        self._refuse_limited(call)
        tests = resolved(self._schema, [q])
        if self._options.segments > 1:
            how = plans.scan_plan((*self._plan.all_conditions, *tests))
        else:
            how = plans.narrowed(self._schema, self._plan, tests) if tests else self._plan
        return self._arranged(how, self._options.ordering)

    def order_by(self, *names: str) -> Self:
        """Return the same items in the order of attributes; `"-name"` reverses the order of one.

        If the sort key or a matching index has this order, the items are read in it. Otherwise they are sorted in
        memory (with a limit, only that many are kept), and this is logged at INFO. Items without a value come last.
        Without names, the items come in the order in which they are read, also if the model has an `order_by`.

        Raises:
            TypeError: an attribute does not exist, values of its type have no order, or the result is a slice.
        """
        if self._options.offset:
            self._refuse_limited("order_by")
        return self._arranged(self._plan, orders(self._schema, names))

    def _in_default_order(self) -> Self:
        """Return the items in the order of the model's configuration, if it has one."""
        names = self._schema.config.order_by
        if names is None:
            return self
        return self._arranged(self._plan, orders(self._schema, (names,) if isinstance(names, str) else names))

    def _arranged(self, how: plans.Plan, ordering: tuple[Order, ...] | None) -> Self:
        """Return the items of a plan in this order: of the table or an index if possible, otherwise sorted."""
        schema, options = self._schema, self._options._replace(ordering=ordering)
        if ordering is None:
            return self._copied(how, options)
        if len(ordering) != 1:
            check_sortable(schema, ordering)
            return self._copied(how, options._replace(order=ordering, descending=False))
        name, descending = ordering[0]
        if how.chosen != "named" and how.sorted_by != name:
            other = plans.best_plan(schema, how.all_conditions, name)
            if other is not None and other.sorted_by == name:
                how = other
        natural = how.sorted_by
        if how.partition is None and options.segments == 1 and store_of(schema).ordered_scans:
            natural = schema.partition
        if natural == name:
            return self._copied(how, options._replace(descending=descending, order=(), segments=1))
        check_sortable(schema, ordering)
        return self._copied(how, options._replace(order=ordering, descending=False))

    def limit(self, number: int) -> Self:
        """Return the first items of this result, at most this number."""
        checked_integer(self._schema, number, "limit", least=0, most=MAX_ITEMS)
        if number is None:
            raise InvalidValue(f"{self._schema.model}: limit() takes an integer, not None")
        limit = self._options.limit
        return self._with_options(limit=number if limit is None else min(limit, number))

    def _refuse_limited(self, call: str) -> None:
        """Refuse a call to which a limit gives two meanings, as Django does."""
        if self._options.limit is not None or self._options.offset:
            raise TypeError(
                f"{self._schema.model}: {call}() is not possible on a slice, or on a result with a limit, because it "
                f"is not clear whether the limit applies first: call {call}() before limit()"
            )

    # Ask.

    def last(self) -> M | None:
        """Return the last item, or None. Reads one item, or all items if the order cannot be read in reverse.

        Raises:
            TypeError: the result has a limit or is a slice.
        """
        reverse = self._reversed()
        if reverse is not None:
            return reverse.first()
        sorter: Last[Any] = Last(self._options.order)
        for instance in self._with_options(order=())._instances():
            sorter.add(instance)
        return self._last_of(sorter)

    async def alast(self) -> M | None:
        """Async version of `last()`."""
        reverse = self._reversed()
        if reverse is not None:
            return await reverse.afirst()
        sorter: Last[Any] = Last(self._options.order)
        async for instance in self._with_options(order=())._ainstances():
            sorter.add(instance)
        return self._last_of(sorter)

    def _reversed(self) -> Self | None:
        """Return the result in reverse order; None if the items cannot be read in it."""
        self._refuse_limited("last")
        is_scan = self._plan.partition is None
        if self._options.order or (
            is_scan and (self._options.segments > 1 or not store_of(self._schema).ordered_scans)
        ):
            return None
        return self._with_options(descending=not self._options.descending)

    def _last_of(self, sorter: Last[Any]) -> M | None:
        last = sorter.last()
        return None if last is None else self._shaped([last])[0]

    def exists(self) -> bool:
        """Return whether the result has an item, without loading it."""
        return store_of(self._schema).run(self._existing())

    async def aexists(self) -> bool:
        """Async version of `exists()`."""
        return await store_of(self._schema).arun(self._existing())

    def _existing(self) -> Operation[bool]:
        one = self.limit(1)._with_options(order=(), attributes=self._schema.given_keys)
        reading = one._page_cursor(load=False)
        while reading.more:
            if (yield from reading.page()):
                return True
        return False


def check_on_unreadable(schema: Schema, on_unreadable: object) -> None:
    """Raise `TypeError` if the argument is neither one of the words nor a plain function."""
    if on_unreadable not in ("raise", "skip"):
        check_callback(on_unreadable, f"{schema.model}: on_unreadable= takes 'raise', 'skip' or a plain function")


def checked_integer(schema: Schema, number: int | None, name: str, *, least: int, most: int) -> int | None:
    """Check an integer argument. None is allowed where 0 is."""
    if number is None and least == 0:
        return None
    if isinstance(number, bool) or not isinstance(number, int) or number < least:
        raise InvalidValue(f"{schema.model}: {name}= takes an integer of at least {least}, not {shortened(number)}")
    if number > most:
        raise InvalidValue(f"{schema.model}: {name}= takes an integer of at most {most:,}, not {shortened(number)}")
    return number
