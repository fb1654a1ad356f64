"""The configuration of a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import timedelta

from mintkey.errors import ConfigurationError, check_flags, shortened
from mintkey.rate_limit import RateLimit, checked

__all__ = ["ModelConfig"]

#: The longest text of `colocate=`.
_LONGEST_TEXT = 255
#: The options that a class inherits.
_INHERITED = ("store", "skip_hooks", "rate_limit", "consistent", "order_by", "ttl", "colocate")


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class ModelConfig:
    """The configuration of a model: assign it to the class attribute `model_config`. Unset options are inherited.

    Args:
        table: the table name, 3 to 255 characters of `A-Z a-z 0-9 _ . -`; by default the class name. Not inherited.
        store: a connected store, or its name; by default the default store.
        skip_hooks: run no hooks.
        rate_limit: the maximum rate of reads and writes of the table, in addition to the limit of the store: a
            `FixedRate` or an `AdaptiveRate` of `mintkey.rate_limit`. Models with the same object share its rate.
        consistent: the default of `consistent=` in get, query, scan, count and batch_get: include all writes that were
            acknowledged before the call. Global indexes of DynamoDB have no consistent reads, so it does not apply to
            queries of an index, except a local one.
        order_by: the order of `query()` and `Model.query`, such as `"-created_at"` or `("country", "-age")`: that of
            the sort key or of an index if possible, otherwise sorted in memory. `scan()` has no order.
        ttl: the time after which a new item expires, as the default of the model's `TTLAttribute`.
        unique: sets of attributes whose values are unique together, such as `[("tenant", "email")]`: no two items have
            the same values of all of them. For one attribute pass `unique=True` to it. The sets of base classes apply,
            too.
        colocate: a text, such as `"accounts"`: on a Redis Cluster, all rows of all models with this text are in one
            slot group, so that transactions may write rows with different partition keys. All of them are then on one
            server. It has no effect on other stores, and cannot be changed on a Cluster once the table exists.
        abstract: a base class without table and key, or a class whose instances are nested in maps. Not inherited.
        discriminator: the value of the attribute with `discriminator=True`; by default the class name. Not inherited.

    Raises:
        ConfigurationError: `rate_limit` is not a rate limit, a flag is not a bool, `ttl` is not a positive
            timedelta, `unique` is not a list of tuples, or `colocate` is not a text. Other options are checked when the
            class is defined.
    """

    table: str | None = None
    store: object | str | None = None
    skip_hooks: bool | None = None
    rate_limit: RateLimit | None = None
    consistent: bool | None = None
    order_by: str | Sequence[str] | None = None
    ttl: timedelta | None = None
    unique: Sequence[tuple[str, ...] | list[str]] = ()
    colocate: str | None = None
    abstract: bool = False
    discriminator: str | None = None

    def __repr__(self) -> str:
        given = ((field, getattr(self, field.name)) for field in dataclasses.fields(self))
        shown = (f"{field.name}={value!r}" for field, value in given if value != field.default)
        return f"ModelConfig({', '.join(shown)})"

    def __post_init__(self) -> None:
        checked(self.rate_limit)
        inherited = {name: getattr(self, name) for name in ("skip_hooks", "consistent")}
        given_flags = {name: flag for name, flag in inherited.items() if flag is not None}
        check_flags("ModelConfig", ConfigurationError, abstract=self.abstract, **given_flags)
        if self.ttl is not None and not (isinstance(self.ttl, timedelta) and self.ttl > timedelta()):
            raise ConfigurationError(f"ModelConfig: ttl= takes a positive timedelta, not {shortened(self.ttl)}")
        given: object = self.unique
        is_list = isinstance(given, (list, tuple))
        # A plain tuple of names might mean one set, or one set for each name.
        if not is_list or not all(isinstance(names, (list, tuple)) and names for names in self.unique):
            raise ConfigurationError(
                'ModelConfig: unique= takes a list of tuples of names, such as [("tenant", "email")], '
                f"not {shortened(given)}"
            )
        if self.colocate is not None and not _is_text(self.colocate):
            raise ConfigurationError(
                f"ModelConfig: colocate= takes a text of 1 to {_LONGEST_TEXT} printable characters, "
                f"such as 'accounts', not {shortened(self.colocate)}"
            )

    def over(self, inherited: ModelConfig) -> ModelConfig:
        """Return this configuration with its unset options taken from `inherited`."""
        unset = {name: getattr(inherited, name) for name in _INHERITED if getattr(self, name) is None}
        return dataclasses.replace(self, **unset)


def _is_text(value: object) -> bool:
    """Return whether this is a text that can be stored, and neither empty nor too long."""
    # A text with half a surrogate pair cannot be encoded, and so is not printable.
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_TEXT and value.isprintable()
