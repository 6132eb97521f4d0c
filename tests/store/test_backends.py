"""Expressions that databases spell differently mean the same on all of them."""

import random
import statistics

import pytest
from sqlalchemy import select

from spanledger.exporter.backends import percentile
from spanledger.exporter.records import ABANDONED, Batch
from spanledger.exporter.schema import execution_logs

DURATION = execution_logs.c.duration_ms


@pytest.mark.parametrize(
    "durations", [[7], [1, 2], [5, 1, 4, 2, 3], [random.Random(1).randrange(10**6) for _ in range(101)]]
)
def test_percentiles_interpolate_and_ignore_nulls(store, rows, durations):
    store.write(Batch([rows.execution(n, duration_ms=d) for n, d in enumerate([*durations, None], 1)]))
    with store.reading() as connection:
        low, middle, high = connection.execute(
            select(percentile(DURATION, 0.0), percentile(DURATION, 0.5), percentile(DURATION, 1.0))
        ).one()
        ninety = connection.scalar(select(percentile(DURATION, 0.9)))
    assert (low, middle, high) == (min(durations), statistics.median(durations), max(durations))
    if len(durations) > 1:
        assert ninety == pytest.approx(statistics.quantiles(durations, n=10, method="inclusive")[8])
    assert isinstance(middle, float)


def test_percentiles_are_aggregates_of_groups(store, rows):
    agents = [("a", 1), ("a", 3), ("b", 10), ("c", None)]
    store.write(Batch([rows.execution(n, agent_type=a, duration_ms=d) for n, (a, d) in enumerate(agents, 1)]))
    agent = execution_logs.c.agent_type
    with store.reading() as connection:
        found = connection.execute(select(agent, percentile(DURATION, 0.5)).group_by(agent).order_by(agent)).all()
        nothing = connection.scalar(select(percentile(DURATION, 0.5)).where(agent == "d"))
    assert found == [("a", 2.0), ("b", 10.0), ("c", None)]
    assert nothing is None


@pytest.mark.parametrize("number", [0, 1, 70_000])
def test_among_takes_any_number_of_values(store, rows, number):
    store.write(Batch([rows.execution(1), rows.execution(2)]))
    ids = [rows.id(trace, 1) for trace in range(2, 2 + number)]
    with store.reading() as connection:
        found = connection.scalars(
            select(execution_logs.c.id).where(store.backend.among(execution_logs.c.id, ids))
        ).all()
    assert found == ids[:1]


STATES = [("started", None), ("cancelled", ABANDONED), ("completed", None), ("failed", None)]
RANKS = [0, 1, 2, 2]


@pytest.mark.parametrize("standing", range(4))
@pytest.mark.parametrize("arriving", range(4))
def test_an_upsert_never_moves_a_row_back(store, rows, standing, arriving):
    """Also if the row has moved on since the writer looked, which settling alone would not notice."""
    states = [dict(zip(("status", "error_type"), state, strict=True)) for state in STATES]
    first, second = rows.execution(**states[standing]), rows.execution(**states[arriving])
    store.backend.transact(lambda c: store.backend.upsert(c, execution_logs, [first], set()))
    store.backend.transact(lambda c: store.backend.upsert(c, execution_logs, [second], {second.id}))
    winner = second if RANKS[arriving] > RANKS[standing] else first
    with store.reading() as connection:
        stored = connection.execute(select(execution_logs.c.status, execution_logs.c.error_type)).one()
    assert stored == (winner.status, winner.error_type)
