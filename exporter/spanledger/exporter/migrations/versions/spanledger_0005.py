"""A user's and a session's rows, found without reading those of all others."""

from alembic import op
from sqlalchemy import text

revision = "spanledger_0005"
down_revision = "spanledger_0004"
branch_labels = None


def upgrade() -> None:
    for table in ("execution_logs", "llm_call_logs"):
        for name, column in (("user", "external_user_id"), ("session", "session_id")):
            named = text(f"{column} IS NOT NULL")
            op.create_index(f"ix_{table}_{name}", table, [column], sqlite_where=named, postgresql_where=named)
