"""`spanledger doctor`: each thing that can be wrong is found where it is, and nothing where all is well."""

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from spanledger.exporter.ledger import Ledger
from spanledger.exporter.records import DeadLetter, Handover
from spanledger.exporter.schema import dead_letters, deliveries
from spanledger.exporter.settings import Settings
from spanledger.exporter.spans import Resource, SpanData
from spanledger.exporter.store import Store
from spanledger.query_api.cli import main

NOW = datetime.now(UTC)
SECOND = 10**9
HOUR = 3600 * SECOND

Doctor = Callable[..., Any]


class Trace:
    """Spans of one trace that began two hours ago: an agent, and in it calls that are well unless said otherwise."""

    def __init__(self) -> None:
        self.start = int((NOW - timedelta(hours=2)).timestamp()) * SECOND
        self.number = 0

    def span(self, name: str, parent: SpanData | None, attributes: dict[str, Any], **columns: Any) -> SpanData:
        self.number += 1
        begun = self.start + self.number * 1000
        said = {key: value for key, value in attributes.items() if value is not None}
        span = SpanData(
            7, self.number, parent and parent.span_id, name, 1, begun, begun + SECOND, 0, None, said, (),
            Resource("test"), "kit", "1.2", 0,
        )  # fmt: skip
        return span._replace(**columns)

    def agent(self, **columns: Any) -> SpanData:
        return self.span("agent", None, {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "a"}, **columns)

    def call(self, parent: SpanData | None, more: dict[str, Any] | None = None, **columns: Any) -> SpanData:
        usual = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-4o-mini",
            "gen_ai.usage.input_tokens": 100 + self.number,
            "gen_ai.usage.output_tokens": 10,
            "gen_ai.response.id": f"answer-{self.number}",
        }
        return self.span("chat", parent, usual | (more or {}), **columns)


@pytest.fixture
def trace() -> Trace:
    return Trace()


@pytest.fixture
def ledger(database_url: str) -> Iterator[Ledger]:
    ledger = Ledger.open(Settings(database_url=database_url))
    yield ledger
    ledger.close()


@pytest.fixture
def doctor(database_url: str, capsys: pytest.CaptureFixture[str]) -> Doctor:
    """What `--json` says; with other arguments the exit status and the text."""

    def run(*arguments: str) -> Any:
        status = main(["doctor", "--database-url", database_url, *(arguments or ("--json",))])
        text = capsys.readouterr().out
        return (status, text) if arguments else json.loads(text)

    return run


def symptoms(diagnosis: dict[str, Any]) -> list[tuple[str, int]]:
    return [(finding["symptom"], finding["rows"]) for finding in diagnosis["findings"]]


def the_finding(diagnosis: dict[str, Any]) -> dict[str, Any]:
    (finding,) = diagnosis["findings"]
    assert (finding["scope"], finding["scope_version"]) == ("kit", "1.2")
    return dict(finding)


def test_an_empty_database_is_told_kindly_that_it_is(doctor: Doctor) -> None:
    status, text = doctor("--strict")
    assert status == 0
    assert text.startswith("No rows in ")
    assert "--since looks further back" in text
    diagnosis = doctor()
    assert (diagnosis["scopes"], diagnosis["findings"], diagnosis["prices_file"]) == ([], [], None)


def test_where_all_is_well_there_is_no_finding(ledger: Ledger, trace: Trace, doctor: Doctor) -> None:
    agent = trace.agent()
    ledger.record([agent, trace.call(agent), trace.call(agent, status_code=2)])
    (scope,) = doctor()["scopes"]
    assert (scope.pop("last_seen") or "").startswith(f"{NOW - timedelta(hours=2):%Y-%m-%dT}")
    assert scope == {
        "scope": "kit",
        "scope_version": "1.2",
        "executions": 1,
        "calls": 2,
        "counted": 2,
        "not_counted": {},
        "calls_without_usage": 0,
        "calls_without_price": 0,
        "tokens_without_price": 0,
    }
    status, text = doctor("--strict")
    assert (status, text.splitlines()[-1]) == (0, "Findings: none")


def test_calls_that_do_not_count_are_told_with_their_reasons(ledger: Ledger, trace: Trace, doctor: Doctor) -> None:
    agent = trace.agent()
    outer = trace.call(agent)
    inner = trace.call(outer, dict(outer.attributes), scope="sdk", scope_version="")
    ledger.record([agent, outer, inner])
    diagnosis = doctor()
    assert diagnosis["findings"] == []
    told = {scope["scope"]: (scope["calls"], scope["counted"], scope["not_counted"]) for scope in diagnosis["scopes"]}
    assert told == {"kit": (1, 0, {"duplicate_of": 1}), "sdk": (1, 1, {})}
    assert "not counted: 1 duplicate_of" in doctor("--since", "1d")[1]


def test_models_without_a_price_come_with_a_file_to_fill_in(
    ledger: Ledger, trace: Trace, doctor: Doctor, database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    agent = trace.agent()
    unpriced = [trace.call(agent, {"gen_ai.request.model": "house-7b"}) for _ in range(2)]
    embedding = {
        "gen_ai.operation.name": "embeddings",
        "gen_ai.request.model": "house-embed",
        "gen_ai.usage.output_tokens": None,
    }
    ledger.record([agent, *unpriced, trace.call(agent, embedding)])
    diagnosis = doctor()
    assert symptoms(diagnosis) == [("without_price", 2), ("without_price", 1)]
    first = diagnosis["findings"][0]
    assert first["tokens"] == sum(
        span.attributes["gen_ai.usage.input_tokens"] + span.attributes["gen_ai.usage.output_tokens"]
        for span in unpriced
    )
    assert "no price known for model 'house-7b' of provider 'openai'" in first["what"]
    assert diagnosis["prices_file"] == {
        "unit": "per_million",
        "prices": [
            {"model": "house-7b", "provider": "openai", "input": "US dollars", "output": "US dollars"},
            {"model": "house-embed", "provider": "openai", "input": "US dollars"},
        ],
    }
    _, text = doctor("--since", "1d")
    draft = tmp_path / "prices.json"
    draft.write_text(text[text.index("{\n") :])
    spanledger = ("--database-url", database_url, "--prices", str(draft))
    assert main(["doctor", *spanledger]) == 2  # as it is, nothing is free by mistake
    assert "must be a number of US dollars" in capsys.readouterr().err
    draft.write_text(draft.read_text().replace('"US dollars"', "0.5"))
    assert main(["doctor", *spanledger]) == 0
    assert "recorded before it had one" in capsys.readouterr().out
    assert main(["reprice", "--since", "1d", "--yes", *spanledger]) == 0
    capsys.readouterr()
    assert main(["doctor", "--strict", *spanledger]) == 0


def test_calls_that_name_no_model_get_no_price_to_fill_in(ledger: Ledger, trace: Trace, doctor: Doctor) -> None:
    agent = trace.agent()
    ledger.record([agent, trace.call(agent, {"gen_ai.request.model": None})])
    finding = the_finding(diagnosis := doctor())
    assert finding["symptom"] == "without_price"
    assert "name no model" in finding["remedy"]
    assert diagnosis["prices_file"] is None


NO_TOKENS = {"gen_ai.usage.input_tokens": None, "gen_ai.usage.output_tokens": None}


@pytest.mark.parametrize(
    ("attributes", "what", "remedy"),
    [
        ({"gen_ai.request.stream": True}, "of openai completed streamed, and without token counts", "include_usage"),
        ({}, "of openai completed without token counts", "include_usage"),
        ({"gen_ai.provider.name": "anthropic"}, "of anthropic completed without", "Read streams to their end"),
        ({"gen_ai.operation.name": "embeddings"}, "of openai completed without", "records no usage of such calls"),
    ],
)
def test_missing_usage_is_told_with_how_to_get_it(
    attributes: dict[str, Any], what: str, remedy: str, ledger: Ledger, trace: Trace, doctor: Doctor
) -> None:
    agent = trace.agent()
    failed = trace.call(agent, NO_TOKENS, status_code=2)  # has none to miss
    ledger.record([agent, trace.call(agent, NO_TOKENS | attributes), failed])
    finding = the_finding(doctor())
    assert (finding["symptom"], finding["rows"]) == ("without_usage", 1)
    assert what in finding["what"]
    assert remedy in finding["remedy"]


def test_an_emitter_that_never_mentions_the_cache_is_told_as_soon_as_there_could_be_one(
    ledger: Ledger, trace: Trace, doctor: Doctor
) -> None:
    agent = trace.agent()
    ledger.record([agent, trace.call(agent, {"gen_ai.usage.input_tokens": 1023})])
    assert doctor()["findings"] == []
    ledger.record([trace.call(agent, {"gen_ai.usage.input_tokens": 1024})])
    finding = the_finding(doctor())
    assert (finding["symptom"], finding["rows"]) == ("cache_never_said", 1)
    ledger.record([trace.call(agent, {"gen_ai.usage.cache_read.input_tokens": 0})])
    assert doctor()["findings"] == []


def test_rows_whose_parent_never_came_are_told_until_it_comes(ledger: Ledger, trace: Trace, doctor: Doctor) -> None:
    root, plumbing = trace.agent(), None
    plumbing = trace.span("HTTP POST", root, {"http.request.method": "POST"})
    agent = trace.agent()._replace(parent_span_id=plumbing.span_id)
    ledger.record([root, agent, trace.call(agent)])
    finding = the_finding(doctor())
    assert (finding["symptom"], finding["rows"]) == ("without_parent", 1)
    assert finding["what"] == "1 execution in a span that never came."
    ledger.record([plumbing])
    assert doctor()["findings"] == []


def test_calls_that_no_execution_made_are_told(ledger: Ledger, trace: Trace, doctor: Doctor) -> None:
    ledger.record([trace.call(None), trace.call(None)])
    finding = the_finding(doctor())
    assert (finding["symptom"], finding["rows"]) == ("without_execution", 2)


def test_clocks_that_cannot_be_right_are_told(ledger: Ledger, trace: Trace, doctor: Doctor) -> None:
    agent = trace.agent()
    stepped = trace.call(agent, end_time=trace.start - SECOND)
    early = trace.call(agent, start_time=trace.start - 5 * SECOND)
    early_agent = trace.agent()._replace(parent_span_id=agent.span_id, start_time=trace.start - 5 * SECOND)
    hardly_early = trace.call(agent, start_time=trace.start - SECOND // 2)
    future = trace.call(agent, start_time=trace.start + 30 * HOUR, end_time=trace.start + 31 * HOUR)
    ledger.record([agent, stepped, early, early_agent, hardly_early, future])
    assert symptoms(doctor()) == [
        ("ended_before_start", 1),
        ("before_parent", 1),
        ("before_parent", 1),
        ("in_the_future", 1),
    ]


def test_attributes_the_sender_dropped_are_told(ledger: Ledger, trace: Trace, doctor: Doctor) -> None:
    agent = trace.agent(dropped_attributes=3)
    ledger.record([agent, trace.call(agent, dropped_attributes=2), trace.call(agent, dropped_attributes=4)])
    findings = doctor()["findings"]
    assert [finding["what"] for finding in findings] == [
        "1 execution arrived without 3 attributes: the sender's limit.",
        "2 LLM calls arrived without 6 attributes: the sender's limit.",
    ]
    assert "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT" in findings[0]["remedy"]


def test_what_runs_for_over_an_hour_is_told(ledger: Ledger, trace: Trace, doctor: Doctor) -> None:
    agent = trace.agent(end_time=None)
    lately = int((NOW - timedelta(minutes=5)).timestamp()) * SECOND
    ledger.record([agent, trace.call(agent, start_time=lately, end_time=None)])
    finding = the_finding(doctor())
    assert (finding["symptom"], finding["what"]) == (
        "still_running",
        "1 execution started over an hour ago and not ended.",
    )


def _deliver(store: Store, dropped: Sequence[dict[str, int]]) -> None:
    with store.engine.begin() as connection:
        for number, reasons in enumerate(dropped):
            handover = Handover(f"segment-{number}", "p", NOW, 9, 0, 0, {}, (), ())
            values = {name: value for name, value in handover._asdict().items() if name in deliveries.c}
            connection.execute(insert(deliveries).values({**values, "dropped": json.dumps(reasons)}))


def test_spans_that_were_lost_or_refused_are_told(ledger: Ledger, doctor: Doctor) -> None:
    _deliver(ledger.store, [{"spool_full": 3}, {"spool_full": 4, "disk_full": 1}])
    letter = DeadLetter("00000000-0000-0000-0000-000000000001", "0" * 32, "0" * 16, "integer out of range", "{}")
    with ledger.store.engine.begin() as connection:
        connection.execute(insert(dead_letters).values(letter._asdict()))
    findings = doctor()["findings"]
    assert sorted(finding["what"] for finding in findings) == [
        "1 span lost: disk_full.",
        "1 span refused by the database for good: integer out of range",
        "7 spans lost: spool_full.",
    ]
    assert {finding["scope"] for finding in findings} == {None}
    assert doctor("--strict")[0] == 1


def test_only_what_began_since_then_is_looked_at(ledger: Ledger, trace: Trace, doctor: Doctor) -> None:
    ledger.record([trace.call(None)])
    assert doctor("--since", "1h", "--strict")[0] == 0
    assert doctor("--since", "3h", "--strict")[0] == 1
    assert doctor("--since", "3h")[0] == 0


def test_every_finding_says_what_it_is_about_and_what_to_do(ledger: Ledger, trace: Trace, doctor: Doctor) -> None:
    ledger.record([trace.call(None, NO_TOKENS), trace.agent(dropped_attributes=1)])
    _, text = doctor("--since", "1d")
    diagnosis = doctor()
    assert len(diagnosis["findings"]) == 3
    for finding in diagnosis["findings"]:
        assert f"! {finding['what']}\n  kit 1.2\n  {finding['remedy']}\n  e.g. {finding['example']}\n" in text
