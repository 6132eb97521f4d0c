"""What calls were charged before they were repriced."""

import sqlalchemy as sa
from alembic import op

from spanledger.exporter.schema import Identifier, Now, Timestamp

revision = "spanledger_0003"
down_revision = "spanledger_0002"
branch_labels = None


def upgrade() -> None:
    op.create_table(
        "former_charges",
        sa.Column("call_id", Identifier(), nullable=False),
        sa.Column("replaced_at", Timestamp(), server_default=Now(), nullable=False),
        sa.Column("input_cost", sa.Double()),
        sa.Column("output_cost", sa.Double()),
        sa.Column("total_cost", sa.Double()),
        sa.Column("cost_source", sa.String()),
        sa.Column("price_ref", sa.String()),
        sa.PrimaryKeyConstraint("call_id", "replaced_at", name="pk_former_charges"),
    )
