"""The dumps of structured values by pydantic, and reading them back. This module imports pydantic.

A dump is what pydantic writes if it is read as the same value, and otherwise what this package writes.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError
from pydantic_core import core_schema

from mintkey.attributes.comparing import difference
from mintkey.errors import CONVERSION_ERRORS
from mintkey.formats.json_values import JSON_TYPES, StructuredForm

_Info = core_schema.SerializationInfo[Any]


class _Adapted:
    """The adapter of a type. It is kept by the form of the attribute."""

    def __init__(self, hint: Any) -> None:
        self.adapter: TypeAdapter[Any] = TypeAdapter(hint)
        #: Whether it has `Json[…]`, which a dump in Python's mode replaces by the value of the JSON.
        self.has_json = _has_json(self.adapter.core_schema)


def _adapted(form: StructuredForm) -> _Adapted:
    if form.adapted is None:
        form.adapted = _Adapted(form.hint)
    found: _Adapted = form.adapted
    return found


def _has_json(schema: Any) -> bool:
    if isinstance(schema, dict):
        return schema.get("type") == "json" or any(map(_has_json, schema.values()))
    return isinstance(schema, (list, tuple)) and any(map(_has_json, schema))


def dumped_value(form: StructuredForm, value: Any, dump: Callable[[Any], Any], info: _Info) -> Any:
    """Return the dump of a value. Only pydantic can leave out parts of it, as `info` says."""
    is_whole = info.include is None and info.exclude is None
    if info.mode != "json":
        if is_whole and _adapted(form).has_json:
            dump = functools.partial(
                _adapted(form).adapter.dump_python,
                round_trip=True,
                by_alias=info.by_alias,
                exclude_none=info.exclude_none,
                exclude_unset=info.exclude_unset,
                exclude_defaults=info.exclude_defaults,
                context=info.context,
            )
        return form.dump(value, dump)
    written = form.write(value)
    # A dict may stand for an instance.
    fitted = form.attribute.fitted(value) if type(value) in JSON_TYPES else value
    if not is_whole:
        return form.dump(fitted, dump)
    with contextlib.suppress(*CONVERSION_ERRORS):
        dumped = form.dump(fitted, dump)
        if dumped == written or _is_read_as(form, dumped, fitted):
            return dumped
    with contextlib.suppress(*CONVERSION_ERRORS):
        return _with_digits(written, _adapted(form).adapter.dump_python(fitted))
    return written


def _is_read_as(form: StructuredForm, dumped: Any, value: Any) -> bool:
    """Return whether a dump in JSON is read as the value, by this package or by pydantic."""
    reads: tuple[Callable[[], Any], ...] = (
        lambda: form.read(dumped),
        lambda: _of_text(form, json.dumps(form.undumped(dumped))),
    )
    for read in reads:
        with contextlib.suppress(*CONVERSION_ERRORS):
            if difference(value, read()) is None:
                return True
    return False


def _of_text(form: StructuredForm, text: str, strict: bool | None = None) -> Any:
    return _adapted(form).adapter.validate_json(text, strict=strict, by_alias=True, by_name=True)


def _with_digits(written: Any, dumped: Any) -> Any:
    """Return what was written, with the Decimals of the dump as text, as pydantic writes them."""
    if isinstance(dumped, Decimal) and not isinstance(written, dict):
        return str(dumped)
    if isinstance(written, dict) and isinstance(dumped, dict) and written.keys() == dumped.keys():
        return {name: _with_digits(one, dumped[name]) for name, one in written.items()}
    if isinstance(written, list) and isinstance(dumped, (list, tuple)) and len(written) == len(dumped):
        return [_with_digits(*both) for both in zip(written, dumped, strict=True)]
    return written


def value_of_json(form: StructuredForm, given: Any, validate: Callable[[Any], Any]) -> Any:
    """Return a value of JSON. A strict schema of pydantic takes what came through Python for values of Python."""
    ways = (
        lambda: _of_text(form, json.dumps(given), strict=True),
        lambda: _of_text(form, json.dumps(form.undumped(given))),
        lambda: form.read(given),
    )
    return _dumped_as(form, given, lambda: validate(given), ways)


def value_of_body(form: StructuredForm, given: Any, validate: Callable[[Any], Any]) -> Any:
    """Return a value of a body. A body that was a response may have tagged values, such as the bytes of a dataclass."""
    plain = form.undumped(given)
    if plain == given:
        with contextlib.suppress(ValidationError):
            return validate(given)
    return _dumped_as(form, given, lambda: validate(given), (lambda: validate(plain), lambda: form.read(given)))


def value_of_dump(form: StructuredForm, given: Any, validate: Callable[[Any], Any]) -> Any:
    """Return the value that was dumped as `given`, which may have computed fields."""
    plain = form.undumped(given)
    ways = (
        lambda: plain,
        lambda: _adapted(form).adapter.validate_python(plain, extra="ignore", by_alias=True, by_name=True),
        # A strict class takes no text for a time. But it is what `model_dump(mode="json")` returns.
        lambda: form.read(given),
    )
    return _dumped_as(form, given, lambda: validate(plain), ways)


def _dumps(form: StructuredForm, value: Any) -> Iterator[Any]:
    """Yield all dumps of a value."""
    written = form.write(value)
    yield written
    adapter = _adapted(form).adapter
    for mode, by_alias in itertools.product(("python", "json"), (False, True)):
        dump = functools.partial(
            adapter.dump_python, mode=cast("Any", mode), by_alias=by_alias, round_trip=_adapted(form).has_json
        )
        with contextlib.suppress(*CONVERSION_ERRORS):
            dumped = form.dump(value, dump)
            yield dumped
            if mode == "python":
                yield _with_digits(written, dumped)


def _dumped_as(form: StructuredForm, given: Any, validate: Callable[[], Any], ways: Iterable[Callable[[], Any]]) -> Any:
    """Return the validated value. If its dump is another one, pydantic left out what no constructor takes."""
    problem, value = None, None
    try:
        value = validate()
    except ValidationError as error:
        problem = error
    for way in (lambda: value, *ways) if problem is None else ways:
        with contextlib.suppress(*CONVERSION_ERRORS):
            other = form.attribute.fitted(way())
            if given in _dumps(form, other):
                return other
    if problem is not None:
        raise problem
    return value
