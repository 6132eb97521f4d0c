"""Deleting a run, and purging what is old: what goes, what stays, and what never comes back."""

import threading
from datetime import timedelta

import pytest
from sqlalchemy import select, text

from spanledger.exporter.records import Batch
from spanledger.exporter.schema import execution_logs, llm_call_logs
from spanledger.exporter.store import PORTION, Deleted, Store, Written

NOTHING = {"execution_logs": 0, "llm_call_logs": 0, "bridge_spans": 0, "content_events": 0}


def test_a_deleted_run_is_gone_from_every_table(store, rows, counts):
    batch = rows.run()._replace(bridges=[rows.bridge(span=9)], contents=[rows.content()])
    store.write(batch)
    assert store.delete_execution(batch.executions[0].execution_id) == Deleted(1, 3)
    assert counts(store) | {"tombstones": 0} == NOTHING | {"tombstones": 0}


def test_deleting_what_is_not_there_deletes_nothing(store, counts):
    assert store.delete_execution("exec_unknown") == Deleted(0, 0)
    assert counts(store)["tombstones"] == 0


def test_a_deleted_run_does_not_come_back(store, rows, counts):
    batch = rows.run()._replace(bridges=[rows.bridge(span=9)], contents=[rows.content()])
    store.write(batch)
    store.delete_execution(batch.executions[0].execution_id)
    assert store.write(batch) == Written(0)
    assert store.write(Batch(llm_calls=batch.llm_calls, contents=batch.contents)) == Written(0)
    assert store.write(Batch(contents=batch.contents)) == Written(0)
    assert counts(store) | {"tombstones": 0} == NOTHING | {"tombstones": 0}


def test_rows_of_a_deleted_run_that_were_never_seen_stay_away_too(store, rows, counts):
    store.write(Batch([rows.execution(execution_id="run-1")]))
    store.delete_execution("run-1")
    late = [
        rows.execution(span=5, execution_id="run-1"),
        rows.execution(span=6, execution_id="run-2"),
        rows.execution(trace=2, span=7, execution_id="run-1"),
    ]
    assert store.write(Batch(late, [rows.call(trace=2, span=8, parent=7)])) == Written(1)
    with store.reading() as connection:
        assert connection.scalars(select(execution_logs.c.execution_id)).all() == ["run-2"]
    assert counts(store)["llm_call_logs"] == 0


def test_a_run_deleted_twice_over_a_late_row_is_deleted(store, rows):
    store.write(Batch([rows.execution(execution_id="run-1")]))
    assert store.delete_execution("run-1") == Deleted(1, 0)
    assert store.delete_execution("run-1") == Deleted(0, 0)


def test_another_run_in_the_same_trace_keeps_its_rows_bridges_and_content(store, rows, counts):
    store.write(
        Batch(
            [rows.execution(span=1, execution_id="outer"), rows.execution(span=2, parent=1, execution_id="inner")],
            [rows.call(span=3, parent=1), rows.call(span=4, parent=2)],
            [rows.bridge(span=9)],
            [rows.content(span=3), rows.content(span=4)],
        )
    )
    assert store.delete_execution("outer") == Deleted(1, 1)
    assert counts(store) | {"tombstones": 0} == {
        "execution_logs": 1,
        "llm_call_logs": 1,
        "bridge_spans": 1,
        "content_events": 1,
        "tombstones": 0,
    }
    with store.reading() as connection:
        inner = connection.execute(select(llm_call_logs)).one()
    assert (inner.execution_id, inner.execution_log_id) == ("inner", rows.id(1, 2))
    assert "What is AI?" in inner.prompt


def test_a_duplicate_of_a_deleted_call_counts_again(store, rows):
    def seen(trace: int, **columns: object) -> Batch:
        call = rows.call(trace, response_id="resp-1", input_tokens=10, output_tokens=5, **columns)
        return Batch([rows.execution(trace)], [call])

    store.write(seen(1))
    store.write(seen(2))
    assert sorted(_counted(store)) == [False, True]
    with store.reading() as connection:
        kept = connection.scalar(select(llm_call_logs.c.execution_id).where(llm_call_logs.c.counted))
    assert store.delete_execution(kept or "") == Deleted(1, 1)
    assert _counted(store) == [True]


def test_purging_deletes_what_is_older_and_tells_how_far_it_is(store, rows, counts):
    old, new = timedelta(days=-40), timedelta()
    for trace, age in enumerate((old, old, new), 1):
        start = rows.noon + age
        store.write(
            Batch(
                [rows.execution(trace, start_time=start)],
                [rows.call(trace, start_time=start)],
                [rows.bridge(trace)._replace(start_time=start)],
                [rows.content(trace, number=trace, time=start)],
            )
        )
    seen = []
    assert store.purge(rows.noon - timedelta(days=30), progress=seen.append) == Deleted(2, 2)
    assert seen == [2, 4]
    assert counts(store) == {
        "execution_logs": 1,
        "llm_call_logs": 1,
        "bridge_spans": 1,
        "content_events": 1,
        "tombstones": 0,
    }
    assert store.purge(rows.noon - timedelta(days=30)) == Deleted(0, 0)


def test_purging_some_statuses_keeps_the_others_and_what_they_need(store, rows, counts):
    store.write(
        Batch(
            [rows.execution(1), rows.execution(2, status="failed")],
            [rows.call(1), rows.call(2, status="failed")],
            [rows.bridge(1), rows.bridge(2)],
            [rows.content(1, number=1), rows.content(2, number=2)],
        )
    )
    assert store.purge(rows.noon + timedelta(days=1), statuses=["completed"]) == Deleted(1, 1)
    assert counts(store) | {"tombstones": 0} == {
        "execution_logs": 1,
        "llm_call_logs": 1,
        "bridge_spans": 1,
        "content_events": 1,
        "tombstones": 0,
    }
    with store.reading() as connection:
        assert connection.scalars(select(execution_logs.c.status)).all() == ["failed"]


def test_purging_goes_through_more_rows_than_one_portion(store, rows, counts):
    calls = [rows.call(span=2 + n) for n in range(2 * PORTION + 10)]
    store.write(Batch([rows.execution()], calls, [rows.bridge(span=10_000 + n) for n in range(PORTION + 10)]))
    seen = []
    assert store.purge(rows.noon + timedelta(days=1), progress=seen.append) == Deleted(1, len(calls))
    assert len(seen) == 1 + 3
    assert counts(store) == NOTHING | {"tombstones": 0}


def test_old_tombstones_are_purged_and_young_ones_stay(store, rows, counts):
    store.write(rows.run())
    store.delete_execution(rows.run().executions[0].execution_id)
    store.purge(rows.noon - timedelta(days=1))
    assert counts(store)["tombstones"] == 5
    with store.backend.migrating() as connection:
        connection.execute(text("UPDATE tombstones SET created_at = '2020-01-01T00:00:00.000000Z' WHERE kind = 'row'"))
    store.purge(rows.noon - timedelta(days=1))
    assert counts(store)["tombstones"] == 1


@pytest.mark.parametrize("traces", [60])
def test_writers_go_on_while_a_purge_is_under_way(store, rows, counts, traces):
    store.write(Batch([rows.execution()], [rows.call(span=2 + n) for n in range(5 * PORTION)]))
    written = []

    def write() -> None:
        for trace in range(2, 2 + traces):
            young = rows.noon + timedelta(days=2)
            written.append(store.write(Batch([rows.execution(trace, start_time=young, end_time=None)])).stored)

    writer = threading.Thread(target=write)
    writer.start()
    store.purge(rows.noon + timedelta(days=1))
    writer.join()
    assert written == [1] * traces
    assert counts(store)["execution_logs"] == traces


def _counted(store: Store) -> list[bool]:
    with store.reading() as connection:
        return list(connection.scalars(select(llm_call_logs.c.counted)))
