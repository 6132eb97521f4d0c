"""`PriceBook`: what a call cost. Rates are resolved once per provider, model, day and tier, then multiplied in Decimal.

The rules (docs/cost.md says them at length): the user's prices win over the built-in ones; the response's model over
the request's; unknown is None with a reason and never 0; free is 0; a sum that misses a part is None.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final, NamedTuple

from .catalogue import EXACT, INPUT_BUCKETS, NO_RATES, OUTPUT_BUCKETS, Catalogue, Rates, Tariff
from .custom_prices import CustomPrices

_MAX_RESOLVED: Final = 8192
_LONGEST_KEY: Final = 1024


class Buckets(NamedTuple):
    """The tokens of one call in OTel's meaning: input includes cached and audio tokens, output includes reasoning.

    None is unknown: for the two totals there is then no cost, for a part it means that the part is not told apart.
    *cache_write_1h_tokens* are part of *cache_write_tokens*; *audio_cache_read_tokens* are part of both
    *audio_input_tokens* and *cache_read_tokens*. A call that has no output by nature (an embedding) says 0.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    reasoning_tokens: int | None = None
    audio_input_tokens: int | None = None
    audio_output_tokens: int | None = None
    audio_cache_read_tokens: int | None = None


class Cost(NamedTuple):
    """US dollars, exact. A None has its *reason*; what could be computed beside it still stands.

    *source* is ``computed`` or ``custom`` when at least one of the costs is known, *ref* then names the price rule.
    """

    input_cost: Decimal | None = None
    output_cost: Decimal | None = None
    total_cost: Decimal | None = None
    source: str | None = None
    ref: str | None = None
    reason: str | None = None


class Line(NamedTuple):
    """One product of the arithmetic: tokens times US dollars per million of them."""

    bucket: str
    tokens: int
    rate: Decimal
    cost: Decimal

    def __str__(self) -> str:
        return f"{self.bucket}: {self.tokens} tokens x ${self.rate} per million = ${self.cost:f}"


class Explanation(NamedTuple):
    """How a `Cost` came about: the lines add up to it, to the last digit. *request* is the fee per request."""

    cost: Cost
    lines: Sequence[Line]
    request: Decimal

    def __str__(self) -> str:
        fee = [f"request: ${self.request:f}"] if self.request else []
        total = [] if self.cost.total_cost is None else [f"total: ${self.cost.total_cost:f}"]
        why = [text for text in (self.cost.ref, self.cost.reason) if text]
        return "\n".join([*map(str, self.lines), *fee, *total, *why])


class PriceBook:
    """Prices calls. Thread-safe, no network, at most 2 µs a call for rates seen before; hits and misses are kept.

    *custom* are the user's own prices, which win. The built-in data is loaded when the first call needs it.
    """

    def __init__(self, custom: CustomPrices | None = None, catalogue: Catalogue | None = None) -> None:
        self._custom = custom or CustomPrices()
        self._catalogue = catalogue or Catalogue()
        self._resolved: dict[tuple[object, ...], Tariff] = {}

    def price(
        self,
        usage: Buckets,
        provider: str,
        response_model: str | None,
        request_model: str | None,
        at: datetime,
        service_tier: str | None = None,
        custom: tuple[Decimal | None, Decimal | None] | None = None,
    ) -> Cost:
        """What the call cost. Never raises.

        *provider* is a name of `providers.normalise`, *at* the aware moment the call started, *service_tier* the tier
        the response says it was served in. *custom* are the caller's own prices for this call, US dollars per 1,000
        input and output tokens.
        """
        return _cost(usage, self._tariff(provider, response_model, request_model, at, service_tier, custom))

    def explain(
        self,
        usage: Buckets,
        provider: str,
        response_model: str | None,
        request_model: str | None,
        at: datetime,
        service_tier: str | None = None,
        custom: tuple[Decimal | None, Decimal | None] | None = None,
    ) -> Explanation:
        """What `price` answers, with the arithmetic it did."""
        tariff = self._tariff(provider, response_model, request_model, at, service_tier, custom)
        rates = _rates_at(tariff, usage.input_tokens)
        lines = _lines(INPUT_BUCKETS, rates.input, _split_input(usage, rates.input))
        lines += _lines(OUTPUT_BUCKETS, rates.output, _split_output(usage, rates.output))
        return Explanation(_cost(usage, tariff), lines, rates.request)

    def _tariff(
        self,
        provider: str,
        response_model: str | None,
        request_model: str | None,
        at: datetime,
        service_tier: str | None,
        custom: tuple[Decimal | None, Decimal | None] | None,
    ) -> Tariff:
        if custom is not None:
            return CustomPrices.of_call(*custom)
        if at.tzinfo is not UTC:
            at = at.astimezone(UTC)
        key: tuple[object, ...] = (provider, response_model, request_model, service_tier, at.date())
        tariff = self._resolved.get(key)
        if tariff is not None and tariff.hourly:
            key = (*key, at.hour, at.minute)
            tariff = self._resolved.get(key)
        if tariff is None:
            tariff = self._resolve(provider, response_model, request_model, at, service_tier)
            self._remember(key, tariff)
        return tariff

    def _remember(self, key: tuple[object, ...], tariff: Tariff) -> None:
        if sum(len(part) for part in key if isinstance(part, str)) > _LONGEST_KEY:
            return  # nobody's model; the store must stay small in bytes, too
        if len(self._resolved) >= _MAX_RESOLVED:
            self._resolved.clear()
        self._resolved[key] = tariff

    def _resolve(
        self, provider: str, response: str | None, request: str | None, at: datetime, service_tier: str | None
    ) -> Tariff:
        tier = (service_tier or "").strip().lower()
        for model in filter(None, (response, request)):
            if own := self._custom.tariff(provider, model, at.date(), tier):
                return own
        tariff = _NO_MODEL if request is None or provider != "azure" else _ONLY_DEPLOYMENT
        for model in _models_to_price(provider, response, request):
            tariff = self._catalogue.tariff(provider, model, at, tier)
            if tariff.reason is None:
                break
        return tariff


def _models_to_price(provider: str, response: str | None, request: str | None) -> Sequence[str]:
    """The model ids that can tell what ran, the better one first."""
    if provider == "bedrock":  # the request names the inference profile, which decides the rate; an ARN may hide it
        return [model for model in (request, response) if model]
    if provider == "azure":  # the request names a deployment, which is called whatever its owner likes
        return [response] if response else []
    model = response or request
    return [model] if model else []


def _cost(usage: Buckets, tariff: Tariff) -> Cost:
    rates, larger, source, ref, reason, _ = tariff
    if usage.input_tokens is None and usage.output_tokens is None:
        return _NO_USAGE
    if reason is not None:
        return Cost(reason=reason)
    in_rates, out_rates, request = _rates_at(tariff, usage.input_tokens) if larger else rates
    in_parts = _split_input(usage, in_rates)
    out_parts = _split_output(usage, out_rates)
    input_cost = None if isinstance(in_parts, str) else _sum(in_rates, in_parts)
    output_cost = None if isinstance(out_parts, str) else _sum(out_rates, out_parts)
    if input_cost is not None and output_cost is not None:
        total = _add(input_cost, output_cost)
        return Cost(input_cost, output_cost, _add(total, request) if request else total, source, ref)
    why = _why_unknown(INPUT_BUCKETS, in_rates, in_parts) or _why_unknown(OUTPUT_BUCKETS, out_rates, out_parts)
    if input_cost is None and output_cost is None:
        return Cost(reason=why)
    return Cost(input_cost, output_cost, None, source, ref, why)


def _rates_at(tariff: Tariff, prompt: int | None) -> Rates:
    """The rates for a prompt of that many tokens; none if its size decides and is unknown."""
    if not tariff.larger:
        return tariff.rates
    if prompt is None:
        return NO_RATES
    for more_than, rates in tariff.larger:
        if prompt > more_than:
            return rates
    return tariff.rates


def _split_input(usage: Buckets, rates: Sequence[Decimal | None]) -> Sequence[int] | str:
    """Disjoint parts in the order of `INPUT_BUCKETS` as far as there are any, or why there are none."""
    total, _, read, write, hour, _, audio, _, both = usage
    if total is None:
        return () if _is_free(rates) else "input tokens unknown"
    if not (read or write or hour or audio):
        return (total,) if total >= 0 else "input tokens negative"
    read, hour = read or 0, hour or 0
    write = hour if write is None else write
    if not audio:
        fits = read >= 0 and 0 <= hour <= write and read + write <= total
        return (total - read - write, read, write - hour, hour) if fits else "cached tokens do not fit into the input"
    if both is None:
        both = max(0, read + write + audio - total)
        if both < min(read, audio) and not _cached_audio_is_indifferent(rates):
            return "cached tokens are not split into text and audio"
    parts = (total - read - write - audio + both, read - both, write - hour, hour, audio - both, both)
    return parts if min(parts) >= 0 else "cached and audio tokens do not fit into the input"


def _is_free(rates: Sequence[Decimal | None]) -> bool:
    """Whether any number of tokens costs nothing, so that it need not be known."""
    return all(rate is not None and not rate for rate in rates)


def _cached_audio_is_indifferent(rates: Sequence[Decimal | None]) -> bool:
    """Whether it makes no difference to the sum which of the cached tokens were audio."""
    text, text_read, _, _, audio, audio_read = (rate or Decimal(0) for rate in rates)
    return text - text_read == audio - audio_read


def _split_output(usage: Buckets, rates: Sequence[Decimal | None]) -> Sequence[int] | str:
    """Disjoint parts in the order of `OUTPUT_BUCKETS` as far as there are any, or why there are none."""
    _, total, _, _, _, reasoning, _, audio, _ = usage
    if total is None:
        return () if _is_free(rates) else "output tokens unknown"
    if not (reasoning or audio):
        return (total,) if total >= 0 else "output tokens negative"
    reasoning, audio = reasoning or 0, audio or 0
    fits = reasoning >= 0 and audio >= 0 and reasoning + audio <= total
    parts = (total - reasoning - audio, reasoning, audio)
    return parts if fits else "reasoning and audio tokens do not fit into the output"


def _sum(rates: Sequence[Decimal | None], parts: Sequence[int]) -> Decimal | None:
    """The dollars; None if there is no rate for some of the tokens."""
    total = _ZERO
    for rate, tokens in zip(rates, parts):  # noqa: B905 - parts end where there are no more tokens
        if tokens:
            if rate is None:
                return None
            total = _multiply_add(rate, tokens, total)
    return total


def _why_unknown(buckets: Sequence[str], rates: Sequence[Decimal | None], parts: Sequence[int] | str) -> str | None:
    if isinstance(parts, str):
        return parts
    missing = (b for b, rate, tokens in zip(buckets, rates, parts, strict=False) if tokens and rate is None)
    return next((f"no single rate for {bucket} tokens" for bucket in missing), None)


def _lines(buckets: Sequence[str], rates: Sequence[Decimal | None], parts: Sequence[int] | str) -> list[Line]:
    return [
        Line(bucket, tokens, rate.scaleb(6, EXACT), EXACT.multiply(rate, tokens))
        for bucket, rate, tokens in zip(buckets, rates, () if isinstance(parts, str) else parts, strict=False)
        if tokens and rate is not None
    ]


_ZERO: Final = Decimal(0)
_add: Final = EXACT.add
_multiply_add: Final = EXACT.fma
_NO_MODEL: Final = Tariff(reason="no model")
_ONLY_DEPLOYMENT: Final = Tariff(reason="the request names a deployment, not a model")
_NO_USAGE: Final = Cost(reason="no usage")
