"""Keeping a database within its limits: which rows go, that writers go on meanwhile, and that the room comes back."""

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from spanledger.exporter import audit, retention
from spanledger.exporter.archive import archive
from spanledger.exporter.errors import ConfigurationError, StoreUnavailable
from spanledger.exporter.limits import Limits, age, cut_offs, size
from spanledger.exporter.records import Batch
from spanledger.exporter.retention import Retention
from spanledger.exporter.schema import execution_logs, llm_call_logs
from spanledger.exporter.settings import Settings
from spanledger.exporter.store import Store

MEGABYTE = 1_000_000


@pytest.fixture
def fill(store: Store, rows: Any) -> Callable[[int], None]:
    """Writes runs of an execution and a call of some five kilobytes, one a second from noon on."""

    def fill(runs: int) -> None:
        for first in range(1, runs + 1, 1000):
            started = {
                trace: rows.noon + timedelta(seconds=trace) for trace in range(first, min(first + 1000, runs + 1))
            }
            executions = [rows.execution(trace, start_time=start) for trace, start in started.items()]
            # Nothing that PostgreSQL could compress.
            calls = [
                rows.call(
                    trace, start_time=start, prompt="".join(map(chr, range(trace % 500 + 300, trace % 500 + 1900)))
                )
                for trace, start in started.items()
            ]
            store.write(Batch(executions, calls))

    return fill


def count(store: Store) -> tuple[int, int]:
    with store.reading() as connection:
        executions, calls = (
            connection.scalar(select(func.count()).select_from(table)) for table in (execution_logs, llm_call_logs)
        )
    return executions or 0, calls or 0


def size_of(store: Store) -> int:
    with store.reading() as connection:
        return store.backend.size(connection)


def oldest(store: Store) -> datetime | None:
    with store.reading() as connection:
        return connection.scalar(select(func.min(execution_logs.c.start_time)))


def test_a_database_is_brought_under_its_size_by_its_oldest_rows(store: Store, rows: Any, fill: Any) -> None:
    fill(4000)
    before = size_of(store)
    limit = before * 2 // 3
    for moment in cut_offs(store, Limits(max_bytes=limit)):
        assert sum(store.purge(moment)) > 0
    executions, calls = count(store)
    assert limit * 0.85 < size_of(store) <= limit
    assert executions == calls
    assert 4000 * 0.5 < executions < 4000 * 0.8
    assert oldest(store) == rows.noon + timedelta(seconds=4001 - executions)
    assert list(cut_offs(store, Limits(max_bytes=limit))) == []


def test_only_rows_of_the_status_make_room(store: Store, rows: Any) -> None:
    store.write(Batch([rows.execution(trace, status="failed") for trace in range(1, 10)], [rows.call(20)]))
    moments = []
    for moment in cut_offs(store, Limits(max_bytes=1, statuses=["failed"])):
        moments.append(moment)
        store.purge(moment, statuses=["failed"])
    assert count(store) == (0, 1)
    assert len(moments) == 1


def test_what_nobody_deletes_is_not_asked_for_twice(store: Store, fill: Any) -> None:
    fill(3)
    assert len(list(cut_offs(store, Limits(max_bytes=1)))) == 1


def test_age_comes_before_size(store: Store, rows: Any, fill: Any) -> None:
    fill(3)
    assert next(cut_offs(store, Limits(rows.noon, 1))) == rows.noon


@pytest.mark.parametrize(
    ("text", "bytes"),
    [("500MB", 500 * MEGABYTE), ("20 GB", 20_000 * MEGABYTE), ("1.5TB", 1_500_000 * MEGABYTE), ("1KiB", 1024)],
)
def test_sizes_are_read_as_they_are_written(text: str, bytes: int) -> None:
    assert size(text) == bytes


@pytest.mark.parametrize("text", ["", "20", "GB", "-1GB", "20 bytes", "1e3GB"])
def test_a_size_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is not a size such as"):
        size(text)


def test_ages_are_read_as_they_are_written() -> None:
    assert (age("90m"), age("8w"), age("soon")) == (timedelta(minutes=90), timedelta(weeks=8), None)


@pytest.mark.parametrize("how", ["purge", "archive"])
def test_writers_wait_for_moments_only_while_many_rows_go(
    store: Store, rows: Any, fill: Any, how: str, tmp_path: Path
) -> None:
    fill(6000)
    young, waited, gone = rows.noon + timedelta(days=2), [], threading.Event()

    def write() -> None:
        trace = 10_000
        while not gone.is_set():
            began = time.monotonic()
            store.write(Batch([rows.execution(trace := trace + 1, start_time=young)]))
            waited.append(time.monotonic() - began)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        if how == "purge":
            store.purge(rows.noon + timedelta(days=1))
            store.backend.reclaim()
        else:
            archive(store, tmp_path, rows.noon + timedelta(days=1))
    finally:
        gone.set()
        writer.join()
    assert count(store) == (len(waited), 0)
    assert len(waited) > 20
    assert max(waited) < 2
    print(f"{how} ({store.backend.name}): {len(waited)} commits meanwhile, the slowest {max(waited) * 1000:.0f} ms")


def test_the_room_of_purged_rows_is_given_back(sqlite: str, rows: Any) -> None:
    with closing(Store.open(sqlite)) as store:
        path = Path(store.engine.url.database or "")
        store.write(Batch([], [rows.call(trace, prompt="p" * 10_000) for trace in range(1, 2001)]))
        store.backend.scrub()
        before = path.stat().st_size
        store.purge(rows.noon + timedelta(days=1))
        store.backend.reclaim()
        assert before > 20 * MEGABYTE
        assert path.stat().st_size < MEGABYTE


def test_a_file_of_an_early_version_gives_room_back_when_it_is_told_to(tmp_path: Path, rows: Any) -> None:
    path = tmp_path / "early.db"
    with closing(sqlite3.connect(path)) as early:
        early.execute("CREATE TABLE something (id INTEGER)")  # a file's first table settles it
    with closing(Store.open(f"sqlite:///{path}")) as store:
        for _ in range(2):
            store.write(Batch([], [rows.call(trace, prompt="p" * 10_000) for trace in range(1, 1001)]))
            store.purge(rows.noon + timedelta(days=1))
            store.backend.scrub()
        store.backend.reclaim()
        assert path.stat().st_size > 10 * MEGABYTE
        store.backend.reclaim(thoroughly=True)
        assert path.stat().st_size < MEGABYTE
        store.write(Batch([], [rows.call(trace, prompt="p" * 10_000) for trace in range(1, 1001)]))
        store.purge(rows.noon + timedelta(days=1))
        store.backend.reclaim()
        assert path.stat().st_size < MEGABYTE


def test_postgresql_uses_the_room_of_purged_rows_again_once_it_is_vacuumed(postgresql: str, rows: Any) -> None:
    calls = [rows.call(trace, prompt="".join(map(chr, range(300, 3000)))) for trace in range(1, 1001)]
    with closing(Store.open(postgresql)) as store:

        def files() -> int:
            with store.reading() as connection:
                return int(connection.scalar(select(func.pg_table_size(llm_call_logs.name))) or 0)

        store.write(Batch([], calls))
        before, files_before = size_of(store), files()
        store.purge(rows.noon + timedelta(days=1))
        assert size_of(store) < before / 10
        assert files() >= files_before
        store.backend.reclaim(thoroughly=True)
        store.write(Batch([], calls))
        assert files() < files_before * 1.1


def test_what_is_older_than_whole_days_goes_and_is_written_down(store: Store, rows: Any) -> None:
    now = rows.noon + timedelta(days=30, hours=3)
    midnight = rows.noon.replace(hour=0)
    store.write(
        Batch([rows.execution(1, start_time=midnight - timedelta(seconds=1)), rows.execution(2, start_time=midnight)])
    )
    keeper = Retention(store, age=timedelta(days=30))
    keeper.enforce(now)
    assert count(store) == (1, 0)
    assert keeper.retained == (now, 1)
    keeper.enforce(now)
    with store.reading() as connection:
        (entry,) = audit.entries(connection)
    assert entry[2:6] == ("retention", "purge", "before 2026-01-31 00:00 UTC", 1)


def test_hours_are_meant_to_the_minute(store: Store, rows: Any) -> None:
    store.write(Batch([rows.execution(1), rows.execution(2, start_time=rows.noon + timedelta(hours=1))]))
    Retention(store, age=timedelta(hours=12)).enforce(rows.noon + timedelta(hours=12, minutes=30))
    assert count(store) == (1, 0)


def test_a_database_that_has_outgrown_its_size_is_given_some_air(store: Store, fill: Any) -> None:
    fill(3000)
    limit = size_of(store) - 1
    keeper = Retention(store, age=None, max_bytes=limit)
    keeper.enforce(datetime.now(UTC))
    assert limit * 0.7 < size_of(store) <= limit * 0.9
    left = count(store)
    keeper.enforce(datetime.now(UTC))
    assert count(store) == left


def test_rows_go_to_an_archive_where_there_is_one(store: Store, fill: Any, tmp_path: Path) -> None:
    fill(5)
    keeper = Retention(store, age=timedelta(days=1), folder=tmp_path / "archive")
    keeper.enforce(datetime.now(UTC))
    assert count(store) == (0, 0)
    assert keeper.retained.removed == 10
    assert len(list((tmp_path / "archive").rglob("*.parquet"))) == 2
    with store.reading() as connection:
        assert {(entry.actor, entry.action) for entry in audit.entries(connection)} == {("retention", "archive")}


def test_of_two_servers_on_one_postgresql_one_does_it(postgresql: str, rows: Any) -> None:
    with closing(Store.open(postgresql)) as first, closing(Store.open(postgresql)) as second:
        first.write(rows.run())
        keeper = Retention(second, age=timedelta(days=1))
        with first.backend.alone("retention"):
            keeper.enforce(datetime.now(UTC))
            assert (count(second), keeper.retained) == ((1, 3), (None, 0))
        keeper.enforce(datetime.now(UTC))
        assert (count(second), keeper.retained.removed) == ((0, 0), 4)


def test_a_failure_is_logged_once_and_tried_again(
    store: Store, rows: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store.write(rows.run())
    keeper = Retention(store, age=timedelta(days=1))
    purge, tries, done = store.purge, [], threading.Event()

    def down_at_first(*arguments: Any, **options: Any) -> Any:
        tries.append(arguments)
        if len(tries) < 4:
            raise StoreUnavailable("The database restarts.")
        done.set()
        return purge(*arguments, **options)

    monkeypatch.setattr(store, "purge", down_at_first)
    monkeypatch.setattr(retention, "RETRY", timedelta(milliseconds=1))
    with caplog.at_level(logging.ERROR), closing(keeper):
        keeper.start()
        assert done.wait(30)
    assert [record.message for record in caplog.records] == [
        "Old rows could not be removed: The database restarts. It is tried again every 0:00:00.001000."
    ]


def test_a_server_that_stops_does_not_wait_for_all_rows_to_go(store: Store, fill: Any) -> None:
    fill(5000)
    keeper = Retention(store, age=timedelta(days=1))
    keeper.start()
    while count(store)[0] == 5000:
        assert keeper._thread.is_alive()
    keeper.close()
    assert not keeper._thread.is_alive()
    assert count(store)[1] > 0


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"retention": "soon"}, "SPANLEDGER_RETENTION is 'soon'; use an age such as 90d"),
        ({"retention": "90d", "retention_max_size": "big"}, "'big' is not a size such as 500MB"),
        ({"archive": "./archive"}, "An archive needs to know when"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(store: Store, wrong: dict[str, str], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        Retention.of(Settings(**wrong), store)


def test_without_settings_rows_stay_for_ever(store: Store) -> None:
    assert Retention.of(Settings(), store) is None
