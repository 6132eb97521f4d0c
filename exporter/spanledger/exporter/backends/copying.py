"""COPY of rows into PostgreSQL in its binary format: half the cost of its text format, on either side."""

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import sql
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.types import TypeInfo
from sqlalchemy import Connection, Table

from .base import Record


def copy(connection: Connection, into: str, table: Table, rows: Sequence[Record]) -> None:
    """Append *rows*, at least one, to the table named *into*, which has the columns of *table*."""
    driver_connection = connection.connection.driver_connection
    assert isinstance(driver_connection, psycopg.Connection)
    fields = rows[0]._fields
    types = [table.c[name].type.compile(connection.dialect).lower().partition("(")[0] for name in fields]
    columns = sql.SQL(", ").join(map(sql.Identifier, fields))
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(sql.Identifier(into), columns)
    with driver_connection.cursor() as cursor, cursor.copy(statement) as sink:
        sink.set_types(types)
        for row in rows:
            sink.write_row(row)


def prepare(driver_connection: psycopg.Connection[Any]) -> None:
    """Have the connection take UUIDs and JSON as the text that records hold them in."""
    for dumper in (_UuidText, _JsonText):
        driver_connection.adapters.register_dumper(None, dumper)


def _oid(name: str) -> int:
    info = psycopg.adapters.types[name]
    assert isinstance(info, TypeInfo)
    return info.oid


class _UuidText(Dumper):
    format = Format.BINARY
    oid = _oid("uuid")

    def dump(self, obj: str) -> bytes:
        return bytes.fromhex(obj.replace("-", ""))


class _JsonText(Dumper):
    format = Format.BINARY
    oid = _oid("jsonb")

    def dump(self, obj: str) -> bytes:
        return b"\x01" + obj.encode()  # the version of the format, then the text
