"""What Alembic runs for every command on our history: always on the connection and transaction it was given."""

from alembic import context

from spanledger.exporter.migrations import VERSION_TABLE
from spanledger.exporter.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
)
with context.begin_transaction():
    context.run_migrations()
