"""Requests that a blocking call sends together: each record has the duration of its own request."""

from __future__ import annotations

import socket
import threading
from urllib.parse import urlsplit

from tests.failures.proxies import PATIENCE, HttpProxy

from mintkey import Model, connect
from mintkey.attributes import StringAttribute
from mintkey.monitoring import RequestRecord


class Row(Model):
    pk = StringAttribute(partition_key=True)


class LateRefusals(HttpProxy):
    """A proxy that throttles a request only when another one has its answer."""

    def __init__(self, server: tuple[str, int]) -> None:
        super().__init__(server)
        self.answered = threading.Event()

    def fault(self) -> str:
        fault = super().fault()
        if fault:
            self.answered.wait(PATIENCE)
        return fault

    def say(self, client: socket.socket, answer: bytes) -> None:
        super().say(client, answer)
        self.answered.set()


def test_each_segment_of_a_scan_has_its_own_duration(endpoint, prefix):
    place = urlsplit(endpoint)
    seen: list[RequestRecord] = []
    with LateRefusals((str(place.hostname), int(place.port or 80))) as proxy:
        url = f"dynamodb://us-east-1?endpoint=http://127.0.0.1:{proxy.port}&table_prefix={prefix}&timeout=60"
        with connect(url) as store:
            Row.create_table()
            store.on_request(seen.append)
            proxy.answered.clear()
            proxy.only = ["throttle"]
            assert list(Row.scan(segments=2)) == []
    first, second = sorted(seen, key=lambda record: record.attempts)
    assert (first.attempts, second.attempts) == (1, 2)
    # The second one was sent again when the first one had ended.
    assert first.duration < second.duration
