"""Hooks: methods of a model that run before or after its operations.

::

    class AuditLog(Model):
        ...

        @before_save
        def build_key(self) -> None:
            self.sk = f"LOG#{self.created_at}#{self.id}"

Several hooks of one kind run in the order of their definition, those of a base class first. If a subclass overrides
a hook, the override runs once, in the position of the original. A hook can be `async def`; blocking calls of the model
then raise `ConfigurationError` before any hook runs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, TypeVar

from mintkey.errors import ConfigurationError, shortened

__all__ = [
    "after_delete",
    "after_load",
    "after_save",
    "after_update",
    "before_delete",
    "before_save",
    "before_update",
]

HookKind: TypeAlias = Literal[
    "before_save", "after_save", "before_delete", "after_delete", "before_update", "after_update", "after_load"
]
HOOK_KINDS: tuple[HookKind, ...] = HookKind.__args__  # type: ignore[attr-defined]

F = TypeVar("F", bound=Callable[..., Any])
_MARK = "__mintkey_hooks__"


def _hook(kind: HookKind, documentation: str) -> Callable[[F], F]:
    def mark(method: F) -> F:
        function: object = method
        if not inspect.isfunction(function):
            raise ConfigurationError(
                f"@{kind} decorates a method, without parentheses, and directly: it cannot decorate {shortened(method)}"
            )
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise ConfigurationError(
                f"@{kind}: {function.__qualname__} is a generator, which would never run: remove the yield"
            )
        setattr(method, _MARK, (*getattr(method, _MARK, ()), kind))
        return method

    mark.__name__ = mark.__qualname__ = kind
    mark.__doc__ = documentation
    return mark


before_save = _hook(
    "before_save",
    "Run before an item is saved. Reading an attribute without a value generates it. An exception cancels the save.",
)
after_save = _hook("after_save", "Run after an item is saved.")
before_delete = _hook("before_delete", "Run before an item is deleted. An exception cancels the delete.")
after_delete = _hook("after_delete", "Run after an item is deleted.")
before_update = _hook("before_update", "Run before `update()`. An exception cancels the update.")
after_update = _hook("after_update", "Run after `update()`.")
after_load = _hook("after_load", "Run after an item is loaded by get, batch_get, query, scan or refresh.")


class Hooks:
    """The hooks of one model.

    Attributes:
        of: the names of the methods of each kind, in the order in which they run.
        any_asynchronous: whether any hook is `async def`.
    """

    def __init__(self, model: type) -> None:
        names: dict[HookKind, list[str]] = {kind: [] for kind in HOOK_KINDS}
        for base in reversed(model.__mro__):
            for name, member in vars(base).items():
                for kind in getattr(member, _MARK, ()):
                    if name not in names[kind]:
                        names[kind].append(name)
        self.of = {kind: tuple(own) for kind, own in names.items()}
        self._asynchronous = {
            kind: next((name for name in found if inspect.iscoroutinefunction(getattr(model, name))), None)
            for kind, found in names.items()
        }
        self.any_asynchronous = any(self._asynchronous.values())

    def asynchronous(self, *kinds: HookKind) -> str | None:
        """Return the name of an `async def` hook of one of these kinds, or None."""
        return next((name for kind in kinds if (name := self._asynchronous[kind]) is not None), None)
