"""A report's rows, found by an index that costs those of no report nothing."""

from alembic import op
from sqlalchemy import text

revision = "spanledger_0006"
down_revision = "spanledger_0005"
branch_labels = None


def upgrade() -> None:
    named = text("report_id IS NOT NULL")
    for table in ("execution_logs", "llm_call_logs"):
        name = f"ix_{table}_report"
        op.drop_index(name, table)
        op.create_index(name, table, ["report_id", "start_time"], sqlite_where=named, postgresql_where=named)
