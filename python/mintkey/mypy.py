"""The plugin for mypy, which checks the keywords of `create()`, `update()`, `get()`, `query()` and similar calls.

::

    [tool.mypy]
    plugins = ["mintkey.mypy"]

A call that run time accepts is not an error. So a keyword takes any value if the type of its attribute is not certain,
and all keywords are accepted if the model may be a subclass with further attributes.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

from mypy import nodes, types
from mypy.checker import TypeChecker
from mypy.errorcodes import ARG_TYPE, CALL_ARG
from mypy.maptype import map_instance_to_supertype
from mypy.plugin import ClassDefContext, FunctionSigContext, MethodSigContext, Plugin
from mypy.server.trigger import make_trigger, make_wildcard_trigger
from mypy.typeops import make_simplified_union
from mypy.types import Instance, NoneType, Type, get_proper_type
from mypy.types_utils import remove_optional

__all__ = ["COMPARISONS", "LOOKUPS", "plugin"]

_MODEL = "mintkey.model.Model"
_MAPPED = "mintkey.mapping.Mapped"
_ATTR = "mintkey.attributes.base.Attr"
_ATTRIBUTE = "mintkey.attributes.base.Attribute"
_TRANSACTION = "mintkey.transactions.Transaction"
_INDEX = "mintkey.indexes.IndexAccess"
#: The classes whose methods take lookups, such as `total__gt`.
_LAZY = ("mintkey.methods.query_access.QueryAccess", "mintkey.queries.Result")
#: The base classes of all models.
_ROOTS = (_MODEL, "mintkey.model.ConstructedModel", _MAPPED, "mintkey.typed.TypedModel")

#: The calls whose keywords are values to write, and those whose keywords are compared.
_WRITES = frozenset({"create", "acreate", "update", "aupdate", "update_by_key", "aupdate_by_key"})
_READS = frozenset(
    {"get", "aget", "exists", "aexists", "get_by", "aget_by", "get_or_create", "aget_or_create", "update_or_create"}
    | {"aupdate_or_create", "query", "aquery", "__call__", "count", "acount", "filter", "exclude", "first", "afirst"}
)
_CALLS = _WRITES | _READS | {"delete_by_key", "adelete_by_key"}
#: The options of `create()`, which one of its overloads takes for values.
_OPTIONS = ("skip_hooks", "pipeline")

COMPARISONS = ("gt", "gte", "lt", "lte", "ne")
_TEXT_LOOKUPS = ("startswith", "contains", "endswith", "iexact", "icontains", "istartswith", "iendswith")
LOOKUPS = (*COMPARISONS, *_TEXT_LOOKUPS, "in", "between", "isnull")

#: The types of which only values of the type are taken; what else is taken for values of others, and for containers.
_SCALARS = ("str", "int", "bool", "UUID", "datetime", "date", "time", "timedelta")
_WIDER = {
    "builtins.float": "decimal.Decimal",
    "decimal.Decimal": "builtins.int",
    "builtins.bytes": "builtins.bytearray",
}
_CONTAINERS = {
    "builtins.list": "mintkey.attributes.options.ListOf",
    "builtins.set": "typing.AbstractSet",
    "builtins.dict": "typing.Mapping",
}
_ANY = types.AnyType(types.TypeOfAny.special_form)


class _Model(NamedTuple):
    """The model of a call, and whether it is this class and not a subclass."""

    info: nodes.TypeInfo
    is_exact: bool

    @classmethod
    def of(cls, typ: Type) -> _Model | None:
        """Return the class of an instance or a class."""
        typ = get_proper_type(typ)
        if isinstance(typ, types.FunctionLike) and typ.is_type_obj():
            return cls(typ.type_object(), True)
        typ = typ.item if isinstance(typ, types.TypeType) else typ
        return cls(typ.type, False) if isinstance(typ, Instance) else None

    @property
    def is_open(self) -> bool:
        """Whether the model may have attributes that the class does not declare."""
        is_base = bool(self.info.metadata.get("mintkey", {}).get("is_base"))
        return self.info.fallback_to_any or self.info.fullname in _ROOTS or (is_base and not self.is_exact)

    @property
    def has_own_constructor(self) -> bool:
        init = self.info.get("__init__")
        return not (init and isinstance(init.node, nodes.FuncDef) and init.node.info.fullname == _MODEL)


class _Check(NamedTuple):
    """The check of one call."""

    plugin: Plugin
    ctx: FunctionSigContext | MethodSigContext
    api: TypeChecker
    model: _Model
    is_write: bool
    takes_lookups: bool

    def run(self) -> None:
        """Report each unknown keyword, and each value of a wrong type."""
        kinds, call = self.ctx.default_signature.arg_kinds, self.ctx.context
        keywords = self.ctx.args[kinds.index(nodes.ARG_STAR2)] if nodes.ARG_STAR2 in kinds else []
        if not isinstance(call, nodes.CallExpr):
            return
        for name, kind, given in zip(call.arg_names, call.arg_kinds, call.args, strict=True):
            if any(given is one for one in keywords):
                if name is not None and name not in _OPTIONS:
                    self.check_keyword(name, given)
            elif isinstance(given, nodes.DictExpr) and not kind.is_star():
                # A key, or defaults.
                for key, _ in given.items:
                    if isinstance(key, nodes.StrExpr) and self.value_of(key.value) is None:
                        self.report_unknown(key.value, key)

    def check_keyword(self, name: str, given: nodes.Expression) -> None:
        value = self.value_of(name)
        attribute, _, lookup = name.rpartition("__") if self.takes_lookups else (name, "", "")
        if value is not None:
            self.check_type(name, given, value if self.is_write else self.comparable(value))
        elif (value := self.value_of(attribute)) is None:
            self.report_unknown(attribute or name, given)
        elif lookup not in LOOKUPS:
            self.api.fail(f'"{attribute}" has no lookup "{lookup}"{_nearest(lookup, LOOKUPS)}', given, code=CALL_ARG)
        else:
            self.check_type(name, given, self.operand_of(lookup, value))

    def check_type(self, name: str, given: nodes.Expression, expected: Type) -> None:
        is_none = isinstance(given, nodes.NameExpr) and given.fullname == "builtins.None"
        if self.is_write or not is_none:
            # An attribute that may be None has a value in most rows.
            expected = make_simplified_union([expected, NoneType()])
        found = self.api.get_expression_type(given, expected)
        if not _is_vague(found):
            problem = f'Incompatible type of "{name}" of "{self.model.info.name}"'
            self.api.check_subtype(found, expected, given, problem, "expression has type", "expected", code=ARG_TYPE)

    def report_unknown(self, name: str, given: nodes.Expression) -> None:
        if not self.model.is_open and not name.startswith("_"):
            own = (base for base in self.model.info.mro if not base.module_name.startswith("mintkey."))
            known = {one for base in own for one in base.names if self.value_of(one) is not None}
            self.api.fail(
                f'"{self.model.info.name}" has no attribute "{name}"{_nearest(name, known)}', given, code=CALL_ARG
            )

    # The types of keywords.

    def comparable(self, value: Type) -> Type:
        """Return the type of what is compared with a value: also the value of another attribute."""
        return make_simplified_union([value, self.named("mintkey.conditions.Operand", _ANY, _ANY)])

    def operand_of(self, lookup: str, value: Type) -> Type:
        if lookup == "isnull":
            return self.named("builtins.bool")
        if lookup in {"in", "between"}:
            return self.named("typing.Iterable" if lookup == "in" else "typing.Sequence", value)
        text = get_proper_type(value)
        is_text = isinstance(text, Instance) and text.type.fullname == "builtins.str"
        return self.comparable(value) if lookup in COMPARISONS else value if is_text else _ANY

    def value_of(self, name: str) -> Type | None:
        """Return the type of what is taken for an attribute; None if the model does not have it."""
        symbols = (base.names[name].node for base in self.model.info.mro if name in base.names)
        # A subclass may only annotate an attribute of its base class.
        return next((typ for symbol in symbols if (typ := self.value_of_symbol(symbol)) is not None), None)

    def value_of_symbol(self, symbol: nodes.SymbolNode | None) -> Type | None:
        if not isinstance(symbol, nodes.Var):
            return None
        typ, is_mapped = get_proper_type(symbol.type), self.model.info.has_base(_MAPPED)
        if typ is None:
            # The class has not been checked yet. mypy checks a function again later; elsewhere any value is taken.
            with self.api.msg.filter_errors():
                self.api.handle_cannot_determine_type(symbol.name, self.ctx.context)
        elif isinstance(typ, Instance) and typ.type.has_base(_ATTR):
            return self.value_of_attribute(typ)
        elif isinstance(typ, Instance) and typ.type.fullname != "builtins.object":
            return self.accepted(typ) if is_mapped else None
        elif not is_mapped and not isinstance(typ, (types.AnyType, Instance, types.UnionType)):
            return None
        return _ANY

    def value_of_attribute(self, attribute: Instance) -> Type:
        info = attribute.type
        if info.fullname == _ATTR:
            return self.accepted(remove_optional(attribute.args[0]))
        if not info.module_name.startswith("mintkey."):
            return _ANY  # it may convert values of other types
        declared = next(base for base in info.mro if base.fullname == _ATTRIBUTE)
        return self.accepted(remove_optional(map_instance_to_supertype(attribute, declared).args[1]))

    def accepted(self, typ: Type) -> Type:
        """Return the type of what is taken for values of a type."""
        typ = get_proper_type(typ)
        if isinstance(typ, types.UnionType):
            return make_simplified_union([self.accepted(item) for item in typ.items])
        if not isinstance(typ, Instance):
            return typ if isinstance(typ, NoneType) else _ANY
        name, module = typ.type.fullname, typ.type.module_name
        if name in _CONTAINERS:
            return self.named(_CONTAINERS[name], *typ.args[:-1], self.accepted(typ.args[-1]))
        if name in _WIDER:
            return make_simplified_union([typ, self.named(_WIDER[name])])
        if typ.type.is_enum or (typ.type.name in _SCALARS and module in {"builtins", "datetime", "uuid"}):
            return typ
        if self.model.info.has_base(_MAPPED) or module.startswith("mintkey."):
            return _ANY  # a class that is stored in its own way; a reference, which takes keys and instances
        return make_simplified_union([typ, self.named("typing.Mapping", self.named("builtins.str"), _ANY)])

    def named(self, fullname: str, *arguments: Type) -> Type:
        found = self.plugin.lookup_fully_qualified(fullname)
        return Instance(found.node, list(arguments)) if found and isinstance(found.node, nodes.TypeInfo) else _ANY


def _is_vague(typ: Type) -> bool:
    """Return whether mypy knows of a value, or of the members of a container, only that they are objects."""
    typ = get_proper_type(typ)
    return isinstance(typ, Instance) and (typ.type.fullname == "builtins.object" or any(map(_is_vague, typ.args)))


def _is_class(expression: nodes.Context) -> bool:
    return isinstance(expression, nodes.RefExpr) and isinstance(expression.node, (nodes.TypeInfo, nodes.TypeAlias))


def _begins_with_class(expression: nodes.Context) -> bool:
    """Return whether an expression begins with the name of a class, as `Order.query(…).filter(…)` does."""
    while isinstance(expression, (nodes.CallExpr, nodes.MemberExpr)) and not _is_class(expression):
        expression = expression.callee if isinstance(expression, nodes.CallExpr) else expression.expr
    return _is_class(expression)


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f'; did you mean "{near[0]}"?' if near else ""


def _note_class(ctx: ClassDefContext) -> None:
    """Note what the type of a model does not say."""
    info = ctx.cls.info
    if info.has_base(_MODEL):
        values = (one.rvalue for one in ctx.cls.defs.body if isinstance(one, nodes.AssignmentStmt))
        options = {
            name
            for call in values
            if isinstance(call, nodes.CallExpr)
            for name, value in zip(call.arg_names, call.args, strict=True)
            if not isinstance(value, nodes.StrExpr) and getattr(value, "name", "") != "False"
        }
        info.metadata["mintkey"] = {"is_base": not options.isdisjoint({"abstract", "discriminator"})}
        # If an attribute changes, the daemon checks all uses of the class again.
        for base in info.mro:
            ctx.api.add_plugin_dependency(make_wildcard_trigger(base.fullname), make_trigger(info.fullname))


class _Plugin(Plugin):
    """The hooks."""

    # Only the first plugin that returns a hook for a name is asked, so a hook for other classes would stop theirs.

    def get_base_class_hook(self, fullname: str) -> Callable[[ClassDefContext], None] | None:
        return _note_class if self._concerns(fullname) else None

    def get_function_signature_hook(self, fullname: str) -> Callable[[FunctionSigContext], types.FunctionLike] | None:
        return self._check_constructor if self._concerns(fullname) else None

    def get_method_signature_hook(self, fullname: str) -> Callable[[MethodSigContext], types.FunctionLike] | None:
        owner, _, call = fullname.rpartition(".")
        return partial(self._check_method, call=call) if call in _CALLS and self._concerns(owner) else None

    def _concerns(self, fullname: str) -> bool:
        """Return whether this is a model, or a class whose methods take the attributes of a model as keywords."""
        found = self.lookup_fully_qualified(fullname)
        if found is None:
            return "@" in fullname  # a class in a function
        classes = (_MODEL, _TRANSACTION, _INDEX, *_LAZY)
        return isinstance(found.node, nodes.TypeInfo) and any(map(found.node.has_base, classes))

    def _check_constructor(self, ctx: FunctionSigContext) -> types.CallableType:
        # The value of a variable may be a subclass.
        if isinstance(ctx.context, nodes.CallExpr) and _is_class(ctx.context.callee):
            self._check(ctx, _Model.of(ctx.default_signature), "create")
        return ctx.default_signature

    def _check_method(self, ctx: MethodSigContext, call: str) -> types.CallableType:
        model = receiver = _Model.of(ctx.type)
        owner = receiver and next((base for base in receiver.info.mro if call in base.names), None)
        # A subclass may have a method of its own of this name.
        if receiver is not None and owner is not None and owner.module_name.startswith("mintkey."):
            is_lazy = any(map(receiver.info.has_base, _LAZY))
            if is_lazy or receiver.info.fullname == _INDEX:
                model = _Model.of(ctx.type.args[0]) if isinstance(ctx.type, Instance) and ctx.type.args else None
                model = model and model._replace(is_exact=_begins_with_class(ctx.context))
            elif receiver.info.fullname == _TRANSACTION:
                model = _Model.of(ctx.api.get_expression_type(ctx.args[0][0])) if ctx.args and ctx.args[0] else None
            self._check(ctx, model, call, takes_lookups=is_lazy and call != "__call__" and call not in _WRITES)
        return ctx.default_signature

    def _check(
        self,
        ctx: FunctionSigContext | MethodSigContext,
        model: _Model | None,
        call: str,
        *,
        takes_lookups: bool = False,
    ) -> None:
        if model is None or not model.info.has_base(_MODEL) or not isinstance(ctx.api, TypeChecker):
            return
        if call not in {"create", "acreate"} or not model.has_own_constructor:
            _Check(self, ctx, ctx.api, model, call in _WRITES, takes_lookups).run()


def plugin(_: str) -> type[Plugin]:
    """Return the class of the plugin, for mypy."""
    return _Plugin
