"""The arithmetic of one call, shown: what was reported, how it was understood, what was multiplied, and the sum."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Final, NamedTuple, Protocol

from .charges import REPORTED, Call, charge, explain
from .counting import DUPLICATE_OF
from .pricing import Line, PriceBook
from .values import mapping

PARTS: Final = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "audio_input_tokens",
    "audio_output_tokens",
)
"""The columns the usage was put into: the two totals, and what is known of their parts."""


class StoredCall(Call, Protocol):
    """A row of ``llm_call_logs``."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
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


class Duplicate(NamedTuple):
    """The row that counts in place of another. *name* is None if that row is gone."""

    id: str
    name: str | None


class CostExplanation(NamedTuple):
    """How a call's cost came about. *lines* and *request_fee* add up to the exact *total*, decimal text in US dollars.

    *tokens* are the row's columns, in OTel's meaning; *lines* split them into parts that do not overlap. *reason* says
    why the price list knows no cost. *agrees* says whether the row holds that total as a float: not so only when
    prices have changed since it was recorded, and `reprice` then brings it up to date.
    """

    call_id: str
    name: str
    provider: str
    model: str
    usage_as_reported: Mapping[str, Any]
    usage_rule: str | None
    tokens: Mapping[str, int]
    lines: Sequence[Line]
    request_fee: str | None
    total: str | None
    cost_source: str | None
    price_ref: str | None
    priced_as_of: date
    reason: str | None
    stored_total: float | None
    stored_source: str | None
    stored_price_ref: str | None
    agrees: bool
    counted: bool
    not_counted_reason: str | None
    duplicate_of: Duplicate | None

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
        document["priced_as_of"] = self.priced_as_of.isoformat()
        document["duplicate_of"] = self.duplicate_of and self.duplicate_of._asdict()
        return document

    def __str__(self) -> str:
        reported = [f"{name}: {value}" for name, value in self.usage_as_reported.items()]
        tokens = [f"{name.removesuffix('_tokens')} {count}" for name, count in self.tokens.items()]
        fee = [f"per request: ${self.request_fee}"] if self.request_fee else []
        sections = (
            ("Usage as reported", reported or ["nothing"]),
            ("Understood as", [text for text in (self.usage_rule, ", ".join(tokens)) if text]),
            ("Price", [self._price(), *map(str, self.lines), *fee, f"total: {self._total()}"]),
            ("In sums", [self._verdict()]),
        )
        parts = [f"{head}\n" + "\n".join(f"  {line}" for line in lines) for head, lines in sections]
        return "\n".join([f"Call {self.call_id}: {self.name}, {self.provider} {self.model}", *parts])

    def _price(self) -> str:
        if self.cost_source == REPORTED:
            return "as the sender reported it, for want of one of ours"
        return f"{self.price_ref}, as of {self.priced_as_of}" if self.price_ref else "none"

    def _total(self) -> str:
        total = "unknown" if self.total is None else f"${self.total}"
        why = f", {self.reason}" if self.reason else ""
        if self.agrees:
            return f"{total}{why} (the row says the same)"
        stored = "nothing" if self.stored_total is None else f"${self.stored_total}"
        by = f" by {self.stored_price_ref}" if self.stored_price_ref else ""
        return f"{total}{why} (the row says {stored}{by}: prices have changed; see `spanledger reprice`)"

    def _verdict(self) -> str:
        if self.counted:
            return "counted once"
        if self.duplicate_of is None:
            return f"not counted: {self.not_counted_reason}"
        return f"not counted: a duplicate of {self.duplicate_of.id} ({self.duplicate_of.name or 'which is gone'})"


def duplicate_id(row: StoredCall) -> str | None:
    """The id of the row that counts in place of *row*, if it is a duplicate."""
    reason = row.not_counted_reason or ""
    return reason.removeprefix(DUPLICATE_OF) if reason.startswith(DUPLICATE_OF) else None


def explain_call(prices: PriceBook, row: StoredCall, names: Mapping[str, str] | None = None) -> CostExplanation:
    """How *row*'s cost comes about by *prices*, through the code that charged it. *names* are those of rows, by id."""
    explanation = explain(prices, row)
    charged = charge(prices, row)
    exact = explanation.cost.total_cost
    total = f"{exact:f}" if exact is not None else None if charged.total_cost is None else str(charged.total_cost)
    counts = {name: getattr(row, name) for name in PARTS}
    original = duplicate_id(row)
    return CostExplanation(
        call_id=row.id,
        name=row.name,
        provider=row.provider,
        model=row.response_model or row.model_id,
        usage_as_reported=mapping(row.usage_raw),
        usage_rule=row.usage_rule,
        tokens={name: count for name, count in counts.items() if count is not None},
        lines=explanation.lines,
        request_fee=f"{explanation.request:f}" if explanation.request and exact is not None else None,
        total=total,
        cost_source=charged.cost_source,
        price_ref=charged.price_ref,
        priced_as_of=row.start_time.date(),
        reason=charged.reason,
        stored_total=row.total_cost,
        stored_source=row.cost_source,
        stored_price_ref=row.price_ref,
        agrees=charged.total_cost == row.total_cost,
        counted=bool(row.counted),
        not_counted_reason=row.not_counted_reason,
        duplicate_of=None if original is None else Duplicate(original, (names or {}).get(original)),
    )
