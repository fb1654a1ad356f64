"""A proxy before a Redis server, which counts round trips."""

from __future__ import annotations

import socket
import threading
from urllib.parse import urlsplit


class Proxy:
    """A proxy that counts round trips, how often the client sends something after a reply, and the received bytes."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self.behind = (parts.hostname or "", parts.port or 6379)
        self._door = socket.create_server(("127.0.0.1", 0))
        self.address = f"redis://127.0.0.1:{self._door.getsockname()[1]}"
        self.trips = 0
        self.received = 0
        self._threads = [threading.Thread(target=self._serve)]
        self._threads[0].start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._door.accept()
            except OSError:
                return
            server = socket.create_connection(self.behind)
            thread = threading.Thread(target=self._carry, args=(client, server))
            self._threads.append(thread)
            thread.start()

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        """Forward bytes both ways. Bytes of the client are read when all earlier calls have replies."""
        with client, server:
            answered = threading.Thread(target=self._answer, args=(server, client))
            self._answered = True
            answered.start()
            while said := client.recv(1 << 16):
                self.trips += self._answered
                self._answered = False
                server.sendall(said)
            server.shutdown(socket.SHUT_WR)
            answered.join()

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        while heard := server.recv(1 << 16):
            self._answered = True
            self.received += len(heard)
            client.sendall(heard)

    def close(self) -> None:
        self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()
        for thread in self._threads:
            thread.join()
