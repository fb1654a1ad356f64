"""The project of `examples/django_orders`: Django's database and a store of mintkey in one request, on each store."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.behaviour.conftest import STORES
from tests.examples import stored

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "django_orders"
REQUESTS = """
import json, sys
import django
from django.test import AsyncClient, Client
from asgiref.sync import async_to_sync
django.setup()
from shop.models import Customer
ada = Customer.objects.create(name="ada")
path, client = f"/customers/{ada.pk}/orders", Client()
answers = []
for body in json.loads(sys.argv[1]):
    answer = client.post(path, body)
    answers.append([answer.status_code, answer.json()])
answers.append([client.post("/customers/none/orders", {"total": 1}).status_code, None])
answers.append([200, client.get(path).json()])
answers.append([200, async_to_sync(AsyncClient().get)(f"/customers/{ada.pk}/newest").json()])
ada.refresh_from_db()
print(json.dumps([ada.orders, answers]))
"""


def test_the_guide_shows_this_program():
    guide = (FOLDER.parents[1] / "docs/guides/django-flask.md").read_text("utf-8")
    blocks = re.findall(r"^```python3\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    programs = [path.read_text("utf-8") for path in FOLDER.rglob("*.py")]
    assert blocks
    for block in blocks:
        assert any(block in program for program in programs), block


@pytest.mark.slow
def test_the_tests_of_the_project(tmp_path):
    environment = {**os.environ, "DATABASE": f"{tmp_path}/django.db", "MINTKEY_URL": "sqlite://"}
    for command, expected in ((["makemigrations", "--check"], ""), (["test", "shop"], "Ran 2 tests")):
        program = [sys.executable, "manage.py", *command]
        done = subprocess.run(program, check=False, capture_output=True, text=True, cwd=FOLDER, env=environment)
        assert done.returncode == 0, done.stderr
        assert expected in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("store", STORES)
def test_both_databases_in_one_request(store, tmp_path):
    url = STORES[store](tmp_path)
    environment = {
        **os.environ,
        "DATABASE": f"{tmp_path}/django.db",
        "DJANGO_SETTINGS_MODULE": "settings",
        "MINTKEY_URL": url,
        "PYTHONPATH": str(FOLDER),
    }

    def run(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, *command], check=False, capture_output=True, text=True, cwd=tmp_path, env=environment
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run(str(FOLDER / "manage.py"), "migrate")  # on DynamoDB, this creates the table
    bodies: list[dict[str, Any]] = [{"total": "5"}, {"total": "x"}, {"total": "-1"}, {"total": "7.5", "note": "soon"}]
    orders, answers = json.loads(run("-c", REQUESTS, json.dumps(bodies)))
    first, form, refused, second, missing, listed, newest = answers
    assert [answer[0] for answer in answers] == [201, 400, 400, 201, 404, 200, 200]
    assert form[1] == {"total": ["Enter a number."]}
    assert "less than min=0" in refused[1]["total"][0]
    assert missing[1] is None
    assert listed[1] == [second[1], first[1]]
    assert newest[1] == second[1]
    # What the store refused is not counted by the database.
    assert orders == 2
    assert {item["id"]: item["total"] for item in stored.items(url, "django-orders")} == {
        first[1]["id"]: 5,
        second[1]["id"]: 7.5,
    }
