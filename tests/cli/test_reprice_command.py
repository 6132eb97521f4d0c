"""`spanledger reprice`: shows first, writes only when told to, and survives being killed."""

import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select

from spanledger.exporter.ledger import Ledger
from spanledger.exporter.schema import former_charges, llm_call_logs
from spanledger.exporter.settings import Settings
from spanledger.exporter.spans import Resource, SpanData
from spanledger.exporter.store import Store
from spanledger.query_api.cli import main

MANY = 1500
START = datetime.now(UTC).replace(microsecond=0) - timedelta(days=3)

Reprice = Callable[..., tuple[int, str, str]]


def a_chat(number: int) -> SpanData:
    start = int(START.timestamp() * 1e9) + number * 1000
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.usage.input_tokens": 1000,
        "gen_ai.usage.output_tokens": 100,
    }
    return SpanData(
        number, number, None, "chat", 3, start, start + 10**9, 0, None, attributes, (), Resource("test"), "test", "1", 0
    )


@pytest.fixture
def charged(database_url: str) -> str:
    """A database of many calls, each of which costs $0.00021."""
    ledger = Ledger.open(Settings(database_url=database_url))
    ledger.record([a_chat(number) for number in range(1, MANY + 1)])
    ledger.close()
    return database_url


@pytest.fixture
def prices(tmp_path: Path) -> str:
    """By which each costs twice as much."""
    file = tmp_path / "prices.json"
    file.write_text(
        '{"unit": "per_million", "prices": [{"model": "gpt-4o-mini", "input": 0.30, "output": 1.20},'
        '{"model": "nobodys-model", "input": 1, "output": 1}]}'
    )
    return str(file)


@pytest.fixture
def reprice(charged: str, prices: str, capsys: pytest.CaptureFixture[str]) -> Reprice:
    def run(*arguments: str) -> tuple[int, str, str]:
        status = main(["reprice", "--database-url", charged, "--prices", prices, *arguments])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def stored(database_url: str) -> tuple[dict[float, int], int]:
    """How many calls there are of each cost, and how many former charges are kept."""
    store = Store.open(database_url)
    cost = llm_call_logs.c.total_cost
    with store.reading() as connection:
        costs = {row[0]: row[1] for row in connection.execute(select(cost, func.count()).group_by(cost))}
        kept = connection.scalar(select(func.count()).select_from(former_charges))
    store.close()
    return costs, kept or 0


def test_a_dry_run_shows_the_difference_and_writes_nothing(charged: str, reprice: Reprice) -> None:
    status, text, _ = reprice("--since", "7d", "--dry-run", "--yes")
    assert status == 0
    row = next(line for line in text.splitlines() if "gpt-4o-mini" in line)
    assert row.split() == [
        f"{START:%Y-%m-%d}",
        "openai",
        "gpt-4o-mini",
        "1,500",
        "$0.315000",
        "$0.630000",
        "+$0.315000",
    ]
    assert text.splitlines()[-1] == "1,500 of 1,500 calls would change."
    assert stored(charged) == ({0.00021: MANY}, 0)


def test_yes_writes_and_a_second_time_there_is_nothing_to_do(charged: str, reprice: Reprice) -> None:
    status, text, _ = reprice("--since", "7d", "--yes")
    assert (status, text.splitlines()[-1]) == (0, "1,500 of 1,500 calls changed.")
    assert stored(charged) == ({0.00042: MANY}, MANY)
    status, text, _ = reprice("--since", "7d", "--yes")
    assert (status, text) == (0, "0 of 1,500 calls changed.\n")
    assert stored(charged) == ({0.00042: MANY}, MANY)


def test_json_says_the_same_and_asks_for_a_decision(charged: str, reprice: Reprice) -> None:
    status, text, said = reprice("--since", "7d", "--json")
    assert (status, text) == (2, "")
    assert "--dry-run to look, or --yes to write" in said
    for arguments, written in ((("--dry-run",), False), (("--yes",), True)):
        status, text, _ = reprice("--since", "7d", "--json", *arguments)
        document = json.loads(text)
        assert (status, document["written"], document["examined"], document["changed"]) == (0, written, MANY, MANY)
        assert document["differences"] == [
            {
                "day": f"{START:%Y-%m-%d}",
                "provider": "openai",
                "model": "gpt-4o-mini",
                "calls": MANY,
                "before": "0.31500",
                "after": "0.63000",
                "newly_priced": 0,
                "no_longer_priced": 0,
            }
        ]


def test_without_a_terminal_nobody_is_asked_and_nothing_written(
    charged: str, reprice: Reprice, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open(os.devnull) as nowhere:
        monkeypatch.setattr("sys.stdin", nowhere)
        status, text, said = reprice("--since", "7d")
    assert status == 2
    assert "1,500 of 1,500 calls would change." in text
    assert said == "spanledger: Nothing was changed. Give --yes to write without being asked.\n"
    assert stored(charged) == ({0.00021: MANY}, 0)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "Say from when on, for example: spanledger reprice --since 30d --dry-run"),
        (("--since", "1d", "--until", "2d"), "--until must be later than --since."),
    ],
)
def test_a_window_that_makes_no_sense_is_one_sentence(
    arguments: tuple[str, ...], sentence: str, reprice: Reprice
) -> None:
    assert reprice(*arguments) == (2, "", f"spanledger: {sentence}\n")


@pytest.mark.parametrize(("answer", "status"), [(b"y\n", 0), (b"n\n", 2), (b"\n", 2)])
def test_on_a_terminal_it_asks_and_does_what_it_is_told(
    answer: bytes, status: int, charged: str, prices: str, clean_environment: dict[str, str]
) -> None:
    master, terminal = pty.openpty()
    command = ["reprice", "--since", "7d", "--database-url", charged, "--prices", prices]
    process = subprocess.Popen(
        [sys.executable, "-m", "spanledger.query_api.cli", *command],
        env={**clean_environment, "COLUMNS": "100"},
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    os.close(terminal)
    os.write(master, answer)
    out, err = process.communicate(timeout=120)
    os.close(master)
    assert process.returncode == status, err
    assert b"Write this to 1,500 calls? What they were charged before is kept. [y/N]" in out
    if status == 0:
        assert b"Repriced 1,500 calls." in out
        assert stored(charged) == ({0.00042: MANY}, MANY)
    else:
        assert b"Nothing was changed." in err
        assert stored(charged) == ({0.00021: MANY}, 0)


def test_a_killed_run_leaves_every_call_whole_and_the_next_finishes(
    charged: str, prices: str, reprice: Reprice, clean_environment: dict[str, str]
) -> None:
    command = ["reprice", "--since", "7d", "--yes", "--database-url", charged, "--prices", prices]
    process = subprocess.Popen(
        [sys.executable, "-m", "spanledger.query_api.cli", *command],
        env=clean_environment,
        stdout=subprocess.DEVNULL,
    )
    while process.poll() is None and not stored(charged)[1]:
        time.sleep(0.001)
    process.kill()
    process.wait()
    costs, kept = stored(charged)
    assert costs.get(0.00042, 0) == kept >= 1000
    assert costs.get(0.00021, 0) == MANY - kept
    status, text, _ = reprice("--since", "7d", "--yes")
    assert status == 0
    assert f"{MANY - kept:,} of 1,500 calls changed." in text
    assert stored(charged) == ({0.00042: MANY}, MANY)
