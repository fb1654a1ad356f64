"""The requests that a prefetch of references sends, counted by a proxy before the server."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from mintkey import Model, ModelConfig, Reference, connect, prefetch
from mintkey.attributes import StringAttribute


class Proxy:
    """A proxy that counts HTTP requests."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self._behind = (parts.hostname or "", parts.port or 80)
        self._door = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._door.getsockname()[1]}"
        self.requests = 0
        self._threads = [threading.Thread(target=self._serve)]
        self._threads[0].start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._door.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._carry, args=(client, socket.create_connection(self._behind)))
            self._threads.append(thread)
            thread.start()

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        with client, server:
            answered = threading.Thread(target=self._answer, args=(server, client))
            answered.start()
            while data := client.recv(1 << 16):
                self.requests += data.count(b"POST / HTTP/1.1")
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)
            answered.join()

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        while data := server.recv(1 << 16):
            client.sendall(data)

    def close(self) -> None:
        self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def proxy(endpoint) -> Iterator[Proxy]:
    opened = Proxy(endpoint)
    yield opened
    opened.close()


def test_a_prefetch_of_a_thousand_takes_a_request_for_a_hundred(proxy, prefix):
    class Customer(Model):
        model_config = ModelConfig(table="customers")
        id = StringAttribute(partition_key=True)

    class Order(Model):
        model_config = ModelConfig(table="orders")
        id = StringAttribute(partition_key=True)
        customer = Reference(Customer)

    with connect(f"dynamodb://us-east-1?endpoint={proxy.address}&table_prefix={prefix}"):
        Customer.create_table()
        Customer.batch_save(Customer(id=f"{n}") for n in range(1000))
        orders = [Order(id=f"{n}", customer=f"{n}") for n in range(1000)]
        proxy.requests = 0
        prefetch(orders, "customer")
        assert 0 < proxy.requests <= 2 + 1000 // 100
        proxy.requests = 0
        for order in orders:
            assert order.customer is not None
            found = order.customer.get()
            assert found is not None
            assert found.id == order.id
        assert proxy.requests == 0
        Customer.delete_table()
