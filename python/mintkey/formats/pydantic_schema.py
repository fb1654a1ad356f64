"""The pydantic schema of models. This module imports pydantic; it is imported when a schema is needed.

Attributes are validated by the schemas of pydantic where it knows the type, and then by the attribute itself, so that
what is valid can be saved.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import warnings
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, NewType, TypeAlias, cast

from mintkey.attributes import Attribute, VersionAttribute
from mintkey.attributes.comparing import Misfit
from mintkey.errors import CONVERSION_ERRORS, MintkeyError, cause, needs, shortened
from mintkey.formats.json_values import (
    JSON_TYPES,
    BytesForm,
    DatetimeForm,
    EnumForm,
    Form,
    JsonForm,
    ListForm,
    MapForm,
    NestedForm,
    NumberForm,
    OwnForm,
    SetForm,
    StructuredForm,
    TypedForm,
    UntypedForm,
    class_of,
    forms,
)

try:
    from pydantic import ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, Tag, TypeAdapter, ValidationError
    from pydantic_core import (
        CoreSchema,
        InitErrorDetails,
        PydanticCustomError,
        PydanticSerializationError,
        core_schema,
    )

    from mintkey.formats.structured_dumps import dumped_value, value_of_body, value_of_dump, value_of_json
except ImportError as error:
    what = needs("The schema of a model, which model_dump() and model_validate() use,", "pydantic", "pydantic")
    raise ImportError(f"{what}. to_dict(), to_json() and from_json() need none", name=error.name) from error

#: The context of what is no body and no response: generated values are read, and null for a key is no mistake.
STORED: Final = {"mintkey": "stored"}
#: How dumped items are validated: nested models may have names or aliases.
HOW: Final[Any] = {"context": STORED, "by_alias": True, "by_name": True}

Part: TypeAlias = Literal["partition", "sort"]
_IGNORED: Final[Any] = object()
_TEXT_FORMATS = {"ulid", "ksuid", "uuid4", "uuid7", "nanoid", "typeid", "xid", "cuid2"}


def adapter(model: Any) -> TypeAdapter[Any]:
    """Return the adapter of a model."""
    schema = model.__mintkey_schema__
    if schema.adapter is None:
        # The title of a `ValidationError` is the name of the model. pydantic takes no title for a class that looks like
        # a dataclass, as models do, but for a NewType.
        new_type: Any = NewType
        schema.adapter = TypeAdapter(new_type(model.__name__, model), config=ConfigDict(title=model.__name__))
    found: TypeAdapter[Any] = schema.adapter
    return found


def core_schema_of(model: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
    """Return the schema of a model: objects and instances as input, and an object of all attributes as output."""
    schema = getattr(model, "__mintkey_schema__", None)
    if schema is None:
        raise TypeError(f"{model.__name__} has no attributes: use a subclass")
    inputs, outputs, demanded = {}, {}, []
    for name, form in forms(schema).items():
        attribute = schema.attributes[name]
        declared = _Declared(schema, attribute, form)
        given, held = _Input(declared), _Output(declared)
        if declared.is_demanded:
            demanded.append(name)
        alias = attribute.alias
        inputs[name] = core_schema.typed_dict_field(
            handler.generate_schema(Annotated[Any, given]),
            required=declared.is_required,
            validation_alias=None if alias is None else [[alias], [name]],
            serialization_alias=alias,
        )
        outputs[name] = core_schema.typed_dict_field(
            handler.generate_schema(Annotated[Any, held]), required=True, serialization_alias=alias
        )
    stored = core_schema.typed_dict_schema(outputs)
    objects = _Objects(core_schema.typed_dict_schema(inputs, extra_behavior="forbid"), stored)
    ref = f"{model.__module__}.{model.__qualname__}:{id(model)}"
    whole = core_schema.with_info_wrap_validator_function(
        _constructing(model),
        handler.generate_schema(Annotated[Any, objects]),
        ref=ref,
        serialization=core_schema.wrap_serializer_function_ser_schema(_dumping(demanded), info_arg=True, schema=stored),
    )
    # In a union, the locations of problems begin with the tag.
    reference: Any = _Reference(ref)
    named = Tag(model.__name__).__get_pydantic_core_schema__(model, reference)
    return core_schema.definitions_schema(named, [whole])


class _Reference:
    """A handler that returns a reference to a schema."""

    def __init__(self, ref: str) -> None:
        self._ref = ref

    def __call__(self, source: Any) -> CoreSchema:
        return core_schema.definition_reference_schema(self._ref)


def titled(model: Any, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
    """Return the JSON schema of a model with its name and docstring."""
    written = handler(schema)
    found = handler.resolve_ref_schema(written)
    found["title"] = model.__name__
    text = vars(model).get("__doc__")
    if text:
        found["description"] = inspect.cleandoc(text)
    return written


def _constructing(model: Any) -> Callable[[Any, Any, Any], Any]:
    derived = model.__mintkey_schema__.derived

    def construct(given: Any, validate: Callable[[Any], dict[str, Any]], info: core_schema.ValidationInfo[Any]) -> Any:
        if isinstance(given, model):
            return given
        if _is_stored(info):
            found = class_of(model, given)
            if found is not model:
                return adapter(found).validate_python(given, **HOW)
        else:
            _check_class(model, given)
        try:
            validated = validate(given)
        except ValidationError as error:
            raise _printable_error(error) from None
        values = {name: value for name, value in validated.items() if value is not _IGNORED}
        try:
            instance = model(**values)
            if derived is not None:
                derived.check(instance.__dict__)
        except CONVERSION_ERRORS as error:
            name = getattr(error, "attribute", None)
            raise _located(error, None if name is None else _posted(model, name, given), given) from error
        return instance

    construct.__name__ = construct.__qualname__ = model.__name__  # for messages
    return construct


def _check_class(model: Any, given: Any) -> None:
    """Refuse an object that has the discriminator of another class. So a union of classes finds the class it names."""
    family = model.__mintkey_schema__.family
    if family is None or not isinstance(given, Mapping):
        return
    name = _posted(model, family.attribute_name, given)
    if given.get(name, family.value) not in (None, family.value):
        reason = f"{shortened(given[name])} is not the discriminator of {model.__name__}, which is {family.value!r}"
        raise _located(ValueError(reason), name, given)


def _posted(model: Any, name: str, given: Any) -> str:
    """Return the name by which an object has an attribute: its alias, unless it has the other one."""
    attribute = model.__mintkey_schema__.attributes.get(name)
    alias = None if attribute is None else attribute.alias
    return name if alias is None or (name in given and alias not in given) else alias


def _located(error: Exception, attribute: str | None, given: Any) -> ValidationError:
    """Return the error of pydantic for an error of this package."""
    path: tuple[Any, ...] = () if attribute is None else (attribute,)
    reason = cause(error)
    if isinstance(error, Misfit):
        path, reason = error.path, error.reason
    elif isinstance(error, MintkeyError) and error.attribute is not None:
        reason = reason.removeprefix(f"{error.model}.{error.attribute}: ")
    kind = PydanticCustomError("value_error", cast("Any", reason))
    details = InitErrorDetails(type=kind, loc=path, input=_printable(given))
    return ValidationError.from_exception_data("value", [details])


def _printable_error(error: ValidationError) -> ValidationError:
    """Return the error with inputs that FastAPI can write into its answer."""
    problems = error.errors(include_url=False)
    if all(_printable(problem["input"]) is problem["input"] for problem in problems):
        return error
    details = []
    for problem in problems:
        kind = PydanticCustomError(cast("Any", problem["type"]), cast("Any", problem["msg"]), problem.get("ctx"))
        details.append(InitErrorDetails(type=kind, loc=problem["loc"], input=_printable(problem["input"])))
    return ValidationError.from_exception_data(error.title, details)


def _printable(given: Any) -> Any:
    """Return an input for a problem. FastAPI writes it into its answer, and JSON has neither NaN nor surrogates."""
    try:
        json.dumps(given, allow_nan=False, ensure_ascii=False).encode()
    except TypeError:
        return given  # a value of Python
    except (ValueError, RecursionError):
        return shortened(given)
    return given


class _Objects:
    """The annotation of the objects of a model for pydantic: those that are posted, and those of items."""

    def __init__(self, given: CoreSchema, stored: CoreSchema) -> None:
        self._given, self._stored = given, stored

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return self._given

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return handler(self._stored if handler.mode == "serialization" else schema)


def _dumping(demanded: list[str]) -> Callable[[Any, Any, Any], Any]:
    """Return the serializer of a model. The schema of a response says that the `demanded` attributes are not null."""

    def dumped(instance: Any, dump: Callable[[dict[str, Any]], Any], info: core_schema.SerializationInfo[Any]) -> Any:
        if not hasattr(instance, "__mintkey_schema__"):
            return dump(instance)  # pydantic warns
        values = _all_values(instance)
        if info.mode == "json" and not info.exclude_none and not _is_stored(info):
            for name in demanded:
                if values.get(name, name) is None and _is_shown(name, info):
                    _warn(
                        instance.__mintkey_schema__.attributes[name],
                        "has no value and is null, and the output schema says that it is never null: save the instance "
                        "first, give it a value, or leave it out with exclude_none=True",
                    )
        try:
            return dump(values)
        except PydanticSerializationError as error:
            # One item of a list is found by its key.
            keys = instance.__mintkey_schema__.given_keys
            given = [f"{name}={shortened(instance.__dict__[name])}" for name in keys if name in instance.__dict__]
            if not given:
                raise
            raise PydanticSerializationError(f"{type(instance).__name__}({', '.join(given)}): {error}") from error

    return dumped


def _warn(attribute: Attribute[Any], problem: str) -> None:
    # Without the key, because Python keeps the text of each warning.
    warnings.warn(f"{attribute._label} {problem}", UserWarning, stacklevel=3)


def _is_shown(name: str, info: core_schema.SerializationInfo[Any]) -> bool:
    """Return whether `include=` and `exclude=` leave a name in."""
    is_included = info.include is None or name in info.include
    return is_included and (info.exclude is None or name not in info.exclude)


def _all_values(instance: Any) -> dict[str, Any]:
    """Return all values of an instance, with None for absent ones. Those that were not loaded are left out."""
    schema, state = instance.__mintkey_schema__, instance._state
    shown = instance._shown()
    values = {}
    for name, form in forms(schema).items():
        if name in shown:
            values[name] = shown[name]
        elif state is None or not state.is_unknown(name):
            values[name] = set() if isinstance(form, SetForm) else None
    return values


class _Declared:
    """What the declaration of an attribute says of absent values."""

    def __init__(self, schema: Any, attribute: Attribute[Any], form: Form) -> None:
        self.attribute = attribute
        self.form = form
        self.part: Part | None = schema.part_of_key(attribute.name)
        #: Whether the value comes from a strategy, the class or other attributes.
        self.is_generated = (
            attribute.minted is not None
            or attribute.on_update is not None
            or attribute.derived is not None
            or isinstance(attribute, VersionAttribute)
        )
        #: Whether the value, or its text, is a part of a key, which is not empty.
        self.is_in_key = self.part is not None or attribute.name in schema.given_keys
        #: Whether no save is possible without a value.
        self.is_demanded = attribute.required or attribute.discriminator or self.is_in_key
        has_default = attribute.default is not None or attribute.mints_at_init
        #: Whether a posted object must have a value.
        self.is_required = self.is_demanded and not has_default and not self.is_generated


class _Annotation:
    """The annotation of an attribute for pydantic."""

    def __init__(self, declared: _Declared) -> None:
        self._declared = declared

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        attribute, written = self._declared.attribute, dict(handler(schema))
        if attribute.description is not None:
            written["description"] = attribute.description
        if self._declared.is_generated:
            written["readOnly"] = True
        if attribute.has_constant_default:
            written["default"] = self._declared.form.write(attribute.new_default())
        return written


class _Input(_Annotation):
    """An attribute in a posted object."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        declared = self._declared
        schema = handler.generate_schema(Annotated[Any, _Values(declared.attribute, declared.form, declared)])
        if declared.is_generated:
            return core_schema.with_info_wrap_validator_function(_ignore, schema)
        return schema if declared.is_demanded else core_schema.nullable_schema(schema)


class _Output(_Annotation):
    """An attribute in the object of an item."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        declared = self._declared
        schema = handler.generate_schema(Annotated[Any, _Values(declared.attribute, declared.form, declared)])
        # An absent set is empty. All other values can be absent: in a row of an older class, or by an assignment.
        is_present = declared.is_demanded or isinstance(declared.form, SetForm)
        return schema if is_present else core_schema.nullable_schema(schema)


def _ignore(given: Any, validate: Callable[[Any], Any], info: core_schema.ValidationInfo[Any]) -> Any:
    if _is_stored(info):
        return None if given is None else validate(given)
    return _IGNORED


def _is_stored(info: core_schema.ValidationInfo[Any] | core_schema.SerializationInfo[Any]) -> bool:
    context = info.context
    return isinstance(context, dict) and context.get("mintkey") == STORED["mintkey"]


class _Values:
    """The annotation of an attribute, or of the elements of one, for pydantic: its values."""

    def __init__(self, attribute: Attribute[Any], form: Form, declared: _Declared | None = None) -> None:
        self.attribute = attribute
        self.form = form
        #: The part of the key that the attribute is, if it is one.
        self._part: Part | None = None if declared is None else declared.part
        self._is_element = declared is None
        self._is_demanded = declared is not None and declared.is_demanded
        self._is_never_empty = declared is not None and declared.is_in_key and not declared.is_generated

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        # The parts of lists, maps and nested instances are dumped one by one.
        dump: Any = None
        if self._is_demanded or self._is_element or not isinstance(self.form, (ListForm, NestedForm)):
            dump = core_schema.wrap_serializer_function_ser_schema(self._dump, info_arg=True)
        return core_schema.with_info_wrap_validator_function(
            self._validate, _inner(self.form, handler), serialization=dump
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        limits = _limits(self.attribute, self.form)
        if self._is_never_empty and (isinstance(self.form, BytesForm) or getattr(self.form, "kind", None) is str):
            limits["minLength"] = max(1, limits.get("minLength", 1))
        return {**handler(schema), **_json_type(self.form, handler.mode == "serialization"), **limits}

    def _dump(self, value: Any, dump: Callable[[Any], Any], info: core_schema.SerializationInfo[Any]) -> Any:
        if value is None:
            if self._is_element and not self.attribute.keeps_none and info.mode == "json" and not _is_stored(info):
                _warn(self.attribute, "contains a null, which is no value of its elements: remove it, or allow | None")
            return None
        if isinstance(self.form, (ListForm, NestedForm)):
            return dump(value)
        try:
            if isinstance(self.form, StructuredForm):
                return dumped_value(self.form, value, dump, info)
            is_whole = info.include is None and info.exclude is None
            dumped = self.form.write(value) if info.mode == "json" else self.form.dump(value, dump)
            return dumped if is_whole or not isinstance(self.form, (UntypedForm, JsonForm)) else dump(dumped)
        except CONVERSION_ERRORS as error:
            # pydantic adds no path to what its own functions raise.
            raise PydanticSerializationError(f"{self.attribute._label}: {cause(error)}") from error

    def _validate(self, given: Any, validate: Callable[[Any], Any], info: core_schema.ValidationInfo[Any]) -> Any:
        attribute = self.attribute
        if isinstance(given, bool) and attribute.kind in {"number", "decimal"}:
            raise PydanticCustomError("value_error", "expected a number, got a boolean")
        try:
            if _reads(self.form, given):
                value = self.form.read(given)
            elif info.mode == "json":
                value = _of_json(self.form, given, validate)
            elif isinstance(self.form, StructuredForm) and type(given) in JSON_TYPES and _is_stored(info):
                value = value_of_dump(self.form, given, validate)
            elif isinstance(self.form, StructuredForm) and type(given) in JSON_TYPES:
                value = value_of_body(self.form, given, validate)
            else:
                value = validate(given)
            if attribute.tests == "existence":
                attribute.encode(value)
            else:
                attribute._checked(value, attribute._label, self._part)
            problem = attribute.problem(value)
        except ValidationError:
            raise
        except CONVERSION_ERRORS as error:
            raise _located(error, None, given) from error
        if problem is not None:
            raise _located(problem, None, given)
        return value


def _reads(form: Form, given: Any) -> bool:
    """Return whether this is JSON that this package reads, because pydantic does not know its form."""
    if isinstance(form, OwnForm):
        return True
    if isinstance(form, EnumForm) and form.is_plain:
        return False
    own = (BytesForm, NumberForm, EnumForm, UntypedForm, JsonForm, SetForm)
    return isinstance(form, own) and type(given) in JSON_TYPES


def _of_json(form: Form, given: Any, validate: Callable[[Any], Any]) -> Any:
    """Return a value of JSON."""
    if isinstance(form, StructuredForm):
        return value_of_json(form, given, validate)
    try:
        return validate(given)
    except ValidationError:
        if isinstance(given, str) and isinstance(form, (TypedForm, DatetimeForm)):
            with contextlib.suppress(*CONVERSION_ERRORS):
                return form.read(given)
        raise


def _inner(form: Form, handler: GetCoreSchemaHandler) -> CoreSchema:
    """Return pydantic's schema of the values of a form."""
    if isinstance(form, TypedForm):
        return handler.generate_schema(form.kind)
    if isinstance(form, DatetimeForm):
        return handler.generate_schema(datetime)
    if isinstance(form, EnumForm) and form.is_plain:
        return handler.generate_schema(form.enum_class)
    if isinstance(form, NestedForm):
        return handler.generate_schema(form.attribute.nested)
    if isinstance(form, StructuredForm):
        return handler.generate_schema(form.hint)
    if isinstance(form, MapForm):
        return core_schema.dict_schema(core_schema.str_schema(), _element(form, handler))
    if isinstance(form, ListForm):
        return core_schema.list_schema(_element(form, handler))
    return core_schema.any_schema()


def _element(form: ListForm, handler: GetCoreSchemaHandler) -> CoreSchema:
    element = handler.generate_schema(Annotated[Any, _Values(form.element.attribute, form.element)])
    return core_schema.nullable_schema(element) if form.element.attribute.keeps_none else element


#: The JSON schema of a Decimal that is written as text.
_DIGITS = {"type": "string", "pattern": r"^-?\d+(\.\d+)?(E[+-]\d+)?$"}
_NUMBER_OR_DIGITS = {"anyOf": [{"type": "number"}, _DIGITS]}


def _json_type(form: Form, is_output: bool) -> dict[str, Any]:
    """Return the JSON schema of the values that pydantic does not know, or writes in another way."""
    if isinstance(form, BytesForm):
        return {"type": "string", "contentEncoding": "base64"}
    if isinstance(form, NumberForm):
        # A number that no float is equal to is text.
        return _NUMBER_OR_DIGITS if is_output and not form.attribute.converts else {"type": "number"}
    if isinstance(form, TypedForm) and form.kind is Decimal:
        return _DIGITS if is_output else _NUMBER_OR_DIGITS
    if isinstance(form, EnumForm) and not form.is_plain:
        return {"enum": form.values}
    if isinstance(form, SetForm):
        if form.element is not None:
            items = _json_type(form.element, is_output) or {"type": "string"}
        else:
            kinds = ("string", "number", "object") if is_output else ("string", "number")
            items = {"anyOf": [{"type": kind} for kind in kinds]}
        return {"type": "array", "uniqueItems": True, "items": items}
    if isinstance(form, UntypedForm):
        names = {"list": "array", "map": "object"}
        return {"type": names[form.attribute.kind]} if form.attribute.kind in names else {}
    return {}


def _limits(attribute: Attribute[Any], form: Form) -> dict[str, Any]:
    """Return what the validators and the strategy of an attribute say, for the JSON schema."""
    given = {} if attribute.validators is None else attribute.validators.given
    limits: dict[str, Any] = {}
    is_number = isinstance(form, NumberForm) or (isinstance(form, TypedForm) and form.kind in {int, Decimal})
    if is_number:
        bounds = {"min": "minimum", "max": "maximum"}
        limits.update({bounds[name]: _number(given[name]) for name in bounds if name in given})
    unit = "Items" if isinstance(form, (ListForm, SetForm)) or attribute.kind == "list" else "Length"
    if isinstance(form, MapForm) or attribute.kind == "map":
        unit = "Properties"
    if not isinstance(form, BytesForm):
        limits.update({f"{name[:3]}{unit}": given[name] for name in ("min_length", "max_length") if name in given})
    strategy = None if attribute.minted is None else attribute.minted.strategy
    if strategy is not None and strategy.name in _TEXT_FORMATS and isinstance(form, TypedForm) and form.kind is str:
        limits["format"] = strategy.name
    if "pattern" in given:
        pattern = given["pattern"]
        limits["pattern"] = f"^(?:{pattern if isinstance(pattern, str) else pattern.pattern})$"
    if "choices" in given:
        limits["enum"] = [form.write(one) for one in given["choices"]]
    return limits


def _number(limit: Any) -> Any:
    return int(limit) if limit == int(limit) else float(limit)
