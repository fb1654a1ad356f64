"""Without pydantic dataclasses and plain values work, and other types are refused with what to install."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
sys.modules["pydantic"] = None
import dataclasses
from datetime import datetime, timezone
from decimal import Decimal
from mintkey import Model, connect
from mintkey.attributes import JSONAttribute, MapAttribute, StringAttribute
from mintkey.errors import ConfigurationError, InvalidValue

@dataclasses.dataclass
class Inner:
    at: datetime | None = None
    price: Decimal | None = None

@dataclasses.dataclass
class Outer:
    inner: Inner
    many: list[Inner] = dataclasses.field(default_factory=list)
    word: int | str = "x"

class Order(Model):
    pk = StringAttribute(partition_key=True)
    mapped = MapAttribute(Outer)
    json = JSONAttribute(dict[str, Outer])

connect("sqlite://")
value = Outer(Inner(datetime(2024, 1, 1, tzinfo=timezone.utc)), [Inner(price=Decimal("1.10"))], 5)
Order(pk="a", mapped=value, json={"a": value}).save()
loaded = Order.get(pk="a")
assert (loaded.mapped, loaded.json) == (value, {"a": value})
try:
    Order(pk="b", mapped={"inner": {"price": 1.5}}).save()
except InvalidValue as error:
    assert "inner.price" in str(error), error
else:
    raise AssertionError
try:
    class Wrong(Model):
        pk = StringAttribute(partition_key=True)
        value = JSONAttribute(Inner | Outer)
except ConfigurationError as error:
    assert "pip install 'mintkey[pydantic]'" in str(error), error
else:
    raise AssertionError
"""


def test_dataclasses_need_no_pydantic():
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


METHODS = """
import sys
sys.modules["pydantic"] = None
from mintkey import Model
from mintkey.attributes import StringAttribute
from mintkey.pydantic import Ulid

class Order(Model):
    pk = StringAttribute(partition_key=True)

order = Order(pk="a")
assert Order.from_json(order.to_json()).to_dict() == order.to_dict(mode="json")
calls = (
    order.model_dump,
    lambda: Order.model_validate({"pk": "a"}),
    lambda: Order.model_validate_json("{}"),
    lambda: Order.__get_pydantic_core_schema__(Order, None),
)
for call in calls * 2:
    try:
        call()
    except ImportError as error:
        assert "pip install 'mintkey[pydantic]'" in str(error), error
        assert error.name == "pydantic"
    else:
        raise AssertionError
"""


def test_methods_of_pydantic_say_what_to_install():
    done = subprocess.run([sys.executable, "-c", METHODS], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
