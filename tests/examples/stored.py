"""What lies in a store, read past mintkey: SQLite by its own module, servers over a bare connection."""

from __future__ import annotations

import json
import re
import socket
import sqlite3
import urllib.request
from typing import Any, BinaryIO
from urllib.parse import parse_qs, urlsplit


def items(url: str, table: str) -> list[dict[str, Any]]:
    """The items of a table, their values as JSON has them."""
    readers = {"sqlite": _sqlite, "redis": _redis, "redis-cluster": _cluster, "dynamodb": _dynamodb}
    return readers[urlsplit(url).scheme](url, table)


def _sqlite(url: str, table: str) -> list[dict[str, Any]]:
    connection = sqlite3.connect(url.removeprefix("sqlite:///"))
    try:
        # Names that differ in case alone are different tables.
        name = re.sub("[A-Z]", lambda letter: f"^{letter.group().lower()}", table)
        return [json.loads(text) for (text,) in connection.execute(f'SELECT item FROM "{name}" ORDER BY rowid')]
    finally:
        connection.close()


def _redis(url: str, table: str) -> list[dict[str, Any]]:
    parts = urlsplit(url)
    pattern = f"{parse_qs(parts.query)['prefix'][0]}/{table}:*"
    return list(_rows(parts.netloc, pattern).values())


def _cluster(url: str, table: str) -> list[dict[str, Any]]:
    parts = urlsplit(url)
    # The bucket's hash tag comes first.
    pattern = f"{parse_qs(parts.query)['prefix'][0]}/{{*}}{table}:*"
    rows = {}
    for member in parts.netloc.split(","):
        rows.update(_rows(member, pattern, b"READONLY"))
    return [rows[key] for key in sorted(rows, key=lambda key: key.partition(b"}")[2])]


def _rows(address: str, pattern: str, *first: bytes) -> dict[bytes, dict[str, Any]]:
    """The rows on a server of Redis by key, after commands that it only confirms."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port))) as server:
        answers = server.makefile("rb")
        for command in first:
            server.sendall(command + b"\r\n")
            answers.readline()
        found = {}
        for key in sorted(_ask(server, answers, b"KEYS", pattern.encode())):
            fields = _ask(server, answers, b"HGETALL", key)
            pairs = zip(fields[::2], fields[1::2], strict=True)
            # The field without a name lists the row's entries in indexes.
            found[key] = {name.decode(): json.loads(value) for name, value in pairs if name}
        return found


def _ask(server: socket.socket, answers: BinaryIO, *words: bytes) -> list[bytes]:
    """Send a command of Redis that answers with a list of texts."""
    server.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))
    listed = []
    for _ in range(int(answers.readline()[1:])):
        size = int(answers.readline()[1:])
        listed.append(answers.read(size + 2)[:-2])
    return listed


def _dynamodb(url: str, table: str) -> list[dict[str, Any]]:
    named = parse_qs(urlsplit(url).query)
    request = urllib.request.Request(
        named["endpoint"][0],
        data=json.dumps({"TableName": named["table_prefix"][0] + table}).encode(),
        headers={
            "Content-Type": "application/x-amz-json-1.0",
            "X-Amz-Target": "DynamoDB_20120810.Scan",
            # DynamoDB Local looks at the form alone.
            "Authorization": "AWS4-HMAC-SHA256 Credential=a/20240101/us-east-1/dynamodb/aws4_request, "
            "SignedHeaders=host, Signature=0",
        },
    )
    with urllib.request.urlopen(request) as answer:
        return [{name: _plain(value) for name, value in item.items()} for item in json.load(answer)["Items"]]


def _plain(value: dict[str, Any]) -> Any:
    ((kind, content),) = value.items()
    return json.loads(content) if kind == "N" else content
