"""The plain functions serve as `default_factory` wherever one is taken."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pydantic
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from mintkey import generators
from mintkey.generators import AutoGenerate, auto, generate_value, parse

FUNCTIONS = [getattr(generators, member.value) for member in AutoGenerate]


def named(function: Any) -> str:
    name: str = function.__name__
    return name


@pytest.mark.parametrize("function", FUNCTIONS, ids=named)
def test_in_a_dataclass_an_attrs_class_and_a_pydantic_model(function: Any) -> None:
    made = dataclasses.make_dataclass("Made", [("id", Any, dataclasses.field(default_factory=function))])
    defined = attrs.make_class("Defined", {"id": attrs.field(factory=function)})
    model = pydantic.create_model("Model", id=(Any, pydantic.Field(default_factory=function)))
    for host in (made, defined, model):
        value = host().id
        assert parse(value, named(function)).text == str(value)
        assert type(value) is type(function())


def test_in_sqlalchemy() -> None:
    class Base(DeclarativeBase):
        pass

    class Order(Base):
        __tablename__ = "orders"
        id: Mapped[str] = mapped_column(primary_key=True, default=generators.ulid)
        code: Mapped[str] = mapped_column(default=generators.nanoid)
        number: Mapped[int] = mapped_column(sa.BigInteger, default=generators.snowflake)
        at: Mapped[int] = mapped_column(sa.BigInteger, default=generators.epoch_ms, onupdate=generators.epoch_ms)

    engine = sa.create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        orders = [Order() for _ in range(10)]
        for order in orders:
            session.add(order)
            session.flush()
        ids = [order.id for order in orders]
        assert ids == sorted(set(ids))
        assert all(parse(order.id).kind is AutoGenerate.ULID and len(order.code) == 21 for order in orders)
        assert len({order.number for order in orders}) == 10
    engine.dispose()


DJANGO = """
import sys, django
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["shop"], DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField", USE_TZ=True,
)
django.setup()
from django.core.management import call_command
call_command("makemigrations", "shop", verbosity=0)
call_command("migrate", verbosity=0)
from shop.models import Order
orders = [Order.objects.create() for _ in range(5)]
assert [order.id for order in orders] == sorted(order.id for order in orders) and len(orders[0].id) == 26
assert len({order.code for order in orders}) == 5 and len(orders[0].code) == 21
print(open("shop/migrations/0001_initial.py").read())
"""


@pytest.mark.slow
def test_in_django_with_a_migration(tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    (shop / "migrations").mkdir(parents=True)
    for package in (shop, shop / "migrations"):
        (package / "__init__.py").write_text("")
    (shop / "models.py").write_text(
        "from django.db import models\n"
        "from mintkey.generators import nanoid, ulid\n"
        "class Order(models.Model):\n"
        "    id = models.CharField(primary_key=True, max_length=26, default=ulid)\n"
        "    code = models.CharField(max_length=21, default=nanoid)\n"
    )
    run = subprocess.run([sys.executable, "-c", DJANGO], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "default=mintkey.generators.ulid" in run.stdout


def test_an_auto_serves_through_generate_value() -> None:
    made = dataclasses.make_dataclass(
        "Made", [("id", str, dataclasses.field(default_factory=lambda: generate_value(auto("ulid", prefix="A#"))))]
    )
    assert made().id.startswith("A#")
