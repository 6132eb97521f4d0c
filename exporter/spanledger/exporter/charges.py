"""What a stored call is charged: its row's columns put to the `PriceBook`, the same way whenever it is asked.

Recording, explaining and repricing all come through here, so that they cannot disagree.
"""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple, Protocol

from spanledger.instrumentation import semconv

from .pricing import Buckets, Cost, Explanation, PriceBook
from .records import LLMCall
from .usage import NO_OUTPUT, UNSAID
from .values import mapping, money, tokens

REPORTED: Final = "reported"
ONE_HOUR: Final = "ephemeral_1h_input_tokens"
"""Anthropic's name for cache writes that last an hour, wherever in the reported usage it stands."""
BESIDE_COLUMNS: Final = (ONE_HOUR, semconv.CUSTOM_INPUT_PRICE, semconv.CUSTOM_OUTPUT_PRICE)
NOTHING_KEPT: Final[Mapping[str, Any]] = {}


class Call(Protocol):
    """The columns a charge depends on: an `LLMCall`, or a row of ``llm_call_logs``."""

    @property
    def provider(self) -> str: ...
    @property
    def model_id(self) -> str: ...
    @property
    def response_model(self) -> str | None: ...
    @property
    def service_tier(self) -> str | None: ...
    @property
    def call_type(self) -> str: ...
    @property
    def start_time(self) -> datetime: ...
    @property
    def input_tokens(self) -> int | None: ...
    @property
    def output_tokens(self) -> int | None: ...
    @property
    def cache_read_tokens(self) -> int | None: ...
    @property
    def cache_write_tokens(self) -> int | None: ...
    @property
    def reasoning_tokens(self) -> int | None: ...
    @property
    def audio_input_tokens(self) -> int | None: ...
    @property
    def audio_output_tokens(self) -> int | None: ...
    @property
    def reported_cost(self) -> float | None: ...
    @property
    def usage_raw(self) -> Any: ...
    @property
    def usage_rule(self) -> str | None: ...


class Charge(NamedTuple):
    """The money columns of a row, US dollars; *reason* says why a cost is missing."""

    input_cost: float | None
    output_cost: float | None
    total_cost: float | None
    cost_source: str | None
    price_ref: str | None
    reason: str | None

    def columns(self) -> dict[str, Any]:
        columns = self._asdict()
        del columns["reason"]
        return columns


_MONEY: Final = slice(LLMCall._fields.index("input_cost"), LLMCall._fields.index("price_ref") + 1)


def charged(prices: PriceBook, call: LLMCall) -> LLMCall:
    """*call* with what it costs."""
    return LLMCall._make((*call[: _MONEY.start], *charge(prices, call)[:-1], *call[_MONEY.stop :]))


def charge(prices: PriceBook, call: Call) -> Charge:
    """What *call* costs by *prices*; by the sender's own word where they know nothing of it."""
    cost = prices.price(*_question(call))
    return _charge(cost, call.reported_cost)


def explain(prices: PriceBook, call: Call) -> Explanation:
    """The arithmetic behind `charge`."""
    return prices.explain(*_question(call))


def _question(call: Call) -> tuple[Any, ...]:
    """The arguments of `PriceBook.price` for a call."""
    kept = _kept(call.usage_raw)
    output = 0 if call.output_tokens is None and call.call_type in NO_OUTPUT else call.output_tokens
    buckets = Buckets(
        None if call.usage_rule == UNSAID else call.input_tokens,  # a sum that may lack a part is no cost
        output,
        call.cache_read_tokens,
        call.cache_write_tokens,
        _one_hour(kept) if kept else None,
        call.reasoning_tokens,
        call.audio_input_tokens,
        call.audio_output_tokens,
    )
    own = _own_prices(kept) if kept else None
    return buckets, call.provider, call.response_model, call.model_id, call.start_time, call.service_tier, own


def _charge(cost: Cost, reported: float | None) -> Charge:
    if cost.total_cost is None and reported is not None:
        return Charge(None, None, reported, REPORTED, None, cost.reason)
    input_cost, output_cost, total, source, ref, reason = cost
    return Charge(_dollars(input_cost), _dollars(output_cost), _dollars(total), source, ref, reason)


def _dollars(cost: Decimal | None) -> float | None:
    return None if cost is None else float(cost)


def _kept(usage_raw: Any) -> Mapping[str, Any]:
    """The reported usage, decoded only when it may hold what a charge needs beside the columns."""
    if not isinstance(usage_raw, str):
        return mapping(usage_raw)
    for name in BESIDE_COLUMNS:
        if name in usage_raw:
            return mapping(usage_raw)
    return NOTHING_KEPT


def _one_hour(kept: Mapping[str, Any]) -> int | None:
    for key, value in kept.items():
        said = value.get(ONE_HOUR) if isinstance(value, Mapping) else value if key.endswith(ONE_HOUR) else None
        if (count := tokens(said)) is not None:
            return count
    return None


def _own_prices(kept: Mapping[str, Any]) -> tuple[Decimal | None, Decimal | None] | None:
    """The prices the application stamped on the call (``LLMCallLogger.token_prices``), US dollars per 1,000."""
    prices = money(kept.get(semconv.CUSTOM_INPUT_PRICE)), money(kept.get(semconv.CUSTOM_OUTPUT_PRICE))
    if prices == (None, None):
        return None
    own_input, own_output = (None if price is None else Decimal(str(price)) for price in prices)
    return own_input, own_output
