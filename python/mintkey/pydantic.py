"""Types of IDs and timestamps for pydantic models, FastAPI parameters and dataclasses that pydantic validates.

    >>> from pydantic import BaseModel
    >>> from mintkey.pydantic import TypeId, Ulid
    >>> class Ticket(BaseModel):
    ...     id: Ulid
    ...     order: TypeId["order"]
    >>> Ticket(id="01arz3ndektsv4rrffq69g5fav", order="order_01h455vb4pex5vsknk084sn02q").id
    '01ARZ3NDEKTSV4RRFFQ69G5FAV'

For type checkers they are `str` or `int`. A value is validated strictly, and ULIDs and UUIDs are brought into the form
in which they are generated. Type checkers do not know `TypeId["order"]`: for them, write `Annotated[str, Id(…)]`.

This module does not import pydantic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, cast

from mintkey.errors import InvalidId, cause
from mintkey.generators import Auto, AutoGenerate, auto, parse

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from mintkey._core import Strategy
    from mintkey.generators.strategies import Parameters

__all__ = [
    "Cuid2",
    "Epoch",
    "EpochMs",
    "Id",
    "Iso8601",
    "Iso8601Ms",
    "Ksuid",
    "Nanoid",
    "Snowflake",
    "TypeId",
    "Ulid",
    "Uuid4",
    "Uuid7",
    "Xid",
]


class Id:
    """The IDs of a strategy, as an annotation: `Annotated[str, Id("nanoid", size=8)]`.

    Args:
        strategy: a member of `AutoGenerate`, its name, or what `auto()` returns.
        parameters: the parameters of `auto()`, such as `prefix="order"`.

    Raises:
        ConfigurationError: the strategy is unknown, or a parameter is out of range.
    """

    def __init__(self, strategy: AutoGenerate | str | Auto, **parameters: Unpack[Parameters]) -> None:
        self._auto = strategy if isinstance(strategy, Auto) else auto(strategy, **parameters)
        if self._auto.strategy is None:
            raise TypeError("a function is not a strategy: pass a member of AutoGenerate or its name")

    def __repr__(self) -> str:
        return f"Id({self._auto!r})"

    @property
    def _strategy(self) -> Strategy:
        return cast("Strategy", self._auto.strategy)

    def _validated(self, value: Any) -> Any:
        from pydantic_core import PydanticCustomError

        name = self._strategy.name
        try:
            parsed = parse(value, self._auto)
        except InvalidId as error:
            raise PydanticCustomError(cast("Any", name), cast("Any", cause(error))) from error
        return int(parsed.text) if self._strategy.output == "int" else parsed.canonical

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        is_int = self._strategy.output == "int"
        kind: Any = core_schema.int_schema() if is_int else core_schema.str_schema()
        return core_schema.no_info_after_validator_function(self._validated, kind)

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        strategy, written = self._strategy, handler(schema)
        if strategy.name in {"epoch", "epoch_ms"}:
            return written  # type: ignore[no-any-return]
        written["format"] = _FORMATS.get(strategy.name, strategy.name)
        if strategy.length is not None and strategy.name not in _FORMATS:
            any_type = strategy.name == "typeid" and not strategy.prefix
            written["minLength"] = strategy.length
            if not any_type:
                written["maxLength"] = strategy.length
        return written  # type: ignore[no-any-return]


#: The formats of JSON schema, where one exists.
_FORMATS = {"uuid4": "uuid", "uuid7": "uuid", "iso8601": "date-time", "iso8601_ms": "date-time"}

Uuid4 = Annotated[str, Id("uuid4")]
Uuid7 = Annotated[str, Id("uuid7")]
Ulid = Annotated[str, Id("ulid")]
Ksuid = Annotated[str, Id("ksuid")]
Nanoid = Annotated[str, Id("nanoid")]
Snowflake = Annotated[int, Id("snowflake")]
Xid = Annotated[str, Id("xid")]
Cuid2 = Annotated[str, Id("cuid2")]
Epoch = Annotated[int, Id("epoch")]
EpochMs = Annotated[int, Id("epoch_ms")]
Iso8601 = Annotated[str, Id("iso8601")]
Iso8601Ms = Annotated[str, Id("iso8601_ms")]

if TYPE_CHECKING:
    TypeId = Annotated[str, Id("typeid")]
else:

    class TypeId:
        """A TypeID: `TypeId` of any type, `TypeId["order"]` of one."""

        def __class_getitem__(cls, prefix: str) -> Any:
            return Annotated[str, Id("typeid", prefix=prefix)]

        @classmethod
        def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
            return handler.generate_schema(Annotated[str, Id("typeid")])
