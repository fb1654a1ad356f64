"""Validators: limits, patterns, choices and functions that refuse values when they are written."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from itertools import islice
from typing import Any

from mintkey import _core
from mintkey.attributes.comparing import Misfit, exact
from mintkey.attributes.iso import as_utc
from mintkey.errors import CONVERSION_ERRORS, cause, shortened

#: The limits of each kind of values. `choices=` and `validate=` apply to all.
NO_LIMITS: frozenset[str] = frozenset()
ORDERED = frozenset({"min", "max"})
MEASURED = frozenset({"min_length", "max_length"})
TEXT = MEASURED | {"pattern"}

_MAX_CHOICES = 10_000
#: Why a limit does not apply.
_REASONS = {
    **dict.fromkeys(ORDERED, "have no minimum or maximum"),
    **dict.fromkeys(MEASURED, "have no length"),
    "pattern": "are not text",
}


class Validators:
    """The validators of an attribute."""

    def __init__(self, **given: Any) -> None:
        self.given = {name: limit for name, limit in given.items() if limit is not None}
        self._pattern: re.Pattern[str] | None = None
        #: The encoded choices.
        self._choices: frozenset[Any] = frozenset()
        self._is_checked = False

    def check_declaration(self, attribute: Any) -> None:
        """Raise `ConfigurationError` for a validator that has no meaning for an attribute."""
        for name, limit in self.given.items():
            if name in _REASONS and name not in attribute.limits:
                raise attribute._declaration_error(
                    f"{attribute.described} values {_REASONS[name]}, so {name}= does not apply"
                )
            _DECLARATIONS[name](self, attribute, name, limit)
        for low, high in (("min", "max"), ("min_length", "max_length")):
            if {low, high} <= self.given.keys() and _comparable(self.given[low]) > _comparable(self.given[high]):
                one, other = shortened(self.given[low]), shortened(self.given[high])
                raise attribute._declaration_error(f"{low}={one} exceeds {high}={other}, so no value would be valid")
        self._is_checked = True

    def _check_bound(self, attribute: Any, name: str, limit: Any) -> None:
        try:
            _core.checked(attribute.kind, attribute._label, attribute.encode(limit))
        except CONVERSION_ERRORS as error:
            raise attribute._declaration_error(
                f"{name}={shortened(limit)} is not a value of this attribute: {cause(error)}"
            ) from error

    def _check_length(self, attribute: Any, name: str, limit: Any) -> None:
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise attribute._declaration_error(f"{name}= takes an integer of at least 1, not {shortened(limit)}")

    def _check_pattern(self, attribute: Any, name: str, limit: Any) -> None:
        try:
            pattern = re.compile(limit)
        except (TypeError, ValueError, re.error, RecursionError, OverflowError) as error:
            raise attribute._declaration_error(
                f"{name}={shortened(limit)} is not a regular expression: {cause(error)}"
            ) from error
        if isinstance(pattern.pattern, bytes):
            raise attribute._declaration_error(f"{name}={shortened(limit)} is a pattern of bytes: use one of text")
        self._pattern = pattern

    def _check_choices(self, attribute: Any, name: str, limit: Any) -> None:
        if isinstance(limit, (str, bytes, Mapping)) or not isinstance(limit, Iterable):
            raise attribute._declaration_error(f"{name}= takes a list of values, not {shortened(limit)}")
        # An iterable may have no end.
        self.given[name] = choices = tuple(islice(limit, _MAX_CHOICES + 1))
        if len(choices) > _MAX_CHOICES:
            raise attribute._declaration_error(
                f"{name}= takes at most {_MAX_CHOICES:,} values: check them with validate="
            )
        if not choices:
            raise attribute._declaration_error(f"{name}= is empty, so no value would be valid")
        encoded = []
        for one in choices:
            try:
                _core.checked(attribute.kind, attribute._label, attribute.encode(one))
                encoded.append(_encoded(attribute, one))
            except CONVERSION_ERRORS as error:
                raise attribute._declaration_error(
                    f"{name}= has {shortened(one)}, which is not a value of this attribute: {cause(error)}"
                ) from error
        self._choices = frozenset(encoded)

    def _check_function(self, attribute: Any, name: str, limit: Any) -> None:
        if not callable(limit):
            raise attribute._declaration_error(f"{name}= takes a function of one value, not {shortened(limit)}")
        if inspect.iscoroutinefunction(limit) or inspect.iscoroutinefunction(type(limit).__call__):
            raise attribute._declaration_error(f"{name}= is also called by blocking calls, and cannot be `async def`")

    def problem(self, attribute: Any, value: Any) -> str | None:
        """Return why a value is refused, or None. An empty set is an absent value."""
        if isinstance(value, (set, frozenset)) and not value:
            return None
        if not self._is_checked:  # a field of no class, whose `is_valid()` was called
            self.check_declaration(attribute)
        for name, limit in self.given.items():
            reason = _CHECKS[name](self, attribute, value, limit)
            if reason is not None:
                return reason
        return None

    def _below(self, _: Any, value: Any, limit: Any) -> str | None:
        return f"{shortened(value)} is less than min={limit}" if _comparable(value) < _comparable(limit) else None

    def _above(self, _: Any, value: Any, limit: Any) -> str | None:
        return f"{shortened(value)} is more than max={limit}" if _comparable(value) > _comparable(limit) else None

    def _too_short(self, _: Any, value: Any, limit: int) -> str | None:
        return None if len(value) >= limit else _of_length(value, f"min_length={limit}")

    def _too_long(self, _: Any, value: Any, limit: int) -> str | None:
        return None if len(value) <= limit else _of_length(value, f"max_length={limit}")

    def _unmatched(self, _: Any, value: Any, __: Any) -> str | None:
        pattern = self._pattern
        if pattern is None or pattern.fullmatch(value):
            return None
        return f"{shortened(value)} does not match pattern={shortened(pattern.pattern)}"

    def _unknown(self, attribute: Any, value: Any, limit: tuple[Any, ...]) -> str | None:
        if _encoded(attribute, value) in self._choices:
            return None
        return f"{shortened(value)} is not one of choices={shortened(list(limit))}"

    def _refused(self, _: Any, value: Any, function: Callable[[Any], object]) -> str | None:
        try:
            result = function(value)
        except CONVERSION_ERRORS as error:
            return f"validate= refuses {shortened(value)}: {cause(error) or type(error).__name__}"
        if result is None or result is True:
            return None
        name = getattr(function, "__name__", type(function).__name__)
        if result is False:
            return f"validate={name} refuses {shortened(value)}"
        if type(result) is type(value) and result == value:
            return None
        # Other libraries store what a validator returns.
        return (
            f"validate={name} returned {shortened(result)} for {shortened(value)}, and validators do not change "
            "values: return True or False, or raise a ValueError"
        )

    @property
    def unverified(self) -> str:
        """Why a change that the store computes cannot be validated."""
        name, limit = next(iter(self.given.items()))
        return f"{name}={'' if name == 'validate' else shortened(limit)} applies to the whole value"


_DECLARATIONS: dict[str, Callable[[Validators, Any, str, Any], None]] = {
    **dict.fromkeys(ORDERED, Validators._check_bound),
    **dict.fromkeys(MEASURED, Validators._check_length),
    "pattern": Validators._check_pattern,
    "choices": Validators._check_choices,
    "validate": Validators._check_function,
}
_CHECKS: dict[str, Callable[[Validators, Any, Any, Any], str | None]] = {
    "min": Validators._below,
    "max": Validators._above,
    "min_length": Validators._too_short,
    "max_length": Validators._too_long,
    "pattern": Validators._unmatched,
    "choices": Validators._unknown,
    "validate": Validators._refused,
}


def refused_part(parts: Iterable[tuple[Any, Any, Any]]) -> Misfit | None:
    """Return why the validators refuse one of these parts (the step, the attribute and the value), or None."""
    for step, attribute, value in parts:
        problem: Misfit | None = None if value is None else attribute.problem(value)
        if problem is not None:
            problem.path = (step, *problem.path)
            return problem
    return None


def _of_length(value: Any, limit: str) -> str:
    return f"the value has the length {len(value)}, and {limit}: {shortened(value)}"


def _comparable(value: Any) -> Any:
    """Return a value that compares as the stored ones do: by the digits of a float, and in UTC."""
    if isinstance(value, float):
        return Decimal(float.__repr__(value))
    return as_utc(value) if isinstance(value, datetime) else value


def _encoded(attribute: Any, value: Any) -> Any:
    """Return a hashable form of the encoded value, which is equal for values that are stored alike."""
    if attribute.tests == "existence":
        # Compressed values may be equal and stored differently.
        return exact(value)
    encoded = attribute.encode(value)
    if isinstance(encoded, (dict, list, tuple, set, frozenset)):
        return exact(_core.checked(attribute.kind, attribute._label, encoded))
    return exact(_core.as_read(encoded))
