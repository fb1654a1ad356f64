"""A web service for orders, with FastAPI.

Run it with `uvicorn --app-dir examples/fastapi_orders --workers 3 service:app`, and open http://127.0.0.1:8000/docs.
It uses the store that $MINTKEY_URL names, or else the file mintkey.db in the working folder. It needs the packages
fastapi and uvicorn.

Each process also ships paid orders in the background. A conditional update makes sure that each order is shipped once,
however many processes there are, and whenever one of them is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from mintkey import AutoGenerate, Model, ModelConfig, connect
from mintkey.attributes import DatetimeAttribute, IntegerAttribute, NumberAttribute, StringAttribute
from mintkey.errors import ConditionFailed, InvalidCursor, ItemGone, StoreError
from mintkey.pydantic import Ulid

log = logging.getLogger("orders")

#: How long a process waits in seconds before it looks for paid orders again.
PAUSE = 0.1


class Order(Model):
    """An order of a customer."""

    model_config = ModelConfig(table="service-orders")
    id = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    customer = StringAttribute(required=True, index=True, min_length=1, max_length=100)
    total = NumberAttribute(required=True, min=0, description="The amount to pay, in euros")
    status = StringAttribute(default="new", index=True, choices=["new", "paid", "shipped"])
    parcels = IntegerAttribute(default=0, description="How many parcels were sent: one for each shipped order")
    created_at = DatetimeAttribute(default=AutoGenerate.ISO8601_MS)


class Page(BaseModel):
    """A part of the orders of a customer. Pass `next` as `cursor` to get the next part."""

    orders: list[Order]
    next: str | None


async def ship_paid_orders() -> None:
    """Ship each paid order. Several processes may do so at the same time."""
    async for order in Order.aquery(status="paid"):
        # Another process may have shipped it since the query.
        with contextlib.suppress(ConditionFailed, ItemGone):
            await order.aupdate(Order.parcels.add(1), status="shipped", condition=Order.status == "paid")


async def work(stop: asyncio.Event) -> None:
    """Ship paid orders until the service stops."""
    while not stop.is_set():
        try:
            await ship_paid_orders()
        except StoreError as error:
            log.warning("the store failed, trying again: %s", error)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(stop.wait(), PAUSE)


@contextlib.asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Connect, and work in the background while the service runs."""
    with connect(os.environ.get("MINTKEY_URL", "sqlite:///mintkey.db")):
        await Order.acreate_table()
        stop = asyncio.Event()
        worker = asyncio.create_task(work(stop))
        try:
            yield
        finally:
            stop.set()
            await worker


app = FastAPI(title="Orders", lifespan=lifespan)


@app.exception_handler(StoreError)
async def store_failed(_: Request, error: StoreError) -> JSONResponse:
    """Answer 503: the store is unreachable, too slow, or rejects requests because of their rate."""
    log.warning("%s", error)
    return JSONResponse({"detail": "the store failed: try again later"}, 503, {"Retry-After": "1"})


@app.exception_handler(InvalidCursor)
async def wrong_cursor(_: Request, error: InvalidCursor) -> JSONResponse:
    """Answer 400: the client did not pass on the cursor that it got."""
    return JSONResponse({"detail": str(error)}, 400)


async def found(order_id: Ulid) -> Order:
    """Return the order that the path names."""
    order = await Order.aget(order_id)
    if order is None:
        raise HTTPException(404, "no such order")
    return order


Found = Annotated[Order, Depends(found)]


@app.post("/orders", status_code=201)
async def create_order(order: Order, idempotency_key: Annotated[Ulid | None, Header()] = None) -> Order:
    """Store a new order. A client that repeats a request sends the same ULID as `Idempotency-Key`."""
    order.status, order.parcels = "new", 0
    if idempotency_key is None:
        await order.asave()
        return order
    # The key is the one of the order, so that a repeated request finds the order of the first one.
    stored, _ = await Order.aget_or_create(id=idempotency_key, defaults=order.to_dict())
    return stored


@app.get("/orders")
async def list_orders(customer: str, size: int = 20, cursor: str | None = None) -> Page:
    """Return a page of the orders of a customer."""
    page = await Order.aquery(customer=customer).apage(min(size, 100), cursor)
    return Page(orders=page.items, next=page.cursor)


@app.get("/orders/{order_id}")  # noqa: FAST003 - the dependency takes it
async def read_order(order: Found) -> Order:
    """Return one order."""
    return order


@app.post("/orders/{order_id}/pay")  # noqa: FAST003
async def pay_order(order: Found) -> Order:
    """Mark an order as paid; it is shipped soon afterwards."""
    try:
        await order.aupdate(status="paid", condition=Order.status == "new")
    except ConditionFailed as error:
        stored: Any = error.item
        raise HTTPException(409, f"the order is {stored.status} already") from error
    return order
