"""Several writers at once: threads, processes, overlapping traces, and processes that migrate at the same moment."""

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import OperationalError

from spanledger.exporter.backends import postgresql as postgresql_backend
from spanledger.exporter.backends import sqlite as sqlite_backend
from spanledger.exporter.records import Batch
from spanledger.exporter.schema import llm_call_logs
from spanledger.exporter.store import Store

WRITERS = 4

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # what these tests are about


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """A machine that is busy with other things makes writers wait; that is not what these tests are about."""
    monkeypatch.setattr(sqlite_backend, "BUSY_SECONDS", 60.0)
    monkeypatch.setattr(postgresql_backend, "TRANSACTION_SECONDS", 60.0)
    limits = {"lock_timeout": "60s", "statement_timeout": "60s"}
    monkeypatch.setattr(postgresql_backend, "SESSION", {**postgresql_backend.SESSION, **limits})


def test_threads_that_write_overlapping_traces_agree(store, rows, dump, counts):
    """Each writer delivers every row, in another order and cut another way."""
    spans = [row for trace in range(1, 41) for row in _spans(rows, trace)]

    def deliver(writer: int) -> int:
        mine = spans[writer::WRITERS] + spans[::-1]
        return sum(store.write(_batch(mine[n : n + 37])).stored for n in range(0, len(mine), 37))

    with ThreadPoolExecutor(WRITERS) as pool:
        assert sum(pool.map(deliver, range(WRITERS))) == 5 * (len(spans) - 40)  # bridges are not counted
    together = dump(store)
    assert counts(store)["llm_call_logs"] == 40 * 3
    assert all(call["execution_log_id"] for call in together["llm_call_logs"])
    for table in ("execution_logs", "llm_call_logs"):
        with store.backend.migrating() as connection:
            connection.execute(text(f"DELETE FROM {table}"))
    store.write(_batch(spans))
    assert dump(store) == together


def test_the_same_request_seen_by_two_writers_at_once_counts_once(store, rows):
    """Neither writer can see the other's row before it is committed."""

    def deliver(trace: int) -> None:
        request = (trace + 1) // 2  # traces 1 and 2 show the same request, 3 and 4 the next
        call = rows.call(trace, response_id=f"resp-{request}", input_tokens=request, output_tokens=1)
        store.write(Batch([rows.execution(trace)], [call]))

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(deliver, range(1, 81)))
    with store.reading() as connection:
        assert sorted(connection.scalars(select(llm_call_logs.c.counted))) == [False] * 40 + [True] * 40


def test_twins_without_a_shared_id_written_at_once_count_once(store, rows):
    def deliver(trace: int) -> None:
        request, side = divmod(trace, 2)
        scope = ("openai", "litellm")[side]
        parent = (1, None)[side]
        call = rows.call(trace, parent=parent, scope=scope, input_tokens=request, output_tokens=1)
        store.write(Batch([rows.execution(trace)] if parent else [], [call]))

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(deliver, range(2, 42)))
    with store.reading() as connection:
        assert sorted(connection.scalars(select(llm_call_logs.c.counted))) == [False] * 20 + [True] * 20


def _write_from_both_ends(url, rows, writer):
    store = Store.open(url)
    for first in range(1, 21):
        batch = [rows.execution(trace, span) for trace in range(first, first + 5) for span in range(1, 20)]
        store.write(Batch(batch[::-1] if writer % 2 else batch))
    store.close()


def test_processes_that_write_overlapping_traces_do_not_deadlock(database_url, rows, counts):
    _in_processes(WRITERS, _write_from_both_ends, database_url, rows)
    store = Store.open(database_url)
    assert counts(store)["execution_logs"] == 24 * 19
    store.close()


def _migrate(url, _):
    Store.open(url, migrate=True).close()


def test_eight_processes_that_migrate_at_once_make_the_tables_once(empty_database_url, rows):
    _in_processes(8, _migrate, empty_database_url)
    store = Store.open(empty_database_url, migrate=False)
    assert store.write(rows.run()).stored == 4
    store.close()


def test_threads_that_open_two_new_databases_at_once_do_not_mix_them_up(tmp_path):
    urls = [f"sqlite:///{tmp_path / f'{n}.db'}" for n in range(6)]
    with ThreadPoolExecutor(len(urls)) as pool:
        stores = list(pool.map(Store.open, urls))
    for store in stores:
        store.check()
        store.close()


@pytest.mark.parametrize("keys", [3, 5000])
def test_locks_of_postgresql_exclude_those_who_want_the_same(postgresql, keys):
    """Few keys are locked one by one, many all at once; the two kinds exclude each other as well."""
    store = Store.open(postgresql)
    other = ["another"] if keys == 3 else [str(n) for n in range(5000, 10_000)]
    with store.engine.begin() as first:
        store.backend.lock(first, [str(n) for n in range(keys)])
        for wanted, free in ((["2", "9999999"], False), (other, keys == 3)):
            with store.engine.connect() as second:
                second.execute(text("SET lock_timeout = '50ms'"))
                with nullcontext() if free else pytest.raises(OperationalError, match="lock timeout"):
                    store.backend.lock(second, wanted)
    store.close()


def _spans(rows, trace):
    return [
        rows.execution(trace, status="started", end_time=None),
        rows.execution(trace),
        rows.bridge(trace, 9),
        *(rows.call(trace, span, 9, input_tokens=span) for span in (2, 3, 4)),
    ]


def _batch(spans) -> Batch:
    kinds = {"Execution": "executions", "LLMCall": "llm_calls", "Bridge": "bridges"}
    return Batch(**{field: [s for s in spans if type(s).__name__ == kind] for kind, field in kinds.items()})


def _in_processes(number, target, *arguments):
    """Run ``target(*arguments, n)`` in *number* processes that begin at the same moment, and expect all to succeed."""
    context = multiprocessing.get_context("fork")
    together = context.Barrier(number)

    def begin(n):
        together.wait(30)
        target(*arguments, n)

    children = [context.Process(target=begin, args=(n,)) for n in range(number)]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
    assert [child.exitcode for child in children] == [0] * number
