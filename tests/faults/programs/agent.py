"""An agent that writes down, outside of everything that is tested, which spans it was told are safe.

``agent.py MODE DATABASE_URL SPOOL ACKS [OPTION=VALUE …]``. An id is written to ACKS (``o`` for a span that was opened,
``e`` for one that ended) after the call that acknowledged it has returned, by one write to a file opened to append.
"""

import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from spanledger.exporter.pipeline import Pipeline
from spanledger.exporter.processor import LedgerSpanProcessor
from spanledger.exporter.settings import Settings

ROOT = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "planner"}
PADDING = "x" * 1500


class Agent:
    def __init__(self, url: str, spool: str, acks: str, **options: str) -> None:
        self.settings = Settings(
            database_url=url,
            spool_folder=spool,
            durability=options.get("durability", "process"),  # type: ignore[arg-type]
            spool_max_bytes=int(options.get("max_bytes", 1024**3)),
        )
        self.options = options
        self.acks = os.open(acks, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def trace(self) -> TracerProvider:
        provider = TracerProvider()
        if self.settings.durability != "none":
            self.pipeline = Pipeline(self.settings)
            provider.add_span_processor(LedgerSpanProcessor(self.pipeline))
        trace.set_tracer_provider(provider)
        self.tracer = provider.get_tracer("faults")
        return provider

    def acknowledge(self, kind: str, span: Any) -> None:
        context = span.get_span_context()
        os.write(self.acks, f"{kind} {context.trace_id:032x} {context.span_id:016x}\n".encode())

    def open(self) -> Any:
        span = self.tracer.start_span("invoke_agent planner", attributes=ROOT)
        self.acknowledge("o", span)
        return span

    def call(self, root: Any = None, size: int = 1) -> None:
        context = trace.set_span_in_context(root) if root is not None else None
        span = self.tracer.start_span("chat gpt-4o", context)
        number = span.get_span_context().span_id % 1_000_000
        span.set_attributes(
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "openai",
                "gen_ai.request.model": "gpt-4o",
                "gen_ai.usage.input_tokens": number,  # what the row must say, by its own id
                "gen_ai.usage.output_tokens": 1,
                "padding": PADDING * size,
            }
        )
        span.end()
        self.acknowledge("e", span)


def swarm(agent: Agent) -> None:
    """Fork agents, a few at a time, and kill each at a random instant. Says how many it has killed."""
    kills, at_once = int(agent.options["kills"]), int(agent.options.get("at_once", 4))
    longest = float(agent.options.get("longest", 0.08))
    from spanledger.exporter import custody, delivery, ledger, migrations  # noqa: F401  # once, not in every child

    chance = random.Random(int(agent.options.get("seed", 1)))
    running: dict[int, float] = {}
    killed = 0
    while killed < kills:
        while len(running) < min(at_once, kills - killed):
            if (child := os.fork()) == 0:
                _work_until_killed(agent)
            running[child] = time.monotonic() + chance.uniform(0.002, longest)
        child = min(running, key=lambda pid: running[pid])
        time.sleep(max(0.0, running.pop(child) - time.monotonic()))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        killed += 1
    print(killed, flush=True)


def _work_until_killed(agent: Agent) -> None:
    agent.trace()
    root = agent.open()
    while True:
        agent.call(root)
        time.sleep(random.random() * 0.001)


def leave(agent: Agent) -> None:
    """End 100 spans, leave one open, and go in the way that is asked for. Prints when it began to go.

    With *after* it ends a span first, and goes on to live for so many seconds.
    """
    agent.trace()
    root = agent.open()
    how = agent.options["how"]
    time.sleep(float(agent.options.get("after", 0)))
    if how == "fork":
        context = multiprocessing.get_context("fork")
        child = context.Process(target=_end_a_hundred, args=(agent, root))
        child.start()
        child.join()
    else:
        _end_a_hundred(agent, root)
    print(time.time(), flush=True)
    WAYS[how]()


def _end_a_hundred(agent: Agent, root: Any) -> None:
    for _ in range(100):
        agent.call(root)


def _unhandled() -> None:
    raise RuntimeError("an agent's bug")


WAYS: dict[str, Any] = {
    "return": lambda: None,
    "sys.exit": lambda: sys.exit(3),
    "exception": _unhandled,
    "os._exit": lambda: os._exit(0),
    "abort": os.abort,
    "SIGTERM": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "fork": lambda: None,
}


def steady(agent: Agent) -> None:
    """End a call every few milliseconds until told to stop; then say how long the longest end() took, and leave."""
    provider = agent.trace()
    root = agent.open()
    print("ready", flush=True)
    told = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), told.set()), daemon=True).start()
    pause = float(agent.options.get("pause", 0.002))
    slowest = 0.0
    while not told.is_set():
        began = time.perf_counter()
        agent.call(root)
        slowest = max(slowest, time.perf_counter() - began)
        time.sleep(pause)
    if agent.options.get("end") == "root":
        root.end()
        agent.acknowledge("e", root)
    print(slowest, flush=True)
    if "flush" in agent.options:
        provider.force_flush(int(agent.options["flush"]))


def idle(agent: Agent) -> None:
    """End a call, see it stored, and leave when told to."""
    provider = agent.trace()
    agent.call()
    print(provider.force_flush(), flush=True)
    sys.stdin.readline()


def fill(agent: Agent) -> None:
    """End as many calls as asked for, and say how many were taken over and how many lost, by reason."""
    provider = agent.trace()
    for _ in range(int(agent.options["spans"])):
        agent.call(size=int(agent.options.get("size", 1)))
    delivery = agent.pipeline.delivery
    print(delivery.kept, sum(delivery.lost.values()), flush=True)
    if agent.options.get("then") == "SIGKILL":
        os.kill(os.getpid(), signal.SIGKILL)
    provider.force_flush(int(agent.options.get("flush", 30_000)))


def forget(agent: Agent) -> None:
    """Begin spans of 2 KiB that nobody ever ends, and say by how many bytes the last third made the process larger."""
    import psutil

    provider = agent.trace()
    for _ in range(3):  # the first ones warm up, caches of the database included
        before = psutil.Process().memory_info().rss
        for _ in range(int(agent.options["spans"])):
            agent.tracer.start_span("invoke_agent planner", attributes=ROOT | {"padding": PADDING + "y" * 500})
        provider.force_flush()
    print(psutil.Process().memory_info().rss - before, flush=True)


def forks(agent: Agent) -> None:
    """Fork while other threads end spans: each child ends some, too, and leaves by ``os._exit``."""
    agent.trace()
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            agent.call()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(int(agent.options["forks"])):
        if (child := os.fork()) == 0:
            for _ in range(3):
                agent.call()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    stop.set()
    for thread in threads:
        thread.join()


MODES = {each.__name__: each for each in (swarm, leave, steady, idle, fill, forget, forks)}

if __name__ == "__main__":
    mode, url, spool, acks, *options = sys.argv[1:]
    MODES[mode](Agent(url, spool, acks, **dict(option.split("=", 1) for option in options)))
