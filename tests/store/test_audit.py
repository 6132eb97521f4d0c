"""The audit log: a chain that cannot be changed unnoticed."""

import threading

import pytest
from sqlalchemy import text

from spanledger.exporter.audit import append, entries, first_broken
from spanledger.exporter.store import Store


def note(store: Store, object: str, count: int | None = None) -> None:
    store.backend.transact(
        lambda connection: append(store.backend, connection, actor="me", action="try", object=object, row_count=count)
    )


def chain(store: Store):
    with store.reading() as connection:
        return entries(connection)


@pytest.fixture
def written(store):
    for number in range(1, 6):
        note(store, f"thing {number}", number)
    return store


def test_entries_are_numbered_and_fit_each_other(written):
    log = chain(written)
    assert [(entry.number, entry.object, entry.row_count) for entry in log] == [
        (n, f"thing {n}", n) for n in range(1, 6)
    ]
    assert first_broken(log) is None
    with written.reading() as connection:
        assert entries(connection, last=2) == log[3:]


@pytest.mark.parametrize(
    ("tampering", "broken"),
    [
        ("UPDATE audit_log SET object = 'another' WHERE number = 3", 3),
        ("UPDATE audit_log SET actor = 'you' WHERE number = 5", 5),
        ("UPDATE audit_log SET time = '2020-01-01T00:00:00.000000Z' WHERE number = 1", 1),
        ("UPDATE audit_log SET row_count = NULL WHERE number = 4", 4),
        ("DELETE FROM audit_log WHERE number = 1", 1),
        ("DELETE FROM audit_log WHERE number = 3", 3),
        ("UPDATE audit_log SET number = number - 1 WHERE number = 5 AND EXISTS (SELECT 1)", None),
    ],
)
def test_whoever_changes_the_log_leaves_a_trace(written, tampering, broken):
    if broken is None:  # move the last entry into the place of the one before
        tamper(written, "DELETE FROM audit_log WHERE number = 4")
    tamper(written, tampering)
    assert first_broken(chain(written)) == (broken or 4)


def test_a_log_that_was_cut_off_lacks_the_digest_that_was_noted(written):
    noted = chain(written)[-1].digest
    tamper(written, "DELETE FROM audit_log WHERE number = 5")
    assert first_broken(chain(written)) is None
    assert noted not in {entry.digest for entry in chain(written)}


def test_writers_at_the_same_time_make_one_chain(store):
    def write(name: str) -> None:
        for number in range(10):
            note(store, f"{name} {number}")

    writers = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert first_broken(chain(store)) is None
    assert len(chain(store)) == 40


def tamper(store: Store, statement: str) -> None:
    with store.backend.migrating() as connection:
        connection.execute(text(statement))
