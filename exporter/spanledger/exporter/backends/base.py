"""`Backend`: everything the store asks of a database that databases answer differently."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar, Final, TypeVar

import orjson
from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Engine,
    Table,
    Text,
    and_,
    case,
    literal,
    literal_column,
)
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ..errors import StoreError, StoreRejected, StoreUnavailable
from ..forking import at_fork
from ..records import ABANDONED, CANCELLED, STARTED, Bridge, Content, Execution, LLMCall
from ..schema import Now

T = TypeVar("T")
Record = Execution | LLMCall | Bridge | Content

ATTEMPTS: Final = 5
"""How often a transaction is run before a conflict with another one becomes the caller's business."""


class Backend(ABC):
    """One open database. Thread-safe, and usable in a child after ``fork``: connections are never shared with it.

    Whatever the driver raises leaves as `StoreUnavailable` (trying again can help) or `StoreRejected` (it cannot).
    Only what is surely the data's fault is rejected; in doubt data is worth another try.
    """

    name: ClassVar[str]
    """SQLAlchemy's name of the dialect."""
    migrates_itself: ClassVar[bool]
    """Whether opening the database also brings its tables up to date. Where others share it, someone has to decide."""
    driver_error: ClassVar[type[Exception]]

    engine: Engine

    def __init__(self, url: URL) -> None:
        self.url = url
        self.engine = self._connectable(url)
        self._inherited: list[object] = []
        at_fork(in_child=self._after_fork)

    @property
    def address(self) -> str:
        """Which database this is, in words and without its password."""
        return self.url.difference_update_query(("password",)).render_as_string(hide_password=True)

    def transact(self, work: Callable[[Connection], T]) -> T:
        """Run *work* in one write transaction and return what it returned, once that is committed.

        *work* may run more than once: a transaction that lost against another one is repeated.
        """
        for _ in range(ATTEMPTS - 1):
            try:
                with self._translated(), self._writing() as connection:
                    return work(connection)
            except StoreUnavailable as error:
                if not self._lost_a_race(error):
                    raise
        with self._translated(), self._writing() as connection:
            return work(connection)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database throughout. Bounded in time: then `StoreUnavailable`."""
        with self._translated(), self._snapshot() as connection:
            yield connection

    @contextmanager
    def migrating(self) -> Iterator[Connection]:
        """A write transaction that only one process at a time can be in, with time to change tables."""
        with self._translated(), self._alone() as connection:
            yield connection

    @abstractmethod
    def lock(self, connection: Connection, keys: Iterable[str], *, alone: bool = False) -> None:
        """Until the transaction ends, let no other one hold any of *keys*; with *alone*, any key at all."""

    @abstractmethod
    def upsert(self, connection: Connection, table: Table, rows: Sequence[Record], standing: Collection[str]) -> None:
        """Insert *rows*, at least one, sorted and distinct by id. At most once per table in a transaction.

        Where a row of that id stands already, the new one replaces it if its state has moved further, and is ignored
        otherwise. Rows that are not in *standing* are known to be new.
        """

    @staticmethod
    @abstractmethod
    def among(column: ColumnElement[str], values: Iterable[str] | BindParameter[str]) -> ColumnElement[bool]:
        """``column IN values``, for any number of values and with one statement text.

        A parameter takes what `listed` makes of the values: of a statement that is made once and asked often.
        """

    @abstractmethod
    def size(self, connection: Connection) -> int:
        """Bytes that the rows take with their indexes; not the room in the files that deleted ones have left."""

    @abstractmethod
    def reclaim(self, *, thoroughly: bool = False) -> None:
        """Give the room of deleted rows back without keeping writers waiting, where that does not happen by itself.

        *thoroughly*: whatever it takes.
        """

    @abstractmethod
    def alone(self, key: str) -> AbstractContextManager[bool]:
        """While the block runs, let no other process that shares this database be *alone* with *key*: whether so."""

    def scrub(self) -> None:  # noqa: B027
        """Leave of deleted rows no byte in the files, as far as that is in our hands."""

    def close(self) -> None:
        self.engine.dispose()

    @abstractmethod
    def _connectable(self, url: URL) -> Engine:
        """The engine for *url*. Does not connect. Raises `ConfigurationError` if it never could."""

    @abstractmethod
    def _writing(self) -> AbstractContextManager[Connection]: ...

    @abstractmethod
    def _snapshot(self) -> AbstractContextManager[Connection]: ...

    @abstractmethod
    def _alone(self) -> AbstractContextManager[Connection]: ...

    @abstractmethod
    def _explain(self, error: BaseException) -> StoreError:
        """What the driver's *error* means for the caller, as a sentence."""

    def _lost_a_race(self, error: StoreUnavailable) -> bool:
        return False

    def _after_fork(self) -> None:
        # Kept, not closed: closing would tell the server, or SQLite's lock file, that the parent's connection is gone.
        self._inherited.append(self.engine.pool)
        self.engine.dispose(close=False)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except PoolTimeout as error:
            raise StoreUnavailable(f"No connection to {self.address} was free in time; try again.") from error
        except DBAPIError as error:
            raise self._explain(error.orig or error) from error
        except self.driver_error as error:
            raise self._explain(error) from error
        except (OverflowError, UnicodeError, orjson.JSONEncodeError) as error:
            raise StoreRejected(f"A value cannot be stored: {error}.") from error


def listed(values: Iterable[str]) -> str:
    """*values* as the one text they travel in: as an array, a driver would convert each by itself."""
    return orjson.dumps(list(values)).decode()


def as_list(values: Iterable[str] | BindParameter[str]) -> BindParameter[str]:
    return values if isinstance(values, BindParameter) else literal(listed(values), Text)


def upsert_statement(insert: Any, table: Table, fields: Sequence[str]) -> Any:
    """*insert* (a dialect's INSERT into *table*) with ON CONFLICT: states only move forward, the rest never changes."""
    if "status" not in table.c:
        return insert.on_conflict_do_nothing(index_elements=[table.c.id])
    new = insert.excluded
    return insert.on_conflict_do_update(
        index_elements=[table.c.id],
        set_={name: new[name] for name in fields if name != "id"} | {"updated_at": Now()},
        where=_rank(new.status, new.error_type) > _rank(table.c.status, table.c.error_type),
    )


def _rank(status: ColumnElement[str], error_type: ColumnElement[str]) -> ColumnElement[int]:
    """`lineage.rank` in SQL: 0 started, 1 cancelled because abandoned, 2 ended."""
    abandoned = and_(status == _literal(CANCELLED), error_type == _literal(ABANDONED))
    return case(
        (status == _literal(STARTED), literal_column("0")), (abandoned, literal_column("1")), else_=literal_column("2")
    )


def _literal(text: str) -> ColumnElement[str]:
    """Not a parameter: a fast path binds nothing but the row's own fields."""
    return literal_column(f"'{text}'")
