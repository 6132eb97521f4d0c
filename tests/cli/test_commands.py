"""Every command: its help, its options as variables, and one sentence instead of a traceback."""

import json
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from spanledger.exporter.ledger import Ledger
from spanledger.exporter.settings import Settings
from spanledger.exporter.spans import Resource, SpanData
from spanledger.query_api.cli import COMMANDS, main, parser

NAMES = [command.name for command in COMMANDS]


def a_chat(number: int, started: datetime, *, failed: bool = False) -> SpanData:
    start = int(started.timestamp() * 1e9)
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.usage.input_tokens": 1000,
        "gen_ai.usage.output_tokens": 100,
    }
    return SpanData(
        number, number, None, "chat gpt-4o", 3, start, start + 10**9, 2 if failed else 0, None, attributes, [],
        Resource("test"), "test", "1", 0,
    )  # fmt: skip


def a_database(path: Path, *spans: SpanData) -> str:
    url = f"sqlite:///{path}"
    ledger = Ledger.open(Settings(database_url=url))
    ledger.record(spans)
    ledger.close()
    return url


@pytest.mark.parametrize("name", NAMES)
def test_every_command_explains_itself_with_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert f"examples:\n  spanledger {name}" in text


@pytest.mark.parametrize("name", NAMES)
def test_every_option_is_a_variable_too_and_says_which(name: str) -> None:
    (subparsers,) = (action for action in parser()._actions if action.dest == "command")
    assert isinstance(subparsers.choices, dict)
    for action in subparsers.choices[name]._actions:
        flags = [flag for flag in action.option_strings if flag.startswith("--") and not flag.startswith("--no-")]
        if flags and flags != ["--help"]:
            assert f"[SPANLEDGER_{flags[0][2:].replace('-', '_').upper()}]" in (action.help or "")


def test_the_version_is_the_distribution_s(capsys: pytest.CaptureFixture[str]) -> None:
    from importlib.metadata import version

    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"spanledger {version('spanledger')}\n"


@pytest.mark.parametrize(
    "command", [("migrate",), ("serve", "--port", "0"), ("summary",), ("purge", "--older-than", "1d")]
)
@pytest.mark.parametrize(
    ("url", "status", "sentence"),
    [
        ("nonsense", 2, "The database URL cannot be read"),
        ("mysql://a@b/c", 2, "spanledger cannot store in 'mysql'"),
        ("sqlite:////there/is/no/such/folder/x.db", 2, "make it first"),
        ("postgresql://nobody:secret@127.0.0.1:1/x", 1, "is not available"),
    ],
)
def test_a_database_that_cannot_be_used_is_one_sentence(
    command: tuple[str, ...], url: str, status: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--database-url", url]) == status
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("spanledger: ")
    assert sentence in printed.err
    assert len(printed.err.splitlines()) == 1
    assert "secret" not in printed.err


def test_tables_from_a_newer_version_are_refused_with_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = a_database(tmp_path / "new.db")
    with sqlite3.connect(tmp_path / "new.db") as connection:
        (table,) = connection.execute("SELECT name FROM sqlite_master WHERE name LIKE '%version%'").fetchone()
        connection.execute(f"UPDATE {table} SET version_num = 'spanledger_9999'")
    connection.close()
    assert main(["summary", "--database-url", url]) == 2
    assert "newer" in capsys.readouterr().err


def test_a_postgresql_without_tables_says_to_migrate_and_then_works(
    empty_postgresql: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["summary", "--database-url", empty_postgresql]) == 1
    assert "run `spanledger migrate`" in capsys.readouterr().err
    assert main(["migrate", "--database-url", empty_postgresql]) == 0
    assert "up to date" in capsys.readouterr().out
    assert main(["summary", "--database-url", empty_postgresql, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["llm_call_analytics"]["total_calls"] == 0


def test_summary_shows_what_the_rows_add_up_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    now = datetime.now(UTC)
    url = a_database(tmp_path / "some.db", *(a_chat(number, now - timedelta(hours=number)) for number in range(1, 4)))
    assert main(["summary", "--database-url", url, "--json"]) == 0
    calls = json.loads(capsys.readouterr().out)["llm_call_analytics"]
    with sqlite3.connect(tmp_path / "some.db") as connection:
        row = connection.execute("SELECT count(*), sum(input_tokens), sum(total_cost) FROM llm_call_logs").fetchone()
    connection.close()
    assert row[0] == 3
    assert (calls["total_calls"], calls["token_stats"]["total_input_tokens"]) == row[:2]
    assert calls["token_stats"]["total_cost"] == pytest.approx(row[2])
    assert main(["summary", "--database-url", url]) == 0
    table = capsys.readouterr().out
    assert "gpt-4o" in table
    assert "3,000" in table
    assert f"${row[2]:.6f}" in table


def test_summary_narrows_by_the_api_s_parameters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    now = datetime.now(UTC)
    url = a_database(
        tmp_path / "some.db", a_chat(1, now), a_chat(2, now, failed=True), a_chat(3, now - timedelta(days=40))
    )

    def total(*arguments: str) -> Any:
        assert main(["summary", "--json", "--database-url", url, *arguments]) == 0
        return json.loads(capsys.readouterr().out)["llm_call_analytics"]["total_calls"]

    assert total() == 2
    assert total("--filter", "status=failed") == 1
    assert total("--filter", "status=failed", "--filter", "status=completed") == 2
    assert total("--start-date", f"{now - timedelta(days=50):%Y-%m-%d}") == 3
    assert main(["summary", "--database-url", url, "--filter", "colour=red"]) == 2
    assert "There is no parameter 'colour'" in capsys.readouterr().err
    assert main(["summary", "--database-url", url, "--start-date", "yesterday"]) == 2
    assert "start_date is 'yesterday'" in capsys.readouterr().err


def test_purge_deletes_what_is_old_and_only_when_told_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    now = datetime.now(UTC)
    old = [a_chat(1, now - timedelta(days=40)), a_chat(2, now - timedelta(days=35), failed=True)]
    url = a_database(tmp_path / "old.db", *old, a_chat(3, now))

    def purge(*arguments: str) -> tuple[int, str]:
        status = main(["purge", "--database-url", url, *arguments])
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    assert purge() == (2, "spanledger: Say what is old, for example: spanledger purge --older-than 30d\n")
    assert purge("--older-than", "30d", "--dry-run", "--json") == (
        0,
        '{"would_delete":{"executions":0,"llm_calls":2}}\n',
    )
    status, said = purge("--older-than", "30d")
    assert status == 2
    assert "Nothing was deleted" in said
    status, said = purge("--older-than", "30d", "--status", "failed", "--yes", "--json")
    assert (status, said.splitlines()[-1]) == (0, '{"deleted":{"executions":0,"llm_calls":1}}')
    status, said = purge("--older-than", f"{now:%Y-%m-%d}", "--yes")
    assert status == 0
    assert "Deleted 0 executions and 1 LLM calls." in said
    status, said = purge("--older-than", "0d", "--dry-run")
    assert "1 LLM calls" in said


@pytest.mark.parametrize("age", ["30", "d", "-1d", "1y", "2026-13-01", "yesterday"])
def test_an_age_that_cannot_be_read_is_refused(age: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["purge", f"--older-than={age}"])
    assert ended.value.code == 2
    assert "is neither an age such as 30d or 12h nor a date" in capsys.readouterr().err


def test_a_variable_does_what_its_option_does_and_the_option_wins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = a_database(tmp_path / "one.db", a_chat(1, datetime.now(UTC)))
    monkeypatch.setenv("SPANLEDGER_DATABASE_URL", url)
    monkeypatch.setenv("SPANLEDGER_JSON", "yes")
    monkeypatch.setenv("SPANLEDGER_FILTER", "provider=openai,status=completed")
    assert main(["summary"]) == 0
    assert json.loads(capsys.readouterr().out)["llm_call_analytics"]["total_calls"] == 1
    empty = a_database(tmp_path / "none.db")
    assert main(["summary", "--database-url", empty]) == 0
    assert json.loads(capsys.readouterr().out)["llm_call_analytics"]["total_calls"] == 0
    monkeypatch.setenv("SPANLEDGER_JSON", "perhaps")
    assert main(["summary"]) == 2
    assert "SPANLEDGER_JSON is 'perhaps'" in capsys.readouterr().err


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_reader_that_has_seen_enough_ends_it_quietly(
    form: tuple[str, ...], tmp_path: Path, clean_environment: dict[str, str]
) -> None:
    url = a_database(tmp_path / "some.db", a_chat(1, datetime.now(UTC)))
    process = subprocess.Popen(
        [sys.executable, "-m", "spanledger.query_api.cli", "summary", "--database-url", url, *form],
        env=clean_environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr:
        assert process.stderr.read() == b""
    process.wait(timeout=60)
