"""The built-in prices: the data of the ``genai-prices`` package, found by exact names and flattened to `Rates`.

The package's own look-up takes ~100 µs a call and matches many models by prefix or substring. Here its clauses only
*name* a model: what follows the named part may be a version or a date, nothing else. The data is imported on first
use (0.5 s of CPU, in whichever thread prices first) and never refreshed from the network.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Context, Decimal
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Final, NamedTuple

from .model_names import VERSION, forms
from .providers import UNKNOWN, provider_from_model

if TYPE_CHECKING:
    from genai_prices.types import MatchLogic, ModelInfo, Provider, TieredPrices

    Prices = Mapping[str, Decimal | TieredPrices]

EXACT: Final = Context(prec=60)
"""Wide enough for any count times any rate, and out of reach of an application that changes its thread's context."""

INPUT_BUCKETS: Final = ("input", "cache_read", "cache_write", "cache_write_1h", "audio_input", "audio_cache_read")
OUTPUT_BUCKETS: Final = ("output", "reasoning", "audio_output")


class Rates(NamedTuple):
    """US dollars *per token* of each disjoint bucket, in the order of `INPUT_BUCKETS` and `OUTPUT_BUCKETS`.

    None where there is no rate. *request* is US dollars per request, on top of the tokens.
    """

    input: tuple[Decimal | None, ...]
    output: tuple[Decimal | None, ...]
    request: Decimal = Decimal(0)


NO_RATES: Final = Rates((None,) * len(INPUT_BUCKETS), (None,) * len(OUTPUT_BUCKETS))


class Tariff(NamedTuple):
    """What one model costs at one moment: the rates, or the *reason* why there are none.

    *larger* are ``(more_than, rates)`` for prompts of more tokens than that, cached ones included, the largest first.
    *ref* names the rule and the version of the data.
    """

    rates: Rates = NO_RATES
    larger: Sequence[tuple[int, Rates]] = ()
    source: str | None = None
    ref: str | None = None
    reason: str | None = None
    hourly: bool = False
    """This model has peak hours: the rates hold for the minute, not the day."""


# Each bucket's price keys in the data, the most specific first: tokens without a rate of their own cost what the
# tokens they are part of cost. One-hour cache writes have no such stand-in where five-minute ones are priced: they
# cost more, and the difference is the point.
_INPUT_KEYS: Final = (
    ("input_mtok",),
    ("cache_read_mtok", "input_mtok"),
    ("cache_write_5m_mtok", "cache_write_mtok", "input_mtok"),
    ("cache_write_1h_mtok",),
    ("input_audio_mtok", "input_mtok"),
    ("cache_audio_read_mtok", "cache_read_mtok", "input_mtok"),
)
_OUTPUT_KEYS: Final = (
    ("output_mtok",),
    ("output_reasoning_mtok", "output_mtok"),
    ("output_audio_mtok", "output_mtok"),
)
_MADE_OF_IMAGES: Final = ("output_image_mtok", "output_video_mtok")

# Our names of providers, where the data has another.
_DATA_NAMES: Final = {"bedrock": "aws", "moonshot": "moonshotai", "voyage": "voyageai", "xai": "x-ai", "zhipu": "zai"}

# Words for the tier everybody gets. Any other word must be in the data, or the price is unknown.
_STANDARD_TIERS: Final = frozenset({"", "auto", "default", "standard", "standard_only", "on_demand", "ondemand"})


class Catalogue:
    """The bundled price data. Thread-safe: nothing changes after first use."""

    @cached_property
    def _lists(self) -> "dict[str, Provider]":
        from genai_prices.data import providers

        return {provider.id: provider for provider in providers}

    @cached_property
    def _name(self) -> str:
        return f"genai-prices {version('genai-prices')}"

    def tariff(self, provider: str, model: str, at: datetime, tier: str) -> Tariff:
        """What *model* costs at *provider* (our name for it) at the UTC moment *at*, in the service tier *tier*."""
        for listed in self._listing(provider, model):
            if found := _find(listed, model):
                resold = listed.id != _DATA_NAMES.get(provider, provider)
                return self._of_model(listed, found, at, tier, resold)
        return Tariff(reason=f"no price known for model {model[:100]!r} of provider {provider[:100]!r}")

    def _listing(self, provider: str, model: str) -> "Iterator[Provider]":
        """The price lists that may name the model: the provider's own, then those of whose models it resells."""
        if own := self._lists.get(_DATA_NAMES.get(provider, provider)):
            yield own
            yield from (self._lists[name] for name in own.fallback_model_providers or ())
        if provider in ("openai", UNKNOWN):
            # A proxy that speaks OpenAI's protocol, in front of a model that is plainly another vendor's.
            vendor = provider_from_model(model)
            if vendor is not None and vendor != provider:
                yield from self._listing(vendor, model)

    def _of_model(self, listed: "Provider", model: "ModelInfo", at: datetime, tier: str, resold: bool) -> Tariff:
        prices, when, hourly = _prices_at(model, at)
        ref = f"{self._name} {listed.id}/{model.id}" + (f" {when}" if when else "")
        if tier not in _STANDARD_TIERS:
            special = None if resold else _tier_prices(model, at, tier)
            if special is None:
                return Tariff(
                    reason=f"no price known for service tier {tier[:100]!r} of {listed.id}/{model.id} on {at:%Y-%m-%d}"
                )
            prices, ref = {**prices, **special}, f"{ref} tier {tier}"
        return Tariff(*_by_prompt(prices), "computed", ref, hourly=hourly)


def _find(listed: "Provider", model: str) -> "ModelInfo | None":
    """The entry that the most specific form of the model id names."""
    names = forms(model)
    everywhere = listed.id == "aws" and any(name.startswith("global.") for name in names)
    for name in names:
        length, entry = max(((_named(entry, name), entry) for entry in listed.models), key=lambda pair: pair[0])
        # A global inference profile must not take the rate of a region, which is 10 % more.
        if length and (not everywhere or entry.id.startswith("global.")):
            return entry
    return None


def _named(entry: "ModelInfo", name: str) -> int:
    return len(name) + 1 if entry.id.lower() == name else _named_by(entry.match, name)


def _named_by(clause: "MatchLogic", name: str) -> int:
    """How many characters of *name* the clause names; 0 if what it leaves is more than a version."""
    from genai_prices import types

    match clause:
        case types.ClauseEquals(equals=text):
            return len(name) + 1 if name == text.lower() else 0
        case types.ClauseEndsWith(ends_with=text):
            return len(name) if name == text.lower() else 0
        case types.ClauseStartsWith(starts_with=text) | types.ClauseContains(contains=text):
            return len(text) if name.startswith(text.lower()) and VERSION.fullmatch(name, len(text)) else 0
        case types.ClauseRegex(regex=pattern):
            found = re.match(pattern, name)
            return found.end() if found and VERSION.fullmatch(name[found.end() :].lstrip("0123456789")) else 0
        case types.ClauseOr(or_=clauses):
            return max(_named_by(each, name) for each in clauses)
        case types.ClauseAnd(and_=clauses):
            return max(_named_by(each, name) for each in clauses) if clause.is_match(name) else 0


def _prices_at(model: "ModelInfo", at: datetime) -> "tuple[Prices, str, bool]":
    """The prices at that moment, the condition under which they hold, and whether the hour matters to this model."""
    from genai_prices.types import ModelPrice, StartDateConstraint, TimeOfDateConstraint

    if isinstance(model.prices, ModelPrice):
        return _rates_of(model.prices), "", False
    hourly = any(isinstance(entry.constraint, TimeOfDateConstraint) for entry in model.prices)
    active = (e for e in reversed(model.prices) if e.constraint is None or e.constraint.active(at))
    entry = next(active, model.prices[0])
    match entry.constraint:
        case StartDateConstraint(start_date=day):
            when = f"since {day}"
        case TimeOfDateConstraint(start_time=start, end_time=end):
            when = f"from {start:%H:%M} to {end:%H:%M} UTC"
        case _:
            when = ""
    return _rates_of(entry.prices), when, hourly


def _tier_prices(model: "ModelInfo", at: datetime, tier: str) -> "Prices | None":
    """What differs in that tier; None if the data does not know it (then) for this model."""
    context = {"service_tier": tier, "processing": tier, "speed": tier}
    variants = [
        variant.prices
        for variant in model.price_variants or ()
        if (variant.constraint is None or variant.constraint.active(at))
        and all(context.get(key) == value for key, value in variant.when.items())
    ]
    if not variants:
        return None
    return {key: price for variant in reversed(variants) for key, price in _rates_of(variant).items()}


def _rates_of(prices: object) -> "Prices":
    return {key: price for key, price in vars(prices).items() if price is not None}


def _by_prompt(prices: "Prices") -> tuple[Rates, tuple[tuple[int, Rates], ...]]:
    """The rates for a small prompt, and for each size from which they change, the largest first."""
    starts = {tier.start for price in prices.values() if not isinstance(price, Decimal) for tier in price.tiers}
    return _flat(prices, 0), tuple((start, _flat(prices, start + 1)) for start in sorted(starts, reverse=True))


def _flat(prices: "Prices", prompt: int) -> Rates:
    """The rates for a prompt of that many tokens. An entry without any price is free."""
    if not prices:
        return Rates((Decimal(0),) * len(INPUT_BUCKETS), (Decimal(0),) * len(OUTPUT_BUCKETS))
    per_million = {key: _at_size(price, prompt) for key, price in prices.items()}
    if "input_mtok" not in per_million:
        return NO_RATES  # priced by the hour, the page or the character

    def rate(keys: Sequence[str]) -> Decimal | None:
        return next((per_million[key].scaleb(-6, EXACT) for key in keys if key in per_million), None)

    input_ = [rate(keys) for keys in _INPUT_KEYS]
    if input_[2] == input_[0]:
        input_[3] = input_[3] or input_[0]  # writing to the cache costs nothing extra here
    output = tuple(rate(keys) for keys in _OUTPUT_KEYS)
    if any(per_million.get(key) not in (None, per_million.get("output_mtok")) for key in _MADE_OF_IMAGES):
        output = NO_RATES.output  # spans do not tell how many of the output tokens were images
    elif "output_mtok" not in per_million:
        output = (Decimal(0),) * len(OUTPUT_BUCKETS)  # an embedding has no output to charge
    return Rates(tuple(input_), output, per_million.get("requests_kcount", Decimal(0)).scaleb(-3, EXACT))


def _at_size(price: "Decimal | TieredPrices", prompt: int) -> Decimal:
    if isinstance(price, Decimal):
        return price
    return next((tier.price for tier in reversed(price.tiers) if prompt > tier.start), price.base)
