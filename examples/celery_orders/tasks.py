"""A task of Celery that stores orders.

Run a worker with `celery --workdir examples/celery_orders --app tasks worker --concurrency 3`, and call
`tasks.place_order.delay("ada", 5)` in another process. The store is the one that $MINTKEY_URL names, or else the file
mintkey.db in the working folder; the broker is the one that $BROKER_URL names, or else Redis on this machine.
"""

from __future__ import annotations

import os

from celery import Celery, Task

from mintkey import AutoGenerate, Model, ModelConfig, connect
from mintkey.attributes import NumberAttribute, StringAttribute
from mintkey.errors import StoreError

app = Celery("orders", broker=os.environ.get("BROKER_URL", "redis://localhost"))
# A task whose process is killed is delivered to another process.
app.conf.update(task_acks_late=True, task_reject_on_worker_lost=True, worker_prefetch_multiplier=1)

# Once, before the worker forks its processes: each of them then uses connections of its own.
connect(os.environ.get("MINTKEY_URL", "sqlite:///mintkey.db"))


class Order(Model):
    """An order of a customer. Its key is the one of the task, so a repeated task finds the order."""

    model_config = ModelConfig(table="celery-orders")
    task = StringAttribute(partition_key=True)
    number = StringAttribute(default=AutoGenerate.ULID)
    customer = StringAttribute(required=True)
    total = NumberAttribute(required=True)
    process = NumberAttribute()


Order.create_table()


@app.task(bind=True, autoretry_for=(StoreError,), retry_backoff=True, ignore_result=True)
def place_order(self: Task, customer: str, total: float) -> None:
    """Store an order. A repeated task stores no second one."""
    Order.get_or_create(task=self.request.id, defaults={"customer": customer, "total": total, "process": os.getpid()})
