"""Threads, tasks, forks and killed writers on one Redis server."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from typing import Any

from mintkey import Model, ModelConfig, connect
from mintkey.attributes import NumberAttribute, StringAttribute
from mintkey.fields import AutoKeyField, Field

WRITER = """
import sys
from mintkey import Model, ModelConfig, connect
from mintkey.attributes import NumberAttribute, StringAttribute

connect(sys.argv[1])

class Entry(Model):
    model_config = ModelConfig(table="entries")
    pk = StringAttribute(partition_key=True)
    n = NumberAttribute(sort_key=True)
    kind = StringAttribute(index=True)

for n in range(100_000):
    Entry(pk=sys.argv[2], n=n, kind="new").save()
    print(n, flush=True)
"""


def entry_model() -> Any:
    class Entry(Model):
        model_config = ModelConfig(table="entries")
        pk = StringAttribute(partition_key=True)
        n = NumberAttribute(sort_key=True)
        kind = StringAttribute(index=True)

    return Entry


def test_a_killed_writer_leaves_whole_rows_and_every_acknowledged_one(url):
    with connect(url):
        entry = entry_model()
        for run in range(10):
            writer = subprocess.Popen([sys.executable, "-c", WRITER, url, f"run {run}"], stdout=subprocess.PIPE)
            assert writer.stdout is not None
            for _ in range(20 + run):
                acknowledged = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
            acknowledged = max([acknowledged, *map(int, writer.stdout.read().split())])
            writer.wait()
            writer.stdout.close()
            rows = [row.n for row in entry.query(pk=f"run {run}")]
            assert rows == list(range(len(rows)))
            assert acknowledged < len(rows) <= acknowledged + 2
        assert sum(1 for _ in entry.query(kind="new")) == entry.count()


def widget_model() -> Any:
    class Widget(Model):
        id = AutoKeyField(strategy="ulid")
        product = Field()

    return Widget


def test_many_threads_lose_and_repeat_nothing(url):
    with connect(url):
        widget = widget_model()
        ids: list[str] = []

        def create() -> None:
            ids.extend(widget.create(product="Widget").id for _ in range(500))

        threads = [threading.Thread(target=create) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(ids)) == 4_000
        assert {found.id for found in widget.query.all()} == set(ids)
        assert widget.get(id="*") is None


def test_many_tasks_lose_nothing(url):
    async def create(widget: Any) -> list[str]:
        made = await asyncio.gather(*(widget.acreate(product="Widget") for _ in range(2_000)))
        return [one.id for one in made]

    with connect(url):
        widget = widget_model()
        ids = asyncio.run(create(widget))
        assert len(set(ids)) == 2_000
        assert {found.id for found in widget.query.all()} == set(ids)


def test_a_client_used_before_a_fork_works_on_both_sides(url):
    with connect(url):
        widget = widget_model()
        asyncio.run(widget.acreate(product="before"))
        widget.create(product="before")
        child = os.fork()
        if child == 0:
            status = 1
            try:
                widget.create(product="child")
                asyncio.run(widget.acreate(product="child"))
                status = 0
            finally:
                os._exit(status)
        widget.create(product="parent")
        asyncio.run(widget.acreate(product="parent"))
        assert os.waitpid(child, 0)[1] == 0
        products = sorted(found.product for found in widget.query.all())
        assert products == ["before"] * 2 + ["child"] * 2 + ["parent"] * 2
