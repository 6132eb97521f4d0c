"""`spanledger archive` and `restore`, retention while a server runs, and an archive that is killed."""

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest
from sqlalchemy import func, select

from spanledger.exporter.ledger import Ledger
from spanledger.exporter.schema import execution_logs, llm_call_logs
from spanledger.exporter.settings import Settings
from spanledger.exporter.spans import Resource, SpanData
from spanledger.exporter.store import Store
from spanledger.query_api.cli import main

from .conftest import COMMAND

WHOLE = (execution_logs, llm_call_logs)
OLD = datetime.now(UTC) - timedelta(days=100)


def a_run(trace: int) -> Iterator[SpanData]:
    """An agent and its call, a second after those of the trace before."""
    start = int((OLD + timedelta(seconds=trace)).timestamp() * 1e9)
    agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": f"planner {trace % 3}"}
    call = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.usage.input_tokens": 1000 + trace,
        "gen_ai.usage.output_tokens": 7,
        "gen_ai.input.messages": json.dumps([{"role": "user", "parts": [{"type": "text", "content": "ü" * 2000}]}]),
    }
    for span, (parent, attributes) in enumerate(((None, agent), (1, call)), 1):
        yield SpanData(
            trace, span, parent, "span", 3, start, start + 10**8, 0, None, attributes, [], Resource("t"), "t", "1", 0
        )


def record(database_url: str, runs: int) -> None:
    with closing(Ledger.open(Settings(database_url))) as ledger:
        for first in range(1, runs + 1, 500):
            ledger.record([span for trace in range(first, min(first + 500, runs + 1)) for span in a_run(trace)])


@pytest.fixture
def here(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Runs a command in this process, which is faster: what it prints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPANLEDGER_DATABASE_URL", database_url)

    def run(*arguments: str) -> str:
        assert main(arguments) == 0
        return capsys.readouterr().out

    return run


def everything(database_url: str) -> Mapping[str, Sequence[Any]]:
    with closing(Store.open(database_url)) as store, store.reading() as connection:
        return {table.name: connection.execute(select(table).order_by(table.c.id)).all() for table in WHOLE}


def test_rows_that_were_archived_and_restored_are_the_same_to_the_last_digit(
    here: Any, database_url: str, tmp_path: Path
) -> None:
    record(database_url, 20)
    since, until = (f"{OLD + timedelta(days=days):%Y-%m-%d}" for days in (-1, 1))
    summary = ("summary", "--start-date", since, "--end-date", until, "--json")
    before, summed = everything(database_url), here(*summary)
    assert all(call.total_cost for call in before["llm_call_logs"])
    told = json.loads(here("archive", "archive", "--older-than", "90d", "--json"))
    assert told["archived"] == {"executions": 20, "llm_calls": 20}
    assert all((tmp_path / file).is_file() for file in told["files"])
    assert json.loads(here(*summary))["llm_call_analytics"]["total_calls"] == 0
    assert here("restore", "archive") == "Restored 20 executions and 20 LLM calls.\n"
    assert everything(database_url) == before
    assert here(*summary) == summed
    assert "40 were there already" in here("restore", "archive")


def test_a_copy_deletes_nothing_and_the_oldest_go_by_size(here: Any, database_url: str, tmp_path: Path) -> None:
    record(database_url, 300)
    copied = here("archive", "copy", "--older-than", "0d", "--keep")
    assert copied == "Copied 300 executions and 300 LLM calls to copy.\n"
    with closing(Store.open(database_url)) as store, store.reading() as connection:
        size = store.backend.size(connection)
    moved = here("archive", "archive", "--max-size", f"{size * 0.8 / 1000}KB")
    kept = everything(database_url)["execution_logs"]
    assert moved.startswith(f"Moved {300 - len(kept)} executions")
    assert 0 < len(kept) < 300
    gone = {name for file in (tmp_path / "archive/execution_logs").iterdir() for name in ids_in(file)}
    assert gone.isdisjoint(row.id for row in kept)
    dry = here("purge", "--max-size", "1KB", "--dry-run")
    assert "and then more of the oldest while it takes more than 1,000 bytes" in dry
    purged = here("purge", "--max-size", "1KB", "--yes", "--json")
    assert json.loads(purged) == {"deleted": {"executions": len(kept), "llm_calls": len(kept)}}
    assert "takes no room any more" in here("purge", "--vacuum")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("archive", "there"), "Say what is old, for example: spanledger archive"),
        (("archive", "there", "--max-size", "1GB", "--keep"), "Nothing gets smaller where --keep keeps the rows"),
        (("archive", "there", "--max-size", "big"), "'big' is not a size such as 500MB"),
        (("restore", "nowhere"), "cannot be read as an archive"),
        (("serve", "--port", "0", "--archive", "there"), "An archive needs to know when"),
    ],
)
def test_what_cannot_be_meant_is_a_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: Sequence[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert sentence in said.err
    assert (said.out, said.err.count("\n")) == ("", 1)


def test_without_pyarrow_it_says_what_to_install(spanledger: Any, tmp_path: Path) -> None:
    (tmp_path / "pyarrow.py").write_text("raise ImportError")  # what the process imports first
    record(f"sqlite:///{tmp_path / 'spanledger.db'}", 1)
    result = spanledger("archive", "there", "--older-than", "1d")
    assert result.returncode == 2
    assert "pip install 'spanledger[archive]'" in result.stderr
    assert len(everything(f"sqlite:///{tmp_path / 'spanledger.db'}")["llm_call_logs"]) == 1


def ids_in(path: Path) -> Sequence[str]:
    ids: Sequence[str] = pq.read_table(path, columns=["id"])["id"].to_pylist()
    return ids


def test_an_archive_killed_at_any_moment_loses_nothing(
    here: Any, clean_environment: dict[str, str], database_url: str, tmp_path: Path
) -> None:
    record(database_url, 2000)
    before = everything(database_url)
    folder, calls = tmp_path / "archive", tmp_path / "archive" / "llm_call_logs"
    store = Store.open(database_url)

    def standing() -> int:
        with store.reading() as connection:
            return connection.scalar(select(func.count()).select_from(llm_call_logs)) or 0

    def finished() -> int:
        return len(list(calls.glob("*.parquet")))

    def kill_once(condition: Callable[[], bool]) -> None:
        command = [*COMMAND, "archive", str(folder), "--older-than", "90d", "--database-url", database_url]
        with subprocess.Popen(command, env=clean_environment, cwd=tmp_path) as process:
            while not condition():
                assert process.poll() is None, "it was done before it could be killed"
            process.send_signal(signal.SIGKILL)
        safe = {id for name in before for file in (folder / name).glob("*.parquet") for id in ids_in(file)}
        safe.update(row.id for rows in everything(database_url).values() for row in rows)
        assert safe == {row.id for rows in before.values() for row in rows}

    kill_once(lambda: any(calls.glob(".*.part")))
    assert (standing(), finished()) == (2000, 0)
    kill_once(lambda: finished() > 0)
    first = finished()
    left = standing()
    kill_once(lambda: standing() < left)
    assert first < finished()
    assert standing() < left
    store.close()
    here("archive", str(folder), "--older-than", "90d")
    assert not any(everything(database_url).values())
    here("restore", str(folder))
    assert everything(database_url) == before


def metric(url: str, name: str) -> float:
    (line,) = (x for x in httpx.get(f"{url}/metrics").text.splitlines() if x.startswith(f"{name} "))
    return float(line.split()[1])


def test_a_server_removes_what_is_too_old_and_says_so(
    serving: Any, here: Any, database_url: str, tmp_path: Path
) -> None:
    record(database_url, 30)
    there = {"SPANLEDGER_DATABASE_URL": database_url, "SPANLEDGER_RETENTION": "90d"}
    began = time.time()
    with serving(**there, SPANLEDGER_ARCHIVE=str(tmp_path / "archive")) as server:
        while not metric(server.url, "spanledger_retention_last_success_timestamp_seconds"):
            assert server.process.poll() is None
            assert time.time() < began + 60
        assert metric(server.url, "spanledger_retention_last_success_timestamp_seconds") >= began - 1
        assert metric(server.url, "spanledger_retention_removed_rows") == 60
    assert not any(everything(database_url).values())
    log = json.loads(here("audit", "--json"))["entries"]
    assert {(entry["actor"], entry["action"]) for entry in log} == {("retention", "archive")}
    assert here("restore", "archive") == "Restored 30 executions and 30 LLM calls.\n"
