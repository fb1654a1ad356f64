"""A thousand concurrent saves with asyncio: every key is different, and every row is stored.

Run it with `python examples/concurrent_saves.py`. It uses the store that $MINTKEY_URL names, or else the file
mintkey.db in the working folder.
"""

from __future__ import annotations

import asyncio

from mintkey import AutoGenerate, Model, ModelConfig
from mintkey.attributes import NumberAttribute, StringAttribute
from mintkey.generators import ulid

TASKS = 1_000


class Job(Model):
    """A job of a batch."""

    model_config = ModelConfig(table="jobs")

    batch = StringAttribute(partition_key=True)
    id = StringAttribute(sort_key=True, default=AutoGenerate.ULID)
    created_at = StringAttribute(default=AutoGenerate.ISO8601_MS)
    number = NumberAttribute()


async def main() -> None:
    await Job.acreate_table()

    batch = f"BATCH#{ulid()}"
    jobs = [Job(batch=batch, number=number) for number in range(TASKS)]
    await asyncio.gather(*(job.asave() for job in jobs))

    print(f"tasks:          {TASKS}")
    print(f"different keys: {len({job.id for job in jobs})}")
    print(f"rows stored:    {await Job.aquery(batch=batch).acount()}")

    numbers = {job.number async for job in Job.aquery(batch=batch)}
    print(f"every number is there: {numbers == set(range(TASKS))}")
    first = await Job.aquery(batch=batch).afirst()
    print(f"the first by key: {first}")


if __name__ == "__main__":
    asyncio.run(main())
