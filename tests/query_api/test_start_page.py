"""GET /: a page that shows what is there, and runs nothing that spans brought along."""

import base64
import hashlib
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest

from spanledger.query_api.dashboard.pages import duration, usd

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'-alert(1)-'",
    "javascript:alert(1)",
    "{{7*7}}{% raw %}",
    "</style><style>*{display:none}",
)


class Elements(HTMLParser):
    """Every element of a page with its attributes, and the text outside of its style."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_an_empty_ledger_says_how_to_fill_it(api: httpx.Client) -> None:
    page = api.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    text = Elements(page.text).text
    assert "Nothing has arrived yet" in text
    assert f"POST {str(api.base_url).rstrip('/')}/v1/traces" in text


def test_the_page_shows_the_summary_of_the_last_month(api: httpx.Client, rows: Any) -> None:
    now = datetime.now(UTC)
    rows.write(
        rows.execution(1, agent_type="planner", start_time=now),
        rows.execution(1, 3, parent=1, agent_type="designer", status="failed", start_time=now),
        rows.call(1, 2, total_cost=1234.5, start_time=now, input_tokens=1_000_000),
        rows.call(1, 4, start_time=now),
        rows.execution(2, agent_type="long gone"),
    )
    text = " ".join(Elements(api.get("/").text).text.split())
    for expected in (
        "$1,234.50",
        "1 calls have no price",
        "1,000,010",
        "planner",
        "designer",
        "gpt-4",
        "run-1",
        "failed",
    ):
        assert expected in text
    assert "long gone" not in text.split("Latest steps")[0]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_spans_bring_along_is_text_and_nothing_else(api: httpx.Client, rows: Any, text: str) -> None:
    now = datetime.now(UTC)
    rows.write(
        rows.execution(1, agent_type=text, execution_step=text, execution_id=text, name=text, start_time=now),
        rows.call(1, provider=text, model_id=text, start_time=now, total_cost=1.0),
    )
    page = api.get("/")
    plain = Elements(api.get("/").text)
    assert page.status_code == 200
    assert text in plain.text
    assert {tag for tag, _ in plain.seen} <= {
        *("html", "head", "meta", "title", "style", "body", "header", "main", "h1", "h2", "p", "a", "code", "pre"),
        *(
            "dl",
            "div",
            "dt",
            "dd",
            "small",
            "table",
            "thead",
            "tbody",
            "tr",
            "th",
            "td",
            "svg",
            "rect",
            "ul",
            "li",
            "span",
        ),
    }
    assert [tag for tag, _ in plain.seen].count("style") == 1
    for _, attributes in plain.seen:
        assert not [name for name in attributes if name.startswith("on") or name in ("src", "style")]
        assert (attributes.get("href") or "/").startswith("/")


def test_the_policy_allows_the_pages_own_style_and_nothing_else(sqlite_api: httpx.Client) -> None:
    page = sqlite_api.get("/")
    style = re.search("<style>(.*)</style>", page.text, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    policy = page.headers["content-security-policy"]
    assert f"style-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "url(" not in style[1]
    assert "@import" not in style[1]


def test_amounts_and_times_are_written_for_people() -> None:
    assert [usd(amount) for amount in (None, 0, 0.5, 12.345, 0.00012345678, 1e-8)] == [
        *("–", "$0.00", "$0.5", "$12.35", "$0.0001235", "$0.00000001"),
    ]
    assert [duration(ms) for ms in (None, 0, 999.4, 1500, 90_000)] == ["–", "0 ms", "999 ms", "1.5 s", "1.5 min"]
