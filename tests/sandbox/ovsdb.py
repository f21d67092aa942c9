"""Speak OVSDB's JSON-RPC to a server: transactions of any size, at once.

The command line tools take one argument per value and check each name
against every row; here 20,000 rows go in one transaction.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import socket
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

# What OVSDB sends and takes: any JSON value.
Json = Any
Operation = dict[str, Json]

TIMEOUT_S = 60.0


class OvsdbError(Exception):
    """A transaction that the server refused, with its own words."""


def to_map(values: Mapping[str, str]) -> Json:
    """Return VALUES as an OVSDB map."""
    return ["map", [[key, value] for key, value in values.items()]]


def to_set(values: Iterable[Json]) -> Json:
    """Return VALUES as an OVSDB set."""
    return ["set", list(values)]


def to_uuid(value: object) -> Json:
    """Return VALUE as a reference to a row."""
    return ["uuid", str(value)]


def from_json(value: Json) -> Json:
    """Return an OVSDB value as plain dict, list or atom."""
    match value:
        case ["map", pairs]:
            return {from_json(k): from_json(v) for k, v in pairs}
        case ["set", items]:
            return [from_json(item) for item in items]
        case ["uuid", text]:
            return text
        case _:
            return value


def insert(table: str, row: Json, *, uuid: str = "") -> Operation:
    """Return the operation that adds ROW, as UUID if that is given."""
    operation = {"op": "insert", "table": table, "row": row}
    return {**operation, "uuid": uuid} if uuid else operation


def update(table: str, where: Sequence[Json], row: Json) -> Operation:
    """Return the operation that changes the rows that WHERE selects."""
    return {"op": "update", "table": table, "where": where, "row": row}


def mutate(
    table: str, uuid: str, column: str, mutator: str, value: Json
) -> Operation:
    """Return the operation that adds to or takes from a set or map."""
    return {
        "op": "mutate",
        "table": table,
        "where": by_uuid(uuid),
        "mutations": [[column, mutator, value]],
    }


def delete(table: str, where: Sequence[Json]) -> Operation:
    """Return the operation that deletes the rows that WHERE selects."""
    return {"op": "delete", "table": table, "where": where}


def by_uuid(uuid: object) -> list[Json]:
    """Return the condition for one row."""
    return [["_uuid", "==", to_uuid(uuid)]]


def messages(text: str) -> tuple[list[Json], str]:
    """Return the whole messages at the beginning of TEXT, and the rest."""
    decoder = json.JSONDecoder()
    found: list[Json] = []
    while text:
        try:
            message, end = decoder.raw_decode(text)
        except ValueError:
            break
        text = text[end:]
        found.append(message)
    return found, text


@dataclasses.dataclass(frozen=True, slots=True)
class Ovsdb:
    """One database behind a unix socket; a connection for each call."""

    path: Path
    database: str

    def transact(
        self, operations: Sequence[Operation], *, timeout_s: float = TIMEOUT_S
    ) -> list[Json]:
        """Run OPERATIONS as one transaction and return their results.

        Raises OvsdbError when the server refuses any of it.
        """
        request = {
            "method": "transact",
            "params": [self.database, *operations],
            "id": 1,
        }
        reply = self._ask(request, timeout_s)
        if reply.get("error"):
            raise OvsdbError(str(reply["error"]))
        results: list[Json] = reply["result"]
        # An error that concerns no single operation comes after them all.
        given = itertools.chain(operations, itertools.repeat(None))
        for result, operation in zip(results, given, strict=False):
            if result and result.get("error"):
                what = json.dumps(operation)[:500]
                raise OvsdbError(f"{json.dumps(result)} for {what}")
        return results

    def select(
        self,
        table: str,
        where: Sequence[Json] = (),
        columns: Sequence[str] = (),
    ) -> list[dict[str, Json]]:
        """Return the rows of TABLE that WHERE selects, as plain values."""
        operation: Operation = {
            "op": "select",
            "table": table,
            "where": list(where),
        }
        if columns:
            operation["columns"] = list(columns)
        (result,) = self.transact([operation])
        return [
            {column: from_json(value) for column, value in row.items()}
            for row in result["rows"]
        ]

    def _ask(self, request: Json, timeout_s: float) -> Json:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout_s)
            connection.connect(str(self.path))
            connection.sendall(json.dumps(request).encode())
            received: list[bytes] = []
            while chunk := connection.recv(1 << 20):
                received.append(chunk)
                # A message ends with "}": try to read it only then.
                if not chunk.endswith(b"}"):
                    continue
                found, text = messages(b"".join(received).decode())
                for message in found:
                    if message.get("method") == "echo":
                        echo: Json = {
                            "id": "echo",
                            "result": [],
                            "error": None,
                        }
                        connection.sendall(json.dumps(echo).encode())
                    elif message.get("id") == request["id"]:
                        return message
                received = [text.encode()]
        raise ConnectionError(f"{self.path} closed the connection")
