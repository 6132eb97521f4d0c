"""Archiving and restoring: what goes into files comes back as it was, into any database, unless it was erased."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import insert, select

from spanledger.exporter import archive as archiving
from spanledger.exporter import audit
from spanledger.exporter.archive import archive
from spanledger.exporter.backends import BACKENDS
from spanledger.exporter.erasure import Subject
from spanledger.exporter.errors import ConfigurationError, SpanledgerError
from spanledger.exporter.records import Batch
from spanledger.exporter.restore import Restored, restore
from spanledger.exporter.schema import (
    bridge_spans,
    content_events,
    deliveries,
    execution_logs,
    former_charges,
    llm_call_logs,
)
from spanledger.exporter.store import Store

TABLES = (execution_logs, llm_call_logs, bridge_spans, content_events, former_charges, deliveries)
COSTS = (0.1 + 0.2, 1.2345678901234567e-11, 3.75e-08, 12345678901.25, 1e-30, None)
"""What floats can hold: noise, seventeen digits, more dollars and smaller parts of one than decimals have room for."""


def everything(store: Store) -> Mapping[str, Sequence[Any]]:
    """Every row of every table that an archive holds, whole."""
    with store.reading() as connection:
        return {table.name: connection.execute(select(table).order_by(*table.primary_key)).all() for table in TABLES}


@pytest.fixture
def now(rows: Any) -> datetime:
    return rows.noon + timedelta(days=1)


@pytest.fixture
def full(store: Store, rows: Any) -> Store:
    """A database with something of everything."""
    executions = [
        rows.execution(trace, metadata='{"a": 1, "ü": [1.5, null, "\\u2603"]}', external_user_id=f"u-{trace}")
        for trace in range(1, 4)
    ]
    calls = [
        rows.call(trace, 2 + n, total_cost=cost, input_cost=cost, input_tokens=7, prompt='[{"role": "user"}]')
        for trace in range(1, 4)
        for n, cost in enumerate(COSTS)
    ]
    store.write(Batch(executions, calls, [rows.bridge(span=90)], [rows.content(span=2)]))
    charge = {"call_id": calls[0].id, "replaced_at": rows.noon, "total_cost": COSTS[1], "cost_source": "estimated"}
    delivery = {
        "segment": "00000000000000000001-1.abc.ready",
        "producer": "1.abc",
        "written_at": rows.noon,
        "produced": 3,
        "stored": 2,
        "skipped": 0,
        "dropped": '{"full": 1}',
    }
    store.backend.transact(lambda connection: connection.execute(insert(former_charges), [charge]))
    store.backend.transact(lambda connection: connection.execute(insert(deliveries), [delivery]))
    return store


def test_what_was_archived_comes_back_as_it_was(full: Store, now: datetime, tmp_path: Path) -> None:
    before = everything(full)
    assert all(before.values())
    archived = archive(full, tmp_path / "archive", now)
    assert (archived.executions, archived.llm_calls) == (3, 18)
    assert not any(everything(full).values())
    assert restore(full, [tmp_path / "archive"]) == Restored(3, 18, 0, 0)
    assert everything(full) == before
    assert restore(full, [tmp_path / "archive"]) == Restored(0, 0, 21, 0)
    assert everything(full) == before


@pytest.mark.parametrize("other", sorted(BACKENDS))
def test_an_archive_of_one_database_can_be_restored_into_another(
    full: Store, now: datetime, tmp_path: Path, other: str, request: pytest.FixtureRequest
) -> None:
    archive(full, tmp_path, now, keep=True)
    second = Store.open(request.getfixturevalue(f"empty_{other}"), migrate=True)
    assert restore(second, [tmp_path]) == Restored(3, 18, 0, 0)
    assert everything(second) == everything(full)
    second.close()


def test_the_files_can_be_read_without_us(full: Store, now: datetime, tmp_path: Path) -> None:
    archive(full, tmp_path, now)
    calls = pq.read_table(tmp_path / "llm_call_logs")
    types = {name: calls.schema.field(name).type for name in ("id", "start_time", "total_cost", "metadata", "counted")}
    assert types == {
        "id": pa.string(),
        "start_time": pa.timestamp("us", tz="UTC"),
        "total_cost": pa.decimal128(38, 28),
        "metadata": pa.string(),
        "counted": pa.bool_(),
    }
    costs = set(calls["total_cost"].to_pylist())
    assert {cost and cost.normalize() for cost in costs} == {
        Decimal("0.30000000000000004"),
        Decimal("1.2345678901234567E-11"),
        Decimal("3.75E-8"),
        None,
    }
    assert set(calls["beyond_decimal"].to_pylist()) == {
        None,
        '{"input_cost":12345678901.25,"total_cost":12345678901.25}',
        '{"input_cost":1e-30,"total_cost":1e-30}',
    }
    (file,) = (tmp_path / "llm_call_logs").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600


def test_only_what_is_old_and_of_the_status_goes(store: Store, rows: Any, now: datetime, tmp_path: Path) -> None:
    young = rows.execution(3, start_time=now + timedelta(seconds=1))
    store.write(Batch([rows.execution(1), rows.execution(2, status="failed"), young], [rows.call(1), rows.call(2)]))
    archived = archive(store, tmp_path, now, statuses=["completed"])
    assert (archived.executions, archived.llm_calls) == (1, 2)
    assert sorted(row[0] for row in everything(store)["execution_logs"]) == sorted((rows.id(2, 1), young.id))


def test_keeping_the_rows_copies_them_with_what_they_need(full: Store, now: datetime, tmp_path: Path) -> None:
    before = everything(full)
    archived = archive(full, tmp_path, now, keep=True)
    assert everything(full) == before
    assert {file.parent.name for file in archived.files} == {table.name for table in TABLES}


def test_what_others_still_need_stays(store: Store, rows: Any, now: datetime, tmp_path: Path) -> None:
    young = rows.call(1, 5, start_time=now + timedelta(seconds=1))
    store.write(Batch([rows.execution(1)], [young], [rows.bridge(1)], [rows.content(1, 5)]))
    archive(store, tmp_path, now)
    left = everything(store)
    assert [len(left[name]) for name in ("execution_logs", "llm_call_logs", "bridge_spans", "content_events")] == [
        0,
        1,
        1,
        1,
    ]


def test_a_row_that_changes_while_it_is_archived_stays_and_its_last_copy_is_restored(
    store: Store, rows: Any, now: datetime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = rows.call(status="started", end_time=None, duration_ms=None)
    store.write(Batch(llm_calls=[call]))
    delete = archiving._delete

    def end_first(*arguments: Any) -> None:
        store.write(Batch(llm_calls=[call._replace(status="completed", total_cost=0.5)]))
        delete(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(archiving, "_delete", end_first)
        archive(store, tmp_path, now)
    (kept,) = everything(store)["llm_call_logs"]
    assert (kept.status, kept.total_cost) == ("completed", 0.5)
    before = everything(store)
    archive(store, tmp_path, now)
    assert not any(everything(store).values())
    assert restore(store, [tmp_path]) == Restored(0, 1, 1, 0)
    assert everything(store) == before


def test_many_rows_go_into_files_of_bounded_size(
    store: Store, rows: Any, now: datetime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archiving, "PAGE", 7)
    monkeypatch.setattr(archiving, "PAGES", 3)
    store.write(Batch([rows.execution()], [rows.call(span=2 + n, start_time=rows.noon) for n in range(100)]))
    before = everything(store)
    seen: list[int] = []
    archived = archive(store, tmp_path, now, progress=seen.append)
    assert [pq.read_metadata(file).num_rows for file in archived.files] == [1, 21, 21, 21, 21, 16]
    assert seen == [1, *range(8, 101, 7), 101]
    restore(store, [*archived.files])
    assert everything(store) == before


@pytest.mark.parametrize("subject", [Subject("user", "u-1"), Subject("session", "s-1")])
def test_what_was_erased_stays_out_however_it_is_spread_over_files(
    store: Store, rows: Any, now: datetime, tmp_path: Path, subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archiving, "PAGE", 1)
    monkeypatch.setattr(archiving, "PAGES", 1)
    who = {"external_user_id": "u-1"} if subject.kind == "user" else {"session_id": "s-1"}
    root, other = rows.execution(1), rows.execution(2)
    call = rows.call(1, 2, **who)
    store.write(Batch([root, other], [call, rows.call(2, 2)], [], [rows.content(1, 2)]))
    charge = {"call_id": call.id, "replaced_at": rows.noon, "total_cost": 0.5, "cost_source": "estimated"}
    store.backend.transact(lambda connection: connection.execute(insert(former_charges), [charge]))
    archive(store, tmp_path, now)
    store.erase(subject)
    assert restore(store, [tmp_path]) == Restored(1, 1, 0, 2)
    left = everything(store)
    assert [row[0] for row in left["execution_logs"]] == [other.id]
    assert (left["content_events"], left["former_charges"]) == ([], [])


def test_an_erased_run_stays_out_and_its_tombstone_is_not_purged_while_it_lies_in_an_archive(
    store: Store, rows: Any, now: datetime, tmp_path: Path
) -> None:
    store.write(rows.run())
    archive(store, tmp_path, now, keep=True)
    store.delete_execution(rows.run().executions[0].execution_id)
    store.purge(datetime.now(now.tzinfo) + timedelta(days=1))
    assert restore(store, [tmp_path]) == Restored(0, 0, 0, 4)
    assert not any(everything(store).values())


def test_what_was_done_is_in_the_audit_log(full: Store, now: datetime, tmp_path: Path) -> None:
    archive(full, tmp_path, now, actor="me")
    restore(full, [tmp_path], actor="you")
    with full.reading() as connection:
        entries = audit.entries(connection)
    assert audit.first_broken(entries) is None
    said = [(entry.actor, entry.action, entry.object.split("/")[0], entry.row_count) for entry in entries]
    rows_of = dict.fromkeys((table.name for table in TABLES), 1) | {"execution_logs": 3, "llm_call_logs": 18}
    assert said == [
        *(("me", "archive", name, count) for name, count in rows_of.items()),
        ("you", "restore", "execution_logs", 3),
        ("you", "restore", "llm_call_logs", 18),
    ]


def test_nothing_old_makes_no_file(store: Store, now: datetime, tmp_path: Path) -> None:
    assert archive(store, tmp_path / "none", now).files == []
    assert not (tmp_path / "none").exists()


def test_two_do_not_archive_one_postgresql_at_once(postgresql: str, now: datetime, tmp_path: Path) -> None:
    first, second = Store.open(postgresql), Store.open(postgresql)
    with first.backend.alone(archiving.ARCHIVE), pytest.raises(SpanledgerError, match="Another process is archiving"):
        archive(second, tmp_path, now)
    archive(second, tmp_path, now)
    first.close()
    second.close()


def test_a_folder_that_cannot_be_written_is_a_sentence_and_deletes_nothing(
    full: Store, now: datetime, tmp_path: Path
) -> None:
    before = everything(full)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SpanledgerError, match="The archive cannot be written"):
        archive(full, tmp_path / "file", now)
    assert everything(full) == before


def test_a_file_that_is_no_archive_is_a_sentence(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="There are no Parquet files"):
        restore(store, [tmp_path])
    with pytest.raises(ConfigurationError, match="cannot be read as an archive"):
        restore(store, [tmp_path / "missing.parquet"])
    (tmp_path / "text.parquet").write_text("not Parquet")
    with pytest.raises(ConfigurationError, match="cannot be read as an archive"):
        restore(store, [tmp_path])
    pq.write_table(pa.table({"a": [1]}), tmp_path / "text.parquet")
    with pytest.raises(ConfigurationError, match="was not written by `spanledger archive`"):
        restore(store, [tmp_path])
    schema = pa.schema([("id", pa.string()), ("mood", pa.string())], {b"spanledger.table": b"execution_logs"})
    pq.write_table(pa.table([["1"], ["good"]], schema=schema), tmp_path / "text.parquet")
    with pytest.raises(ConfigurationError, match="a newer spanledger; this one does not know mood"):
        restore(store, [tmp_path])
