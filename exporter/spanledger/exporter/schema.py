"""The tables, as SQLAlchemy Core. ``migrations/`` holds their history; a test proves the two equal.

The types make the same table readable in ``psql`` and ``sqlite3``: UUIDs are ``UUID`` or dashed text, JSON is ``JSONB``
or text, times are ``TIMESTAMP WITH TIME ZONE`` or ISO-8601 text in UTC of one fixed width, which sorts as it reads.
"""

from datetime import UTC, datetime
from typing import Any, Final

import orjson
from sqlalchemy import Boolean, Column, ColumnElement, Double, Index, Integer, MetaData, String, Table, Text, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import TypeDecorator, TypeEngine

TIMESTAMP_FORMAT: Final = "%Y-%m-%dT%H:%M:%S.%fZ"


def timestamp_text(moment: datetime) -> str:
    """``2026-01-31T12:00:00.000000Z``: how SQLite stores, and the API prints, an aware UTC datetime."""
    return moment.isoformat(timespec="microseconds")[:26] + "Z"


class Identifier(TypeDecorator[str]):
    """A UUID as its dashed text."""

    impl = String(36)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.UUID(as_uuid=False))
        return dialect.type_descriptor(String(36))


class Timestamp(TypeDecorator[datetime]):
    """A moment in UTC with microseconds; aware on the way in and out."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.TIMESTAMP(timezone=True))
        return dialect.type_descriptor(Text())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None or dialect.name == "postgresql":
            return value
        return timestamp_text(value.astimezone(UTC))

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None or isinstance(value, datetime):
            return value if value is None else value.astimezone(UTC)
        return datetime.fromisoformat(value)


class Json(TypeDecorator[Any]):
    """A JSON document. Bound as JSON *text* (records hold it that way), read as the Python value."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.JSONB(none_as_null=True))
        return dialect.type_descriptor(Text())

    def process_bind_param(self, value: str | None, dialect: Dialect) -> Any:
        if value is None or dialect.name != "postgresql":
            return value
        return orjson.loads(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return orjson.loads(value) if isinstance(value, str) and dialect.name != "postgresql" else value


metadata: Final = MetaData(
    naming_convention={"ix": "ix_%(table_name)s_%(column_0_N_name)s", "pk": "pk_%(table_name)s"},
)


class Now(ColumnElement[datetime]):
    """The moment by the database's own clock, in the form `Timestamp` stores."""

    type = Timestamp()
    inherit_cache = True


@compiles(Now)
def _now(element: Now, compiler: SQLCompiler, **kw: Any) -> str:
    return "CURRENT_TIMESTAMP"


@compiles(Now, "sqlite")
def _now_as_text(element: Now, compiler: SQLCompiler, **kw: Any) -> str:
    # SQLite's own CURRENT_TIMESTAMP has another width than our text and no zone; its clock has milliseconds.
    return "strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')"


def _audit_columns() -> tuple[Column[Any], Column[Any]]:
    """When the row was first and last written, by the database's own clock."""
    return (
        Column("created_at", Timestamp, nullable=False, server_default=Now()),
        Column("updated_at", Timestamp, nullable=False, server_default=Now()),
    )


def _where_named(name: str, column: str, *then: str) -> Index:
    """An index of the rows that have a value in *column*: those that have none, often all, cost nothing."""
    named = text(f"{column} IS NOT NULL")
    return Index(name, column, *then, sqlite_where=named, postgresql_where=named)


execution_logs: Final = Table(
    "execution_logs",
    metadata,
    Column("id", Identifier, primary_key=True),
    Column("execution_id", String, nullable=False),
    Column("agent_type", String, nullable=False),
    Column("execution_step", String, nullable=False),
    Column("action_type", String),
    Column("status", String, nullable=False, server_default="started"),
    Column("start_time", Timestamp, nullable=False),
    Column("end_time", Timestamp),
    Column("duration_ms", Integer),
    Column("input_data", Json),
    Column("output_data", Json),
    Column("error_message", Text),
    Column("error_type", String),
    Column("error_stacktrace", Text),
    Column("metadata", Json),
    Column("report_id", Identifier),
    Column("completion_id", Identifier),
    Column("widget_id", Identifier),
    Column("step_id", Identifier),
    Column("external_platform", String),
    Column("external_user_id", String),
    Column("parent_id", Identifier),
    Column("trace_id", String(32), nullable=False),
    Column("span_id", String(16), nullable=False),
    Column("parent_span_id", String(16)),
    Column("name", String, nullable=False),
    Column("session_id", String),
    Column("service_name", String),
    Column("environment", String),
    Column("scope", String),
    Column("scope_version", String),
    Column("usage_raw", Json),
    Column("inherited", String),
    Column("dropped_attributes", Integer),
    Column("sanitized", Boolean, nullable=False),
    *_audit_columns(),
    # GET /executions: newest first, stable pages by (start_time, id)
    Index("ix_execution_logs_start", "start_time", "id"),
    # GET and DELETE /executions/{execution_id}; inheritance within a run
    Index("ix_execution_logs_execution", "execution_id"),
    # resolving a trace while writing; trace_id=
    Index("ix_execution_logs_trace", "trace_id"),
    # report_id=: one report's pages and summary
    _where_named("ix_execution_logs_report", "report_id", "start_time"),
    # forgetting a user or a session, and asking for theirs
    _where_named("ix_execution_logs_user", "external_user_id"),
    _where_named("ix_execution_logs_session", "session_id"),
    # the nested order of a run
    Index("ix_execution_logs_parent", "parent_id"),
)

llm_call_logs: Final = Table(
    "llm_call_logs",
    metadata,
    Column("id", Identifier, primary_key=True),
    Column("execution_log_id", Identifier),
    Column("execution_id", String, nullable=False),
    Column("provider", String, nullable=False),
    Column("model_id", String, nullable=False),
    Column("response_model", String),
    Column("response_id", String),
    Column("finish_reason", String),
    Column("service_tier", String),
    Column("call_type", String, nullable=False, server_default="inference"),
    Column("status", String, nullable=False, server_default="started"),
    Column("start_time", Timestamp, nullable=False),
    Column("end_time", Timestamp),
    Column("duration_ms", Integer),
    Column("prompt", Text),
    Column("response", Text),
    Column("error_message", Text),
    Column("error_type", String),
    Column("error_stacktrace", Text),
    Column("input_tokens", Integer),
    Column("output_tokens", Integer),
    Column("total_tokens", Integer),
    Column("cache_read_tokens", Integer),
    Column("cache_write_tokens", Integer),
    Column("reasoning_tokens", Integer),
    Column("audio_input_tokens", Integer),
    Column("audio_output_tokens", Integer),
    Column("input_cost", Double),
    Column("output_cost", Double),
    Column("total_cost", Double),
    Column("cost_source", String),
    Column("price_ref", String),
    Column("reported_cost", Double),
    Column("counted", Boolean, nullable=False),
    Column("not_counted_reason", String),
    Column("usage_raw", Json),
    Column("usage_rule", String),
    Column("is_streaming", Boolean, nullable=False, server_default=text("FALSE")),
    Column("chunks_count", Integer),
    Column("time_to_first_token_ms", Integer),
    Column("metadata", Json),
    Column("report_id", Identifier),
    Column("completion_id", Identifier),
    Column("external_platform", String),
    Column("external_user_id", String),
    Column("trace_id", String(32), nullable=False),
    Column("span_id", String(16), nullable=False),
    Column("parent_span_id", String(16)),
    Column("name", String, nullable=False),
    Column("session_id", String),
    Column("service_name", String),
    Column("environment", String),
    Column("scope", String),
    Column("scope_version", String),
    Column("inherited", String),
    Column("dropped_attributes", Integer),
    Column("sanitized", Boolean, nullable=False),
    *_audit_columns(),
    # GET /llm-calls: newest first, stable pages by (start_time, id); windows of the summary
    Index("ix_llm_call_logs_start", "start_time", "id"),
    # include_llm_calls: the calls of a page of executions, in one query
    Index("ix_llm_call_logs_execution_log", "execution_log_id"),
    # GET and DELETE /executions/{execution_id}
    Index("ix_llm_call_logs_execution", "execution_id"),
    # resolving a trace while writing; trace_id=
    Index("ix_llm_call_logs_trace", "trace_id"),
    # two instrumentors, one request: the same response id in another trace at the same time
    Index("ix_llm_call_logs_response", "response_id", "start_time"),
    # two instrumentors, one request, no id: a call of another scope, and one without parent, at the same time
    Index("ix_llm_call_logs_scope", "scope", "start_time"),
    Index(
        "ix_llm_call_logs_root",
        "start_time",
        sqlite_where=text("parent_span_id IS NULL"),
        postgresql_where=text("parent_span_id IS NULL"),
    ),
    # report_id=: one report's pages and summary
    _where_named("ix_llm_call_logs_report", "report_id", "start_time"),
    # forgetting a user or a session, and asking for theirs
    _where_named("ix_llm_call_logs_user", "external_user_id"),
    _where_named("ix_llm_call_logs_session", "session_id"),
)

# Spans that became no row, so that the chain of parents is never broken: a call finds its agent over an HTTP or task
# span that stands between, also when that one arrives later.
bridge_spans: Final = Table(
    "bridge_spans",
    metadata,
    Column("id", Identifier, primary_key=True),
    Column("trace_id", String(32), nullable=False),
    Column("span_id", String(16), nullable=False),
    Column("parent_span_id", String(16)),
    Column("start_time", Timestamp, nullable=False),
    Index("ix_bridge_spans_trace", "trace_id"),
)

# Content that arrived as OTLP log records: a span's prompt is made from the whole set, in whatever order they come.
content_events: Final = Table(
    "content_events",
    metadata,
    Column("id", Identifier, primary_key=True),
    Column("trace_id", String(32), nullable=False),
    Column("span_id", String(16), nullable=False),
    Column("name", String, nullable=False),
    Column("time", Timestamp, nullable=False),
    Column("body", Text, nullable=False),
    Column("scope", String),
    Column("service_name", String),
    # by trace; the ones that name no span, by time
    Index("ix_content_events_trace", "trace_id", "time"),
)

# What was deleted stays deleted: spans that are redelivered (a retrying exporter, a spool) are refused by these.
tombstones: Final = Table(
    "tombstones",
    metadata,
    Column("kind", String, primary_key=True),  # row (its id), execution (its execution_id), user, session
    Column("value", String, primary_key=True),
    Column("created_at", Timestamp, nullable=False, server_default=Now()),
)

# Processes that have written spans on some host, and when they were last seen alive by that host's drainer: what tells
# an execution that still runs from one whose process has died.
producers: Final = Table(
    "producers",
    metadata,
    Column("id", String, primary_key=True),
    Column("host", String, nullable=False),  # the spool folder's own id: who shares it can see each other's locks
    Column("first_seen", Timestamp, nullable=False, server_default=Now()),
    Column("last_seen", Timestamp, nullable=False, server_default=Now()),
)

# Rows written while their span was still running, and whose they are. A row that has ended since is forgotten here.
open_rows: Final = Table(
    "open_rows",
    metadata,
    Column("row_id", Identifier, primary_key=True),
    Column("producer", String, nullable=False),
    # what a dead producer leaves behind
    Index("ix_open_rows_producer", "producer"),
)

# One row per drained spool segment: what its process produced and what became of it. Keyed by the segment's name, so
# that draining it again, after a crash between commit and unlink, changes no sum.
deliveries: Final = Table(
    "deliveries",
    metadata,
    Column("segment", String, primary_key=True),
    Column("producer", String, nullable=False),
    Column("written_at", Timestamp, nullable=False),  # when the process began the segment
    Column("produced", Integer, nullable=False),
    Column("stored", Integer, nullable=False),
    Column("skipped", Integer, nullable=False),
    Column("dropped", Json),  # {reason: how many}, NULL for none
    # GET /analytics/completeness: a window
    Index("ix_deliveries_written", "written_at"),
)

# Spans the database refuses for good, with the reason: kept whole, so that a fix can bring them back.
dead_letters: Final = Table(
    "dead_letters",
    metadata,
    Column("id", Identifier, primary_key=True),
    Column("trace_id", String(32), nullable=False),
    Column("span_id", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("created_at", Timestamp, nullable=False, server_default=Now()),
)

# What a call was charged before `spanledger reprice` changed it: the books can always say what was said earlier.
former_charges: Final = Table(
    "former_charges",
    metadata,
    Column("call_id", Identifier, primary_key=True),
    Column("replaced_at", Timestamp, primary_key=True, server_default=Now()),
    Column("input_cost", Double),
    Column("output_cost", Double),
    Column("total_cost", Double),
    Column("cost_source", String),
    Column("price_ref", String),
)

# Who may ask the service. Of a key only the SHA-256 of its secret is here: nobody who reads this table can use one.
api_keys: Final = Table(
    "api_keys",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("scopes", String, nullable=False),  # separated by spaces
    Column("created_at", Timestamp, nullable=False, server_default=Now()),
    Column("expires_at", Timestamp),
    Column("last_used_at", Timestamp),  # to the minute
    Column("revoked_at", Timestamp),
)

# Who did what to the books. Only appended to; each entry's digest covers the one before, see `audit`.
audit_log: Final = Table(
    "audit_log",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("time", Timestamp, nullable=False),
    Column("actor", String, nullable=False),  # the id of an API key, or who ran a command
    Column("action", String, nullable=False),
    Column("object", String, nullable=False),
    Column("row_count", Integer),
    Column("digest", String(64), nullable=False),
)
