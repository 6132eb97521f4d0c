"""What a price and a redaction cost: CPU per `PriceBook.price`, beside ``genai_prices.calc_price`` for the same call,
and per redaction of a 2 KiB text.

Hits are calls whose provider, model, day and tier were seen before; every miss is a model never seen. All variants run
in one process, interleaved, each round in another order; ratios are taken within a round.
"""

import argparse
import itertools
import json
import random
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

import genai_prices

from spanledger.exporter.pricing import Buckets, PriceBook
from spanledger.exporter.redaction import Redactor

from .measured import paired, spread, table

AT: Final = datetime(2026, 11, 1, 12, tzinfo=UTC)
MODEL: Final = "gpt-4o-mini-2024-07-18"
PLAIN: Final = Buckets(1000, 500)
CACHED: Final = Buckets(1000, 500, 200, 100, 50, 300)
YARDSTICK: Final = "genai_prices.calc_price"

PROSE: Final = (
    "The planner-agent asked for last month's sales by region; the answer took 2.5 s and 1,204 tokens. " * 22
)[:2048]
MESSAGES: Final = (
    json.dumps(
        [
            {"role": "user", "parts": [{"type": "text", "content": PROSE[:520]}]},
            {
                "role": "assistant",
                "parts": [{"type": "tool_call", "id": "call_ce1d7489dacf_0", "name": "sql", "arguments": {"limit": 5}}],
            },
        ]
        * 3
    )[:-1]
    + ', {"role": "tool", "total_tokens": 12}]'
)
LEAKING: Final = PROSE[:1900] + " sk-ant-api03-" + "abcDEF012" * 10


def per_call(work: Callable[[], object], times: int) -> Callable[[], float]:
    """A measurement of *work*: CPU microseconds a call, over *times* calls."""

    def run() -> float:
        start = time.process_time()
        for _ in range(times):
            work()
        return (time.process_time() - start) * 1e6 / times

    return run


def measure(variants: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Every variant once a round, in an order of its own, after one round that warms the caches."""
    order, values = random.Random(7), {name: list[float]() for name in variants}
    for run in variants.values():
        run()
    for _ in range(rounds):
        for name in order.sample(list(variants), len(variants)):
            values[name].append(variants[name]())
    return values


def report(rounds: int) -> str:
    book, redactor, unseen = PriceBook(), Redactor(), itertools.count()
    usage = genai_prices.Usage(input_tokens=1000, output_tokens=500)
    values = measure(
        {
            YARDSTICK: per_call(
                lambda: genai_prices.calc_price(usage, MODEL, provider_id="openai", genai_request_timestamp=AT), 100
            ),
            "price, hit, two buckets": per_call(lambda: book.price(PLAIN, "openai", MODEL, "gpt-4o-mini", AT), 10_000),
            "price, hit, six buckets": per_call(
                lambda: book.price(CACHED, "anthropic", "claude-sonnet-4-5", None, AT), 10_000
            ),
            "price, known miss": per_call(lambda: book.price(PLAIN, "openai", "no-such-model", None, AT), 10_000),
            "price, first time": per_call(lambda: book.price(PLAIN, "openai", f"m{next(unseen)}", None, AT), 50),
            "redact 2 KiB of prose": per_call(lambda: redactor.text(PROSE), 1000),
            "redact 2 KiB of messages": per_call(lambda: redactor.text(MESSAGES), 1000),
            "redact 2 KiB with a key": per_call(lambda: redactor.text(LEAKING), 1000),
        },
        rounds,
    )
    rows = {
        name: (spread(measured, 2), spread(paired(measured, values[YARDSTICK]), 3)) for name, measured in values.items()
    }
    return table(f"{rounds} rounds", ("CPU µs: median [min–max]", f"times {YARDSTICK}"), rows)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=15)
    print(report(options.parse_args().rounds))


if __name__ == "__main__":
    main()
