"""What the spool's drainer writes beside the rows: who runs, what runs, what was delivered, what was refused."""

import sqlalchemy as sa
from alembic import op

from spanledger.exporter.schema import Identifier, Json, Now, Timestamp

revision = "spanledger_0002"
down_revision = "spanledger_0001"
branch_labels = None


def upgrade() -> None:
    op.create_table(
        "producers",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("first_seen", Timestamp(), server_default=Now(), nullable=False),
        sa.Column("last_seen", Timestamp(), server_default=Now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_producers"),
    )
    op.create_table(
        "open_rows",
        sa.Column("row_id", Identifier(), nullable=False),
        sa.Column("producer", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("row_id", name="pk_open_rows"),
    )
    op.create_index("ix_open_rows_producer", "open_rows", ["producer"])
    op.create_table(
        "deliveries",
        sa.Column("segment", sa.String(), nullable=False),
        sa.Column("producer", sa.String(), nullable=False),
        sa.Column("written_at", Timestamp(), nullable=False),
        sa.Column("produced", sa.Integer(), nullable=False),
        sa.Column("stored", sa.Integer(), nullable=False),
        sa.Column("skipped", sa.Integer(), nullable=False),
        sa.Column("dropped", Json()),
        sa.PrimaryKeyConstraint("segment", name="pk_deliveries"),
    )
    op.create_index("ix_deliveries_written", "deliveries", ["written_at"])
    op.create_table(
        "dead_letters",
        sa.Column("id", Identifier(), nullable=False),
        sa.Column("trace_id", sa.String(length=32), nullable=False),
        sa.Column("span_id", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", Timestamp(), server_default=Now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_dead_letters"),
    )
