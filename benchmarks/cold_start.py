"""What a fresh process spends until its first write to DynamoDB is acknowledged, as a function of AWS Lambda does.

    python benchmarks/cold_start.py [ROUNDS]

Each step is measured in processes of their own, with and without stored bytecode: processor time and time that passed,
in milliseconds, the median of all rounds. The server is DynamoDB Local on this machine, without TLS.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from tests.servers import dynamodb  # noqa: E402 - after the path

REGION = "us-east-1"
MINTKEY = """
from mintkey import AutoGenerate, Model, connect
from mintkey.attributes import NumberAttribute, StringAttribute
step("import")
connect(f"dynamodb://us-east-1?endpoint={endpoint}")
class Order(Model):
    id = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    total = NumberAttribute()
step("model or client")
Order(total=1).save()
step("first save")
Order(total=2).save()
step("second save")
"""
BOTO3 = """
import uuid
import boto3
step("import")
table = boto3.resource("dynamodb", endpoint_url=endpoint, region_name="us-east-1").Table("Order")
step("model or client")
table.put_item(Item={"id": uuid.uuid4().hex, "total": 1})
step("first save")
table.put_item(Item={"id": uuid.uuid4().hex, "total": 2})
step("second save")
"""
STEPS = """
import json, sys, time
endpoint, steps, last = sys.argv[1], {}, [time.process_time(), time.perf_counter()]
def step(name):
    now = [time.process_time(), time.perf_counter()]
    steps[name] = [1000 * (end - begin) for end, begin in zip(now, last)]
    last[:] = time.process_time(), time.perf_counter()
"""
SHOW = "\nprint(json.dumps(steps))"


def measured(program: str, endpoint: str, environment: dict[str, str]) -> dict[str, list[float]]:
    """The steps of one fresh process."""
    told = subprocess.run(
        [sys.executable, "-c", STEPS + program + SHOW, endpoint],
        check=True,
        capture_output=True,
        env=environment,
    )
    steps: dict[str, list[float]] = json.loads(told.stdout)
    return steps


def main(rounds: int) -> None:
    environment = {**os.environ, "AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
    with dynamodb.server() as endpoint, tempfile.TemporaryDirectory() as kept, tempfile.TemporaryDirectory() as empty:
        # The first folder gets the bytecode in the round that is not counted, the second one stays empty.
        with_bytecode = {**environment, "PYTHONPYCACHEPREFIX": kept, "PYTHONDONTWRITEBYTECODE": ""}
        without = {**environment, "PYTHONPYCACHEPREFIX": empty, "PYTHONDONTWRITEBYTECODE": "1"}
        creating = MINTKEY.replace("Order(total=1)", "Order.create_table(); Order(total=1)")
        measured(creating, endpoint, with_bytecode)
        for package, program in {"mintkey": MINTKEY, "boto3": BOTO3}.items():
            measured(program, endpoint, with_bytecode)
            for kind, variables in {"with bytecode": with_bytecode, "without": without}.items():
                runs = [measured(program, endpoint, variables) for _ in range(rounds)]
                print(f"{package}, {kind}")
                for step in runs[0]:
                    cpu, passed = (statistics.median(run[step][which] for run in runs) for which in (0, 1))
                    print(f"  {step:<16} {cpu:7.1f} ms of the processor {passed:7.1f} ms in all")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 20)
