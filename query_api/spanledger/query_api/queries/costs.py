"""What the model calls of the last day cost, as one number for alerts."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, func, select

from spanledger.exporter.schema import llm_call_logs


def cost_of_last_day(connection: Connection) -> float:
    """US dollars of the calls that count and started within 24 hours."""
    columns = llm_call_logs.c
    recent = columns.start_time >= datetime.now(UTC) - timedelta(days=1)
    cost = connection.scalar(select(func.sum(columns.total_cost)).where(columns.counted, recent))
    return float(cost or 0)
