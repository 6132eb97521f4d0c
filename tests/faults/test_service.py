"""The receiver under load, stopped, killed and overloaded; the service that drains what agents left behind."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from spanledger.exporter.ledger import Ledger
from spanledger.exporter.schema import dead_letters, deliveries, producers
from spanledger.exporter.store import Store

Seen = Callable[[str], None]
OTLP = {"content-type": "application/x-protobuf"}


class Service:
    """``spanledger serve`` as a process of its own."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.port = 0
        self.start()

    def start(self) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SPANLEDGER_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "spanledger.query_api.cli", "serve", "--port", str(self.port)]
            + ["--database-url", self.world.url, "--spool-folder", str(self.world.spool_folder)],
            env=environment | {"PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        said = ""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said += line
            if "Look at it" in line:
                break
        address = re.search(r"http://[\d.]+:(\d+)", said)
        assert address is not None, said + (self.process.stderr.read() if self.process.stderr else "")
        self.port = int(address[1])

    def get(self, path: str) -> Any:
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=30)

    def resident(self) -> int:
        import psutil

        return int(psutil.Process(self.process.pid).memory_info().rss)

    def end(self, how: int = signal.SIGTERM) -> None:
        self.process.send_signal(how)
        self.process.communicate(timeout=30)


@pytest.fixture
def service(world: Any) -> Any:
    service = Service(world)
    yield service
    with suppress(ProcessLookupError):
        service.process.kill()
    service.process.communicate()


def body(trace: int, spans: int, padding: int = 200) -> bytes:
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for number in range(1, spans + 1):
        span = scope.spans.add()
        span.trace_id, span.span_id = trace.to_bytes(16, "big"), number.to_bytes(8, "big")
        span.name, span.start_time_unix_nano, span.end_time_unix_nano = "chat x", time.time_ns() - 10**9, time.time_ns()
        for key, value in (("gen_ai.operation.name", "chat"), ("padding", "x" * padding)):
            span.attributes.append(KeyValue(key=key, value=AnyValue(string_value=value)))
        tokens = AnyValue(int_value=number % 1_000_000)
        span.attributes.append(KeyValue(key="gen_ai.usage.input_tokens", value=tokens))
    return request.SerializeToString()


@pytest.mark.fault("F35")
def test_a_receiver_killed_and_stopped_under_load_has_stored_what_it_acknowledged(
    service: Service, seen: Seen, soak: int
) -> None:
    stop = threading.Event()
    acked: set[str] = set()

    def send(sender: int) -> None:
        with httpx.Client(timeout=5) as client:
            for number in range(1_000_000):
                if stop.is_set():
                    return
                trace = (sender << 32) + number + 1
                with suppress(httpx.HTTPError):
                    url = f"http://127.0.0.1:{service.port}/v1/traces"
                    if client.post(url, content=body(trace, 5), headers=OTLP).status_code == 200:
                        acked.update(f"{trace:032x} {span:016x}" for span in range(1, 6))

    senders = [threading.Thread(target=send, args=(n,)) for n in range(1, 5)]
    for thread in senders:
        thread.start()
    try:
        for how in [signal.SIGKILL, signal.SIGTERM] * 2 * soak:
            before = len(acked)
            service.world.until(lambda before=before: len(acked) > before + 100)
            service.end(how)
            service.start()
        before = len(acked)
        service.world.until(lambda: len(acked) > before + 100)
    finally:
        stop.set()
        for thread in senders:
            thread.join()
    missing = acked - service.world.stored().keys()
    assert not missing, f"{len(missing)} of {len(acked)} acknowledged spans are lost"
    seen(f"{2 * soak} SIGKILLs and {2 * soak} SIGTERMs under load: {len(acked):,} acknowledged spans, 0 lost")


@pytest.mark.fault("F36")
def test_ten_times_the_load_is_answered_by_503_and_bounded_memory(service: Service, seen: Seen) -> None:
    """200 senders of large bodies, none of whom waits for another."""
    large = [body(trace + 1, 60, padding=12_000) for trace in range(10)]
    answers: list[int] = []
    without: list[int] = []
    most = service.resident()
    stop = threading.Event()

    def watch() -> None:
        nonlocal most
        while not stop.wait(0.02):
            most = max(most, service.resident())

    def send(number: int) -> None:
        try:
            url = f"http://127.0.0.1:{service.port}/v1/traces"
            answer = httpx.post(url, content=large[number % 10], headers=OTLP, timeout=60)
        except httpx.HTTPError:
            answers.append(0)  # cut off while it still talked
            return
        answers.append(answer.status_code)
        if answer.status_code == 503 and "retry-after" not in answer.headers:
            without.append(number)

    watcher = threading.Thread(target=watch)
    watcher.start()
    with ThreadPoolExecutor(200) as pool:
        list(pool.map(send, range(600)))
    stop.set()
    watcher.join()
    assert set(answers) <= {200, 503, 0}
    assert answers.count(503) + answers.count(0) > 0, "there was no overload"
    assert answers.count(200) > 0
    assert not without
    assert service.get("/readyz").status_code == 200
    assert most < 320 * 1024 * 1024
    seen(
        f"600 bodies of 720 KB from 200 senders: {answers.count(200)} × 200, {answers.count(503)} × 503 with "
        f"Retry-After, {answers.count(0)} cut off; resident memory at most {most >> 20} MiB"
    )


def test_what_waits_at_the_same_time_is_committed_together(world: Any, new_spans: Any) -> None:
    from spanledger.exporter.group import GroupCommit

    class Slow(Ledger):
        groups: list[int]

        def record_each(self, groups: Any) -> Any:
            self.groups.append(len(groups))
            arrived.wait(10)
            return super().record_each(groups)

    ledger = Slow.open(world.settings)
    ledger.groups = []
    arrived = threading.Event()
    commits = GroupCommit(ledger, 1)
    spans = [[new_spans.call(), new_spans.call()._replace(trace_id=0)] for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        receipts = [pool.submit(commits.record, each) for each in spans]
        world.until(lambda: len(commits._waiting) == 7)
        arrived.set()
        assert [(r.result().recorded, r.result().rejected) for r in receipts] == [(1, 1)] * 8
    ledger.close()
    assert sorted(ledger.groups) == [1, 7]
    assert world.count() == 8


@pytest.mark.fault("F3")
def test_a_service_drains_what_dead_agents_left_and_says_what_was_lost(
    service: Service, new_spans: Any, seen: Seen
) -> None:
    world = service.world
    agent = world.agent("fill", spans=200, then="SIGKILL")
    agent.communicate(timeout=60)
    producer = new_spans.producer(world, [new_spans.call()])
    producer.spool.lose("spool_full", 7)
    producer.seal()
    world.until(lambda: service.get("/readyz").json()["spool"]["segments"] == 0)
    assert "spanledger_spool_segments 0.0" in service.get("/metrics").text
    world.until(lambda: world.losses())
    book = service.get("/execution-logs/analytics/completeness").json()
    assert book["produced"] == 208
    assert book["stored"] == world.count() == 201
    assert book["dropped"] == {"spool_full": 7}
    assert [loss["dropped"] for loss in book["losses"]] == [{"spool_full": 7}]
    assert book["total_producers"] == 2
    assert book["producers"][0]["dropped"] == {"spool_full": 7}
    seen("200 spans of a killed agent stored by `spanledger serve`; completeness: 208 produced, 201 stored, 7 lost")


@pytest.mark.fault("F3")
def test_the_command_drains_shows_and_brings_back(world: Any, new_spans: Any, seen: Seen) -> None:
    def spanledger(*arguments: str) -> str:
        where = ["--database-url", world.url, "--spool-folder", str(world.spool_folder)]
        command = [sys.executable, "-m", "spanledger.query_api.cli", *arguments, *where]
        run = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert run.returncode == 0, run.stderr
        return run.stdout

    assert "Nothing waits" in spanledger("spool", "status")
    world.agent("fill", spans=100, then="SIGKILL").communicate(timeout=60)
    assert "1 segments" in spanledger("spool", "status")
    assert "Delivered 100 spans" in spanledger("spool", "drain")
    assert world.check_nothing_is_lost() == 100
    bad = new_spans.call(trace_id=0)
    new_spans.producer(world, [bad]).seal()
    spanledger("spool", "drain")
    assert "zero" in spanledger("spool", "dead-letters")
    assert '"left":1' in spanledger("spool", "dead-letters", "--retry", "--json")
    seen("spool status, drain and dead-letters: 100 spans of a killed agent delivered by the command")


def test_purging_rows_purges_what_the_books_say_of_them(world: Any, new_spans: Any) -> None:
    new_spans.producer(world, [new_spans.call(), new_spans.call(trace_id=0)]).seal()
    world.drain()
    assert [len(world.rows(book)) for book in (deliveries, dead_letters, producers)] == [1, 1, 1]
    store = Store.open(world.url)
    store.purge(datetime.now(UTC) - timedelta(days=1))
    assert [len(world.rows(book)) for book in (deliveries, dead_letters, producers)] == [1, 1, 1]
    store.purge(datetime.now(UTC) + timedelta(days=1))
    store.close()
    assert [len(world.rows(book)) for book in (deliveries, dead_letters, producers)] == [0, 0, 0]
