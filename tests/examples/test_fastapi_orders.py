"""The service of `examples/fastapi_orders`, as a user runs it: three processes, concurrent clients, on each store."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import importlib.util
import os
import re
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.behaviour.conftest import STORES

from mintkey import connect
from mintkey.generators import generate_many

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "fastapi_orders"
CUSTOMERS = ("ada", "bob", "eve")
ORDERS, CLIENTS, PROCESSES = 120, 8, 3
#: No machine is so busy that the service needs longer.
PATIENCE = 120


class Service:
    """The running service."""

    def __init__(self, process: asyncio.subprocess.Process, client: httpx.AsyncClient) -> None:
        self.process = process
        self.client = client
        self.lines: list[str] = []

    async def read_until(self, text: str | None) -> None:
        """Read what the processes write, up to the last line or to the start of all processes."""
        assert self.process.stderr is not None
        started = 0
        async for line in self.process.stderr:
            self.lines.append(line.decode())
            started += text is not None and text in self.lines[-1]
            if started == PROCESSES:
                return
        assert text is None, "".join(self.lines)

    def kill_one_process(self) -> None:
        """Kill one of the processes; uvicorn starts another one."""
        pids = re.findall(r"Started server process \[(\d+)\]", "".join(self.lines))
        os.kill(int(pids[0]), signal.SIGKILL)

    async def send(self, method: str, path: str, **given: Any) -> httpx.Response:
        """Send a request, again if the process that had it was killed."""
        while True:
            with contextlib.suppress(httpx.TransportError):
                return await self.client.request(method, path, **given)


@contextlib.asynccontextmanager
async def service(url: str) -> AsyncIterator[Service]:
    """Run the service with three processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "uvicorn", "--app-dir", str(FOLDER), "service:app"),
        *("--port", port, "--workers", str(PROCESSES), "--no-access-log"),
        env={**os.environ, "MINTKEY_URL": url},
        stderr=asyncio.subprocess.PIPE,
    )
    limits = httpx.Limits(max_connections=CLIENTS)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE, limits=limits) as client:
        running = Service(process, client)
        try:
            await asyncio.wait_for(running.read_until("Application startup complete"), PATIENCE)
            reading = asyncio.create_task(running.read_until(None))
            yield running
        finally:
            process.terminate()
            await asyncio.wait_for(process.wait(), PATIENCE)
        await reading
    assert "Traceback" not in "".join(running.lines), "".join(running.lines)


async def all_orders(running: Service, size: int) -> list[dict[str, Any]]:
    """The orders of all customers, page by page."""
    orders: list[dict[str, Any]] = []
    for customer in CUSTOMERS:
        query: dict[str, Any] = {"customer": customer, "size": size}
        while True:
            page = (await running.send("GET", "/orders", params=query)).json()
            orders += page["orders"]
            if page["next"] is None:
                break
            query["cursor"] = page["next"]
    return orders


@pytest.mark.slow
@pytest.mark.parametrize("store", STORES)
async def test_nothing_is_lost_or_done_twice(store, tmp_path):
    keys = generate_many("ulid", ORDERS)
    left = collections.deque(enumerate(keys))

    async def order_and_pay(running: Service) -> None:
        while left:
            number, key = left.popleft()
            if number == ORDERS // 3:
                running.kill_one_process()
            body = {"customer": CUSTOMERS[number % 3], "total": number, "status": "paid", "id": "ignored"}
            # Every third request is repeated at once, as by a client that got no answer.
            repeated = [key] * (2 if number % 3 == 0 else 1)
            posts = (running.send("POST", "/orders", json=body, headers={"Idempotency-Key": one}) for one in repeated)
            for answer in await asyncio.gather(*posts):
                assert answer.status_code == 201, answer.text
                assert answer.json()["id"] == key
            paid = await asyncio.gather(*(running.send("POST", f"/orders/{one}/pay") for one in repeated))
            assert {answer.status_code for answer in paid} <= {200, 409}

    async with service(STORES[store](tmp_path)) as running:
        await asyncio.gather(*(order_and_pay(running) for _ in range(CLIENTS)))
        deadline = time.monotonic() + PATIENCE
        while any(order["status"] != "shipped" for order in await all_orders(running, 50)):
            assert time.monotonic() < deadline
        orders = await all_orders(running, 7)
        assert sorted(order["id"] for order in orders) == sorted(keys)
        assert {order["id"]: order["total"] for order in orders} == {key: number for number, key in enumerate(keys)}
        assert [order["parcels"] for order in orders] == [1] * ORDERS

        forged = await running.send("GET", "/orders", params={"customer": "ada", "cursor": "forged"})
        assert forged.status_code == 400
        assert "cursor" in forged.json()["detail"]
        wrong = await running.send("POST", "/orders", json={"customer": "", "total": "much"})
        assert [one["loc"] for one in wrong.json()["detail"]] == [["body", "customer"], ["body", "total"]]
        assert (await running.send("POST", f"/orders/{keys[0]}/pay")).status_code == 409
        assert (await running.send("GET", f"/orders/{generate_many('ulid', 1)[0]}")).status_code == 404
        assert (await running.send("GET", "/orders/none")).status_code == 422


async def test_a_store_that_is_gone_is_answered_with_503():
    spec = importlib.util.spec_from_file_location("service", FOLDER / "service.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["service"] = module  # annotations are looked up there
    spec.loader.exec_module(module)
    transport = httpx.ASGITransport(app=module.app)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # no server accepts connections here
        with connect(f"redis://127.0.0.1:{nobody.getsockname()[1]}?timeout=1"):
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                answer = await client.post("/orders", json={"customer": "ada", "total": 1})
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "1"
