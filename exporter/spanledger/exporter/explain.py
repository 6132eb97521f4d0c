"""The arithmetic of one call, shown: what was reported, how it was understood, what was multiplied, and the sum."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from .charges import Call, charge, explain
from .pricing import Line, PriceBook
from .values import mapping


class StoredCall(Call, Protocol):
    """A row of ``llm_call_logs``."""

    @property
    def id(self) -> str: ...
    @property
    def usage_rule(self) -> str | None: ...
    @property
    def counted(self) -> bool: ...
    @property
    def not_counted_reason(self) -> str | None: ...
    @property
    def input_cost(self) -> float | None: ...
    @property
    def output_cost(self) -> float | None: ...
    @property
    def total_cost(self) -> float | None: ...
    @property
    def cost_source(self) -> str | None: ...
    @property
    def price_ref(self) -> str | None: ...


class CostExplanation(NamedTuple):
    """How a call's cost came about. *lines* add up to the exact cost; *agrees* says whether the row holds that sum.

    They disagree only when prices have changed since the call was recorded: `reprice` then brings the row up to date.
    """

    call_id: str
    usage_as_reported: Mapping[str, Any]
    usage_rule: str | None
    counted: bool
    not_counted_reason: str | None
    lines: Sequence[Line]
    request_fee: str | None
    total: str | None
    price_ref: str | None
    reason: str | None
    stored_total: float | None
    stored_source: str | None
    stored_price_ref: str | None
    agrees: bool

    def as_dict(self) -> dict[str, Any]:
        """As JSON values: amounts as decimal text, so that no digit is lost."""
        document = self._asdict()
        document["lines"] = [
            {
                "bucket": line.bucket,
                "tokens": line.tokens,
                "usd_per_million": f"{line.rate:f}",
                "cost": f"{line.cost:f}",
            }
            for line in self.lines
        ]
        return document

    def __str__(self) -> str:
        reported = "\n".join(f"  {name}: {value}" for name, value in self.usage_as_reported.items()) or "  nothing"
        sums = [f"  {line}" for line in self.lines] + (
            [f"  per request: ${self.request_fee}"] if self.request_fee else []
        )
        verdict = "counted once" if self.counted else f"not counted: {self.not_counted_reason}"
        total = f"${self.total}" if self.total is not None else f"unknown: {self.reason}"
        stored = "the row says the same" if self.agrees else f"the row says ${self.stored_total}: prices have changed"
        return "\n".join(
            [
                f"Call {self.call_id}",
                "Usage as reported:",
                reported,
                f"Understood as: {self.usage_rule}",
                f"Price: {self.price_ref or 'none'}",
                *sums,
                f"Total: {total} ({stored})",
                f"In sums: {verdict}",
            ]
        )


def explain_call(prices: PriceBook, row: StoredCall) -> CostExplanation:
    """How *row*'s cost comes about by *prices*, through the code that charged it."""
    explanation = explain(prices, row)
    charged = charge(prices, row)
    total = explanation.cost.total_cost
    shown = f"{total:f}" if total is not None else None if charged.total_cost is None else str(charged.total_cost)
    return CostExplanation(
        call_id=row.id,
        usage_as_reported=mapping(row.usage_raw),
        usage_rule=row.usage_rule,
        counted=bool(row.counted),
        not_counted_reason=row.not_counted_reason,
        lines=explanation.lines,
        request_fee=f"{explanation.request:f}" if explanation.request else None,
        total=shown,
        price_ref=charged.price_ref,
        reason=charged.reason,
        stored_total=row.total_cost,
        stored_source=row.cost_source,
        stored_price_ref=row.price_ref,
        agrees=charged.total_cost == row.total_cost,
    )
