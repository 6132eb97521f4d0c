"""`spanledger erase` and `spanledger purge`, and what the audit log says of them afterwards."""

import json
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from spanledger.exporter.ledger import Ledger
from spanledger.exporter.settings import Settings
from spanledger.exporter.spans import Resource, SpanData

USER = "u-1\x1b[31m"
"""A name that would paint a terminal red."""


@pytest.fixture(autouse=True)
def rows(tmp_path: Path) -> None:
    start = time.time_ns() - 10**12
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o"}
    named = ({"spanledger.external.user_id": USER}, {"session.id": "s-1"}, {})
    spans = [
        SpanData(
            number,
            number,
            None,
            "chat",
            3,
            start,
            start + 1,
            0,
            None,
            attributes | more,
            [],
            Resource("t"),
            "t",
            "1",
            0,
        )
        for number, more in enumerate(named, 1)
    ]
    with closing(Ledger.open(Settings(f"sqlite:///{tmp_path / 'spanledger.db'}"))) as ledger:
        ledger.record(spans)


def test_a_user_and_a_session_are_counted_and_then_forgotten(spanledger: Any) -> None:
    gone = {"executions": 0, "llm_calls": 1, "contents": 0, "dead_letters": 0}
    dry = spanledger("erase", "--user", USER, "--dry-run")
    assert "1 llm calls" in dry.stdout
    assert "\x1b" not in dry.stdout
    assert json.loads(spanledger("erase", "--user", USER, "--dry-run", "--json").stdout) == {"would_delete": gone}
    unasked = spanledger("erase", "--user", USER)
    assert (unasked.returncode, "--yes" in unasked.stderr) == (2, True)
    assert json.loads(spanledger("erase", "--user", USER, "--yes", "--json").stdout) == {"deleted": gone}
    assert "1 llm calls" in spanledger("erase", "--session", "s-1", "--yes").stdout
    assert spanledger("purge", "--older-than", "1m", "--yes").returncode == 0
    log = json.loads(spanledger("audit", "--json").stdout)
    assert log["intact"]
    assert [(entry["action"], entry["row_count"]) for entry in log["entries"]] == [
        ("erase", 1),
        ("erase", 1),
        ("purge", 1),
    ]


@pytest.mark.parametrize("arguments", [(), ("--user", "a", "--session", "b")])
def test_it_must_be_said_whose_rows(spanledger: Any, arguments: tuple[str, ...]) -> None:
    result = spanledger("erase", *arguments, "--yes")
    assert (result.returncode, "--session ID" in result.stderr) == (2, True)
