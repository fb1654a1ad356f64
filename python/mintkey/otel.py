"""OpenTelemetry: a span and a measurement of each request, by the semantic conventions for databases.

    >>> from mintkey import otel
    >>> otel.instrument()
    >>> otel.uninstrument()

It needs the package `opentelemetry-api`: `pip install 'mintkey[otel]'`. What is done with spans and measurements is
configured with the SDK of OpenTelemetry, as for all other libraries.
"""

from __future__ import annotations

import functools
import threading
import time
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from mintkey._core import VERSION
from mintkey.errors import needs
from mintkey.monitoring import Observer, RequestRecord, observers_of_all_stores

try:
    from opentelemetry.metrics import Histogram, MeterProvider, get_meter
    from opentelemetry.trace import SpanKind, StatusCode, Tracer, TracerProvider, get_tracer, set_span_in_context
except ImportError as error:
    raise ImportError(needs("mintkey.otel", "opentelemetry-api", "otel"), name=error.name) from error

__all__ = ["instrument", "uninstrument"]

#: The version of the conventions in which those for databases became stable.
_CONVENTIONS = "https://opentelemetry.io/schemas/1.33.0"
#: The buckets that the conventions recommend, in seconds.
_BUCKETS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10]
_READS = {"get", "get_by", "query", "scan", "batch_get", "transact_get"}
_SYSTEMS = {"sqlite": "sqlite", "dynamodb": "aws.dynamodb"}
_PORTS = {"http": 80, "https": 443}
_REDIS_PORT = 6379

_lock = threading.Lock()
_observer: Observer | None = None


def instrument(*, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None) -> None:
    """Record a span and the duration of each request, of all stores that are connected now or later.

    A second call replaces the first one.

    Args:
        tracer_provider: where spans are recorded, instead of the global provider.
        meter_provider: where the histogram `db.client.operation.duration` is recorded, instead of the global provider.
    """
    global _observer  # noqa: PLW0603 - one instrumentation in a process
    tracer = get_tracer("mintkey", VERSION, tracer_provider, schema_url=_CONVENTIONS)
    histogram = get_meter("mintkey", VERSION, meter_provider, schema_url=_CONVENTIONS).create_histogram(
        "db.client.operation.duration",
        unit="s",
        description="Duration of database client operations.",
        explicit_bucket_boundaries_advisory=_BUCKETS,
    )
    with _lock:
        _remove()
        _observer = Observer(functools.partial(_report, tracer, histogram))
        # The first one: the span ends now, and not after the callbacks of others.
        observers_of_all_stores.insert(0, _observer)


def uninstrument() -> None:
    """Stop recording. Without a call of `instrument()` before, this does nothing."""
    global _observer  # noqa: PLW0603 - one instrumentation in a process
    with _lock:
        _remove()
        _observer = None


def _remove() -> None:
    if _observer is not None:
        observers_of_all_stores.remove(_observer)


def _report(tracer: Tracer, histogram: Histogram, record: RequestRecord) -> None:
    """Record a request that has just ended, as a child of the caller's current span."""
    end = time.time_ns()
    server = _server(record.store)
    common: dict[str, str | int | float] = {**server.attributes, "db.operation.name": record.operation}
    if record.table is not None:
        common["db.collection.name"] = record.table
    if record.error is not None:
        # The class only: the message may name a key.
        common["error.type"] = record.outcome
    attributes = common.copy()
    if record.size is not None and record.size != 1:
        attributes["db.operation.batch.size"] = record.size
    if record.error is None and record.operation in _READS:
        attributes["db.response.returned_rows"] = record.rows
    if record.attempts > 1:
        attributes["mintkey.attempts"] = record.attempts
    if record.capacity is not None:
        attributes["mintkey.capacity_units"] = record.capacity
    span = tracer.start_span(
        f"{record.operation} {record.table or server.target}",
        kind=SpanKind.CLIENT,
        attributes=attributes,
        start_time=end - round(record.duration * 1e9),
    )
    if record.error is not None:
        span.set_status(StatusCode.ERROR)
    histogram.record(record.duration, common, set_span_in_context(span))
    span.end(end)


class _Server(NamedTuple):
    """The attributes of a store, and its name in the spans of requests without a table."""

    attributes: dict[str, str | int | float]
    target: str


@functools.lru_cache(maxsize=128)
def _server(url: str) -> _Server:
    """Return what the URL of a store says about its server."""
    parts = urlsplit(url)
    attributes: dict[str, str | int | float] = {"db.system.name": _SYSTEMS.get(parts.scheme, "redis")}
    if parts.scheme == "sqlite":
        target = unquote(parts.path.removeprefix("/")) or ":memory:"
        attributes["db.namespace"] = target
    elif parts.scheme == "dynamodb":
        if parts.netloc:
            attributes["cloud.region"] = parts.netloc
        endpoints = parse_qs(parts.query).get("endpoint")
        target = parts.netloc or "dynamodb"
        if endpoints:
            endpoint = urlsplit(endpoints[0])
            target = _address(attributes, endpoint, _PORTS[endpoint.scheme])
    elif parts.scheme == "unix":
        target = attributes["server.address"] = unquote(parts.path)
        attributes["db.namespace"] = parse_qs(parts.query).get("db", ["0"])[0]
    else:
        # A Cluster has several: the first one stands for it.
        target = _address(attributes, urlsplit(f"//{parts.netloc.partition(',')[0]}"), _REDIS_PORT)
        attributes["db.namespace"] = parts.path.strip("/") or "0"
    return _Server(attributes, target)


def _address(attributes: dict[str, str | int | float], server: SplitResult, port: int) -> str:
    """Add the host and the port. Return both."""
    host, port = server.hostname or "localhost", server.port or port
    attributes["server.address"], attributes["server.port"] = host, port
    return f"{host}:{port}"
