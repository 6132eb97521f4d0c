"""The history of the tables, for Alembic, and which of it a database has seen.

``versions/`` holds one file per revision, named as its id. A database remembers where it stands in the table
`VERSION_TABLE`, apart from an application's own Alembic history.

An application that would rather run our revisions with its own adds ``spanledger.exporter:migrations/versions`` to the
``version_locations`` of its ``alembic.ini`` and upgrades to ``heads``: they are a branch of their own, labelled
``spanledger``. Its ``alembic_version`` then says where the database stands, and spanledger leaves migrating to it.
"""

import threading
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, String, column, inspect, select, table

from ..errors import ConfigurationError, StoreUnavailable

VERSION_TABLE: Final = "spanledger_version"
APPLICATION_TABLE: Final = "alembic_version"
FOLDER: Final = Path(__file__).parent
PREFIX: Final = "spanledger_"
REVISIONS: Final = tuple(sorted(path.stem for path in FOLDER.glob(f"versions/{PREFIX}*.py")))
"""Every revision this version of spanledger knows, oldest first."""

# Alembic keeps its context in globals of its own modules: two migrations in one process would mix them up.
_ONE_AT_A_TIME: Final = threading.Lock()


def is_current(connection: Connection) -> bool:
    """Whether the database has seen every revision we know.

    Raises `ConfigurationError` if it has seen one we do not know: a newer spanledger has been here.
    """
    _, revision = _standing(connection)
    if revision is not None and revision not in REVISIONS:
        raise ConfigurationError(
            f"The database was migrated to {revision} by a newer spanledger; this one knows {REVISIONS[-1]}. "
            "Upgrade it: pip install --upgrade spanledger."
        )
    return revision == REVISIONS[-1]


def upgrade(connection: Connection) -> None:
    """Bring the tables up to date inside *connection*'s transaction, which only one process may be in."""
    if is_current(connection):
        return
    if _standing(connection)[0] == APPLICATION_TABLE:
        raise StoreUnavailable(
            "The application's own Alembic keeps spanledger's tables: run `alembic upgrade heads` there."
        )
    from alembic import command  # only who migrates pays for importing it
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    with _ONE_AT_A_TIME:
        command.upgrade(config, "head")


def _standing(connection: Connection) -> tuple[str, str | None]:
    """The table that says where the database stands, and the revision it names, if any."""
    for name in (VERSION_TABLE, APPLICATION_TABLE):
        if inspect(connection).has_table(name):
            version = column("version_num", String)
            names = connection.scalars(select(version).select_from(table(name, version)))
            if ours := [revision for revision in names if revision.startswith(PREFIX)]:
                return name, max(ours)
    return VERSION_TABLE, None
