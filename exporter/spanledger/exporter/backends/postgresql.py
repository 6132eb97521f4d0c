"""PostgreSQL, through psycopg 3."""

import ipaddress
import logging
import os
import socket
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, ClassVar, Final, NamedTuple

import orjson
import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from sqlalchemy import (
    BindParameter,
    Column,
    ColumnElement,
    Connection,
    Engine,
    Executable,
    MetaData,
    Table,
    Text,
    any_,
    cast,
    create_engine,
    event,
    func,
    literal,
    select,
    tablesample,
)
from sqlalchemy.dialects.postgresql import JSON, REGCLASS, insert
from sqlalchemy.engine import URL
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.schema import CreateTable
from sqlalchemy.sql.compiler import SQLCompiler

from ..errors import ConfigurationError, StoreError, StoreRejected, StoreUnavailable
from ..schema import metadata
from . import copying
from .base import Backend, Record, as_list, upsert_statement
from .expressions import percentile

CONNECTIONS: Final = 5
CONNECT_SECONDS: Final = 5
POOL_SECONDS: Final = 2.0
PING_SECONDS: Final = 2.0
TRANSACTION_SECONDS: Final = 15.0
"""When the client gives up on a server that no longer answers; after the server's own limits, which say more."""
SESSION: Final[Mapping[str, str]] = {
    "lock_timeout": "2s",
    "statement_timeout": "10s",
    "idle_in_transaction_session_timeout": "10s",  # what a client that can no longer be heard has locked is free then
    "TimeZone": "UTC",
}
COMPRESSION: Final = sql.SQL(
    "SELECT set_config(name, 'lz4', false) FROM pg_settings"
    " WHERE name = 'default_toast_compression' AND 'lz4' = ANY(enumvals)"
)
"""lz4 for long values, where the server was built with it: its default takes several times as long for a fifth more."""
MIGRATION: Final[Mapping[str, str]] = {"lock_timeout": "60s", "statement_timeout": "0"}

ENCRYPTED: Final = ("require", "verify-ca", "verify-full")
"""Values of ``sslmode`` that do without the server rather than without encryption."""

_log: Final = logging.getLogger(__name__)

MOST_LOCKS: Final = 1000
"""Locks of one transaction. The server's table of locks holds 6400 by default, for all transactions together."""
SAMPLE_BYTES: Final = 64 * 1024 * 1024
"""How much of a table is looked at to see how full it is."""
TUPLE_BYTES: Final = 28
"""A row's header and the pointer to it in its page."""
EVERY_KEY: Final = "spanledger"
MIGRATION_KEY: Final = "spanledger migration"


class PostgreSQL(Backend):
    """New rows go by COPY into their table; others into a temporary one, and on with INSERT … ON CONFLICT.

    That needs every writer of a row to hold its trace's lock: what is new to one is then new to all.
    """

    name = "postgresql"
    migrates_itself: ClassVar = False
    driver_error: ClassVar = psycopg.Error

    def __init__(self, url: URL) -> None:
        super().__init__(url)
        self._staged: dict[str, _Staging] = {}

    def lock(self, connection: Connection, keys: Iterable[str], *, alone: bool = False) -> None:
        wanted = sorted(set(keys))
        if alone or len(wanted) > MOST_LOCKS:
            connection.execute(select(func.pg_advisory_xact_lock(_hash(EVERY_KEY))))
            return
        # Taken in the order of their hashes, so that two transactions never wait for each other.
        hashes = select(_hash(_each(wanted)).label("hash")).distinct().order_by("hash").subquery()
        connection.execute(select(func.pg_advisory_xact_lock_shared(_hash(EVERY_KEY))))
        connection.execute(select(func.pg_advisory_xact_lock(hashes.c.hash)))

    def upsert(self, connection: Connection, table: Table, rows: Sequence[Record], standing: Collection[str]) -> None:
        if new := [row for row in rows if row.id not in standing]:
            copying.copy(connection, table.name, table, new)
        if known := [row for row in rows if row.id in standing]:
            staging = self._staging(table, known[0]._fields)
            connection.execute(staging.create)
            copying.copy(connection, staging.name, table, known)
            connection.execute(staging.upsert)

    @staticmethod
    def among(column: ColumnElement[str], values: Iterable[str] | BindParameter[str]) -> ColumnElement[bool]:
        return column == any_(func.array(select(cast(_each(values), column.type)).scalar_subquery()))

    def size(self, connection: Connection) -> int:
        """``pg_total_relation_size`` of our tables, but of each only as much as a sample of it is rows."""
        return sum(_size(connection, table) for table in metadata.sorted_tables)

    def reclaim(self, *, thoroughly: bool = False) -> None:
        """Autovacuum does it; *thoroughly*: VACUUM now, which blocks no writer and lets later rows have the room."""
        if not thoroughly:
            return
        with self._translated(), self._session() as connection:
            connection.execute(select(func.set_config("statement_timeout", "0", False)))
            for table in metadata.sorted_tables:
                connection.exec_driver_sql(
                    f"VACUUM (ANALYZE) {connection.dialect.identifier_preparer.format_table(table)}"
                )

    @contextmanager
    def alone(self, key: str) -> Iterator[bool]:
        """The lock is the session's own, and ends with it, however that ends."""
        with self._session() as connection:
            with self._translated():
                locked = connection.scalar(select(func.pg_try_advisory_lock(_hash(key))))
            yield bool(locked)
            if locked:
                with self._translated():  # now, and not when the server notices that the session has ended
                    connection.execute(select(func.pg_advisory_unlock(_hash(key))))

    @contextmanager
    def _session(self) -> Iterator[Connection]:
        """A connection without a transaction that goes back to nobody afterwards."""
        with self._translated():
            connection = self.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            connection.detach()
        with connection:
            yield connection

    def _connectable(self, url: URL) -> Engine:
        try:
            make_conninfo(**dict.fromkeys(url.query, ""))
        except psycopg.ProgrammingError as error:
            raise ConfigurationError(f"The PostgreSQL URL cannot be used: {_one_line(error)}.") from None
        if not _is_safe(url):
            _log.warning(
                "%s: what goes over the network is not encrypted. Add ?sslmode=verify-full to the URL.", self.address
            )
        engine = create_engine(
            url.set(drivername="postgresql+psycopg"),
            pool_size=CONNECTIONS,
            max_overflow=0,
            pool_timeout=POOL_SECONDS,
            json_deserializer=orjson.loads,  # a large float comes back as all its digits, and is to be a float again
            connect_args={"connect_timeout": CONNECT_SECONDS, "fallback_application_name": "spanledger"},
        )
        event.listen(engine, "connect", _prepare)
        event.listen(engine, "checkout", _ping)
        return engine

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self.engine.connect() as connection, _deadline(connection, TRANSACTION_SECONDS), connection.begin():
            yield connection

    @contextmanager
    def _snapshot(self) -> Iterator[Connection]:
        options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        with (
            self.engine.connect().execution_options(**options) as connection,
            _deadline(connection, 2 * TRANSACTION_SECONDS),
            connection.begin(),
        ):
            yield connection

    @contextmanager
    def _alone(self) -> Iterator[Connection]:
        with self.engine.begin() as connection:
            for name, value in MIGRATION.items():
                connection.execute(select(func.set_config(name, value, True)))
            connection.execute(select(func.pg_advisory_xact_lock(_hash(MIGRATION_KEY))))
            yield connection

    def _lost_a_race(self, error: StoreUnavailable) -> bool:
        return _sqlstate(error.__cause__) in ("40001", "40P01")

    def _explain(self, error: BaseException) -> StoreError:
        state = _sqlstate(error)
        sentence = _one_line(error)
        if state[:2] in ("22", "23", "54") or (not state and isinstance(error, psycopg.DataError)):
            return StoreRejected(f"PostgreSQL refuses a value: {sentence}.")
        if state in ("42P01", "42703"):
            return StoreUnavailable(f"{self.address} lacks tables or columns: run `spanledger migrate`. ({sentence})")
        return StoreUnavailable(f"{self.address} is not available: {sentence}. It is tried again when asked again.")

    def _staging(self, table: Table, fields: Sequence[str]) -> "_Staging":
        if table.name not in self._staged:
            self._staged[table.name] = _Staging.of(table, fields)
        return self._staged[table.name]


class _Staging(NamedTuple):
    """A temporary table of the session for rows of one table, and what brings them from there into it."""

    name: str
    create: Executable
    upsert: Executable

    @classmethod
    def of(cls, table: Table, fields: Sequence[str]) -> "_Staging":
        incoming = Table(
            f"incoming_{table.name}",
            MetaData(),
            *(Column(name, table.c[name].type) for name in fields),
            prefixes=["TEMPORARY"],
            postgresql_on_commit="DELETE ROWS",
        )
        arrived = select(*(incoming.c[name] for name in fields)).order_by(incoming.c.id)
        return cls(
            incoming.name,
            CreateTable(incoming, if_not_exists=True),
            upsert_statement(insert(table).from_select(list(fields), arrived), table, fields),
        )


def _is_safe(url: URL) -> bool:
    """Whether a connection stays on this machine or must be encrypted, by the URL or by libpq's own variables."""
    hosts = url.host or url.query.get("host") or os.environ.get("PGHOST") or os.environ.get("PGHOSTADDR") or ""
    names = hosts.split(",") if isinstance(hosts, str) else hosts
    mode = url.query.get("sslmode") or os.environ.get("PGSSLMODE")
    return mode in ENCRYPTED or "service" in url.query or all(_is_here(name) for name in names)


def _is_here(host: str) -> bool:
    if host in ("", "localhost") or host.startswith(("/", "@")):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _size(connection: Connection, table: Table) -> int:
    name = cast(literal(connection.dialect.identifier_preparer.format_table(table)), REGCLASS)
    heap, rows_and_values, everything = connection.execute(
        select(func.pg_relation_size(name), func.pg_table_size(name), func.pg_total_relation_size(name))
    ).one()
    if not heap:
        return 0
    percent = min(100.0, 100 * SAMPLE_BYTES / heap)
    sample = tablesample(table, func.system(percent))
    row = sum((func.coalesce(func.pg_column_size(column), 0) for column in sample.c), start=literal(TUPLE_BYTES))
    seen = connection.scalar(select(func.sum(row)).select_from(sample)) or 0
    return int(everything * min(1.0, float(seen) * 100 / percent / rows_and_values))


@compiles(percentile, "postgresql")
def _percentile(element: percentile, compiler: SQLCompiler, **kw: Any) -> str:
    column, fraction = element.clauses
    return compiler.process(func.percentile_cont(fraction).within_group(column), **kw)


def _each(values: Iterable[str] | BindParameter[str]) -> ColumnElement[str]:
    """*values* as a column."""
    return func.json_array_elements_text(cast(as_list(values), JSON), type_=Text)


def _hash(key: Any) -> ColumnElement[int]:
    """A lock's number. Advisory locks are one space for the whole database: ours get a name of their own."""
    return func.hashtextextended(func.concat("spanledger:", key), 0)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _sqlstate(error: BaseException | None) -> str:
    error = getattr(error, "orig", error)
    return getattr(error, "sqlstate", None) or ""


def _prepare(driver_connection: psycopg.Connection[Any], _: object) -> None:
    # Not by startup options, which a connection pooler between us and the server would refuse.
    settings = sql.SQL("; ").join(
        sql.SQL("SET {} = {}").format(sql.Identifier(name), sql.Literal(value)) for name, value in SESSION.items()
    )
    with _socket_deadline(driver_connection, PING_SECONDS):
        driver_connection.execute(settings)
        driver_connection.execute(COMPRESSION)
        driver_connection.commit()
    copying.prepare(driver_connection)


def _ping(driver_connection: psycopg.Connection[Any], _: ConnectionPoolEntry, __: object) -> None:
    """Replaces SQLAlchemy's pre-ping, which would wait for ever on a server that only acknowledges packets."""
    try:
        with _socket_deadline(driver_connection, PING_SECONDS):
            driver_connection.autocommit = True
            driver_connection.execute("")
            driver_connection.autocommit = False
    except psycopg.Error as error:
        raise DisconnectionError from error


@contextmanager
def _deadline(connection: Connection, seconds: float) -> Iterator[None]:
    driver_connection = connection.connection.driver_connection
    assert isinstance(driver_connection, psycopg.Connection)
    with _socket_deadline(driver_connection, seconds):
        yield


@contextmanager
def _socket_deadline(driver_connection: psycopg.Connection[Any], seconds: float) -> Iterator[None]:
    """Shut the connection's socket down when *seconds* have passed.

    A network that swallows everything but acknowledgements defeats server-side timeouts and TCP keepalives alike: this
    is what still ends the wait. It works on a duplicate of the socket, whose number cannot be taken by another.
    """
    with socket.fromfd(driver_connection.fileno(), socket.AF_INET, socket.SOCK_STREAM) as duplicate:

        def shut() -> None:
            with suppress(OSError):
                duplicate.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(seconds, shut)
        timer.daemon = True
        with suppress(RuntimeError):  # since Python 3.12 no thread starts while the interpreter ends: then without
            timer.start()
        try:
            yield
        finally:
            timer.cancel()
