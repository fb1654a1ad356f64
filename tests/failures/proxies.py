"""A proxy that stands between a store and its server, and does to requests and answers what a seed says."""

from __future__ import annotations

import json
import random
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any

from typing_extensions import Self

#: Longer than any request of a test may take.
PATIENCE = 20.0

#: What happens to a request over HTTP, beside nothing.
HTTP_FAULTS = (
    "cut in the request",
    "cut before",
    "cut after",
    "cut in the answer",
    "stall before",
    "stall after",
    "error before",
    "error after",
    "throttle",
    "page before",
    "page after",
    "garbage",
    "noise",
    "unprocessed",
)
#: What happens to a connection with another protocol.
BYTE_FAULTS = ("cut to", "cut from", "stall to", "stall from")
#: Answers of proxies, gateways and the like, which say nothing about what the service did.
PAGES = (
    (301, "text/html", "<html>moved</html>"),
    (400, "text/html", ""),
    (403, "application/json", '{"message": "Forbidden"}'),
    (404, "text/html", "<html>\n  <title>no such page</title>"),
    (413, "text/html", "<html>too large</html>"),
    (429, "application/json", '{"message": "Too Many Requests"}'),
    (502, "text/html", "<html>bad gateway</html>"),
    (200, "text/html", "<html>please sign in</html>"),
)
#: What the service says when it does not even begin.
REFUSALS = {
    "throttle": "ThrottlingException",
    "capacity": "ProvisionedThroughputExceededException",
    "expired": "ExpiredTokenException",
    "unknown key": "UnrecognizedClientException",
    "denied": "AccessDeniedException",
}


class Proxy:
    """A listener on a free port of this machine, for as long as it is entered.

    `calm` lets everything through; `faults` is what chance chooses from, `only` replaces its choices. `still` keeps
    the next answer back until `resume` is set, and sets `stalled`.
    """

    faults: Sequence[str] = ()

    def __init__(self, server: tuple[str, int], seed: int = 0, often: float = 0.0, port: int = 0) -> None:
        self.server = server
        self.chance = random.Random(seed)
        self.often = often
        self.calm = False
        #: How a store is reached through this, for whoever set it.
        self.url = ""
        self.only: list[str] = []
        self.seen: list[str] = []
        self.still = False
        self.stalled = threading.Event()
        self.resume = threading.Event()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = int(self._listener.getsockname()[1])
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._start(self._listen)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.vanish()
        for thread in self._threads:
            thread.join(PATIENCE)
        self._listener.close()

    def vanish(self) -> None:
        """Be there no more: break all connections, take no new one."""
        self.resume.set()
        _end(self._listener)
        self.end_connections()

    def end_connections(self) -> None:
        """Break all connections."""
        with self._lock:
            for one in self._open:
                _end(one)

    def _start(self, work: Callable[..., None], *arguments: Any) -> threading.Thread:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def _listen(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            client.settimeout(PATIENCE)
            server = socket.create_connection(self.server, PATIENCE)
            for one in client, server:
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._open |= {client, server}
            self._start(self._serve_and_end, client, server)

    def _serve_and_end(self, client: socket.socket, server: socket.socket) -> None:
        try:
            self.serve(client, server)
        except OSError:
            pass  # one side has gone
        finally:
            with self._lock:
                self._open -= {client, server}
            for one in (client, server):
                _end(one)
                one.close()

    def serve(self, client: socket.socket, server: socket.socket) -> None:
        """Pass on what both sides say."""
        raise NotImplementedError

    def say(self, client: socket.socket, answer: bytes) -> None:
        """Answer, when it is time."""
        with self._lock:
            still, self.still = self.still, False
        if still:
            self.stalled.set()
            self.resume.wait(PATIENCE)
        client.sendall(answer)

    def fault(self) -> str:
        """What shall happen now; nothing is an empty text."""
        with self._lock:
            if self.only:
                chosen = self.only.pop(0)
            elif self.calm or self.chance.random() > self.often:
                chosen = ""
            else:
                chosen = self.chance.choice(self.faults)
            self.seen.append(chosen)
            return chosen


class HttpProxy(Proxy):
    """A proxy between a store and DynamoDB Local."""

    faults = HTTP_FAULTS

    def serve(self, client: socket.socket, server: socket.socket) -> None:
        while True:
            start = client.recv(1, socket.MSG_PEEK)
            if not start:
                return
            fault = self.fault()
            if fault == "cut in the request":
                client.recv(20)
                return
            head, body = _message(client)
            if fault == "cut before":
                return
            if fault == "stall before":
                client.recv(1)
                return
            if fault == "page before":
                client.sendall(self._page())
                continue
            if fault == "error before":
                client.sendall(_answer(500, {"__type": "x#InternalServerError", "message": "because"}))
                continue
            if fault in REFUSALS:
                client.sendall(_answer(400, {"__type": f"x#{REFUSALS[fault]}", "message": f"{fault}!"}))
                continue
            held: dict[str, Any] = {}
            if fault == "unprocessed" and b".BatchWriteItem" in head:
                body, held = self._halved(body)
                length = b"content-length: %d\r\n" % len(body)
                lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length")]
                head = b"\r\n".join(lines).replace(b"\r\n", b"\r\n" + length, 1)
            server.sendall(head + body)
            head, body = _message(server)
            if fault == "cut after":
                return
            if fault == "stall after":
                client.recv(1)
                return
            if fault == "error after":
                client.sendall(_answer(503, {"message": "Service Unavailable"}))
                continue
            if fault == "page after":
                client.sendall(self._page())
                continue
            if fault == "cut in the answer":
                whole = head + body
                client.sendall(whole[: self.chance.randrange(1, len(whole))])
                return
            if fault == "garbage":
                client.sendall(_answer(200, "no answer of DynamoDB"))
                continue
            if fault == "noise":
                client.sendall(self.chance.randbytes(40))
                return
            self.say(client, _answer(200, {"UnprocessedItems": held}) if held else head + body)

    def _page(self) -> bytes:
        """An answer of something that stands between."""
        status, kind, body = self.chance.choice(PAGES)
        return _answer(status, body, kind)

    def _halved(self, body: bytes) -> tuple[bytes, dict[str, Any]]:
        """A batch of writes without some of them, and those."""
        request = json.loads(body)
        ((table, writes),) = request["RequestItems"].items()
        kept = writes[: self.chance.randrange(1, len(writes) + 1)]
        request["RequestItems"][table] = kept
        left = writes[len(kept) :]
        return json.dumps(request).encode(), {table: left} if left else {}


class ByteProxy(Proxy):
    """A proxy between a store and a server of any protocol: cuts and stalls after some bytes in one direction."""

    faults = BYTE_FAULTS

    def serve(self, client: socket.socket, server: socket.socket) -> None:
        fault = self.fault()
        left = self.chance.randrange(1, self.chance.choice((300, 3_000, 30_000))) if fault else None
        to = left if fault.endswith("to") else None
        back = left if fault.endswith("from") else None
        stall = fault.startswith("stall")
        answers = self._start(self._pass_on, server, client, back, stall, self.say)
        self._pass_on(client, server, to, stall, socket.socket.sendall)
        answers.join(PATIENCE)

    def _pass_on(
        self,
        source: socket.socket,
        target: socket.socket,
        left: int | None,
        stall: bool,
        say: Callable[[socket.socket, bytes], None],
    ) -> None:
        """Pass bytes on in one direction, until there are none or the last of `left` has gone."""
        try:
            while data := source.recv(65_536):
                if left is not None and len(data) >= left and not self.calm:
                    target.sendall(data[: left - 1])
                    if stall:
                        while source.recv(65_536):
                            pass
                    break
                if left is not None:
                    left -= len(data)
                say(target, data)
        except OSError:
            pass  # one side has gone
        finally:
            _end(source)
            _end(target)


def _end(one: socket.socket) -> None:
    """Wake whoever waits for this socket, on both sides."""
    with suppress(OSError):  # it has ended already
        one.shutdown(socket.SHUT_RDWR)


def _message(source: socket.socket) -> tuple[bytes, bytes]:
    """One HTTP message: what stands above its body, and that."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _some(source)
    head, _, body = data.partition(b"\r\n\r\n")
    size = next(
        int(line.partition(b":")[2]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
    )
    while len(body) < size:
        body += _some(source)
    return head + b"\r\n\r\n", body


def _some(source: socket.socket) -> bytes:
    data = source.recv(65_536)
    if not data:
        raise ConnectionError("the other side has closed")
    return data


def _answer(status: int, body: Any, kind: str = "application/x-amz-json-1.0") -> bytes:
    text = (body if isinstance(body, str) else json.dumps(body)).encode()
    return b"HTTP/1.1 %d Said\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n%s" % (
        status,
        kind.encode(),
        len(text),
        text,
    )
