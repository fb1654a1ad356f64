"""Batches: methods of a model that save, delete and read many items."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from mintkey import _core
from mintkey.errors import check_flags
from mintkey.instance_state import fetched
from mintkey.methods.tables import TableMixin
from mintkey.operations import batches, item_operations, loading
from mintkey.operations.suspended import CHUNK
from mintkey.operations.writing import refuse_async_hooks
from mintkey.stores import store_of

if TYPE_CHECKING:
    from typing_extensions import Self

    from mintkey.instance_state import Selected
    from mintkey.operations.arguments import Key
    from mintkey.operations.batches import Progress
    from mintkey.operations.loading import Selectable
    from mintkey.stores import Operation


class BatchMixin(TableMixin):
    """The batch methods of a model."""

    @classmethod
    def batch_save(cls, items: Iterable[Self], *, skip_hooks: bool = False, on_progress: Progress | None = None) -> int:
        """Save many items, each as `save()` does; return their number.

        The iterable may have any length; it is read in chunks. A failing item does not stop the batch.

        Args:
            items: instances of this model.
            skip_hooks: run no hooks.
            on_progress: called after each chunk with the number of processed items and the total (None if unknown).

        Raises:
            BatchIncomplete: some items failed; `failed` lists them with their exceptions.
        """
        schema = cls.__mintkey_schema__
        store = store_of(schema)
        if not skip_hooks:
            refuse_async_hooks(schema, "before_save", "after_save")
        return store.run(batches.save(schema, cls, items, on_progress, skip_hooks=skip_hooks))

    @classmethod
    async def abatch_save(
        cls,
        items: Iterable[Self] | AsyncIterable[Self],
        *,
        skip_hooks: bool = False,
        on_progress: Progress | None = None,
    ) -> int:
        """Async version of `batch_save()`. Also takes async iterables."""
        schema = cls.__mintkey_schema__
        return await store_of(schema).arun(
            batches.save(schema, cls, items, on_progress, skip_hooks=skip_hooks, awaiting=True)
        )

    @classmethod
    def batch_delete(
        cls, items: Iterable[Self | Key], *, skip_hooks: bool = False, on_progress: Progress | None = None
    ) -> int:
        """Delete many items, passed as instances or keys; return their number. Otherwise like `batch_save()`.

        A key is a dict, a tuple of partition key and sort key, or the partition key if the table has no sort key. Hooks
        run for instances only. An invalid key does not stop the batch.
        """
        schema = cls.__mintkey_schema__
        store = store_of(schema)
        if not skip_hooks:
            refuse_async_hooks(schema, "before_delete", "after_delete")
        return store.run(batches.write(schema, items, cls._deleter(skip_hooks), on_progress))

    @classmethod
    async def abatch_delete(
        cls,
        items: Iterable[Self | Key] | AsyncIterable[Self | Key],
        *,
        skip_hooks: bool = False,
        on_progress: Progress | None = None,
    ) -> int:
        """Async version of `batch_delete()`. Also takes async iterables."""
        schema = cls.__mintkey_schema__
        return await store_of(schema).arun(
            batches.write(schema, items, cls._deleter(skip_hooks), on_progress, awaiting=True)
        )

    @classmethod
    def _deleter(cls, skip_hooks: bool) -> Callable[[Any], Operation[Any]]:
        schema = cls.__mintkey_schema__
        check_flags(schema.model, skip_hooks=skip_hooks)

        def deleting(item: Any) -> Operation[Any]:
            if isinstance(item, cls):
                return item_operations.delete(schema, item, skip_hooks=skip_hooks)
            return item_operations.delete_by_key(schema, item)

        return deleting

    @classmethod
    def batch_get(
        cls, keys: Iterable[Key], *, attributes: Iterable[Selectable] | None = None, consistent: bool | None = None
    ) -> Iterator[Self | None]:
        """Yield one instance or None for each key, in order. Reads the keys in chunks.

        Args:
            keys: each a dict, a tuple of partition key and sort key, or the partition key if the table has no sort key.
            attributes: load only these attributes and the keys. Reading another attribute raises `NotLoaded`. A path
                such as `User.address["city"]` loads a part of a map, which no save writes.
            consistent: include all writes that were acknowledged before the call. By default as the model's
                `ModelConfig(consistent=…)` says.
        """
        schema = cls.__mintkey_schema__
        store = store_of(schema)
        refuse_async_hooks(schema, "after_load")
        names, make = cls._projection(attributes)
        source = batches.iterator(schema, keys)
        while chunk := list(itertools.islice(source, CHUNK)):
            items = store.run(batches.read(schema, chunk, consistent=consistent, attributes=names))
            while items:
                found, items = store.run(loading.load(schema, items, make))
                yield from found
                del found  # free them before the next ones are loaded

    @classmethod
    async def abatch_get(
        cls,
        keys: Iterable[Key] | AsyncIterable[Key],
        *,
        attributes: Iterable[Selectable] | None = None,
        consistent: bool | None = None,
    ) -> AsyncIterator[Self | None]:
        """Async version of `batch_get()`, for `async for`. Also takes async iterables."""
        schema = cls.__mintkey_schema__
        store = store_of(schema)
        names, make = cls._projection(attributes)
        async for chunk in batches.chunks(schema, keys):
            items = await store.arun(batches.read(schema, chunk, consistent=consistent, attributes=names))
            while items:
                found, items = await store.arun(loading.load(schema, items, make))
                for instance in found:
                    yield instance
                    del instance  # free it before the next ones are loaded
                del found

    @classmethod
    def _projection(
        cls, attributes: Iterable[Selectable] | None
    ) -> tuple[tuple[Selected, ...] | None, Callable[[_core.Item], Self]]:
        """Return the names to load (None: all), and the function that makes an instance of an item with these."""
        if attributes is None:
            return None, cls._loaded
        selected = loading.selection(cls.__mintkey_schema__, attributes)
        return selected, lambda item: cls._loaded(item, fetched(selected))
