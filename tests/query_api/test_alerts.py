"""docs/alerts.yml: rules about what is really exported."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from spanledger.exporter.errors import StoreUnavailable
from spanledger.exporter.ledger import Ledger
from spanledger.query_api.metrics import Metrics

RULES = [
    rule
    for group in yaml.safe_load((Path(__file__).parents[2] / "docs" / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]


def exported() -> dict[str, set[str]]:
    """The names that samples can have, with their labels."""
    metrics = Metrics()
    metrics.requests.labels("GET", "/", 200).inc()
    metrics.seconds.labels("GET", "/").observe(1)
    metrics.spans.labels("traces", "recorded").inc()
    metrics.rejected.labels("traces", "why").inc()
    metrics.lost.labels("why").set(1)
    families = text_string_to_metric_families(metrics.text().decode())
    return {sample.name: set(sample.labels) for family in families for sample in family.samples}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_rule_asks_for_what_is_exported_and_says_what_it_means(rule: dict[str, Any]) -> None:
    names = exported()
    asked = re.findall(r"(spanledger_\w+)(?:{([^}]*)})?", rule["expr"])
    assert asked
    for name, selector in asked:
        assert name in names
        assert set(re.findall(r"(\w+)=", selector)) <= names[name]
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"].endswith(".")


def cost(api: httpx.Client) -> str:
    (line,) = (x for x in api.get("/metrics").text.splitlines() if x.startswith("spanledger_cost_last_day_usd "))
    return line.partition(" ")[2]


def test_the_cost_of_the_last_day_is_what_counts_of_it(api: httpx.Client, rows: Any) -> None:
    now = datetime.now(UTC)
    rows.write(rows.call(1, 2, total_cost=1.5, start_time=now), rows.call(1, 3, total_cost=2.0, start_time=now))
    rows.write(rows.call(2, 2, total_cost=50.0, start_time=now - timedelta(days=2)))
    rows.leave_uncounted(1, 3)
    assert float(cost(api)) == 1.5


def test_a_database_that_is_away_leaves_the_counters(
    api: httpx.Client, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: Any) -> Any:
        raise StoreUnavailable("PostgreSQL is restarting.")

    assert cost(api) == "0.0"  # and the keys are known from now on
    monkeypatch.setattr(ledger.store.backend, "reading", down)
    assert cost(api) == "NaN"
