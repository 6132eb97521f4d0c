"""Names from spans, shown on a terminal: they cannot paint it, clear it, write to its title, or pass for our lines."""

import json
import time
from contextlib import closing
from pathlib import Path

import pytest

from spanledger.exporter.ledger import Ledger
from spanledger.exporter.settings import Settings
from spanledger.exporter.spans import Resource, SpanData
from spanledger.exporter.store import Store
from spanledger.query_api.cli import main
from spanledger.query_api.keys import Keys
from spanledger.query_api.terminal import harmless, harmless_json, harmless_lines

HOSTILE = {
    "title": "\x1b]0;owned\x07",
    "clear": "\x1b[2J\x1b[H",
    "one byte for ESC [": "\x9b31m",
    "return": "paid\rfree",
    "backspace": "100\b\b\b1",
    "delete": "a\x7fb",
    "bidi": "\u202etxt.exe\u2066",
    "zero width": "a\u200bdmin\ufeff",
    "line separator": "a\u2028b\x85c\x0bd",
    "tag": "a\U000e0041b",
    "line": "m\nTotal: $0\n",
    "markup": "[red]m[/red][link=https://evil.example]x[/link]",
    "broken markup": "[/bold] [unclosed",
    "emoji code": ":warning:",
    "link": "\x1b]8;;https://evil.example\x1b\\click\x1b]8;;\x1b\\",
}
TRACE = 7
PRINTING = (
    ("summary",),
    ("explain", f"{TRACE:032x}"),
    ("doctor",),
    ("reprice", "--since", "2020-01-01", "--dry-run"),
    ("spool", "dead-letters"),
    ("keys", "list"),
    ("audit",),
)
SHOWN_BY = {"summary", "explain", "doctor", "spool", "keys"}
"""Commands that say the name itself; reprice only of a model with a price, the audit log never."""


def hostile_database(path: Path, text: str) -> str:
    """A database in which every name is *text*, of spans, of a key, and of a span that was refused."""
    url = f"sqlite:///{path / 'hostile.db'}"
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": text,
        "gen_ai.request.model": text,
        "gen_ai.agent.name": text,
        "gen_ai.usage.input_tokens": 5,
        f"gen_ai.usage.{text}": text,
        "error.type": text,
    }
    now = time.time_ns()
    resource = Resource(text, text)
    span = SpanData(TRACE, 1, None, text, 3, now, now + 10**9, 2, text, attributes, [], resource, text, text, 0)
    agent = span._replace(span_id=2, attributes={**attributes, "gen_ai.operation.name": "invoke_agent"})
    with closing(Ledger.open(Settings(url))) as ledger:
        assert ledger.record([span, agent]).recorded == 2
        Keys(ledger.store).create("me", ["read"], actor=text)
        with ledger.store.backend.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE api_keys SET name = ?", (text,))
            connection.exec_driver_sql(
                "INSERT INTO dead_letters (id, trace_id, span_id, reason, body) VALUES ('1', ?, ?, ?, '{}')",
                (text, text, text),
            )
    return url


def letters_of(said: str) -> set[str]:
    """What cannot be seen in it, but for the ends of lines."""
    return {letter for letter in said if not letter.isprintable()} - {"\n"}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_name_is_shown_as_what_it_is_by_every_command(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    url = hostile_database(tmp_path, text)
    capsys.readouterr()
    for command in PRINTING:
        assert main([*command, "--database-url", url]) == 0
        said = capsys.readouterr().out
        assert not letters_of(said), command
        if command[0] in SHOWN_BY and "\n" not in text:
            assert harmless(text) in said, command
        assert "Total: $0" not in [line.strip() for line in said.splitlines()] or command[0] not in (
            "explain",
            "doctor",
        )
        assert main([*command, "--database-url", url, "--json"]) == 0
        said = capsys.readouterr().out
        assert not letters_of(said), command
        json.loads(said)


def test_an_error_that_quotes_what_it_was_given_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    Store.open(url).close()
    assert main(["keys", "revoke", "\x1b[2J\nspanledger: all is well", "--database-url", url]) == 1
    said = capsys.readouterr().err
    assert (said.count("\n"), letters_of(said)) == (1, set())


@pytest.mark.parametrize("text", ["gpt-4o", "日本語　名前", "naïve café", "10 000"])
def test_what_people_write_stays_as_it_is(text: str) -> None:
    assert harmless(text) == harmless_json(text) == text


def test_what_cannot_be_seen_is_written_as_its_code() -> None:
    assert harmless("a\x1b[2J\nb\u202e") == r"a\x1b[2J\nb\u202e"
    assert harmless_lines("a\x07\nb") == "a\\x07\nb"
    document = json.dumps({"a": "\x9b\u202e\U000e0041"}, ensure_ascii=False)
    assert harmless_json(document).isascii()
    assert json.loads(harmless_json(document)) == json.loads(document)
