"""The user's own prices: a JSON file of entries, or a price pair given with the call. They win over the built-in ones.

The file (``SPANLEDGER_PRICES``)::

    {"unit": "per_million",
     "prices": [
       {"model": "gpt-4o-mini", "input": 0.12, "output": 0.48, "cache_read": 0.06},
       {"model": "acme-*", "match": "glob", "provider": "openai", "input": 1, "output": 2},
       {"model": "house-model", "input": 0, "output": 0, "from": "2026-01-01", "until": "2026-07-01"},
       {"model": "gpt-4", "input": 0.03, "output": 0.06, "unit": "per_1k"}]}

``unit`` (``per_million`` or ``per_1k``) and at least ``input`` must be said; amounts are US dollars. Optional are
``output``, ``cache_read``, ``cache_write``, ``cache_write_1h``, ``reasoning``, ``audio_input``, ``audio_output``,
``provider``, ``service_tier``, ``from`` (first day) and ``until`` (first day no longer). Names are compared without
case, to the response's model first, then the request's; ``*`` is an ordinary letter unless ``"match": "glob"``.
Of several entries that fit, exact beats glob, one with a provider beats one without, then the last in the file wins.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, NamedTuple

from .catalogue import EXACT, Rates, Tariff
from .errors import ConfigurationError

_UNITS: Final = {"per_1k": -3, "per_million": -6}
"""The power of ten that makes dollars per token of an amount."""
_RATES: Final = (
    "input",
    "output",
    "cache_read",
    "cache_write",
    "cache_write_1h",
    "reasoning",
    "audio_input",
    "audio_output",
)
_KEYS: Final = frozenset({"model", "match", "provider", "service_tier", "from", "until", "unit", *_RATES})


class Entry(NamedTuple):
    """One price of the user's. *model*, *provider* and *service_tier* are lower case; *until* is exclusive."""

    model: str
    rates: Rates
    glob: bool = False
    provider: str | None = None
    service_tier: str | None = None
    since: date | None = None
    until: date | None = None

    def fits(self, provider: str, model: str, day: date, tier: str) -> bool:
        return (
            (fnmatchcase(model, self.model) if self.glob else model == self.model)
            and self.provider in (None, provider)
            and self.service_tier in (None, tier)
            and (self.since is None or self.since <= day)
            and (self.until is None or day < self.until)
        )


class CustomPrices:
    """The user's price list. Immutable."""

    def __init__(self, entries: Iterable[Entry] = (), origin: str = "custom prices") -> None:
        self._origin = origin
        # Sorting is stable, so among equals the last in the file stays last, and the last that fits wins.
        self._entries = sorted(entries, key=lambda entry: (not entry.glob, entry.provider is not None))

    @classmethod
    def read(cls, path: Path) -> "CustomPrices":
        """The prices in a file. Raises `ConfigurationError` naming the file and the entry that cannot be used."""
        try:
            document = json.loads(path.read_text("utf-8"), parse_float=Decimal, parse_int=Decimal)
        except OSError as error:
            raise ConfigurationError(f"The prices file {path} cannot be read: {error.strerror}.") from error
        except ValueError as error:
            raise ConfigurationError(f"The prices file {path} is not JSON: {error}.") from error
        if not isinstance(document, dict) or not isinstance(document.get("prices"), list):
            raise ConfigurationError(f'The prices file {path} must be an object with a list "prices".')
        entries = []
        for number, item in enumerate(document["prices"], 1):
            try:
                entries.append(_entry(item, document.get("unit")))
            except ValueError as error:
                name = f" ({item['model']!r})" if isinstance(item, dict) and "model" in item else ""
                raise ConfigurationError(f"The prices file {path}, entry {number}{name}: {error}.") from None
        return cls(entries, f"prices file {path.name}")

    @staticmethod
    def of_call(input_per_1k: Decimal | None, output_per_1k: Decimal | None) -> Tariff:
        """The tariff of prices given with a call: US dollars per 1,000 tokens (``LLMCallLogger.token_prices``)."""
        amounts = {"input": input_per_1k, "output": output_per_1k}
        given = {name: amount.scaleb(-3, EXACT) for name, amount in amounts.items() if amount is not None}
        return Tariff(_rates(given), (), "custom", "token_prices")

    def tariff(self, provider: str, model: str, day: date, tier: str) -> Tariff | None:
        """What the user says *model* costs, None if nothing."""
        model = model.strip().lower()
        for entry in reversed(self._entries):
            if entry.fits(provider, model, day, tier):
                since = f" since {entry.since}" if entry.since else ""
                return Tariff(entry.rates, (), "custom", f"{self._origin}: {entry.model}{since}")
        return None


def _entry(item: Any, default_unit: Any) -> Entry:
    """Raises `ValueError` with what is wrong, as the end of a sentence."""
    if not isinstance(item, dict):
        raise ValueError("it must be an object")
    if unknown := sorted(item.keys() - _KEYS):
        raise ValueError(f"unknown key {unknown[0]!r}; known are {', '.join(sorted(_KEYS))}")
    model = _text(item, "model")
    if model is None:
        raise ValueError('"model" is missing')
    if item.get("match", "exact") not in ("exact", "glob"):
        raise ValueError('"match" must be "exact" or "glob"')
    unit = item.get("unit", default_unit)
    if unit not in _UNITS:
        raise ValueError('say the "unit" of the prices: "per_million" or "per_1k" tokens')
    since, until = _day(item, "from"), _day(item, "until")
    if since is not None and until is not None and until <= since:
        raise ValueError('"until" must be later than "from"')
    given = {name: _amount(item, name).scaleb(_UNITS[unit], EXACT) for name in _RATES if name in item}
    if "input" not in given:
        raise ValueError('"input" is missing')
    tier = _text(item, "service_tier")
    return Entry(model, _rates(given), item.get("match") == "glob", _text(item, "provider"), tier, since, until)


def _rates(given: Mapping[str, Decimal]) -> Rates:
    """A rate that was not given is that of the tokens it is part of: cached and audio input cost as input does."""

    def first(*names: str) -> Decimal | None:
        return next((given[name] for name in names if name in given), None)

    read, audio = first("cache_read", "input"), first("audio_input", "input")
    write, hour = first("cache_write", "input"), first("cache_write_1h", "cache_write", "input")
    output = (first("output"), first("reasoning", "output"), first("audio_output", "output"))
    return Rates((first("input"), read, write, hour, audio, read), output)


def _text(item: Mapping[str, Any], key: str) -> str | None:
    value = item.get(key)
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f'"{key}" must be text')
    return value.strip().lower()


def _day(item: Mapping[str, Any], key: str) -> date | None:
    text = _text(item, key)
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        raise ValueError(f'"{key}" must be a date like 2026-01-31') from None


def _amount(item: Mapping[str, Any], key: str) -> Decimal:
    value = item[key]
    if isinstance(value, str):
        try:
            value = Decimal(value)
        except ArithmeticError:
            raise ValueError(f'"{key}" must be a number of US dollars') from None
    if not isinstance(value, Decimal) or not value.is_finite() or value < 0:
        raise ValueError(f'"{key}" must be a number of US dollars, 0 or more')
    return value
