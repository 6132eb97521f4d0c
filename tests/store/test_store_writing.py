"""Writing: idempotent, forward only, one bad row never costs its neighbours, and both databases hold the same."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text

from spanledger.exporter.records import ABANDONED, Batch
from spanledger.exporter.schema import execution_logs, llm_call_logs
from spanledger.exporter.store import Store, Written


def test_a_run_is_stored_and_read_back_as_it_was(store, rows):
    execution = rows.execution(
        input_data='{"prompt": "Créer un tableau 🎉", "n": [1, 2.5, null, true]}',
        output_data='"plain"',
        metadata="{}",
        report_id="550e8400-e29b-41d4-a716-446655440000",
        start_time=datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC),
        error_stacktrace="line one\n\tline 'two'\\",
        dropped_attributes=2_147_483_647,
        sanitized=True,
    )
    call = rows.call(
        input_cost=0.1 + 0.2,
        total_cost=1e-9,
        input_tokens=0,
        output_tokens=None,
        counted=False,
        not_counted_reason="stated",
        is_streaming=True,
        end_time=None,
        usage_raw='{"prompt_tokens": 12}',
        prompt="",
    )
    assert store.write(Batch([execution], [call])) == Written(2)
    with store.reading() as connection:
        stored = connection.execute(select(execution_logs)).one()._mapping
        stored_call = connection.execute(select(llm_call_logs)).one()._mapping
    json = {
        "input_data": {"prompt": "Créer un tableau 🎉", "n": [1, 2.5, None, True]},
        "output_data": "plain",
        "metadata": {},
    }
    assert {name: stored[name] for name in execution._fields} == execution._asdict() | json
    expected = call._asdict() | {
        "usage_raw": {"prompt_tokens": 12},
        "execution_log_id": execution.id,
        "report_id": execution.report_id,
        "inherited": stored_call["inherited"],
    }
    assert {name: stored_call[name] for name in call._fields} == expected
    assert stored["sanitized"] is True
    assert stored["start_time"].utcoffset() == timedelta(0)
    assert abs(stored["created_at"] - datetime.now(UTC)) < timedelta(minutes=1)
    assert stored["updated_at"] == stored["created_at"]


def test_a_null_is_a_null_of_the_database_also_in_json_columns(store, rows):
    store.write(Batch([rows.execution(input_data=None, metadata="null")]))
    with store.reading() as connection:
        assert connection.scalar(text("SELECT count(*) FROM execution_logs WHERE input_data IS NULL")) == 1


def test_what_happened_long_ago_and_will_happen_is_stored(store, rows):
    times = [rows.noon.replace(year=year, microsecond=1) for year in (1, 1970, 9999)]
    store.write(Batch([rows.execution(n, start_time=time, end_time=time) for n, time in enumerate(times)]))
    with store.reading() as connection:
        assert (
            connection.scalars(select(execution_logs.c.start_time).order_by(execution_logs.c.start_time)).all() == times
        )


def test_the_same_batch_ten_times_is_the_same_as_once(store, rows, dump):
    batch = rows.run()._replace(bridges=[rows.bridge(span=9)], contents=[rows.content()])
    assert store.write(batch) == Written(5)
    once = dump(store)
    stamps = _stamps(store)
    for _ in range(9):
        assert store.write(batch) == Written(5)
    assert dump(store) == once
    assert _stamps(store) == stamps


def test_a_row_twice_in_one_batch_is_stored_once_and_as_it_ended(store, rows, counts):
    started = rows.execution(status="started", end_time=None)
    call = rows.call()
    bridge, content = rows.bridge(), rows.content()
    store.write(Batch([started, rows.execution(), started], [call, call], [bridge, bridge], [content, content]))
    assert counts(store) | {"tombstones": 0} == {
        "execution_logs": 1,
        "llm_call_logs": 1,
        "bridge_spans": 1,
        "content_events": 1,
        "tombstones": 0,
    }
    assert _states(store) == [("completed", None)]


STATES = [("started", None), ("cancelled", ABANDONED), ("completed", None)]


@pytest.mark.parametrize("order", list(itertools.permutations(STATES)), ids=lambda order: "-".join(s for s, _ in order))
def test_states_only_move_forward_in_any_order_of_arrival(store, rows, order):
    furthest = 0
    for status, error_type in order:
        store.write(Batch([rows.execution(status=status, error_type=error_type, name=status)]))
        furthest = max(furthest, STATES.index((status, error_type)))
        assert _states(store) == [STATES[furthest]]


@pytest.mark.parametrize("ended", ["completed", "failed", "cancelled"])
def test_the_first_end_stands_against_a_different_one(store, rows, ended):
    store.write(Batch([rows.execution(status=ended, name="first")]))
    for status in ("completed", "failed", "cancelled", "started"):
        store.write(Batch([rows.execution(status=status, name="second")]))
    assert _states(store) == [(ended, None)]
    with store.reading() as connection:
        assert connection.scalar(select(execution_logs.c.name)) == "first"


def test_updated_at_moves_when_a_row_does(store, rows):
    store.write(Batch([rows.execution(status="started", end_time=None)]))
    created, updated = _stamps(store)[rows.id(1, 1)]
    assert created == updated
    store.write(Batch([rows.execution()]))
    assert _stamps(store)[rows.id(1, 1)][0] == created
    assert _stamps(store)[rows.id(1, 1)][1] > updated


def test_a_late_parent_adopts_rows_that_already_stand(store, rows):
    store.write(Batch(llm_calls=[rows.call(parent=3)]))
    store.write(Batch(bridges=[rows.bridge(span=3)]))
    store.write(Batch([rows.execution(report_id="550e8400-e29b-41d4-a716-446655440000")]))
    with store.reading() as connection:
        call = connection.execute(select(llm_call_logs)).one()
    assert call.execution_log_id == rows.id(1, 1)
    assert call.report_id == "550e8400-e29b-41d4-a716-446655440000"


def test_contents_become_the_prompt_of_a_call_that_stands(store, rows):
    store.write(Batch(llm_calls=[rows.call()]))
    assert store.write(Batch(contents=[rows.content()])) == Written(1)
    with store.reading() as connection:
        assert "What is AI?" in connection.scalar(select(llm_call_logs.c.prompt))


def test_records_that_name_no_span_can_be_delivered_again(store, rows, counts):
    record = rows.content()._replace(trace_id="", span_id="")
    for _ in range(2):
        assert store.write(Batch(contents=[record])) == Written(1)
    assert counts(store)["content_events"] == 1


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_order_and_split_of_deliveries_gives_the_same_tables(data, store, rows, dump):
    """Children before parents, ends before starts, spans twice, calls seen by two instrumentations in two traces."""
    spans = [
        *(("executions", rows.execution(t, 1, status="started", end_time=None)) for t in (1, 2)),
        *(("executions", rows.execution(t, 1, session_id=f"s{t}")) for t in (1, 2)),
        *(("bridges", rows.bridge(t, 7)) for t in (1, 2)),
        *(("executions", rows.execution(t, 2, 7)) for t in (1, 2)),
        *(
            ("llm_calls", rows.call(t, s, 2, input_tokens=s, output_tokens=t, response_id=f"r{s}"))
            for t in (1, 2)
            for s in (3, 4)
        ),
        ("llm_calls", rows.call(3, 3, None, input_tokens=3, output_tokens=1, scope="another")),
        ("contents", rows.content(1, 3)),
    ]

    def deliver(order: list[int], cuts: list[int]) -> None:
        bounds = [0, *sorted(cuts), len(order)]
        for begin, end in itertools.pairwise(bounds):
            batch = {kind: [spans[i][1] for i in order[begin:end] if spans[i][0] == kind] for kind in Batch._fields}
            assert store.write(Batch(**batch)).rejected == ()

    def clean() -> None:
        with store.backend.migrating() as connection:
            for table in ("execution_logs", "llm_call_logs", "bridge_spans", "content_events"):
                connection.execute(text(f"DELETE FROM {table}"))

    clean()
    deliver(list(range(len(spans))), [])
    expected = dump(store)
    clean()
    order = data.draw(st.permutations(range(len(spans))))
    repeated = data.draw(st.lists(st.sampled_from(range(len(spans))), max_size=4))
    cuts = data.draw(st.lists(st.integers(0, len(spans)), max_size=6))
    deliver([*order, *repeated], cuts)
    assert dump(store) == expected


POISON = {
    **{
        f"a lone surrogate in {field}": {field: "half an emoji \ud83e"}
        for field in ("name", "execution_id", "response_id")
    },
    **{f"a zero byte in {field}": {field: "cut\x00short"} for field in ("name", "execution_id", "response_id")},
    "an integer beyond 64 bits": {"duration_ms": 2**70},
}


@pytest.mark.parametrize("columns", POISON.values(), ids=POISON)
@pytest.mark.parametrize("place", [0, 5, 10])
def test_one_row_the_database_refuses_costs_no_neighbour(store, rows, counts, columns, place):
    calls = [rows.call(span=2 + n) for n in range(11)]
    calls[place] = calls[place]._replace(**columns)
    written = store.write(Batch([rows.execution()], calls))
    assert written.stored == 11
    assert [id for id, _ in written.rejected] == [calls[place].id]
    assert written.rejected[0][1].endswith(".")
    assert counts(store)["llm_call_logs"] == 10
    with store.reading() as connection:
        owners = set(connection.scalars(select(llm_call_logs.c.execution_log_id)))
    assert owners == {rows.id(1, 1)}


def test_only_refused_rows_leave_the_store_as_it_was(store, rows, counts):
    written = store.write(Batch([rows.execution(name="\ud83e")], [rows.call(name="\ud83e")]))
    assert written.stored == 0
    assert {id for id, _ in written.rejected} == {rows.id(1, 1), rows.id(1, 2)}
    assert set(counts(store).values()) == {0}


def test_an_empty_batch_stores_nothing(store):
    assert store.write(Batch()) == Written(0)


def test_thousands_of_traces_fit_in_one_batch(store, rows, counts):
    batches = [rows.run(trace, calls=1) for trace in range(1, 7001)]
    batch = Batch([b.executions[0] for b in batches], [b.llm_calls[0] for b in batches])
    assert store.write(batch) == Written(14_000)
    assert store.write(batch) == Written(14_000)
    assert counts(store)["llm_call_logs"] == 7000


def _states(store: Store) -> list[tuple[str, str | None]]:
    with store.reading() as connection:
        return [tuple(row) for row in connection.execute(select(execution_logs.c.status, execution_logs.c.error_type))]


def _stamps(store: Store) -> dict[str, tuple[datetime, datetime]]:
    with store.reading() as connection:
        return {
            row.id: (row.created_at, row.updated_at)
            for table in (execution_logs, llm_call_logs)
            for row in connection.execute(select(table.c.id, table.c.created_at, table.c.updated_at))
        }
