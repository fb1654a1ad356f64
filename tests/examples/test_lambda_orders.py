"""The functions of `examples/lambda_orders`, as AWS Lambda runs them: a process that gets one event after the other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlsplit

import pytest
from tests.behaviour.conftest import STORES
from tests.examples import stored
from tests.failures.proxies import ByteProxy, HttpProxy

from mintkey.generators import generate_many

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "lambda_orders"
RUNTIME = """
import json, sys
sys.path.insert(0, sys.argv[1])
import function
for line in sys.stdin:
    name, event = json.loads(line)
    print(json.dumps(getattr(function, name)(event, None)), flush=True)
"""


class Function:
    """A process that runs the functions."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def send(self, name: str, event: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        print(json.dumps([name, event]), file=self.process.stdin, flush=True)

    def result(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        result: dict[str, Any] = json.loads(self.process.stdout.readline())
        return result

    def call(self, name: str, event: dict[str, Any]) -> dict[str, Any]:
        self.send(name, event)
        return self.result()

    def freeze(self) -> None:
        """Stop the process, and wait until it has stopped."""
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)


@contextmanager
def function(url: str) -> Iterator[Function]:
    """The functions in a process of their own."""
    environment = {**os.environ, "MINTKEY_URL": url, "AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
    program = [sys.executable, "-W", "error", "-c", RUNTIME, str(FOLDER)]
    with subprocess.Popen(
        program, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Function(process)
    assert process.returncode == 0


def create_tables(url: str) -> None:
    environment = {**os.environ, "MINTKEY_URL": url, "AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
    subprocess.run([sys.executable, str(FOLDER / "function.py")], check=True, env=environment)


def address(url: str) -> SplitResult:
    """The server of a store."""
    return urlsplit(parse_qs(urlsplit(url).query).get("endpoint", [url])[0])


def request(method: str, key: str, body: Any = None) -> dict[str, Any]:
    """An event of an HTTP API."""
    return {
        "requestContext": {"http": {"method": method}},
        "pathParameters": {"id": key},
        "body": body if isinstance(body, str) else json.dumps(body),
    }


def record(number: str, **images: Any) -> dict[str, Any]:
    """A record of a stream."""
    return {"eventName": "MODIFY", "dynamodb": {"SequenceNumber": number, **images}}


def image(key: str, total: str) -> dict[str, Any]:
    return {"id": {"S": key}, "customer": {"S": "ada"}, "total": {"N": total}}


@pytest.mark.parametrize("store", STORES)
def test_requests_and_records(store, tmp_path):
    url = STORES[store](tmp_path)
    create_tables(url)
    first, second, third = generate_many("ulid", 3)
    with function(url) as running:

        def call(*parts: Any) -> tuple[int, Any]:
            answer = running.call("handle_request", request(*parts))
            return answer["statusCode"], json.loads(answer["body"])

        status, order = call("PUT", first, {"customer": "ada", "total": 5})
        assert (status, order["id"], order["total"]) == (200, first, 5)
        assert call("PUT", first, {"customer": "ada", "total": 5}) == (200, order)
        assert call("GET", first) == (200, order)
        assert call("GET", second) == (404, None)
        for wrong in ({"customer": "ada", "total": -1}, {"customer": "ada"}, "{"):
            assert call("PUT", second, wrong)[0] == 400
        assert call("PUT", "x", {"customer": "ada", "total": 5})[0] == 400

        records = [
            record("1", NewImage=image(first, "5")),
            record("2", NewImage={"id": {"S": first}, "total": {"S": "much"}}),
            record("3", OldImage=image(first, "5")),
            record("4", NewImage=image(third, "7")),
        ]
        for _ in range(2):  # a batch may be delivered again
            assert running.call("handle_stream", {"Records": records}) == {"batchItemFailures": []}
    changes = {(item["order"], item["number"], item["total"]) for item in stored.items(url, "lambda-changes")}
    assert changes == {(first, "1", 5), (first, "3", 0), (third, "4", 7)}


def test_a_batch_is_repeated_from_the_record_that_failed(tmp_path):
    url = STORES["dynamodb"](tmp_path)
    create_tables(url)
    (key,) = generate_many("ulid", 1)
    records = [record("1", NewImage={"id": {"S": ""}}), record("2", NewImage=image(key, "5"))]
    place = address(url)
    with HttpProxy((str(place.hostname), int(place.port or 0))) as between:
        between.calm = True
        between.only = ["throttle"]
        with function(url.replace(f":{place.port}", f":{between.port}") + "&retries=0") as running:
            answer = running.call("handle_stream", {"Records": records})
            assert answer == {"batchItemFailures": [{"itemIdentifier": "2"}]}
            assert running.call("handle_stream", {"Records": records[1:]}) == {"batchItemFailures": []}
    assert [item["number"] for item in stored.items(url, "lambda-changes")] == ["2"]


@pytest.mark.parametrize("store", ["dynamodb", "redis"])
def test_a_frozen_process_continues_although_its_connections_are_gone(store, tmp_path):
    url = STORES[store](tmp_path)
    create_tables(url)
    place = address(url)
    kind = HttpProxy if store == "dynamodb" else ByteProxy
    keys = generate_many("ulid", 3)
    with kind((str(place.hostname), int(place.port or 0))) as between:
        between.calm = True
        behind = url.replace(f":{place.port}", f":{between.port}")
        with function(behind) as running:

            def put(key: str) -> dict[str, Any]:
                return request("PUT", key, {"customer": "ada", "total": 1})

            assert running.call("handle_request", put(keys[0]))["statusCode"] == 200
            # Frozen between two events.
            running.freeze()
            between.end_connections()
            running.thaw()
            assert running.call("handle_request", put(keys[1]))["statusCode"] == 200
            # Frozen while the store works. The write may be applied; the row shows whether it was.
            between.still = True
            running.send("handle_request", put(keys[2]))
            assert between.stalled.wait(60)
            running.freeze()
            between.end_connections()
            running.thaw()
            between.resume.set()
            assert running.result()["statusCode"] == 200
    assert sorted(item["id"] for item in stored.items(url, "lambda-orders")) == sorted(keys)
