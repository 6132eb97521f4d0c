"""Ids reach everything beneath an execution: tasks, threads, other processes; and nothing beside it."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from opentelemetry import context as otel_context
from opentelemetry import propagate, trace
from opentelemetry.context import Context

from spanledger.instrumentation import bind_context, context_attributes, execution, using


def test_nothing_is_carried_outside() -> None:
    assert dict(context_attributes()) == {}


def test_ids_are_inherited_and_overridden_from_outside_in(spans: Any) -> None:
    with using(report_id="r1", session_id="s1"), execution("a", "plan", execution_id="exec_1"):
        with execution("b", "plan", report_id="r2"):
            assert dict(context_attributes()) == {
                "spanledger.execution.id": "exec_1",
                "spanledger.report.id": "r2",
                "session.id": "s1",
            }
        assert context_attributes()["spanledger.report.id"] == "r1"
    assert spans.attributes("plan b")["gen_ai.conversation.id"] == "s1"
    assert dict(context_attributes()) == {}


def test_a_foreign_span_beneath_finds_the_ids_in_its_context(spans: Any) -> None:
    with execution("a", "plan", report_id="r1"):
        context = trace.set_span_in_context(trace.INVALID_SPAN)
    assert context_attributes(context)["spanledger.report.id"] == "r1"


def test_safe_ids_travel_in_baggage_and_people_stay_at_home(spans: Any) -> None:
    headers: dict[str, str] = {}
    with execution("a", "plan", report_id="r1", external_user_id="ann", session_id="s1") as run:
        propagate.inject(headers)
    arrived = propagate.extract(headers, Context())
    assert dict(context_attributes(arrived)) == {
        "spanledger.execution.id": run.execution_id,
        "spanledger.report.id": "r1",
    }
    assert "ann" not in headers["baggage"]


def test_an_execution_in_another_process_joins_the_run(spans: Any) -> None:
    headers: dict[str, str] = {}
    with execution("a", "plan") as here:
        propagate.inject(headers)
    token = otel_context.attach(propagate.extract(headers, Context()))
    with execution("b", "plan") as there:
        pass
    otel_context.detach(token)
    assert there.execution_id == here.execution_id
    assert there.trace_id == here.trace_id


@pytest.mark.parametrize("hostile", ["a,b=c", "line\nbreak", "x" * 200, "ä"])
def test_an_id_that_is_not_safe_in_a_header_stays_here(hostile: str) -> None:
    headers: dict[str, str] = {}
    with using(report_id=hostile):
        propagate.inject(headers)
        assert context_attributes()["spanledger.report.id"]
    assert "baggage" not in headers


def test_baggage_can_be_refused(spans: Any) -> None:
    headers: dict[str, str] = {}
    with execution("a", "plan", propagate=False):
        propagate.inject(headers)
    assert "baggage" not in headers


def test_a_thread_pool_works_within_the_execution(spans: Any) -> None:
    @execution("worker", "step")
    def work(number: int) -> int:
        return number

    with ThreadPoolExecutor(2) as pool, execution("boss", "run") as boss:
        assert list(pool.map(bind_context(work), range(4))) == [0, 1, 2, 3]
        unbound = pool.submit(lambda: dict(context_attributes())).result()
    workers = [span for span in spans.all if span.name == "step worker"]
    assert {span.parent.span_id for span in workers} == {boss.span.get_span_context().span_id}
    assert unbound == {}


def test_a_coroutine_function_is_bound_as_one(spans: Any) -> None:
    async def work() -> str:
        await asyncio.sleep(0)
        return context_attributes()["spanledger.execution.id"]

    with execution("boss", "run") as boss:
        bound = bind_context(work)
    assert asyncio.run(bound()) == boss.execution_id


def test_tasks_of_a_gather_do_not_see_each_other(spans: Any) -> None:
    async def agent(name: str) -> None:
        with execution(name, "run", report_id=name):
            await asyncio.sleep(0)
            with execution(name, "plan"):
                await asyncio.sleep(0)
                assert context_attributes()["spanledger.report.id"] == name

    async def main() -> None:
        with execution("root", "run"):
            await asyncio.gather(*(agent(f"agent{number}") for number in range(8)))

    asyncio.run(main())
    root = spans.named("run root")
    for number in range(8):
        outer, inner = spans.named(f"run agent{number}"), spans.named(f"plan agent{number}")
        assert outer.parent.span_id == root.context.span_id
        assert inner.parent.span_id == outer.context.span_id
    assert len({span.attributes["spanledger.execution.id"] for span in spans.all}) == 1


def test_leaving_in_another_thread_changes_nothing_there(spans: Any, caplog: pytest.LogCaptureFixture) -> None:
    block = execution("a", "plan", report_id="r1")
    block.__enter__()
    seen: list[dict[str, str]] = []

    def elsewhere() -> None:
        with using(report_id="r2"):
            block.__exit__(None, None, None)
            seen.append(dict(context_attributes()))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [{"spanledger.report.id": "r2"}]
    assert caplog.records == []
    otel_context.attach(Context())


def test_scopes_left_out_of_order_do_not_come_back(spans: Any) -> None:
    outer, inner = using(report_id="outer"), using(report_id="inner")
    outer.__enter__()
    inner.__enter__()
    outer.__exit__(None, None, None)
    assert context_attributes()["spanledger.report.id"] == "inner"
    inner.__exit__(None, None, None)
    assert dict(context_attributes()) == {}
