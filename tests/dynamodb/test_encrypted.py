"""An encrypted DynamoDB: the server proves itself to the roots of the system, or nothing is said to it."""

from __future__ import annotations

import os
import runpy
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

CERTIFICATES = runpy.run_path(str(Path(__file__).parents[1] / "servers" / "redis.py"))["certificates"]

PROGRAM = """
import asyncio, sys
from mintkey import AutoGenerate, Model, connect
from mintkey.attributes import NumberAttribute, StringAttribute

class Row(Model):
    pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    n = NumberAttribute()

async def awaited():
    rows = [Row(n=n) for n in range(20)]
    await asyncio.gather(*(row.asave() for row in rows))
    print(await Row.acount(), (await Row.aget(pk=rows[7].pk)).n)

with connect(sys.argv[1]) as store:
    try:
        Row.create_table()
        Row.create(n=-1)
        print(Row.count())
        asyncio.run(awaited())
        Row.delete_table()
    except Exception as error:
        print(type(error).__name__, getattr(error, "outcome", None), error)
"""


class Door:
    """An encrypted way in to a server that speaks plainly."""

    def __init__(self, behind: tuple[str, int], folder: Path) -> None:
        self._behind = behind
        self._proof = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._proof.load_cert_chain(folder / "server.pem", folder / "server.key")
        self._proof.load_verify_locations(folder / "ca.pem")
        # At all addresses: under one of them it cannot prove itself.
        self._socket = socket.create_server(("", 0))
        self.port: int = self._socket.getsockname()[1]
        #: How many came in whose greeting came to its end.
        self.entered = 0
        self._threads = [threading.Thread(target=self._open)]
        self._threads[0].start()

    def require_certificates(self) -> None:
        """From now on, accept clients with a certificate only."""
        self._proof.verify_mode = ssl.CERT_REQUIRED

    def _open(self) -> None:
        while True:
            try:
                outside, _ = self._socket.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._let_in, args=(outside,)))
            self._threads[-1].start()

    def _let_in(self, outside: socket.socket) -> None:
        try:
            with self._proof.wrap_socket(outside, server_side=True) as client:
                self.entered += 1
                with socket.create_connection(self._behind) as server:
                    while request := client.recv(1 << 20):
                        server.sendall(request)
                        client.sendall(self._answer(server))
        except OSError:
            # Whoever does not trust the door goes away in the middle of the greeting.
            return

    @staticmethod
    def _answer(server: socket.socket) -> bytes:
        """One answer, whole: its head says how long the rest is."""
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += server.recv(1 << 16)
        head, _, body = answer.partition(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        while len(body) < int(lengths[0].split(b":")[1]):
            body += server.recv(1 << 16)
        return head + b"\r\n\r\n" + body

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def door(endpoint, tmp_path) -> Iterator[Door]:
    CERTIFICATES(tmp_path)
    place = urlsplit(endpoint)
    opened = Door((str(place.hostname), int(place.port or 80)), tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def stranger(tmp_path) -> Path:
    """The certificates of an authority that the server does not know."""
    folder = tmp_path / "stranger"
    folder.mkdir()
    CERTIFICATES(folder)
    return Path(folder)


def run(
    door: Door, prefix: str, roots: Path, host: str = "localhost", parameters: str = "", bundle: Path | None = None
) -> str:
    """Run the program with these roots for the system's; give what it prints."""
    url = f"dynamodb://us-east-1?endpoint=https://{host}:{door.port}&table_prefix={prefix}&timeout=60{parameters}"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, url],
        env={**os.environ, "SSL_CERT_FILE": str(roots), "SSL_CERT_DIR": "", "AWS_CA_BUNDLE": str(bundle or "")},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    return done.stdout


def test_a_server_that_proves_itself(door, prefix, tmp_path):
    assert run(door, prefix, tmp_path / "ca.pem") == "1\n21 7\n"
    assert door.entered > 0


def test_a_server_that_nobody_vouches_for_hears_nothing(door, prefix, stranger):
    told = run(door, prefix, stranger / "ca.pem")
    assert told.startswith("ConfigurationError"), told
    assert "certificate" in told.lower()
    assert "?ca=" in told, "the way out"
    assert door.entered == 0


def test_a_server_that_proves_to_be_another_hears_nothing(door, prefix, tmp_path):
    told = run(door, prefix, tmp_path / "ca.pem", host="127.0.0.2")
    assert told.startswith("ConfigurationError"), told
    assert "certificate" in told.lower()
    assert door.entered == 0


def test_authorities_in_the_url_replace_those_of_the_system(door, prefix, tmp_path, stranger):
    assert run(door, prefix, stranger / "ca.pem", parameters=f"&ca={tmp_path}/ca.pem") == "1\n21 7\n"
    told = run(door, prefix, tmp_path / "ca.pem", parameters=f"&ca={stranger}/ca.pem")
    assert told.startswith("ConfigurationError"), told


def test_authorities_of_aws_ca_bundle_replace_those_of_the_system_but_not_those_of_the_url(
    door, prefix, tmp_path, stranger
):
    assert run(door, prefix, stranger / "ca.pem", bundle=tmp_path / "ca.pem") == "1\n21 7\n"
    told = run(door, prefix, tmp_path / "ca.pem", bundle=stranger / "ca.pem")
    assert told.startswith("ConfigurationError"), told
    parameters = f"&ca={tmp_path}/ca.pem"
    assert run(door, prefix, stranger / "ca.pem", parameters=parameters, bundle=stranger / "ca.pem") == "1\n21 7\n"


def test_a_client_with_a_certificate(door, prefix, tmp_path):
    door.require_certificates()
    own = f"&cert={tmp_path}/client.pem&key={tmp_path}/client.key"
    assert run(door, prefix, tmp_path / "ca.pem", parameters=own) == "1\n21 7\n"
    told = run(door, prefix, tmp_path / "ca.pem", parameters="&retries=0")
    assert told.startswith("ConfigurationError"), told
    assert "?cert=" in told, "the way out"
