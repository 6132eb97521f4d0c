"""Forgetting a user, a session or a run: what goes, what stays, and what never comes back."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert, make_url, select, text

from spanledger.exporter.audit import entries, first_broken
from spanledger.exporter.erasure import Erased, Subject
from spanledger.exporter.records import Batch, Execution
from spanledger.exporter.schema import (
    dead_letters,
    execution_logs,
    former_charges,
    llm_call_logs,
    open_rows,
    tombstones,
)
from spanledger.exporter.store import Store, Written

USER = Subject("user", "u-1")
SESSION = Subject("session", "s-1")
SECRET = "the patient's name is Zebedee"


def told(rows, trace: int = 1, **columns) -> Batch:
    """A run whose root says nothing of its user, whose step does, and which said `SECRET` wherever it could."""
    return Batch(
        [
            rows.execution(trace, span=1, execution_id=f"run-{trace}", input_data=f'"{SECRET}"'),
            rows.execution(trace, span=2, parent=1, execution_id=f"run-{trace}", **columns),
        ],
        [rows.call(trace, span=3, parent=2, execution_id=f"run-{trace}", prompt=SECRET)],
        [rows.bridge(trace, span=9)],
        [rows.content(trace, span=3, number=trace)],
    )


def ids(store: Store) -> set[str]:
    with store.reading() as connection:
        return {id for table in (execution_logs, llm_call_logs) for id in connection.scalars(select(table.c.id))}


@pytest.mark.parametrize(
    ("subject", "columns"),
    [(USER, {"external_user_id": "u-1"}), (SESSION, {"session_id": "s-1"}), (Subject("execution", "run-1"), {})],
)
def test_what_is_forgotten_is_counted_before_and_gone_from_every_table_after(store, rows, counts, subject, columns):
    store.write(told(rows, 1, **columns))
    store.write(told(rows, 2, external_user_id="u-2", session_id="s-2"))
    kept = ids(store)
    expected = Erased(2, 1, 1, 0)
    assert store.count(subject) == expected
    assert ids(store) == kept
    assert store.erase(subject) == expected
    assert ids(store) == {rows.id(2, span) for span in (1, 2, 3)}
    assert counts(store) | {"tombstones": 0} == {
        "execution_logs": 2,
        "llm_call_logs": 1,
        "bridge_spans": 1,
        "content_events": 1,
        "tombstones": 0,
    }
    assert store.count(subject) == store.erase(subject) == Erased()


def test_a_redelivery_of_what_was_forgotten_stays_away_and_what_begins_later_is_news(store, rows, counts):
    batch = told(rows, 1, external_user_id="u-1")
    store.write(batch)
    store.erase(USER)
    assert store.write(batch) == Written(0)
    never_seen = told(rows, 7, external_user_id="u-1")
    assert store.write(Batch(contents=never_seen.contents)) == Written(1)
    assert store.write(never_seen) == Written(0)
    assert store.write(Batch(contents=never_seen.contents)) == Written(0)
    assert ids(store) == set()
    assert counts(store)["content_events"] == 0
    later = rows.execution(
        8, external_user_id="u-1", start_time=datetime.now(UTC) + timedelta(minutes=1), end_time=None
    )
    assert store.write(Batch([later])) == Written(1)


def test_of_a_run_that_served_two_users_the_other_keeps_what_names_him(store, rows):
    def of(span: int, user: str | None) -> Execution:
        return rows.execution(span=span, execution_id="run-1", external_user_id=user)

    store.write(Batch([of(1, None), of(2, "u-1"), of(3, "u-2")]))
    assert store.erase(USER) == Erased(2, 0)
    assert ids(store) == {rows.id(1, 3)}
    assert store.write(Batch([of(4, "u-2"), of(1, None)])) == Written(1)


def test_more_runs_than_one_portion_are_forgotten_and_written_down(store, rows, monkeypatch):
    monkeypatch.setattr("spanledger.exporter.forgetting.RUNS", 2)
    store.write(Batch([rows.execution(n, execution_id=f"run-{n}", external_user_id="u-1") for n in range(1, 6)]))
    assert store.erase(USER, actor="a key") == Erased(5)
    with store.reading() as connection:
        log = entries(connection)
    assert [(entry.actor, entry.action, entry.row_count) for entry in log] == [
        ("a key", "erase", 2),
        ("a key", "erase", 2),
        ("a key", "erase", 1),
    ]
    assert first_broken(log) is None


@pytest.mark.parametrize("subject", [USER, SESSION], ids=["user", "session"])
def test_their_rows_are_found_without_reading_those_of_all_others(store, subject):
    query = subject.runs().compile(store.backend.engine, compile_kwargs={"literal_binds": True})
    with store.reading() as connection:
        if store.backend.name == "postgresql":
            connection.execute(text("SET LOCAL enable_seqscan = off"))  # which is right while there are no rows
            steps = connection.scalars(text(f"EXPLAIN {query}")).all()
        else:
            steps = [step.detail for step in connection.execute(text(f"EXPLAIN QUERY PLAN {query}"))]
    plan = "\n".join(steps)
    for table in ("execution_logs", "llm_call_logs"):
        assert f"ix_{table}_{subject.kind}" in plan
    assert "SCAN execution_logs" not in plan
    assert "Seq Scan" not in plan


def test_nothing_that_stays_says_who_was_forgotten(store, rows):
    store.write(told(rows, 1, external_user_id="u-4711-zebedee"))
    store.erase(Subject("user", "u-4711-zebedee"))
    with store.reading() as connection:
        stays = f"{connection.execute(select(tombstones)).all()} {entries(connection)}"
    assert "u-4711-zebedee" not in stays


def test_refused_spans_former_charges_and_running_rows_go_too(store, rows):
    batch = told(rows, 1, external_user_id="u-1")
    store.write(batch)

    def letter(number: int, body: str) -> dict[str, str]:
        return {"id": rows.id(9, number), "trace_id": "9" * 32, "span_id": "9" * 16, "reason": "?", "body": body}

    letters = [
        letter(1, '["1","2",null,{"user.id":"u-1"}]'),
        letter(2, '["1","2",null,{"user.id":"u-12"}]'),
        letter(3, 'broken: "u-1'),
        letter(4, '{"U-1": 0}'),
    ]

    def add(connection):
        connection.execute(insert(dead_letters), letters)
        connection.execute(insert(former_charges), [{"call_id": batch.llm_calls[0].id}])
        connection.execute(insert(open_rows), [{"row_id": batch.executions[0].id, "producer": "p"}])

    store.backend.transact(add)
    assert store.count(USER).dead_letters == 2
    assert store.erase(USER) == Erased(2, 1, 1, 2)
    with store.reading() as connection:
        left = [
            connection.scalars(select(column)).all()
            for column in (dead_letters.c.body, former_charges.c.call_id, open_rows.c.row_id)
        ]
    assert left == [[letters[1]["body"], letters[3]["body"]], [], []]


def test_no_byte_of_a_prompt_is_left_in_sqlites_files(sqlite, rows):
    store = Store.open(sqlite)
    path = Path(make_url(sqlite).database or "")
    for trace in range(1, 40):
        batch = told(rows, trace, external_user_id="u-1" if trace % 3 else "u-2")
        started = [row._replace(status="started", end_time=None) for row in batch.executions]
        store.write(Batch(started))  # rows that were rewritten leave copies, too
        long = [row._replace(input_data=f'"{SECRET * 900} {trace % 3}"') for row in batch.executions]
        store.write(batch._replace(executions=long))
    with store.reading() as connection:
        connection.execute(text("SELECT count(*) FROM execution_logs"))

    def bytes_of() -> bytes:
        return b"".join(file.read_bytes() for file in path.parent.glob(path.name + "*"))

    assert SECRET.encode() in bytes_of()
    store.erase(USER)
    assert SECRET.encode() in bytes_of()  # the other user's
    store.erase(Subject("user", "u-2"))
    assert ids(store) == set()
    assert SECRET.encode() not in bytes_of()
    store.close()
