"""The analytics summary as tables for a terminal; the numbers are the API's, rounded for reading and nothing else."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from .terminal import harmless_lines

UNKNOWN: Final = "–"
"""What is not known. Never 0."""


def print_summary(console: Console, summary: Mapping[str, Any], agents: Sequence[Mapping[str, Any]]) -> None:
    """*summary* as ``/analytics/summary`` answers it, *agents* as the rows of ``/analytics/agents``."""
    executions, calls = summary["execution_analytics"], summary["llm_call_analytics"]
    window = summary["date_range"]
    console.print(Text(f"{window['start_date'][:16]} to {window['end_date'][:16]} UTC", style="dim"))
    console.print(Group(_models(calls), _agents(agents), _facts(executions, calls)))


def money(amount: float | None) -> str:
    """US dollars with the digits that matter for small amounts."""
    if amount is None:
        return UNKNOWN
    return f"${amount:,.2f}" if abs(amount) >= 100 or amount == 0 else f"${amount:,.6f}"


def number(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:,.0f}"


def percentage(share: float | None) -> str:
    return UNKNOWN if share is None else f"{share:.0%}"


def _models(calls: Mapping[str, Any]) -> RenderableType:
    table = titled("LLM calls", "provider", "model", calls="right", input="right", output="right", cost="right")
    for row in calls["by_model"]:
        table.add_row(
            row["provider"],
            row["model_id"],
            number(row["calls"]),
            number(row["input_tokens"]),
            number(row["output_tokens"]),
            money(row["total_cost"]),
        )
    totals = calls["token_stats"]
    table.add_section()
    table.add_row(
        "all",
        "",
        number(calls["total_calls"]),
        number(totals["total_input_tokens"]),
        number(totals["total_output_tokens"]),
        money(totals["total_cost"]),
        style="bold",
    )
    return table


def _agents(agents: Sequence[Mapping[str, Any]]) -> RenderableType:
    table = titled("Agents", "agent type", rows="right", successful="right", p50="right", p95="right", cost="right")
    for row in agents:
        table.add_row(
            row["agent_type"] or "(no agent)",
            number(row["executions"]),
            percentage(row["success_rate"]),
            _milliseconds(row["p50_duration_ms"]),
            _milliseconds(row["p95_duration_ms"]),
            money(row["total_cost"]),
        )
    return table


def _facts(executions: Mapping[str, Any], calls: Mapping[str, Any]) -> RenderableType:
    totals, coverage = calls["token_stats"], calls["coverage"]
    statuses = ", ".join(f"{count} {status}" for status, count in executions["status_counts"].items())
    lines = (
        ("runs", number(executions.get("total_runs"))),
        ("executions", f"{number(executions['total_executions'])} ({statuses or 'none'})"),
        ("successful", percentage(executions["success_rate"])),
        ("cached input", f"{number(totals['cache_read_tokens'])} tokens read, part of the input"),
        ("reasoning", f"{number(totals['reasoning_tokens'])} tokens, part of the output"),
        ("not known", f"usage of {coverage['calls_without_usage']}, price of {coverage['calls_without_price']} calls"),
    )
    table = _Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, value in lines:
        table.add_row(Text(name, style="dim"), value)
    return table


def titled(title: str, *columns: str, **numbers: Any) -> Table:
    """A table of texts, which fold where the terminal is narrow, and numbers, which are never cut."""
    table = _Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, overflow="fold")
    for column, justify in numbers.items():
        table.add_column(column, justify=justify, no_wrap=True)
    return table


class _Table(Table):
    """A table whose texts, which may come from spans, cannot speak to the terminal."""

    def add_row(self, *cells: RenderableType | None, **options: Any) -> None:
        super().add_row(*(_harmless(cell) for cell in cells), **options)


def _harmless(cell: RenderableType | None) -> RenderableType | None:
    """*cell*, if it is text, without markup and with nothing in it but what can be seen, and its lines."""
    if isinstance(cell, Text):
        cell.plain = harmless_lines(cell.plain)
        return cell
    return Text(harmless_lines(cell)) if isinstance(cell, str) else cell


def _milliseconds(duration: float | None) -> str:
    return UNKNOWN if duration is None else f"{duration:,.0f} ms"
