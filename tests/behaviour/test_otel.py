"""`mintkey.otel`: a span and a measurement of each request, blocking and async."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import mintkey
from mintkey import AutoGenerate, Model, ModelConfig, connect, otel
from mintkey.attributes import NumberAttribute, StringAttribute
from mintkey.errors import BatchIncomplete, ConditionFailed, StoreUnavailable
from mintkey.monitoring import RequestRecord


class Order(Model):
    model_config = ModelConfig(table="traced_orders")
    pk = StringAttribute(partition_key=True)
    sk = StringAttribute(sort_key=True, default=AutoGenerate.ULID)
    total = NumberAttribute()


class Telemetry:
    """Providers that keep what is recorded."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.traces = TracerProvider()
        self.traces.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])

    def instrument(self) -> None:
        otel.instrument(tracer_provider=self.traces, meter_provider=self.meters)

    def spans(self) -> list[ReadableSpan]:
        """The spans since the last call, without those of the test."""
        spans = [span for span in self.exporter.get_finished_spans() if span.kind == SpanKind.CLIENT]
        self.exporter.clear()
        return spans

    def points(self) -> list[HistogramDataPoint]:
        """The measurements since the beginning, one for each set of attributes."""
        data = self.reader.get_metrics_data()
        if data is None:
            return []
        [metric] = [
            metric for resource in data.resource_metrics for scope in resource.scope_metrics for metric in scope.metrics
        ]
        assert (metric.name, metric.unit) == ("db.client.operation.duration", "s")
        return [point for point in metric.data.data_points if isinstance(point, HistogramDataPoint)]


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    telemetry = Telemetry()
    yield telemetry
    otel.uninstrument()
    telemetry.traces.shutdown()
    telemetry.meters.shutdown()


@pytest.fixture
def traced(store, telemetry) -> Telemetry:
    """The telemetry of the store from now on; the table exists."""
    Order(pk="first", sk="1", total=1).save()
    telemetry.instrument()
    return telemetry


class Told(NamedTuple):
    name: str
    batch_size: Any = None
    returned_rows: Any = None
    error: Any = None


def told(spans: list[ReadableSpan]) -> list[Told]:
    attributes = [(span.name, span.attributes or {}) for span in spans]
    return [
        Told(
            name,
            found.get("db.operation.batch.size"),
            found.get("db.response.returned_rows"),
            found.get("error.type"),
        )
        for name, found in attributes
    ]


def server(url: str) -> dict[str, Any]:
    """The attributes of a store of these tests."""
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        return {"db.system.name": "sqlite", "db.namespace": parts.path[1:]}
    if parts.scheme == "dynamodb":
        endpoint = urlsplit(parse_qs(parts.query)["endpoint"][0])
        return {
            "db.system.name": "aws.dynamodb",
            "cloud.region": "us-east-1",
            "server.address": endpoint.hostname,
            "server.port": endpoint.port,
        }
    first = urlsplit("//" + parts.netloc.split(",")[0])
    return {
        "db.system.name": "redis",
        "db.namespace": "0",
        "server.address": first.hostname,
        "server.port": first.port,
    }


async def test_a_request_has_a_span_with_the_attributes_of_the_conventions(store, do, traced):
    await do.save(Order(pk="topsecret", sk="1", total=5))
    [span] = traced.spans()
    assert span.name == "put traced_orders"
    assert span.kind == SpanKind.CLIENT
    assert span.status.status_code == StatusCode.UNSET
    attributes = dict(span.attributes or {})
    assert attributes.pop("mintkey.capacity_units", 1.0) == 1.0
    expected = {**server(store.url), "db.operation.name": "put", "db.collection.name": "traced_orders"}
    assert attributes == expected
    assert span.instrumentation_scope is not None
    assert (span.instrumentation_scope.name, span.instrumentation_scope.version) == ("mintkey", mintkey.__version__)


async def test_spans_are_children_of_the_current_span(do, traced):
    tracer = traced.traces.get_tracer("test")
    before = time.time_ns()
    with tracer.start_as_current_span("caller") as caller:
        await do.save(Order(pk="A", sk="1"))
        await do.batch_save(Order, [Order(pk="A", sk=str(number)) for number in range(5)])
        assert len(await do.iterate(Order.query(pk="A"))) == 5
        pipeline = mintkey.pipeline()
        Order(pk="B", sk="1").save(pipeline=pipeline)
        await do.execute(pipeline)
    after = time.time_ns()
    await do.get(Order, pk="A", sk="1")
    *children, last = traced.spans()
    assert len(children) >= 4
    context = caller.get_span_context()
    for child in children:
        assert child.parent is not None
        assert child.parent.span_id == context.span_id
        assert child.context.trace_id == context.trace_id
        assert before <= child.start_time < child.end_time <= after
    assert last.parent is None


async def test_batches_reads_and_transactions(do, traced):
    await do.batch_save(Order, [Order(pk="A", sk=f"{number:03}") for number in range(20)])
    assert sum(span.batch_size for span in told(traced.spans())) == 20
    await do.page(Order.query(pk="A"), size=15)
    assert told(traced.spans()) == [Told("query traced_orders", returned_rows=15)]
    await do.get(Order, pk="A", sk="nothing")
    assert told(traced.spans()) == [Told("get traced_orders", returned_rows=0)]
    keys = [("A", "001"), ("A", "nothing")]
    await do.iterate(Order.batch_get(keys) if do.blocking else Order.abatch_get(keys))
    assert told(traced.spans()) == [Told("batch_get traced_orders", batch_size=2, returned_rows=1)]
    async with mintkey.transaction() as tx:
        tx.save(Order(pk="T", sk="1"))
        tx.check(Order, ("T", "3"), Order.pk.does_not_exist())
    assert told(traced.spans()) == [Told("transaction traced_orders", batch_size=2)]


async def test_failures(do, traced):
    with pytest.raises(ConditionFailed):
        await do.save(Order(pk="A", sk="topsecret"), condition=Order.total == 7)
    [span] = traced.spans()
    assert told([span]) == [Told("put traced_orders", error="ConditionFailed")]
    assert span.status.status_code == StatusCode.ERROR
    assert span.status.description is None
    assert span.events == ()
    pipeline = mintkey.pipeline()
    Order(pk="first", sk="1").save(condition=Order.total == 7, pipeline=pipeline)
    Order(pk="C", sk="1").save(pipeline=pipeline)
    with pytest.raises(BatchIncomplete):
        await do.execute(pipeline)
    assert "ConditionFailed" in {span.error for span in told(traced.spans())}
    assert "ConditionFailed" in {(point.attributes or {}).get("error.type") for point in traced.points()}


async def test_the_durations_of_requests(store, do, traced):
    for number in range(3):
        await do.save(Order(pk="A", sk=str(number)))
    await do.ping(store)
    spans = traced.spans()
    of = {(point.attributes or {})["db.operation.name"]: point for point in traced.points()}
    assert dict(of["put"].attributes or {}) == {
        **server(store.url),
        "db.operation.name": "put",
        "db.collection.name": "traced_orders",
    }
    assert of["put"].count == 3
    assert of["put"].explicit_bounds == (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
    assert dict(of["ping"].attributes or {}) == {**server(store.url), "db.operation.name": "ping"}
    measured = sum((span.end_time or 0) - (span.start_time or 0) for span in spans[:3]) / 1e9
    assert of["put"].sum == pytest.approx(measured, abs=1e-6)
    # An exemplar leads from a measurement to its span.
    traces = {exemplar.trace_id for point in of.values() for exemplar in point.exemplars}
    assert traces <= {span.context.trace_id for span in spans}
    assert traces


async def test_stores_of_before_and_after_and_callbacks_of_users(store, do, telemetry):
    seen: list[RequestRecord] = []
    store.on_request(seen.append)
    telemetry.instrument()
    telemetry.instrument()
    await do.ping(store)
    with connect("sqlite://", name="later") as later:
        await do.ping(later)
    assert [(span.attributes or {})["db.system.name"] for span in telemetry.spans()] == [
        server(store.url)["db.system.name"],
        "sqlite",
    ]
    otel.uninstrument()
    otel.uninstrument()
    await do.ping(store)
    assert telemetry.spans() == []
    assert [record.operation for record in seen] == ["ping", "ping"]


def test_a_second_call_replaces_the_first(telemetry):
    other = Telemetry()
    other.instrument()
    telemetry.instrument()
    with connect("sqlite://") as store:
        store.ping()
    assert (len(telemetry.spans()), len(other.spans())) == (1, 0)


async def test_attempts_and_passwords(telemetry, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "topsecret")
    telemetry.instrument()
    with (
        connect("dynamodb://eu-west-1?endpoint=http://127.0.0.1:1&retries=2") as store,
        pytest.raises(StoreUnavailable),
    ):
        await store.aping()
    for url in (
        "redis://ada:topsecret@127.0.0.1:1/3?prefix=x&timeout=0.2",
        "redis-cluster://:topsecret@127.0.0.1:1,127.0.0.1:2?timeout=0.2",
        "unix:///nothing.sock?db=4&timeout=0.2",
    ):
        with connect(url) as store, pytest.raises(StoreUnavailable):
            store.ping()
    first, *others = [dict(span.attributes or {}) for span in telemetry.spans()]
    assert (first["cloud.region"], first["mintkey.attempts"]) == ("eu-west-1", 3)
    assert [
        (found.get("server.address"), found.get("server.port"), found["db.namespace"], found["db.system.name"])
        for found in others
    ] == [
        ("127.0.0.1", 1, "3", "redis"),
        ("127.0.0.1", 1, "0", "redis"),
        ("/nothing.sock", None, "4", "redis"),
    ]
    assert "topsecret" not in repr([first, *others])
    assert {found["error.type"] for found in others} == {"StoreUnavailable"}


WITHOUT = """
import sys
import mintkey
mintkey.connect("sqlite://").ping()
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
sys.modules["opentelemetry"] = None
try:
    import mintkey.otel
except ImportError as error:
    assert "pip install 'mintkey[otel]'" in str(error), error
else:
    raise AssertionError
"""


def test_without_opentelemetry_the_import_says_what_to_install():
    done = subprocess.run([sys.executable, "-c", WITHOUT], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
