"""A web service for orders, with Flask and SQLAlchemy. Customers are in a database, orders in a store of mintkey.

Run it with `gunicorn --chdir examples/flask_orders --preload --workers 3 service:app`. It uses the store that
$MINTKEY_URL names, or else the file mintkey.db in the working folder, and the database that $DATABASE_URL names, or
else the file customers.db. It needs the packages flask, gunicorn and sqlalchemy.
"""

from __future__ import annotations

import os
from typing import Any

import sqlalchemy as sa
from flask import Flask, Response, jsonify, request
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from mintkey import AutoGenerate, Model, ModelConfig, connect
from mintkey.attributes import NumberAttribute, StringAttribute
from mintkey.errors import InvalidValue, StoreError
from mintkey.generators import ulid

# Once, before the server forks its workers: each worker then uses connections of its own.
connect(os.environ.get("MINTKEY_URL", "sqlite:///mintkey.db"))
# SQLAlchemy does not notice a fork. Without a pool, no connection is open when the server forks.
database = sa.create_engine(os.environ.get("DATABASE_URL", "sqlite:///customers.db"), poolclass=sa.NullPool)


class Base(DeclarativeBase):
    """The base class of the tables."""


class Customer(Base):
    """A customer: a row of a table."""

    __tablename__ = "customers"
    id: Mapped[str] = mapped_column(sa.String(26), primary_key=True, default=ulid)
    name: Mapped[str]


class Order(Model):
    """An order of a customer: an item of mintkey."""

    model_config = ModelConfig(table="flask-orders")
    customer = StringAttribute(partition_key=True)
    id = StringAttribute(sort_key=True, default=AutoGenerate.ULID)
    request = StringAttribute()
    total = NumberAttribute(required=True, min=0)
    process = NumberAttribute()


app = Flask(__name__)
Base.metadata.create_all(database)
Order.create_table()


@app.errorhandler(StoreError)
def store_failed(error: StoreError) -> tuple[Response, int, dict[str, str]]:
    """Answer 503: the store is unreachable, too slow, or rejects requests because of their rate."""
    app.logger.warning("%s", error)
    return jsonify(detail="the store failed: try again later"), 503, {"Retry-After": "1"}


@app.errorhandler(InvalidValue)
def wrong_value(error: InvalidValue) -> tuple[Response, int]:
    """Answer 400: a value does not fit its attribute."""
    return jsonify(detail=str(error)), 400


@app.post("/customers")
def add_customer() -> dict[str, str]:
    """Add a customer."""
    with Session(database) as session, session.begin():
        customer = Customer(name=request.get_json()["name"])
        session.add(customer)
        session.flush()
        return {"id": customer.id, "name": customer.name}


@app.post("/customers/<customer>/orders")
def add_order(customer: str) -> Any:
    """Store an order. The service generates its ID."""
    with Session(database) as session:
        if session.get(Customer, customer) is None:
            return jsonify(detail="no such customer"), 404
    body = request.get_json()
    order = Order.create(customer=customer, total=body.get("total"), request=body.get("request"), process=os.getpid())
    return app.response_class(order.to_json(), 201, mimetype="application/json")


@app.get("/customers/<customer>/orders")
def list_orders(customer: str) -> list[dict[str, Any]]:
    """Return the orders of a customer, the newest first."""
    return [order.to_dict(mode="json") for order in Order.query(customer=customer, descending=True)]
