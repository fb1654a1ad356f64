"""Key fields, and fields with generated values."""

from __future__ import annotations

import builtins
import logging
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, overload

from mintkey import _core
from mintkey.attributes.comparing import Misfit
from mintkey.attributes.options import AutoOptions
from mintkey.errors import ConfigurationError, check_flags, shortened
from mintkey.fields.base import Field, FilledField, KeyFieldMixin, overridden
from mintkey.fields.forms import UUID_DIGITS, canonical, check_parameters, form_problem, name_of, strategy_of
from mintkey.generators import Auto, AutoGenerate, auto

if TYPE_CHECKING:
    from typing_extensions import TypeVar as DefaultingTypeVar
    from typing_extensions import Unpack

    from mintkey.attributes.base import ModelAttribute

    T = DefaultingTypeVar("T", default=str)
    Mixed = DefaultingTypeVar("Mixed", default=Any)
    Owner = TypeVar("Owner")
else:
    T, Mixed = map(TypeVar, ("T", "Mixed"))

_log = logging.getLogger("mintkey.fields")


if TYPE_CHECKING:

    class ModelAutoField(ModelAttribute[Owner, Mixed], Generic[Owner, Mixed]):
        """A field with generated values of a model, as `Order.id` is one of `Order`."""

        def get_new_auto_key_value(self) -> Any: ...
        def set_auto_key_value(self, force: bool = False) -> None: ...


class AutoFieldMixin(FilledField[Mixed]):
    """Generates an absent value when an instance is constructed.

    >>> from mintkey import Model
    >>> from mintkey.testing import frozen
    >>> class Ticket(Model):
    ...     number = AutoKeyField(auto_uuid_length=8)
    >>> with frozen(seed=1):
    ...     len(Ticket().number), Ticket().number == Ticket().number
    (8, False)

    Args:
        auto: whether values are generated.
        auto_uuid_length: the number of hexadecimal digits of a UUID, 1 to 32; for the strategy `"uuid4"` only.
        auto_id: your own text, which mintkey does not use.
        strategy: a name in `STRATEGY_LENGTHS`, a member of `AutoGenerate`, or the result of `auto()` to pass
            parameters, as in `strategy=auto("nanoid", size=8)`.
        STRATEGY_LENGTHS: the names of the strategies, with the lengths of their values in characters.

    Raises:
        ConfigurationError: the strategy is unknown, or `auto_uuid_length` is out of range.
    """

    auto: bool = True
    auto_uuid_length: int = UUID_DIGITS
    auto_id: str = ""
    strategy: str | AutoGenerate | Auto = "uuid4"
    STRATEGY_LENGTHS: Mapping[str, int] = {
        "uuid4": UUID_DIGITS,
        "ulid": 26,
        "ksuid": 27,
        "uuid7": 36,
        "nanoid": 21,
        "typeid": 26,
        "xid": 20,
        "cuid2": 24,
    }

    def __init__(
        self,
        type: builtins.type[Mixed] | None = None,
        null: bool | None = None,
        default: Any = None,
        max_length: int | None = None,
        *,
        auto: bool | None = None,
        auto_uuid_length: int | None = None,
        auto_id: str | None = None,
        strategy: str | AutoGenerate | Auto | None = None,
        STRATEGY_LENGTHS: Mapping[str, int] | None = None,  # noqa: N803 - the attribute's own name
        **parameters: Unpack[AutoOptions],
    ) -> None:
        self._staged: list[tuple[Any, int]] = []
        self._handed_out: Any = None
        for name, value in (
            ("auto", auto),
            ("auto_uuid_length", auto_uuid_length),
            ("auto_id", auto_id),
            ("strategy", strategy),
            ("STRATEGY_LENGTHS", STRATEGY_LENGTHS),
        ):
            if value is not None:
                setattr(self, name, value)
        check_parameters(self.strategy, {**parameters})
        if type is None:
            # The default type of a sorted field is a number; an ID is text.
            type = next(  # noqa: A001 - the parameter's name
                vars(base)["type"]
                for base in builtins.type(self).__mro__
                if "type" in vars(base) and not vars(base).get("_numbers_by_default", False)
            )
        named: Any = parameters
        super().__init__(type=cast("Any", type), null=null, default=default, max_length=max_length, **named)
        self._flags["auto"] = self.auto
        self._check_strategy()
        self.checks_writes = True
        if self.field_key is not None:
            # Each value belongs to one item: an index would only repeat the key.
            self.value_indexed = False
        self._generates = overridden(builtins.type(self), "get_new_auto_key_value")
        self._to_canonical = self._canonical_conversion()
        self._conflicting_default = default is not None and self.auto
        if self.auto and not self._conflicting_default:
            self.minted = self._minting()

    def _check_strategy(self) -> None:
        name = name_of(self.strategy)
        if name not in self.STRATEGY_LENGTHS:
            raise ConfigurationError(
                f"Invalid strategy '{name}'. Valid strategies are: {', '.join(self.STRATEGY_LENGTHS)}"
            )
        length = self.auto_uuid_length
        if isinstance(length, bool) or not isinstance(length, int) or not 1 <= length <= UUID_DIGITS:
            raise ConfigurationError(f"auto_uuid_length={shortened(length)} is not an integer from 1 to {UUID_DIGITS}")

    def _canonical_conversion(self) -> Callable[[str], str] | None:
        """Return the conversion of values to the generated form; None if each value has one form."""
        if self._generates or self.type is not str or name_of(self.strategy) not in {"ulid", "uuid4", "uuid7"}:
            return None
        return canonical(strategy_of(self.strategy, self.auto_uuid_length))

    def _minting(self) -> Auto:
        if self._generates:
            return auto(self.get_new_auto_key_value, when="init")
        return Auto(strategy_of(self.strategy, self.auto_uuid_length), when="init")

    def check_declaration(self) -> None:
        if self._conflicting_default:
            raise self._declaration_error(
                "with auto=True a value is generated, so default= would never be used: remove one of them, "
                "or pass a strategy as strategy="
            )
        if self._known and self.type is not str and not self._generates:
            raise self._declaration_error(
                f"the strategy {name_of(self.strategy)!r} generates text, and type={self.type.__name__} is not text"
            )
        super().check_declaration()

    # A value of another case, or a UUID with other hyphens, is stored and sought in the form that is generated.

    def _canonical(self, value: Any) -> Any:
        convert = self._to_canonical
        return value if convert is None or not isinstance(value, str) else convert(value)

    def encode(self, value: Any) -> Any:
        return super().encode(self._canonical(value))

    @property
    def converts(self) -> bool:
        return self._to_canonical is not None or super().converts

    @property
    def fits(self) -> bool:
        return self._to_canonical is not None or super().fits

    def fitted(self, value: Any) -> Any:
        return super().fitted(self._canonical(value))

    if TYPE_CHECKING:

        @overload  # type: ignore[override]
        def __get__(self, instance: None, owner: builtins.type[Owner]) -> ModelAutoField[Owner, Mixed]: ...
        @overload
        def __get__(self, instance: object, owner: builtins.type) -> Mixed: ...
        def __get__(self, instance: object, owner: builtins.type) -> object: ...

    # A staged value is the field's `default` until an instance takes it.

    @property
    def default(self) -> Any:
        """The staged value, or else the plain default."""
        try:
            value, process = self._staged[-1]
        except IndexError:
            return self._plain_default
        return value if process == os.getpid() else self._plain_default

    @default.setter
    def default(self, value: Any) -> None:
        self._plain_default = value

    @property
    def has_constant_default(self) -> bool:
        return self._plain_default is not None and not callable(self._plain_default)

    def get_new_auto_key_value(self) -> Any:
        """Return a new value of the strategy. Called for each instance that is constructed without a value."""
        return _core.mint_one(strategy_of(self.strategy, self.auto_uuid_length))

    def set_auto_key_value(self, force: bool = False) -> None:
        """Generate the value of the next instance now. It is the field's `default` until an instance takes it.

        Exactly one instance takes it, also with several threads; an instance with its own value does not. A second call
        replaces it. A forked child does not inherit it.

        Args:
            force: also generate it for a field with `auto=False`.
        """
        check_flags(self._label, force=force)
        if self.auto or force:
            # An instance takes the value by popping it from this list, which is atomic.
            self._staged = [(self.get_new_auto_key_value(), os.getpid())]

    @property
    def mints_at_init(self) -> bool:
        # A value can be staged for a field with `auto=False`.
        return True

    def initial(self) -> Any:
        staged = self._staged
        if staged:
            try:
                value, process = staged.pop()
            except IndexError:  # another thread took it
                pass
            else:
                if process == os.getpid():
                    self._handed_out = value
                    return value
        return self.get_new_auto_key_value() if self.auto else self.new_default()

    def retry_key(self, refused: Any) -> Any:
        # The caller has seen a staged value, so it must not be replaced.
        return None if refused == self._handed_out else self.get_new_auto_key_value()

    # Validation: a value must have the length and the format of the strategy.

    @classmethod
    def is_valid(cls, field: Field[Any], value: Any, null_check: bool = True, **kwargs: Any) -> bool:
        """Like `Field.is_valid`. A value that is not empty must also match the length and format of the strategy."""
        problem = field._auto_problem(value) if isinstance(field, AutoFieldMixin) else None
        if problem is not None:
            _log.error("%s", problem)
            return False
        return super().is_valid(field, value, null_check=null_check, **kwargs)

    def _auto_problem(self, value: Any) -> str | None:
        if not value or not isinstance(value, str):
            return None
        name = name_of(self.strategy)
        wanted: int | None = self.STRATEGY_LENGTHS[name]
        known = None
        if name in AutoFieldMixin.STRATEGY_LENGTHS:
            known = strategy_of(self.strategy, self.auto_uuid_length)
            if name == AutoGenerate.UUID4.value or isinstance(self.strategy, Auto):
                wanted = known.length
        if len(value) != wanted:
            return f"auto key value is length {len(value)}. It should be {wanted} for strategy '{name}'"
        if known is None or known.length != wanted or self._generates:
            # Only the length is known of values that a subclass generates.
            return None
        problem = form_problem(known, value)
        return None if problem is None else f"auto key value {shortened(value)} is not a valid {name}: {problem}"

    def refusal(self, value: Any) -> Misfit | None:
        problem = self._auto_problem(value)
        return super().refusal(value) if problem is None else Misfit(problem)


class KeyField(KeyFieldMixin[T]):
    """A field that is the key or a part of it."""


class UniqueKeyField(KeyField[T]):
    """The whole key. A new item never overwrites another one (`KeyCollision`).

    Next to an `AutoKeyField`, or to another `UniqueKeyField` that is declared before it, it is a unique value with an
    index (`UniqueViolation`).
    """

    field_key = "whole"


class AutoKeyField(AutoFieldMixin[str], UniqueKeyField[str]):
    """The whole key, generated when an instance is constructed; by default 32 hexadecimal digits (UUID4).

    >>> from mintkey import Model
    >>> class Event(Model):
    ...     id = AutoKeyField(strategy="ksuid")
    >>> len(Event().id)
    27
    """


Field._hidden_key = AutoKeyField
