"""Serializing: methods of a model that convert instances from and to JSON, and for pydantic."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mintkey.attributes.base import own_copy
from mintkey.errors import InvalidValue, cause, check_flags, shortened

if TYPE_CHECKING:
    from typing_extensions import Self

    from mintkey.definitions.schema import Schema


def to_dict(
    instance: Any, mode: str = "python", include: Collection[str] | None = None, exclude: Collection[str] | None = None
) -> dict[str, Any]:
    """Return the values of an instance by attribute name, without absent ones."""
    schema = instance.__mintkey_schema__
    if mode not in ("python", "json"):
        raise TypeError(f'{schema.model}: mode= takes "python" or "json", not {shortened(mode)}')
    for option, given in (("include", include), ("exclude", exclude)):
        if isinstance(given, str):
            raise TypeError(f"{schema.model}: {option}= takes several names: write {option}={{{given!r}}}")
        unknown = [name for name in given or () if name not in schema.shown]
        if unknown:
            raise schema.unexpected(unknown)
    names = frozenset(schema.shown if include is None else include).difference(exclude or ())
    if mode == "json":
        from mintkey.formats.json_values import written

        return written(instance, names)
    return {name: own_copy(value) for name, value in instance._shown().items() if name in names}


class _Fields:
    """A descriptor of what `dataclasses` keeps in a class, which is created when a program asks for it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: Any) -> Any:
        schema = getattr(owner, "__mintkey_schema__", None)
        if schema is None:
            raise AttributeError(self._name)
        if schema.dataclass is None:
            fields = [(name, Any, dataclasses.field(default=None)) for name in schema.shown]
            schema.dataclass = dataclasses.make_dataclass(schema.model, fields, repr=False, eq=False, kw_only=True)
        found = getattr(schema.dataclass, self._name)
        state = None if instance is None else instance._state
        if state is None or state.fetched is None or found.__class__ is not dict:
            return found
        return {name: field for name, field in found.items() if not state.is_unknown(name)}


class _Serializer:
    """What pydantic uses for an instance where no type says what it is, as in a `dict[str, Any]`."""

    def __get__(self, instance: Any, owner: Any) -> Any:
        if getattr(owner, "__mintkey_schema__", None) is None:
            raise AttributeError("__pydantic_serializer__")
        from mintkey.formats.pydantic_schema import adapter

        return adapter(owner).serializer


class JsonMixin:
    """The conversions of a model from and to JSON."""

    # Programs that know dataclasses can use instances: FastAPI takes only dataclasses and pydantic's own models for a
    # request body, and `dataclasses.asdict()`, FastAPI's `jsonable_encoder()` and orjson find the values.
    if TYPE_CHECKING:
        __mintkey_schema__: Schema
        __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]
    else:
        __dataclass_fields__ = _Fields("__dataclass_fields__")
        __dataclass_params__ = _Fields("__dataclass_params__")
        __pydantic_serializer__ = _Serializer()

    if TYPE_CHECKING:

        def _shown(self) -> dict[str, Any]: ...

    def to_json(self, *, include: Collection[str] | None = None, exclude: Collection[str] | None = None) -> str:
        """Return `to_dict(mode="json")` as JSON text. `from_json()` reads it."""
        import json

        return json.dumps(
            to_dict(self, "json", include, exclude), ensure_ascii=False, allow_nan=False, separators=(",", ":")
        )

    @classmethod
    def from_json(cls, text: str | bytes | bytearray) -> Self:
        """Return a new instance of the JSON that `to_json()` wrote. Absent values get their defaults.

        Names of attributes and aliases are accepted. In classes with a discriminator, it is an instance of the class
        that the JSON names. Constraints are checked when it is saved.

        Raises:
            InvalidValue: it is not the JSON of an item, or a value does not fit its attribute.
        """
        import json

        from mintkey.formats.json_values import class_of, read_values

        schema = cls.__mintkey_schema__
        try:
            plain = json.loads(text)
        except (ValueError, TypeError, RecursionError) as error:
            raise InvalidValue(f"{schema.model}: not valid JSON: {cause(error)}", model=schema.model) from error
        found: Any = class_of(cls, plain)
        return found(**read_values(found.__mintkey_schema__, plain))  # type: ignore[no-any-return]

    # With pydantic. It is imported when one of these is called.

    @classmethod
    def model_validate(cls, data: Any, *, strict: bool | None = None) -> Self:
        """Return an instance of a dict, checked by pydantic: types and all constraints. An instance is returned as is.

        Unlike a request body, `data` may have generated values, so it can be what `model_dump()` returned. In classes
        with a discriminator, the instance is of the class that it names.

        Raises:
            pydantic.ValidationError: the data does not fit. It is a `ValueError`, and lists all problems.
        """
        from mintkey.formats.pydantic_schema import HOW, adapter

        if strict is not None:
            check_flags(cls.__name__, strict=strict)
        return adapter(cls).validate_python(data, strict=strict, **HOW)  # type: ignore[no-any-return]

    @classmethod
    def model_validate_json(cls, text: str | bytes | bytearray, *, strict: bool | None = None) -> Self:
        """Like `model_validate()`, of JSON text."""
        from mintkey.formats.pydantic_schema import HOW, adapter

        if strict is not None:
            check_flags(cls.__name__, strict=strict)
        return adapter(cls).validate_json(text, strict=strict, **HOW)  # type: ignore[no-any-return]

    def model_dump(
        self,
        *,
        mode: Literal["python", "json"] = "python",
        include: Any = None,
        exclude: Any = None,
        by_alias: bool = False,
        exclude_none: bool = False,
    ) -> dict[str, Any]:
        """Return all values as pydantic dumps them: absent ones are None, nested instances become dicts.

        `model_validate()` returns an equal instance of it. So in lists and maps whose elements are not declared, the
        name in a dict such as `{"$B": …}` has one more `$`; `to_dict()` returns the values as they are.

        Args:
            mode: `"json"` for values of JSON.
            include: the names to return, as pydantic takes them.
            exclude: the names to leave out.
            by_alias: return aliases instead of names.
            exclude_none: leave out None.
        """
        from mintkey.formats.pydantic_schema import STORED, adapter

        check_flags(type(self).__name__, by_alias=by_alias, exclude_none=exclude_none)
        dumped: dict[str, Any] = adapter(type(self)).dump_python(
            self,
            mode=mode,
            include=include,
            exclude=exclude,
            by_alias=by_alias,
            exclude_none=exclude_none,
            context=STORED,
        )
        return dumped

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from mintkey.formats.pydantic_schema import core_schema_of

        return core_schema_of(cls, handler)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> Any:
        from mintkey.formats.pydantic_schema import titled

        return titled(cls, schema, handler)
