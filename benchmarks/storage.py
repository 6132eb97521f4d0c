"""Rows per second through `Store.write` and `Ledger.record`, beside the bare database driver writing the same rows.

The driver gets its values ready-made and writes them into the same tables with the same indexes, keys and settings, a
transaction a batch; what it does not do is translate, redact, price, find owners, or cope with a row it has met before.
Every variant of every round starts with an empty database; ratios are taken within a round.
"""

import argparse
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import psycopg
from psycopg import sql
from sqlalchemy import make_url

from spanledger.exporter.ledger import Ledger
from spanledger.exporter.mapping import map_spans
from spanledger.exporter.records import Batch, Execution, LLMCall
from spanledger.exporter.schema import execution_logs, llm_call_logs, timestamp_text
from spanledger.exporter.settings import Settings
from spanledger.exporter.spans import SpanData, from_sdk
from spanledger.exporter.store import Store

from .databases import fresh_postgresql, postgresql
from .measured import paired, spread, table
from .workload import SPANS_PER_RUN, batches, recorded_runs

BATCH: Final = 512
INSERT: Final = sql.SQL("INSERT INTO {table} ({columns}) VALUES ({values})")
COPY: Final = sql.SQL("COPY {table} ({columns}) FROM STDIN")
TABLES: Final = (execution_logs, llm_call_logs)
YARDSTICKS: Final = {"SQLite": "sqlite3 executemany", "PostgreSQL": "psycopg executemany"}


class Work(NamedTuple):
    """The same rows in every form a variant may want, batch by batch."""

    spans: list[Sequence[SpanData]]
    batches: list[Batch]
    sqlite_rows: list[tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]]

    @property
    def rows(self) -> int:
        return sum(map(len, self.spans))


def prepare(runs: int) -> Work:
    spans = batches([from_sdk(span) for span in recorded_runs(runs)], BATCH)
    mapped = [map_spans(batch).batch for batch in spans]
    return Work(spans, mapped, [(_texts(b.executions), _texts(b.llm_calls)) for b in mapped])


def sqlite_executemany(url: str, work: Work) -> None:
    path = make_url(url).database
    assert path is not None
    with sqlite3.connect(path, isolation_level=None) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        for executions, calls in work.sqlite_rows:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_text(execution_logs.name, Execution._fields), executions)
            connection.executemany(_text(llm_call_logs.name, LLMCall._fields), calls)
            connection.execute("COMMIT")
    connection.close()


def psycopg_executemany(url: str, work: Work) -> None:
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        for batch in work.batches:
            cursor.executemany(_sql(INSERT, execution_logs.name, Execution._fields), batch.executions)
            cursor.executemany(_sql(INSERT, llm_call_logs.name, LLMCall._fields), batch.llm_calls)
            connection.commit()


def psycopg_copy(url: str, work: Work) -> None:
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        for batch in work.batches:
            _copy(cursor, execution_logs.name, Execution._fields, batch.executions)
            _copy(cursor, llm_call_logs.name, LLMCall._fields, batch.llm_calls)
            connection.commit()


def store_write(url: str, work: Work) -> None:
    store = Store.open(url)
    for batch in work.batches:
        store.write(batch)
    store.close()


def ledger_record(url: str, work: Work) -> None:
    ledger = Ledger.open(Settings(database_url=url))
    for spans in work.spans:
        receipt = ledger.record(spans)
        assert receipt.recorded == len(spans), receipt
    ledger.close()


VARIANTS: Final[dict[str, dict[str, Callable[[str, Work], None]]]] = {
    "SQLite": {
        "sqlite3 executemany": sqlite_executemany,
        "Store.write": store_write,
        "Ledger.record": ledger_record,
    },
    "PostgreSQL": {
        "psycopg executemany": psycopg_executemany,
        "psycopg COPY": psycopg_copy,
        "Store.write": store_write,
        "Ledger.record": ledger_record,
    },
}


def compare(database: str, fresh: Callable[[], str], work: Work, rounds: int) -> str:
    rates: dict[str, list[float]] = {variant: [] for variant in VARIANTS[database]}
    for number in range(rounds):
        order = list(rates)
        random.Random(number).shuffle(order)
        for variant in order:
            url = fresh()
            begin = time.perf_counter()
            VARIANTS[database][variant](url, work)
            rates[variant].append(work.rows / (time.perf_counter() - begin))
            _check(url, work)
        print(f"{database}: round {number + 1} of {rounds}", file=sys.stderr)
    yardstick = rates[YARDSTICKS[database]]
    rows = {name: (spread(rate), spread(paired(rate, yardstick), 2)) for name, rate in rates.items()}
    return table(f"{database}, {rounds} rounds", ["rows a second", f"/ {YARDSTICKS[database]}"], rows)


def _check(url: str, work: Work) -> None:
    """A rate counts only if every row is there."""
    store = Store.open(url)
    with store.reading() as connection:
        stored = sum(len(connection.execute(t.select().with_only_columns(t.c.id)).all()) for t in TABLES)
    store.close()
    assert stored == work.rows, f"{stored} rows of {work.rows}"


def _text(table: str, columns: Sequence[str]) -> str:
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"


def _sql(statement: sql.SQL, table: str, columns: Sequence[str]) -> sql.Composed:
    return statement.format(
        table=sql.Identifier(table),
        columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
        values=sql.SQL(", ").join([sql.Placeholder()] * len(columns)),
    )


def _copy(cursor: "psycopg.Cursor[Any]", table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    with cursor.copy(_sql(COPY, table, columns)) as copy:
        for row in rows:
            copy.write_row(row)


def _texts(rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [tuple(timestamp_text(v) if hasattr(v, "isoformat") else v for v in row) for row in rows]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--runs", type=int, default=1000, help=f"of {SPANS_PER_RUN} spans each")
    arguments = options.parse_args()
    work = prepare(arguments.runs)
    with tempfile.TemporaryDirectory(prefix="spanledger-bench-") as folder:
        names = iter(range(sys.maxsize))

        def fresh_sqlite() -> str:
            url = f"sqlite:///{Path(folder) / f'{next(names)}.db'}"
            Store.open(url).close()
            return url

        print(compare("SQLite", fresh_sqlite, work, arguments.rounds), end="\n\n")
    with postgresql() as server:
        print(compare("PostgreSQL", lambda: fresh_postgresql(server), work, arguments.rounds))


if __name__ == "__main__":
    main()
