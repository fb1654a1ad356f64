"""What mypy sees with the plugin `mintkey.mypy`, and that it reports no call that run time accepts."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mintkey import lookups, mypy

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

#: Two modules that import each other. Errors are in the lines with a comment, which is the wrong keyword.
CUSTOMERS = """
from __future__ import annotations
import dataclasses
import orders
from mintkey import Model
from mintkey.attributes import NumberAttribute, StringAttribute

def early(text: str) -> None:
    Customer.create(credit=text)  # credit
    Customer.create(credt=1)  # credt
    orders.Order(total=text)  # total

@dataclasses.dataclass
class Address:
    city: str = ""

    def moved(self) -> Address:
        return dataclasses.replace(self, town="Ulm")  # town: mypy knows without the plugin

class Customer(Model):
    id = StringAttribute(partition_key=True)
    credit = NumberAttribute()

    def order(self) -> orders.Order | None:
        return orders.Order.get(id=5)  # id
"""
ORDERS = """
from __future__ import annotations
import customers
from mintkey import Model
from mintkey.attributes import NumberAttribute, StringAttribute

def early(customer: customers.Customer) -> None:
    customer.update(credit="5")  # credit
    customer.update(credt=1)  # credt
    customers.Customer.query.filter(credit__gt="5")  # credit__gt

class Order(Model):
    id = StringAttribute(partition_key=True)
    total = NumberAttribute()
"""
#: Code that mypy cannot understand.
BROKEN = """
from mintkey import Model, Missing
from nowhere import Base
from mintkey.attributes import *
class A(Model, Base):
    x = StrngAttribute()
    y = StringAttribute(partition_key=True)
    z: Unknown = NumberAttribute()
    y = IntegerAttribute()
class B(A, A): pass
class C(Undefined): pass
class D(Model):
    id = undefined(1)
    t = NumberAttribute(1, 2, x=3)
    (p, q) = StringAttribute(), StringAttribute()
    r = s = StringAttribute()
    def change(self): return self.update(id=1, foo=2, **x)
A(x=1, q=2)
B.create(x=1, bar=2)
C.create(x=1)
D.create(t="a", id=5, p=1, r="a", s=2, zz=1)
D.update()
D.get({**{}, "a": 1, 5: 2})
D.query.filter(__gt=1, t__=2, __=3, t__gt__lt=4)
D.query(*[1], **{"a": 1})
D.update(D, t="a")
D.create.foo(t=1)
class E(E): x = StringAttribute()
E.create(x=1)
"""

#: mypy with the plugin: returns its output for these files.
Run = Callable[..., str]


@pytest.fixture
def run(tmp_path) -> Run:
    options = ("--config-file", str(HERE / "with_plugin.ini"), "--cache-dir", str(tmp_path / "cache"))

    def run(*pages: Path) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "mypy", *options, *map(str, pages)],
            cwd=ROOT,
            env={**os.environ, "MYPYPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stderr == ""
        assert done.returncode in {0, 1}, done.stdout
        return done.stdout

    return run


def errors(output: str, page: Path) -> set[int]:
    """The numbers of the lines of a page that have errors."""
    return {
        int(line)
        for name, line in re.findall(r"^(.+?):(\d+): error: ", output, re.MULTILINE)
        if name.endswith(page.name)
    }


def marked(page: Path, mark: str) -> set[int]:
    """The numbers of the lines with a comment that matches."""
    return {
        number for number, line in enumerate(page.read_text("utf-8").splitlines(), 1) if re.search(rf"  # {mark}", line)
    }


def test_wrong_keywords_are_errors_and_accepted_calls_are_none(run, tmp_path):
    wrong, mistakes, accepted, expected = (
        HERE / f"{name}.py" for name in ("keywords", "mistakes", "accepted", "expected")
    )
    customers, orders, broken = (tmp_path / f"{name}.py" for name in ("customers", "orders", "broken"))
    for page, text in ((customers, CUSTOMERS), (orders, ORDERS), (broken, BROKEN)):
        page.write_text(text, "utf-8")
    pages = (wrong, mistakes, accepted, expected, customers, orders, broken)
    first = run(*pages)
    assert len(marked(wrong, "plugin: ")) == 57
    assert errors(first, wrong) == marked(wrong, "plugin: ")
    assert errors(first, mistakes) == marked(mistakes, "(both|plugin): ")
    assert errors(first, accepted) == errors(first, expected) == set()
    assert errors(first, customers) == marked(customers, "")
    assert errors(first, orders) == marked(orders, "")
    assert errors(first, broken)
    for message in (
        '"Order" has no attribute "totl"; did you mean "total"?  [call-arg]',
        '"total" of "Order" (expression has type "str", expected "float | Decimal | None")  [arg-type]',
        '"total" has no lookup "gtt"; did you mean "gt"?  [call-arg]',
    ):
        assert message in first

    assert sorted(run(*pages).splitlines()) == sorted(first.splitlines())

    customers.write_text(CUSTOMERS.replace("credit = Number", "credit = String"), "utf-8")
    changed = run(*pages)
    assert errors(changed, customers) == marked(customers, "(credt|total|town|id)")
    assert errors(changed, orders) == marked(orders, "credt")
    assert errors(changed, wrong) == errors(first, wrong)


def test_run_time_accepts_the_calls():
    done = subprocess.run([sys.executable, str(HERE / "accepted.py")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_plugin_knows_the_lookups():
    assert set(mypy.LOOKUPS) == {*lookups._LOOKUPS, *lookups._TEXT_TESTS}
