"""`World`: a database, a spool, agents that trace into it, and a side ledger of what they were promised."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Table, func, select

from spanledger.exporter.errors import StoreUnavailable
from spanledger.exporter.pipeline import Pipeline
from spanledger.exporter.schema import dead_letters, deliveries, execution_logs, llm_call_logs
from spanledger.exporter.settings import Settings
from spanledger.exporter.spool import Spool
from spanledger.exporter.store import Store

AGENT = Path(__file__).parent / "programs" / "agent.py"
PATIENCE = 60.0
"""Seconds that anything may take on a busy machine."""


class Acks(NamedTuple):
    """What an agent was told is safe: ``traceid spanid`` of spans that were opened, and of those that ended."""

    opened: set[str]
    ended: set[str]


class World:
    """One database, one spool folder, and a file outside of both in which agents write what they were promised."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.spool_folder = folder / "spool"
        self.acks_path = folder / "acks"
        self._started: list[subprocess.Popen[str]] = []

    @property
    def settings(self) -> Settings:
        return Settings(database_url=self.url, spool_folder=str(self.spool_folder))

    def agent(
        self,
        mode: str,
        *,
        url: str | None = None,
        environment: Mapping[str, str] | None = None,
        **options: object,
    ) -> "subprocess.Popen[str]":
        """A process of its own that traces into this world's spool."""
        inherited = {n: value for n, value in os.environ.items() if not n.startswith(("OTEL_", "SPANLEDGER_"))}
        given = [f"{name}={value}" for name, value in options.items()]
        command = [sys.executable, str(AGENT), mode, url or self.url, str(self.spool_folder), str(self.acks_path)]
        process = subprocess.Popen(
            [*command, *given],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=inherited | dict(environment or {}),
        )
        self._started.append(process)
        return process

    def acks(self) -> Acks:
        lines = self.acks_path.read_text().splitlines() if self.acks_path.exists() else []
        return Acks({line[2:] for line in lines if line[0] == "o"}, {line[2:] for line in lines if line[0] == "e"})

    def drain(self, seconds: float = PATIENCE) -> None:
        """What the next process on the host does: bring everything that waits to the database, trying again."""
        pipeline = Pipeline(self.settings)
        deadline = time.monotonic() + seconds
        try:
            while Spool(self.spool_folder).usage().segments:
                try:
                    pipeline._drainer.drain()
                except StoreUnavailable:
                    if time.monotonic() >= deadline:
                        raise
                assert time.monotonic() < deadline, "the spool does not drain"
            pipeline._drainer._next_attendance = 0.0
            pipeline._drainer.drain()
        finally:
            pipeline.close()

    def rows(self, table: Table) -> list[Any]:
        store = Store.open(self.url)
        try:
            with store.reading() as connection:
                return list(connection.execute(select(table)).mappings())
        finally:
            store.close()

    def count(self) -> int:
        """How many calls are stored."""
        store = Store.open(self.url)
        try:
            with store.reading() as connection:
                return connection.scalar(select(func.count()).select_from(llm_call_logs)) or 0
        finally:
            store.close()

    def stored(self, table: Table = llm_call_logs) -> dict[str, Any]:
        """The rows of *table* by ``traceid spanid``; fails if two rows are of one span."""
        rows = self.rows(table)
        by_span = {f"{row['trace_id']} {row['span_id']}": row for row in rows}
        assert len(by_span) == len(rows), "two rows of one span"
        return by_span

    def check_nothing_is_lost(self) -> int:
        """Every acknowledged call has its row, which says what that very call said: how many there are."""
        acked, stored = self.acks().ended, self._tokens()
        missing = acked - stored.keys() - self.stored(execution_logs).keys()
        assert not missing, f"{len(missing)} of {len(acked)} acknowledged spans are lost"
        wrong = [k for k, tokens in stored.items() if tokens != int(k.split()[1], 16) % 1_000_000]
        assert not wrong, f"{len(wrong)} rows say something else than their span did"
        return len(acked)

    def _tokens(self) -> dict[str, int]:
        """The input tokens of every call by ``traceid spanid``; fails if two rows are of one span."""
        calls, store = llm_call_logs.c, Store.open(self.url)
        try:
            with store.reading() as connection:
                rows = connection.execute(select(calls.trace_id, calls.span_id, calls.input_tokens)).all()
        finally:
            store.close()
        by_span = {f"{trace} {span}": tokens for trace, span, tokens in rows}
        assert len(by_span) == len(rows), "two rows of one span"
        return by_span

    def losses(self) -> dict[str, int]:
        """Spans lost, by reason, as the database says it."""
        total: dict[str, int] = {}
        for row in self.rows(deliveries):
            for reason, count in (row["dropped"] or {}).items():
                total[reason] = total.get(reason, 0) + count
        return total

    def dead(self) -> list[Any]:
        return self.rows(dead_letters)

    def until(self, holds: Callable[[], Any], seconds: float = PATIENCE) -> Any:
        """Wait for a condition, and return what it gave."""
        deadline = time.monotonic() + seconds
        while not (found := holds()):
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.02)
        return found

    def end(self) -> None:
        for process in self._started:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.communicate()
