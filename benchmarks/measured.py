"""Medians, spreads and paired ratios: how every benchmark here reports."""

import statistics
from collections.abc import Mapping, Sequence


def spread(values: Sequence[float], digits: int = 0) -> str:
    """``median [min–max]``."""
    return f"{statistics.median(values):,.{digits}f} [{min(values):,.{digits}f}–{max(values):,.{digits}f}]"


def paired(values: Sequence[float], yardstick: Sequence[float]) -> list[float]:
    """The ratio of every round: only values of the same round met the same noise."""
    return [value / other for value, other in zip(values, yardstick, strict=True)]


def table(title: str, header: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    """A Markdown table, one row per variant."""
    lines = [f"| {title} | {' | '.join(header)} |", "| --- |" + " --- |" * len(header)]
    return "\n".join([*lines, *(f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items())])
