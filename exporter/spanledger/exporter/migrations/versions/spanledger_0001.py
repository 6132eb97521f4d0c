"""The tables of the ledger, the spans between them, content that waits for its row, and what was deleted."""

import sqlalchemy as sa
from alembic import op

from spanledger.exporter.schema import Identifier, Json, Now, Timestamp

revision = "spanledger_0001"
down_revision = None
branch_labels = ("spanledger",)


def upgrade() -> None:
    op.create_table(
        "bridge_spans",
        sa.Column("id", Identifier(), nullable=False),
        sa.Column("trace_id", sa.String(length=32), nullable=False),
        sa.Column("span_id", sa.String(length=16), nullable=False),
        sa.Column("parent_span_id", sa.String(length=16)),
        sa.Column("start_time", Timestamp(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_bridge_spans"),
    )
    op.create_index("ix_bridge_spans_trace", "bridge_spans", ["trace_id"])
    op.create_table(
        "content_events",
        sa.Column("id", Identifier(), nullable=False),
        sa.Column("trace_id", sa.String(length=32), nullable=False),
        sa.Column("span_id", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("time", Timestamp(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("scope", sa.String()),
        sa.Column("service_name", sa.String()),
        sa.PrimaryKeyConstraint("id", name="pk_content_events"),
    )
    op.create_index("ix_content_events_trace", "content_events", ["trace_id", "time"])
    op.create_table(
        "execution_logs",
        sa.Column("id", Identifier(), nullable=False),
        sa.Column("execution_id", sa.String(), nullable=False),
        sa.Column("agent_type", sa.String(), nullable=False),
        sa.Column("execution_step", sa.String(), nullable=False),
        sa.Column("action_type", sa.String()),
        sa.Column("status", sa.String(), server_default="started", nullable=False),
        sa.Column("start_time", Timestamp(), nullable=False),
        sa.Column("end_time", Timestamp()),
        sa.Column("duration_ms", sa.Integer()),
        sa.Column("input_data", Json()),
        sa.Column("output_data", Json()),
        sa.Column("error_message", sa.Text()),
        sa.Column("error_type", sa.String()),
        sa.Column("error_stacktrace", sa.Text()),
        sa.Column("metadata", Json()),
        sa.Column("report_id", Identifier()),
        sa.Column("completion_id", Identifier()),
        sa.Column("widget_id", Identifier()),
        sa.Column("step_id", Identifier()),
        sa.Column("external_platform", sa.String()),
        sa.Column("external_user_id", sa.String()),
        sa.Column("parent_id", Identifier()),
        sa.Column("trace_id", sa.String(length=32), nullable=False),
        sa.Column("span_id", sa.String(length=16), nullable=False),
        sa.Column("parent_span_id", sa.String(length=16)),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("session_id", sa.String()),
        sa.Column("service_name", sa.String()),
        sa.Column("environment", sa.String()),
        sa.Column("scope", sa.String()),
        sa.Column("scope_version", sa.String()),
        sa.Column("usage_raw", Json()),
        sa.Column("inherited", sa.String()),
        sa.Column("dropped_attributes", sa.Integer()),
        sa.Column("sanitized", sa.Boolean(), nullable=False),
        sa.Column("created_at", Timestamp(), server_default=Now(), nullable=False),
        sa.Column("updated_at", Timestamp(), server_default=Now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_execution_logs"),
    )
    op.create_index("ix_execution_logs_execution", "execution_logs", ["execution_id"])
    op.create_index("ix_execution_logs_parent", "execution_logs", ["parent_id"])
    op.create_index("ix_execution_logs_report", "execution_logs", ["report_id", "start_time"])
    op.create_index("ix_execution_logs_start", "execution_logs", ["start_time", "id"])
    op.create_index("ix_execution_logs_trace", "execution_logs", ["trace_id"])
    op.create_table(
        "llm_call_logs",
        sa.Column("id", Identifier(), nullable=False),
        sa.Column("execution_log_id", Identifier()),
        sa.Column("execution_id", sa.String(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("model_id", sa.String(), nullable=False),
        sa.Column("response_model", sa.String()),
        sa.Column("response_id", sa.String()),
        sa.Column("finish_reason", sa.String()),
        sa.Column("service_tier", sa.String()),
        sa.Column("call_type", sa.String(), server_default="inference", nullable=False),
        sa.Column("status", sa.String(), server_default="started", nullable=False),
        sa.Column("start_time", Timestamp(), nullable=False),
        sa.Column("end_time", Timestamp()),
        sa.Column("duration_ms", sa.Integer()),
        sa.Column("prompt", sa.Text()),
        sa.Column("response", sa.Text()),
        sa.Column("error_message", sa.Text()),
        sa.Column("error_type", sa.String()),
        sa.Column("error_stacktrace", sa.Text()),
        sa.Column("input_tokens", sa.Integer()),
        sa.Column("output_tokens", sa.Integer()),
        sa.Column("total_tokens", sa.Integer()),
        sa.Column("cache_read_tokens", sa.Integer()),
        sa.Column("cache_write_tokens", sa.Integer()),
        sa.Column("reasoning_tokens", sa.Integer()),
        sa.Column("audio_input_tokens", sa.Integer()),
        sa.Column("audio_output_tokens", sa.Integer()),
        sa.Column("input_cost", sa.Double()),
        sa.Column("output_cost", sa.Double()),
        sa.Column("total_cost", sa.Double()),
        sa.Column("cost_source", sa.String()),
        sa.Column("price_ref", sa.String()),
        sa.Column("reported_cost", sa.Double()),
        sa.Column("counted", sa.Boolean(), nullable=False),
        sa.Column("not_counted_reason", sa.String()),
        sa.Column("usage_raw", Json()),
        sa.Column("usage_rule", sa.String()),
        sa.Column("is_streaming", sa.Boolean(), server_default=sa.text("FALSE"), nullable=False),
        sa.Column("chunks_count", sa.Integer()),
        sa.Column("time_to_first_token_ms", sa.Integer()),
        sa.Column("metadata", Json()),
        sa.Column("report_id", Identifier()),
        sa.Column("completion_id", Identifier()),
        sa.Column("external_platform", sa.String()),
        sa.Column("external_user_id", sa.String()),
        sa.Column("trace_id", sa.String(length=32), nullable=False),
        sa.Column("span_id", sa.String(length=16), nullable=False),
        sa.Column("parent_span_id", sa.String(length=16)),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("session_id", sa.String()),
        sa.Column("service_name", sa.String()),
        sa.Column("environment", sa.String()),
        sa.Column("scope", sa.String()),
        sa.Column("scope_version", sa.String()),
        sa.Column("inherited", sa.String()),
        sa.Column("dropped_attributes", sa.Integer()),
        sa.Column("sanitized", sa.Boolean(), nullable=False),
        sa.Column("created_at", Timestamp(), server_default=Now(), nullable=False),
        sa.Column("updated_at", Timestamp(), server_default=Now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_llm_call_logs"),
    )
    op.create_index("ix_llm_call_logs_execution", "llm_call_logs", ["execution_id"])
    op.create_index("ix_llm_call_logs_execution_log", "llm_call_logs", ["execution_log_id"])
    op.create_index("ix_llm_call_logs_report", "llm_call_logs", ["report_id", "start_time"])
    op.create_index("ix_llm_call_logs_response", "llm_call_logs", ["response_id", "start_time"])
    op.create_index("ix_llm_call_logs_scope", "llm_call_logs", ["scope", "start_time"])
    op.create_index(
        "ix_llm_call_logs_root",
        "llm_call_logs",
        ["start_time"],
        sqlite_where=sa.text("parent_span_id IS NULL"),
        postgresql_where=sa.text("parent_span_id IS NULL"),
    )
    op.create_index("ix_llm_call_logs_start", "llm_call_logs", ["start_time", "id"])
    op.create_index("ix_llm_call_logs_trace", "llm_call_logs", ["trace_id"])
    op.create_table(
        "tombstones",
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.Column("created_at", Timestamp(), server_default=Now(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "value", name="pk_tombstones"),
    )


def downgrade() -> None:
    op.drop_table("tombstones")
    op.drop_table("llm_call_logs")
    op.drop_table("execution_logs")
    op.drop_table("content_events")
    op.drop_table("bridge_spans")
