"""The history makes the same tables as the schema says, and knows where a database stands."""

import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, text

from spanledger.exporter import migrations
from spanledger.exporter.backends import backend_of
from spanledger.exporter.errors import StoreUnavailable
from spanledger.exporter.schema import metadata
from spanledger.exporter.store import Store


def test_a_migrated_database_lacks_nothing_the_schema_has(store):
    options = {"compare_type": True, "compare_server_default": True, "include_name": _not_a_version_table}
    with store.reading() as connection:
        context = MigrationContext.configure(connection, opts=options | {"target_metadata": metadata})
        assert compare_metadata(context, metadata) == []


def test_a_migrated_database_is_what_the_schema_would_have_made(empty_database_url, request):
    store = Store.open(request.getfixturevalue(backend_of(empty_database_url).name))
    made = Store(backend_of(empty_database_url))
    with made.backend.migrating() as connection:
        metadata.create_all(connection)
    with store.reading() as migrated, made.reading() as created:
        assert _description(migrated) == _description(created)
    made.close()
    store.close()


def _description(connection):
    """Every table, column, default, key and index, by the database's own account."""
    inspector = inspect(connection)
    tables = {}
    for table in sorted(inspector.get_table_names()):
        if table == migrations.VERSION_TABLE:
            continue
        columns = [column | {"type": repr(column["type"])} for column in inspector.get_columns(table)]
        indexes = {index.pop("name"): _in_words(index) for index in inspector.get_indexes(table)}
        tables[table] = (columns, inspector.get_pk_constraint(table), indexes)
    return tables


def _in_words(value):
    """SQL expressions, which are equal to nothing else, as their text."""
    return {key: _in_words(each) for key, each in value.items()} if isinstance(value, dict) else str(value)


def _not_a_version_table(name, type_, _):
    return type_ != "table" or name != migrations.VERSION_TABLE


def test_revisions_are_named_as_their_files_and_follow_one_another():
    config = Config()
    config.set_main_option("script_location", str(migrations.FOLDER))
    history = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert tuple(reversed(history)) == migrations.REVISIONS


def test_migrating_twice_changes_nothing(store):
    store.migrate()
    with store.backend.migrating() as connection:
        migrations.upgrade(connection)
        assert migrations.is_current(connection)


def test_a_migration_that_fails_leaves_nothing_behind(empty_database_url):
    store = Store(backend_of(empty_database_url))
    with store.backend.migrating() as connection:
        connection.execute(text("CREATE TABLE tombstones (id INTEGER)"))  # in the way of the last table
    with pytest.raises(StoreUnavailable, match="tombstones"):
        store.migrate()
    with store.reading() as connection:
        assert inspect(connection).get_table_names() == ["tombstones"]
    store.close()


def test_what_needs_no_migration_does_not_import_alembic(sqlite):
    code = """
import sys
from spanledger.exporter.store import Store
Store.open(sys.argv[1]).close()
print("alembic" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code, sqlite], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.fixture
def application(tmp_path, empty_database_url):
    """An application with an Alembic history of its own, which takes ours along."""
    folder = tmp_path / "application"
    (folder / "versions").mkdir(parents=True)
    (folder / "alembic.ini").write_text(
        textwrap.dedent(f"""\
            [alembic]
            script_location = {folder}
            path_separator = newline
            version_locations =
                {folder / "versions"}
                spanledger.exporter:migrations/versions
            """)
    )
    (folder / "versions" / "app_1.py").write_text(
        textwrap.dedent("""\
            import sqlalchemy as sa
            from alembic import op

            revision = "app_1"
            down_revision = None


            def upgrade():
                op.create_table("users", sa.Column("id", sa.Integer, primary_key=True))
            """)
    )
    (folder / "env.py").write_text(
        textwrap.dedent("""\
            from alembic import context
            from sqlalchemy import create_engine, make_url

            url = make_url(context.get_x_argument(as_dictionary=True)["url"])
            engine = create_engine(url if url.drivername == "sqlite" else url.set(drivername="postgresql+psycopg"))
            with engine.connect() as connection:
                context.configure(connection=connection)
                with context.begin_transaction():
                    context.run_migrations()
            engine.dispose()
            """)
    )

    def alembic(*arguments: str) -> None:
        command = [
            sys.executable,
            "-m",
            "alembic",
            "-c",
            str(folder / "alembic.ini"),
            "-x",
            f"url={empty_database_url}",
        ]
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    return alembic


def test_an_application_can_run_our_history_with_its_own(application, empty_database_url, rows):
    application("upgrade", "heads")
    store = Store.open(empty_database_url)
    assert store.write(rows.run()).stored == 4
    with store.reading() as connection:
        assert not inspect(connection).has_table(migrations.VERSION_TABLE)
    store.close()


def test_an_application_that_keeps_our_tables_is_asked_to_migrate_them(application, empty_database_url, monkeypatch):
    application("upgrade", "heads")
    monkeypatch.setattr(migrations, "REVISIONS", (*migrations.REVISIONS, "spanledger_9999"))
    with pytest.raises(StoreUnavailable, match="run `alembic upgrade heads`"):
        Store.open(empty_database_url, migrate=True)


def test_our_history_stays_out_of_an_application_s_way(application, empty_database_url):
    """Its database, our tables: each migrates its own, in any order."""
    Store.open(empty_database_url, migrate=True).close()
    application("upgrade", "app_1")
    Store.open(empty_database_url).close()


def test_a_sqlite_database_of_an_application_takes_our_tables_in(tmp_path, rows):
    path = tmp_path / "application.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE users (id INTEGER PRIMARY KEY)")
    engine = create_engine(f"sqlite:///{path}")
    store = Store.open(engine)
    assert store.write(rows.run()).stored == 4
    with engine.connect() as connection:
        assert inspect(connection).has_table("users")
    store.close()
    engine.dispose()
