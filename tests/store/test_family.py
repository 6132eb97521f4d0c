"""Which standing rows a batch is settled with: those of its traces, and of traces that may show the same requests."""

from datetime import timedelta

import pytest
from sqlalchemy import select

from spanledger.exporter.family import MOST_ROUNDS, MOST_SHARERS, read_family
from spanledger.exporter.records import Batch
from spanledger.exporter.schema import llm_call_logs


@pytest.fixture
def traces_of_family(store):
    """The traces (as numbers) whose rows belong to the family of a batch."""

    def traces(batch: Batch) -> list[int]:
        ids = {row.trace_id for rows in batch for row in rows}
        family = store.backend.transact(lambda c: read_family(c, store.backend, ids, batch.llm_calls))
        return sorted({int(node.trace_id, 16) for nodes in family for node in nodes})

    return traces


def test_everything_of_the_traces_at_hand_is_read_and_nothing_else(store, rows, traces_of_family):
    for trace in (1, 2):
        store.write(
            Batch(
                [rows.execution(trace)], [rows.call(trace)], [rows.bridge(trace)], [rows.content(trace, number=trace)]
            )
        )
    assert traces_of_family(Batch([rows.execution(2, 5)])) == [2]
    assert traces_of_family(Batch(bridges=[rows.bridge(1), rows.bridge(2)])) == [1, 2]
    family = store.backend.transact(lambda c: read_family(c, store.backend, [f"{1:032x}"], []))
    assert [len(nodes) for nodes in family] == [1, 1, 1, 1]
    assert family.llm_calls[0].has_prompt
    assert not family.llm_calls[0].has_response


def test_traces_are_linked_by_a_response_seen_at_the_same_time(store, rows, traces_of_family):
    store.write(Batch(llm_calls=[rows.call(1, response_id="r")]))
    store.write(Batch(llm_calls=[rows.call(2, response_id="another")]))
    later = rows.noon + timedelta(hours=1)
    store.write(Batch(llm_calls=[rows.call(3, response_id="r", start_time=later, end_time=later)]))
    assert traces_of_family(Batch(llm_calls=[rows.call(9, response_id="r")])) == [1]


def test_links_are_followed_from_trace_to_trace_but_not_for_ever(store, rows, traces_of_family):
    """Trace n shares a response with trace n + 1."""
    length = MOST_ROUNDS + 3
    for trace in range(1, length):
        calls = [rows.call(trace, 2, response_id=f"r{trace}"), rows.call(trace, 3, response_id=f"r{trace + 1}")]
        store.write(Batch(llm_calls=calls))
    linked = traces_of_family(Batch(llm_calls=[rows.call(99, 2, response_id="r1")]))
    assert linked == list(range(1, MOST_ROUNDS))


@pytest.mark.parametrize("sharers", [MOST_SHARERS, MOST_SHARERS + 1])
def test_a_response_id_that_a_server_makes_up_links_nothing(store, rows, traces_of_family, sharers):
    store.write(Batch(llm_calls=[rows.call(trace, response_id="chatcmpl-1") for trace in range(1, 1 + sharers)]))
    linked = traces_of_family(Batch(llm_calls=[rows.call(99, response_id="chatcmpl-1")]))
    assert linked == (list(range(1, 1 + sharers)) if sharers <= MOST_SHARERS else [])


TWIN = {"scope": "openai", "input_tokens": 10, "output_tokens": 5}


@pytest.mark.parametrize(
    ("columns", "linked"),
    [
        ({}, True),
        ({"input_tokens": None, "output_tokens": None}, True),
        ({"input_tokens": 11}, False),
        ({"scope": "litellm"}, False),
        ({"start_time": timedelta(seconds=-3), "end_time": None}, True),
        ({"start_time": timedelta(seconds=-3), "end_time": timedelta(seconds=-1)}, False),
        ({"start_time": timedelta(minutes=-6), "end_time": timedelta(minutes=6)}, False),
        ({"start_time": timedelta(minutes=-4), "end_time": timedelta(minutes=6)}, True),
    ],
    ids=str,
)
@pytest.mark.parametrize("root_stands", [True, False])
def test_traces_are_linked_by_calls_that_may_be_one_seen_from_two_libraries(
    store, rows, traces_of_family, columns, linked, root_stands
):
    parents = (None, 1) if root_stands else (1, None)
    times = {name: rows.noon + value for name, value in columns.items() if isinstance(value, timedelta)}
    standing = TWIN | {"start_time": rows.noon, "end_time": rows.noon + timedelta(seconds=1)} | columns | times
    store.write(Batch(llm_calls=[rows.call(1, parent=parents[0], **standing)]))
    new = TWIN | {"scope": "litellm", "start_time": rows.noon, "end_time": rows.noon + timedelta(seconds=2)}
    assert traces_of_family(Batch(llm_calls=[rows.call(2, parent=parents[1], **new)])) == ([1] if linked else [])


def test_two_calls_with_parents_are_no_twins(store, rows, traces_of_family):
    store.write(Batch(llm_calls=[rows.call(1, **TWIN)]))
    assert traces_of_family(Batch(llm_calls=[rows.call(2, **TWIN | {"scope": "litellm"})])) == []


def test_a_twin_is_found_whichever_comes_first(store, rows):
    twins = [rows.call(1, **TWIN), rows.call(2, parent=None, **TWIN | {"scope": "litellm"})]
    verdicts = []
    for shift, order in enumerate((twins, twins[::-1])):
        for call in order:
            trace = int(call.trace_id, 16) + 10 * shift
            moved = rows.call(trace, parent=int(call.parent_span_id or "0", 16) or None, **TWIN | {"scope": call.scope})
            at = rows.noon + timedelta(days=shift)
            store.write(Batch(llm_calls=[moved._replace(start_time=at, end_time=at)]))
    with store.reading() as connection:
        verdicts = connection.execute(
            select(llm_call_logs.c.scope, llm_call_logs.c.counted).order_by(
                llm_call_logs.c.start_time, llm_call_logs.c.id
            )
        ).all()
    assert verdicts[:2] == verdicts[2:]
    assert sorted(counted for _, counted in verdicts) == [False, False, True, True]
