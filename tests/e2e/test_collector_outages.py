"""What the Collector said it has is a row in the end, once, whoever was away or killed meanwhile."""

import random
from typing import Any

FULL = 4 * 1024 * 1024
"""Bytes of a queue that a test can fill."""


def prompt(size: int) -> str:
    """Text of *size* characters that says nothing twice."""
    return "".join(random.Random(size).choices("abcdefghijklmnopqrstuvwxyz ", k=size))


def check(road: Any, load: Any) -> None:
    """Every acknowledged call is one row that says what that very call said, and there is no row of anything else."""
    road.until(lambda: load.acknowledged <= {span for span, _ in road.stored()}, "the rows of all acknowledged calls")
    stored = road.stored()
    assert len(stored) == len(dict(stored)), "two rows of one span"
    assert dict(stored).items() <= load.sent.items()


def test_nothing_is_missing_after_the_receiver_and_the_database_were_away_under_load(
    road_to_postgresql: Any, database: Any, load: Any
) -> None:
    road = road_to_postgresql
    road.start_ledger()
    road.start_collector()
    with load(road, prompt=prompt(200), every=0.05, patience=10) as running:

        def more() -> None:
            seen = len(running.acknowledged)
            road.until(lambda: len(running.acknowledged) >= seen + 800, "800 more calls")

        more()
        road.stop("ledger")
        more()
        road.start_ledger()
        more()
        database.stop()
        more()
        database.start()
        more()
    assert running.refused == 0
    check(road, running)


def test_a_collector_killed_with_a_full_queue_still_has_what_it_said_it_has(road: Any, load: Any) -> None:
    road.start_collector(queue_size=str(FULL))
    with load(road, prompt=prompt(4096), every=0, patience=2) as running:
        road.until(lambda: running.refused, "a full queue")
        road.kill("collector")
    assert len(running.acknowledged) * 4096 > FULL / 2
    road.start_collector(queue_size=str(FULL))
    road.start_ledger()
    road.until(road.stored, "the first rows")
    road.kill("collector")  # in the midst of delivering
    road.start_collector(queue_size=str(FULL))
    check(road, running)
