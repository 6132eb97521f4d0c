"""Opening a store: which database, whether it is ready, and a sentence when it is not."""

import multiprocessing
import socket
import sqlite3
import time
from contextlib import closing

import pytest
from sqlalchemy import create_engine, make_url, text

from spanledger.exporter.errors import ConfigurationError, StoreUnavailable
from spanledger.exporter.migrations import VERSION_TABLE
from spanledger.exporter.store import Store


def test_sqlite_is_migrated_when_it_is_opened(empty_sqlite, rows):
    store = Store.open(empty_sqlite)
    assert store.write(rows.run()).stored == 4
    store.close()


def test_sqlite_is_only_checked_when_migrating_is_refused(empty_sqlite):
    with pytest.raises(StoreUnavailable, match="run `spanledger migrate`"):
        Store.open(empty_sqlite, migrate=False)


def test_postgresql_is_only_checked_when_it_is_opened(empty_postgresql):
    with pytest.raises(StoreUnavailable, match="run `spanledger migrate`"):
        Store.open(empty_postgresql)
    Store.open(empty_postgresql, migrate=True).close()
    Store.open(empty_postgresql).close()


def test_postgresql_that_loses_its_tables_says_to_migrate(empty_postgresql, rows):
    store = Store.open(empty_postgresql, migrate=True)
    with store.engine.begin() as connection:
        connection.execute(text("DROP TABLE llm_call_logs"))
    with pytest.raises(StoreUnavailable, match="run `spanledger migrate`"):
        store.write(rows.run())
    store.close()


def test_tables_of_a_newer_version_ask_to_upgrade(database_url):
    store = Store.open(database_url)
    with store.backend.migrating() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = 'spanledger_9999'"))
    store.close()
    for migrate in (None, True, False):
        with pytest.raises(ConfigurationError, match=r"newer spanledger; this one knows .* --upgrade spanledger"):
            Store.open(database_url, migrate=migrate)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg", "postgresql+asyncpg"])
def test_every_usual_scheme_of_postgresql_is_understood(postgresql, scheme, rows):
    store = Store.open(f"{scheme}://{postgresql.partition('://')[2]}")
    assert store.write(rows.run()).stored == 4
    store.close()


def test_an_engine_only_tells_which_database(database_url, rows):
    engine = create_engine(
        make_url(database_url).set(drivername="sqlite" if "sqlite" in database_url else "postgresql+psycopg")
    )
    store = Store.open(engine)
    assert store.engine is not engine
    store.write(rows.run())
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM llm_call_logs")) == 3
    store.close()
    engine.dispose()


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("mysql://user:hunter2@host/database", "cannot store in 'mysql': use sqlite:///"),
        ("user:hunter2@nowhere", "cannot be read: use sqlite:///"),
        ("postgresql://user:hunter2@host:port/database", "cannot be read: use sqlite:///"),
        ("postgresql://user:hunter2@host/database?colour=red", "colour"),
        ("", "cannot be read: use sqlite:///"),
        ("sqlite://", "in memory cannot be shared"),
        ("sqlite:///:memory:", "in memory cannot be shared"),
        ("sqlite:////no/such/directory/file.db", "There is no directory /no/such/directory"),
    ],
)
def test_a_wrong_url_is_a_configuration_error_in_words(url, sentence):
    with pytest.raises(ConfigurationError, match=sentence) as caught:
        Store.open(url)
    assert "hunter2" not in str(caught.value)


def test_a_file_that_is_not_a_database_is_named(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("These are not the rows you are looking for. " * 100)
    with pytest.raises(StoreUnavailable, match=r"notes\.txt: file is not a database; .*choose another name"):
        Store.open(f"sqlite:///{path}")


def test_a_directory_is_not_a_database(tmp_path):
    with pytest.raises(StoreUnavailable, match="unable to open database file; the file and its directory"):
        Store.open(f"sqlite:///{tmp_path}")


def test_an_unreachable_server_is_named_without_its_password():
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # taken, and not listening
        port = nobody.getsockname()[1]
        url = f"postgresql://agent:hunter2@127.0.0.1:{port}/ledger?password=hunter2"
        with pytest.raises(StoreUnavailable, match=rf"127\.0\.0\.1:{port}/ledger") as caught:
            Store.open(url)
    assert "hunter2" not in str(caught.value)


def test_a_missing_database_is_named(pg_url):
    with pytest.raises(StoreUnavailable, match='database "nowhere" does not exist'):
        Store.open(make_url(pg_url).set(database="nowhere").render_as_string(hide_password=False))


def test_sqlite_files_of_ours_have_large_pages_and_a_write_ahead_log(sqlite):
    with sqlite3.connect(make_url(sqlite).database or "") as connection:
        assert connection.execute("PRAGMA page_size").fetchone() == (16384,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_a_closed_store_can_be_used_again(store, rows):
    store.close()
    assert store.write(rows.run()).stored == 4


def _write_in_child(store, batch, answer):
    inherited = store.engine.pool.checkedin()
    answer.put((inherited, store.write(batch).stored))
    store.close()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # what this test is about
def test_a_forked_child_writes_over_connections_of_its_own(store, rows, counts):
    with store.reading(), store.reading():  # leaves two connections in the pool
        store.write(rows.run(1))
    context = multiprocessing.get_context("fork")
    answer = context.SimpleQueue()
    children = [context.Process(target=_write_in_child, args=(store, rows.run(trace), answer)) for trace in (2, 3)]
    with store.reading():  # a connection of the parent's is in the middle of something
        for child in children:
            child.start()
        for child in children:
            child.join(30)
            assert child.exitcode == 0
    assert [answer.get(), answer.get()] == [(0, 4), (0, 4)]
    store.write(rows.run(4))
    assert counts(store)["llm_call_logs"] == 12


def test_whoever_opens_an_sqlite_file_and_reads_does_not_wait_for_a_writer(sqlite):
    with closing(sqlite3.connect(make_url(sqlite).database or "", isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        Store.open(sqlite).close()
        assert time.monotonic() - began < 1
