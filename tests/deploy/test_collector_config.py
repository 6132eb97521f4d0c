"""What collector-config.yaml promises: every span reaches spanledger whole, and Jaeger gets a masked share."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spanledger.exporter.settings import Settings

LEDGER = "otlp_http/spanledger"
JAEGER = "otlp_grpc/jaeger"
TOUCHES_SPANS = ("tail_sampling", "probabilistic_sampler", "filter", "redaction", "transform", "attributes")


def pipelines_to(config: dict[str, Any], exporter: str) -> list[dict[str, Any]]:
    """The pipelines that end in *exporter*, and those that feed them through a connector."""
    pipelines = config["service"]["pipelines"].values()
    found = [pipeline for pipeline in pipelines if exporter in pipeline["exporters"]]
    connectors = [
        receiver for pipeline in found for receiver in pipeline["receivers"] if receiver in config["connectors"]
    ]
    return found + [pipeline for connector in connectors for pipeline in pipelines_to(config, connector)]


def kind(component: str) -> str:
    return component.partition("/")[0]


def test_the_real_collector_accepts_the_configuration(root: Path, tool: Callable[[str], Path]) -> None:
    command = [tool("otelcol"), "validate", "--config", root / "collector-config.yaml"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr


def test_only_component_names_of_the_current_collector_are_used(collector: dict[str, Any]) -> None:
    assert {kind(name) for name in collector["exporters"]} == {"otlp_grpc", "otlp_http"}
    assert "batch" not in {kind(name) for name in collector["processors"]}
    assert all("batch" in exporter["sending_queue"] for exporter in collector["exporters"].values())


def test_every_component_that_is_used_is_defined_and_every_one_defined_is_used(collector: dict[str, Any]) -> None:
    used = set(collector["service"]["extensions"])
    for pipeline in collector["service"]["pipelines"].values():
        used |= {*pipeline["receivers"], *pipeline["processors"], *pipeline["exporters"]}
    sections = ("receivers", "processors", "connectors", "exporters", "extensions")
    assert used == {name for section in sections for name in collector[section]}


def test_memory_limiter_comes_first_in_every_pipeline(collector: dict[str, Any]) -> None:
    for name, pipeline in collector["service"]["pipelines"].items():
        assert pipeline["processors"][0] == "memory_limiter", name


def test_nothing_samples_filters_or_masks_on_the_way_to_spanledger(collector: dict[str, Any]) -> None:
    pipelines = pipelines_to(collector, LEDGER)
    assert pipelines
    for pipeline in pipelines:
        assert [p for p in pipeline["processors"] if kind(p) in TOUCHES_SPANS] == []


def test_traces_and_logs_both_reach_spanledger_from_the_receiver(collector: dict[str, Any]) -> None:
    pipelines = collector["service"]["pipelines"]
    for signal in ("traces", "logs"):
        assert pipelines[signal]["receivers"] == ["otlp"]
        assert LEDGER in pipelines[signal]["exporters"]


def test_the_queue_to_spanledger_is_on_disk_synced_and_never_gives_up(collector: dict[str, Any]) -> None:
    exporter = collector["exporters"][LEDGER]
    queue = exporter["sending_queue"]
    storage = collector["extensions"][queue["storage"]]
    assert exporter["retry_on_failure"]["max_elapsed_time"] == 0
    assert queue["block_on_overflow"] is True
    assert queue["storage"] in collector["service"]["extensions"]
    assert storage["fsync"] is True
    assert storage["create_directory"] is True
    assert "max_size" not in queue["batch"], "a span above max_size takes its whole batch with it"


def test_the_largest_batch_fits_into_the_largest_body_spanledger_accepts(collector: dict[str, Any]) -> None:
    protocols = collector["receivers"]["otlp"]["protocols"]
    request = max(protocols["grpc"]["max_recv_msg_size_mib"] << 20, protocols["http"]["max_request_body_size"])
    # A batch is sent as soon as it holds min_size, so it was smaller than that before its last request came.
    assert collector["exporters"][LEDGER]["sending_queue"]["batch"]["min_size"] + request < Settings().max_body_bytes


def test_jaeger_is_reached_over_grpc_behind_redaction_and_then_sampling(collector: dict[str, Any]) -> None:
    (pipeline,) = [p for p in collector["service"]["pipelines"].values() if JAEGER in p["exporters"]]
    assert [kind(name) for name in pipeline["receivers"]] == ["forward"]
    assert [kind(name) for name in pipeline["processors"]] == ["memory_limiter", "redaction", "tail_sampling"]
    assert "storage" not in collector["exporters"][JAEGER]["sending_queue"]
    assert "block_on_overflow" not in collector["exporters"][JAEGER]["sending_queue"]


@pytest.mark.parametrize(
    "key",
    [
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.output_tokens",
        "gen_ai.usage.cache_read.input_tokens",
        "llm.token_count.prompt",
        "llm.usage.total_tokens",
        "gen_ai.request.max_tokens",
        "gen_ai.response.id",
        "session.id",
    ],
)
def test_counts_and_ids_keep_their_values_on_the_way_to_jaeger(collector: dict[str, Any], key: str) -> None:
    patterns = collector["processors"]["redaction/jaeger"]["blocked_key_patterns"]
    assert [pattern for pattern in patterns if re.search(pattern, key)] == []


@pytest.mark.parametrize(
    "key",
    ["http.request.header.authorization", "openai.api_key", "api-key", "db.password", "access_token", "aws.secret"],
)
def test_attributes_named_like_secrets_are_masked_on_the_way_to_jaeger(collector: dict[str, Any], key: str) -> None:
    patterns = collector["processors"]["redaction/jaeger"]["blocked_key_patterns"]
    assert any(re.search(pattern, key) for pattern in patterns)


def test_every_address_it_listens_on_is_loopback_unless_told_otherwise(collector: dict[str, Any]) -> None:
    protocols = collector["receivers"]["otlp"]["protocols"]
    reader = collector["service"]["telemetry"]["metrics"]["readers"][0]["pull"]["exporter"]["prometheus"]
    addresses = [
        protocols["grpc"]["endpoint"],
        protocols["http"]["endpoint"],
        collector["extensions"]["health_check"]["endpoint"],
        reader["host"],
    ]
    assert all(address.startswith("${env:COLLECTOR_HOST:-127.0.0.1}") for address in addresses), addresses
