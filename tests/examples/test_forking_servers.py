"""The services of `examples/flask_orders` and `examples/celery_orders`, in servers that fork after they have connected.

Their processes write at the same time. Nothing is lost or written twice, and no generated ID is repeated.
"""

from __future__ import annotations

import os
import queue
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.behaviour.conftest import STORES
from tests.examples import stored

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PROCESSES, CLIENTS, WRITES = 3, 6, 150
#: No machine is so busy that a server needs longer.
PATIENCE = 120


class Server:
    """A running server, and what it has written."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.lines: list[str] = []
        self._process = process
        self._new: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._new.put(line)

    def read_until(self, text: str, times: int) -> None:
        """Wait until the server has written a text so many times."""
        while times:
            try:
                self.lines.append(self._new.get(timeout=PATIENCE))
            except queue.Empty:
                pytest.fail("".join(self.lines))
            times -= text in self.lines[-1]

    def end(self) -> None:
        self._process.terminate()
        assert self._process.wait(PATIENCE) == 0
        self._reader.join()
        self.lines += self._new.queue
        assert "Traceback" not in "".join(self.lines), "".join(self.lines)


@contextmanager
def server(folder: Path, *command: str, **environment: str) -> Iterator[Server]:
    """A server that ends without an error, and without a traceback."""
    with subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=folder,
        env={**os.environ, "AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        running = Server(process)
        try:
            yield running
            running.end()
        finally:
            process.kill()


# With several threads, gunicorn runs another class of workers.
@pytest.mark.parametrize(("store", "threads"), [("sqlite", 1), ("redis", 4), ("redis-cluster", 1), ("dynamodb", 4)])
def test_gunicorn_with_preload(store, threads, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    url = STORES[store](tmp_path)
    options = ("--preload", "--workers", str(PROCESSES), "--threads", str(threads), "--bind", address)
    command = ("gunicorn", "--chdir", str(EXAMPLES / "flask_orders"), *options, "service:app")
    urls = {"MINTKEY_URL": url, "DATABASE_URL": f"sqlite:///{tmp_path}/customers.db"}
    limits = httpx.Limits(max_keepalive_connections=0)
    with (
        server(tmp_path, *command, **urls) as running,
        httpx.Client(base_url=f"http://{address}", timeout=PATIENCE, limits=limits) as client,
    ):
        running.read_until("Booting worker", PROCESSES)
        customer = client.post("/customers", json={"name": "ada"}).json()["id"]

        def order(number: int) -> dict[str, Any]:
            answer = client.post(f"/customers/{customer}/orders", json={"total": number})
            assert answer.status_code == 201, answer.text
            placed: dict[str, Any] = answer.json()
            return placed

        with ThreadPoolExecutor(CLIENTS) as pool:
            placed = list(pool.map(order, range(WRITES)))
        assert client.post("/customers/none/orders", json={"total": 1}).status_code == 404
        assert client.post(f"/customers/{customer}/orders", json={"total": -1}).status_code == 400
        listed = client.get(f"/customers/{customer}/orders").json()
        assert [one["id"] for one in listed] == sorted((one["id"] for one in placed), reverse=True)
    assert Counter(one["total"] for one in placed) == Counter(range(WRITES))
    assert len({one["id"] for one in placed}) == WRITES
    assert len({one["process"] for one in placed}) > 1
    found = {item["id"]: item["total"] for item in stored.items(url, "flask-orders")}
    assert found == {one["id"]: one["total"] for one in placed}


CONFIGURED = """
from tasks import app
folders = ("data_folder_in", "messages"), ("data_folder_out", "messages"), ("control_folder", "control")
app.conf.broker_transport_options = {"polling_interval": 0.01, **dict(folders)}
"""
# Every third task is delivered twice, as after a lost connection to the broker.
SEND = """
import sys, configured
from tasks import place_order
for number in range(int(sys.argv[1])):
    for _ in range(2 if number % 3 == 0 else 1):
        place_order.apply_async(("ada", number), task_id=f"task-{number}")
"""


@pytest.mark.parametrize("store", ["sqlite", "redis", "dynamodb"])
def test_celery_with_forked_processes(store, tmp_path):
    for name in ("messages", "control"):
        (tmp_path / name).mkdir()
    (tmp_path / "configured.py").write_text(CONFIGURED)
    url = STORES[store](tmp_path)
    path = os.pathsep.join([str(EXAMPLES / "celery_orders"), str(tmp_path)])
    urls = {"MINTKEY_URL": url, "BROKER_URL": "filesystem://", "PYTHONPATH": path}
    options = ("--pool", "prefork", "--concurrency", str(PROCESSES), "--loglevel", "info", "--without-mingle")
    with server(tmp_path, "celery", "--app", "configured", "worker", *options, **urls) as running:
        program = [sys.executable, "-c", SEND, str(WRITES)]
        subprocess.run(program, check=True, cwd=tmp_path, env={**os.environ, **urls})
        running.read_until("succeeded", WRITES + WRITES // 3)
    orders = stored.items(url, "celery-orders")
    assert Counter(order["total"] for order in orders) == Counter(range(WRITES))
    assert {order["task"] for order in orders} == {f"task-{number}" for number in range(WRITES)}
    assert len({order["number"] for order in orders}) == WRITES
    assert len({order["process"] for order in orders}) > 1
