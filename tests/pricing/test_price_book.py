"""What calls cost: the arithmetic by hand, the whole catalogue against genai-prices, and what is not known."""

import decimal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import genai_prices.data
import pytest
from genai_prices.types import ModelInfo, ModelPrice, TimeOfDateConstraint, Usage

from spanledger.exporter.catalogue import _DATA_NAMES, Catalogue
from spanledger.exporter.custom_prices import CustomPrices
from spanledger.exporter.pricing import _MAX_RESOLVED, Buckets, Cost, PriceBook

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
USAGE = Buckets(1000, 500)
OUR_NAMES = {theirs: ours for ours, theirs in _DATA_NAMES.items()}
NO_TEXT_PRICE = {"output_image_mtok", "output_video_mtok"}


@pytest.fixture(scope="module")
def book() -> PriceBook:
    return PriceBook()


def openai(book: PriceBook, model: str, usage: Buckets = USAGE, tier: str | None = None) -> Cost:
    return book.price(usage, "openai", model, model, AT, tier)


def test_a_call_costs_tokens_times_rates_to_the_last_digit(book: PriceBook) -> None:
    # gpt-4o-mini: $0.15 in, $0.075 cached, $0.60 out per million.
    cost = openai(book, "gpt-4o-mini-2024-07-18", Buckets(1000, 500, 200))
    assert cost.input_cost == Decimal("0.000135")  # 800 x 0.15 + 200 x 0.075
    assert cost.output_cost == Decimal("0.0003")
    assert cost.total_cost == Decimal("0.000435")
    assert cost.source == "computed"
    assert cost.ref == f"genai-prices {genai_prices.__version__} openai/gpt-4o-mini"
    assert cost.reason is None


@pytest.mark.parametrize(
    ("usage", "buckets"),
    [
        (
            {"input_tokens": 1000, "output_tokens": 300, "cache_read_tokens": 200, "cache_write_tokens": 100},
            Buckets(1000, 300, 200, 100),
        ),
        ({"input_tokens": 300_001, "output_tokens": 7}, Buckets(300_001, 7)),
    ],
    ids=["cached", "long prompt"],
)
def test_every_model_of_the_price_data_costs_what_its_own_calculator_says(
    book: PriceBook, usage: dict[str, int], buckets: Buckets
) -> None:
    priced = 0
    for provider in genai_prices.data.providers:
        for model in provider.models:
            cost = book.price(buckets, OUR_NAMES.get(provider.id, provider.id), model.id, model.id, AT)
            expected = model.calc_price(Usage(**usage), provider, genai_request_timestamp=AT).total_price
            if _is_priced_by_text_tokens(model):
                priced += 1
                assert cost.total_cost == expected, (provider.id, model.id, cost)
            else:
                assert cost.total_cost is None, (provider.id, model.id)
                assert cost.reason
    assert priced > 2000


def _is_priced_by_text_tokens(model: ModelInfo) -> bool:
    prices = {k: v for k, v in vars(model.get_prices(AT)).items() if v is not None}
    mixed = any(prices[key] != prices.get("output_mtok") for key in NO_TEXT_PRICE & prices.keys())
    return not prices or ("input_mtok" in prices and not mixed)


@pytest.mark.parametrize(
    "model",
    ["gpt-4o-mini-foo-custom", "gpt-4.1-nanobot", "my-gpt-4o", "gpt-4-foo", "claude", "xgpt-4o-mini", "gpt", "4o"],
)
def test_a_name_that_merely_contains_a_known_model_has_no_price(book: PriceBook, model: str) -> None:
    for provider in ("openai", "anthropic", "google", "bedrock", "azure", "unknown"):
        cost = book.price(Buckets(1000, 500), provider, model, model, AT)
        assert cost == Cost(reason=cost.reason)
        assert model in str(cost.reason)


def test_nano_is_not_gpt_4(book: PriceBook) -> None:
    assert openai(book, "gpt-4.1-nano").ref != openai(book, "gpt-4").ref
    assert openai(book, "gpt-4.1-nano").total_cost == Decimal("0.0003")  # 1000 x 0.10 + 500 x 0.40


@pytest.mark.parametrize(
    ("model", "ref"),
    [
        ("ft:gpt-4o-mini-2024-07-18:org::id", "ft:gpt-4o-mini"),
        ("ft:gpt-4o-2024-08-06:org:name:id", "ft:gpt-4o"),
        ("ft:gpt-4.1-2025-04-14:org::id", None),
        ("ft:gpt-4o-mini-foo:org::id", None),
    ],
)
def test_a_fine_tuned_model_never_takes_the_rate_of_its_base(book: PriceBook, model: str, ref: str | None) -> None:
    cost = openai(book, model)
    assert (cost.ref and cost.ref.rpartition("/")[2]) == ref
    assert (cost.total_cost is None) == (ref is None)


def test_the_tier_of_a_long_prompt_is_decided_on_the_cached_part_too(book: PriceBook) -> None:
    short = book.price(Buckets(200_000, 10, 150_000), "google", "gemini-2.5-pro", None, AT)
    long = book.price(Buckets(200_001, 10, 150_000), "google", "gemini-2.5-pro", None, AT)
    assert short.total_cost == (50_000 * Decimal("1.25") + 150_000 * Decimal("0.125") + 10 * 10) / 1_000_000
    assert long.total_cost == (50_001 * Decimal("2.5") + 150_000 * Decimal("0.25") + 10 * 15) / 1_000_000


def test_one_hour_cache_writes_cost_more_than_five_minute_ones(book: PriceBook) -> None:
    def cost(one_hour: int) -> Decimal | None:
        usage = Buckets(1000, 0, 0, 1000, one_hour)
        return book.price(usage, "anthropic", "claude-sonnet-4-5-20250929", None, AT).total_cost

    assert cost(0) == Decimal("0.00375")
    assert cost(1000) == Decimal("0.006")
    assert cost(400) == Decimal("0.00465")


def test_one_hour_writes_without_a_rate_of_their_own_are_unknown_where_writes_have_a_price(book: PriceBook) -> None:
    usage = Buckets(1000, 10, 0, 500, 500)
    assert book.price(usage, "anthropic", "claude-2", None, AT).total_cost is not None  # writes cost as input does
    aws = book.price(usage, "bedrock", None, "us.anthropic.claude-3-7-sonnet-20250219-v1:0", AT)
    assert aws.input_cost is None
    assert aws.total_cost is None
    assert aws.reason == "no single rate for cache_write_1h tokens"


@pytest.mark.parametrize(
    ("request_model", "response_model", "rule"),
    [
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", None, "regional.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("anthropic.claude-sonnet-4-5-20250929-v1:0", None, "regional.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("claude-sonnet-4-5-20250929-v1:0", None, "regional.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        (
            "global.anthropic.claude-sonnet-4-5-20250929-v1:0",
            "claude-sonnet-4-5-20250929",
            "global.anthropic.claude-sonnet-4-5-20250929-v1:0",
        ),
        (
            "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-3-haiku-20240307-v1:0",
            None,
            "regional.anthropic.claude-3-haiku-20240307-v1:0",
        ),
        (
            "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-lite-v1:0",
            None,
            "amazon.nova-lite-v1:0",
        ),
        (
            "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123def",
            "claude-3-haiku-20240307",
            "regional.anthropic.claude-3-haiku-20240307-v1:0",
        ),
        ("arn:aws:bedrock:us-east-1:123456789012:provisioned-model/abc123def", None, None),
        ("global.anthropic.claude-3-haiku-20240307-v1:0", None, None),
        ("amazon.titan-embed-text-v3:0", None, None),
    ],
)
def test_bedrock_prices_by_the_profile_the_request_names(
    book: PriceBook, request_model: str, response_model: str | None, rule: str | None
) -> None:
    cost = book.price(Buckets(1000, 500), "bedrock", response_model, request_model, AT)
    assert (cost.ref and cost.ref.partition("aws/")[2]) == rule


def test_bedrock_regional_endpoints_cost_more_than_global_ones(book: PriceBook) -> None:
    def total(region: str) -> Decimal:
        model = f"{region}.anthropic.claude-haiku-4-5-20251001-v1:0"
        cost = book.price(Buckets(1000, 1000), "bedrock", None, model, AT).total_cost
        assert cost is not None
        return cost

    assert total("us") == total("eu") == total("global") * Decimal("1.1")


def test_azure_prices_the_model_that_answered_and_not_the_deployment(book: PriceBook) -> None:
    answered = book.price(Buckets(1000, 500), "azure", "gpt-4o-2024-08-06", "gpt-4", AT)
    assert answered.total_cost == openai(book, "gpt-4o-2024-08-06").total_cost
    unanswered = book.price(Buckets(1000, 500), "azure", None, "gpt-4", AT)
    assert unanswered.total_cost is None
    assert unanswered.reason == "the request names a deployment, not a model"


def test_the_response_says_which_model_ran(book: PriceBook) -> None:
    cost = book.price(Buckets(1000, 500), "mistral", "mistral-small-2506", "mistral-small-latest", AT)
    assert cost.total_cost == Decimal("0.00025")  # Small 3.2 at $0.10 and $0.30
    unknown = book.price(Buckets(1000, 500), "openai", "house-model", "gpt-4o-mini", AT)
    assert unknown.total_cost is None


def test_a_proxy_that_says_openai_does_not_hide_another_vendors_model(book: PriceBook) -> None:
    proxied = book.price(Buckets(1000, 500), "openai", "claude-sonnet-4-5", None, AT)
    direct = book.price(Buckets(1000, 500), "anthropic", "claude-sonnet-4-5", None, AT)
    assert proxied == direct
    assert direct.total_cost == Decimal("0.0105")


def test_a_service_tier_has_its_own_rates_and_an_unknown_one_has_none(book: PriceBook) -> None:
    standard = openai(book, "gpt-5-mini")
    for word in ("default", "auto", "standard", "on_demand", "", "DEFAULT"):
        assert openai(book, "gpt-5-mini", tier=word) == standard
    assert openai(book, "gpt-5-mini", tier="flex").total_cost == Decimal("0.000625")  # 1000 x 0.125 + 500 x 1
    assert openai(book, "gpt-5-mini", tier="priority").total_cost == Decimal("0.00225")
    assert openai(book, "gpt-5-mini", tier="batch").total_cost == Decimal("0.000625")
    scale = openai(book, "gpt-5-mini", tier="scale")
    assert scale.total_cost is None
    assert "'scale'" in str(scale.reason)


def test_a_tier_is_unknown_before_the_data_knows_it(book: PriceBook) -> None:
    before = datetime(2026, 1, 1, tzinfo=UTC)
    assert book.price(Buckets(1000, 500), "openai", "gpt-5-mini", None, before, "flex").total_cost is None
    assert book.price(Buckets(1000, 500), "openai", "gpt-5-mini", None, before).total_cost is not None


def test_a_tier_keeps_the_standard_rate_for_what_it_does_not_change(book: PriceBook) -> None:
    cost = openai(book, "gpt-4o-mini", Buckets(1000, 0, 1000), tier="batch")  # batch has no cached rate of its own
    assert cost.total_cost == Decimal("0.000075")


def test_prices_are_those_of_the_day_the_call_started(book: PriceBook) -> None:
    def cost(day: datetime) -> Cost:
        return book.price(Buckets(1000, 1000), "mistral", None, "mistral-small-latest", day)

    last, first = datetime(2026, 3, 15, 23, 59, 59, tzinfo=UTC), datetime(2026, 3, 16, tzinfo=UTC)
    assert cost(last).total_cost == Decimal("0.0004")
    assert cost(first).total_cost == Decimal("0.00075")
    assert str(cost(first).ref).endswith("since 2026-03-16")
    berlin = timezone(timedelta(hours=2))
    assert cost(datetime(2026, 3, 16, 1, tzinfo=berlin)) == cost(last)


def test_peak_hours_are_told_apart_by_the_minute(book: PriceBook) -> None:
    def cost(hour: int, minute: int) -> Decimal | None:
        at = datetime(2026, 11, 1, hour, minute, tzinfo=UTC)
        return book.price(Buckets(1000, 1000), "deepseek", "deepseek-chat", None, at).total_cost

    assert cost(0, 29) == cost(16, 30) == Decimal("0.000685")
    assert cost(0, 30) == cost(16, 29) == Decimal("0.00137")


def test_the_price_data_has_no_seconds_in_its_peak_hours() -> None:
    for provider in genai_prices.data.providers:
        for model in provider.models:
            for entry in [] if isinstance(model.prices, ModelPrice) else model.prices:
                if isinstance(entry.constraint, TimeOfDateConstraint):
                    times = (entry.constraint.start_time, entry.constraint.end_time)
                    assert all(time.second == time.microsecond == 0 for time in times)


def test_audio_has_its_own_rates(book: PriceBook) -> None:
    usage = Buckets(1000, 100, audio_input_tokens=600, audio_output_tokens=80)
    cost = openai(book, "gpt-realtime", usage)
    assert cost.input_cost == (400 * 4 + 600 * 32) / Decimal(1_000_000)
    assert cost.output_cost == (20 * 16 + 80 * 64) / Decimal(1_000_000)


def test_cached_audio_is_charged_only_when_it_is_known_which_tokens_were_cached(book: PriceBook) -> None:
    def cost(usage: Buckets) -> Cost:
        return book.price(usage, "google", "gemini-2.5-flash", None, AT)

    unknown = cost(Buckets(1000, 0, 100, audio_input_tokens=500))
    assert unknown.total_cost is None
    assert unknown.reason == "cached tokens are not split into text and audio"
    told = cost(Buckets(1000, 0, 100, audio_input_tokens=500, audio_cache_read_tokens=100))
    assert told.total_cost == (500 * Decimal("0.3") + 400 * 1 + 100 * Decimal("0.1")) / 1_000_000
    forced = cost(Buckets(1000, 0, 100, audio_input_tokens=1000))  # all of it is audio, so what was cached is
    assert forced.total_cost == (900 * 1 + 100 * Decimal("0.1")) / 1_000_000
    indifferent = openai(book, "gpt-4o-audio-preview", Buckets(1000, 0, 100, audio_input_tokens=500))
    assert indifferent.total_cost == Decimal("0.0025")


def test_a_sum_that_misses_a_part_is_unknown_and_the_part_that_is_known_stands(book: PriceBook) -> None:
    no_output = openai(book, "gpt-4o-mini", Buckets(1000, None))
    assert (no_output.input_cost, no_output.output_cost, no_output.total_cost) == (Decimal("0.00015"), None, None)
    assert no_output.reason == "output tokens unknown"
    assert no_output.source == "computed"
    no_input = openai(book, "gpt-4o-mini", Buckets(None, 1000))
    assert (no_input.input_cost, no_input.output_cost, no_input.total_cost) == (None, Decimal("0.0006"), None)
    by_size = book.price(Buckets(None, 1000), "google", "gemini-2.5-pro", None, AT)
    assert by_size.output_cost is None  # its rate depends on the prompt's size


def test_no_usage_costs_nothing_that_could_be_named(book: PriceBook) -> None:
    assert openai(book, "gpt-4o-mini", Buckets()) == Cost(reason="no usage")
    assert openai(book, "no-such-model", Buckets()) == Cost(reason="no usage")
    assert openai(book, "gpt-4o-mini", Buckets(0, 0)).total_cost == 0


def test_no_model_is_a_reason(book: PriceBook) -> None:
    assert book.price(Buckets(1, 1), "openai", None, None, AT) == Cost(reason="no model")


def test_free_is_zero_and_not_unknown(book: PriceBook) -> None:
    free = book.price(Buckets(1000, None), "openrouter", "deepseek/deepseek-r1:free", None, AT)
    assert free.total_cost == 0
    assert free.source == "computed"


def test_an_embedding_needs_no_output_tokens(book: PriceBook) -> None:
    for output in (None, 0):
        cost = openai(book, "text-embedding-3-small", Buckets(1000, output))
        assert cost.total_cost == cost.input_cost == Decimal("0.00002")


def test_the_fee_per_request_is_in_the_total_only(book: PriceBook) -> None:
    cost = book.price(Buckets(1000, 1000), "perplexity", "sonar-pro", None, AT)
    assert (cost.input_cost, cost.output_cost) == (Decimal("0.003"), Decimal("0.015"))
    assert cost.total_cost == Decimal("0.032")  # and $14 per 1,000 requests


@pytest.mark.parametrize(
    "usage",
    [
        Buckets(100, 10, cache_read_tokens=101),
        Buckets(100, 10, cache_read_tokens=60, cache_write_tokens=60),
        Buckets(100, 10, cache_write_tokens=10, cache_write_1h_tokens=11),
        Buckets(100, 10, audio_input_tokens=101),
        Buckets(-1, 10),
        Buckets(100, 10, reasoning_tokens=11),
        Buckets(100, 10, audio_output_tokens=11),
        Buckets(100, -1),
    ],
)
def test_parts_that_do_not_fit_into_their_whole_are_never_clamped(book: PriceBook, usage: Buckets) -> None:
    cost = openai(book, "gpt-4o-mini", usage)
    assert cost.total_cost is None
    assert cost.reason


def test_an_application_that_lowers_its_decimal_precision_still_gets_exact_costs() -> None:
    with decimal.localcontext(decimal.Context(prec=3, rounding=decimal.ROUND_UP)):
        cost = PriceBook().price(Buckets(123_457, 987_653, 23_457), "openai", "gpt-4o-mini", None, AT)
        own = PriceBook().price(
            Buckets(123_457, 0), "openai", "x", None, AT, custom=(Decimal("0.00012345"), Decimal(0))
        )
    assert cost.total_cost == (100_000 * Decimal("0.15") + 23_457 * Decimal("0.075") + 987_653 * Decimal("0.6")) / 10**6
    assert own.total_cost == 123_457 * Decimal("0.00012345") / 1000


class _CountingCatalogue(Catalogue):
    def __init__(self) -> None:
        self.asked: list[str] = []

    def tariff(self, provider: str, model: str, at: datetime, tier: str):  # type: ignore[no-untyped-def]
        self.asked.append(model)
        return super().tariff(provider, model, at, tier)


def test_hits_and_misses_are_looked_up_once() -> None:
    catalogue = _CountingCatalogue()
    book = PriceBook(catalogue=catalogue)
    for _ in range(3):
        openai(book, "gpt-4o-mini")
        openai(book, "no-such-model")
    assert catalogue.asked == ["gpt-4o-mini", "no-such-model"]


def test_the_book_stays_small_however_many_models_are_made_up() -> None:
    book = PriceBook()
    for number in range(_MAX_RESOLVED + 10):
        assert openai(book, f"made-up-{number}").reason
    assert len(book._resolved) <= _MAX_RESOLVED
    assert openai(book, "gpt-4o-mini").total_cost is not None


def test_the_book_does_not_keep_what_is_too_long_to_be_a_model() -> None:
    book = PriceBook()
    cost = openai(book, "m" * 100_000)
    assert len(str(cost.reason)) < 500
    assert not book._resolved


def test_importing_costs_nothing_and_pricing_opens_no_connection() -> None:
    program = """
import sys, socket
import spanledger.exporter.pricing as pricing
assert "genai_prices" not in sys.modules
def refuse(*_): raise AssertionError("network")
socket.socket.connect = socket.getaddrinfo = refuse
from datetime import UTC, datetime
at = datetime(2026, 11, 1, tzinfo=UTC)
for model in ("gpt-4o-mini", "no-such-model"):
    print(pricing.PriceBook().price(pricing.Buckets(1000, 0), "openai", model, None, at).total_cost)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["0.00015000", "None"]


def test_threads_that_price_at_once_agree() -> None:
    book, costs, start = PriceBook(), [], threading.Barrier(8)

    def price() -> None:
        start.wait()
        costs.extend(openai(book, model) for model in ("gpt-4o-mini", "o4-mini", "nope") * 20)

    threads = [threading.Thread(target=price) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(costs)) == 3


def test_the_explanation_adds_up_to_the_cost_to_the_last_digit(book: PriceBook) -> None:
    usages = [
        ("anthropic", "claude-sonnet-4-5", Buckets(250_000, 5_431, 100_001, 50_003, 20_001)),
        ("openai", "gpt-realtime", Buckets(1000, 100, 0, audio_input_tokens=600, audio_output_tokens=80)),
        ("openai", "o4-mini-2025-04-16", Buckets(473, 247, 256, reasoning_tokens=200)),
        ("perplexity", "sonar-pro", Buckets(1000, 1000)),
    ]
    for provider, model, usage in usages:
        explained = book.explain(usage, provider, model, None, AT)
        assert explained.cost == book.price(usage, provider, model, None, AT)
        assert sum((line.cost for line in explained.lines), explained.request) == explained.cost.total_cost
        assert all(line.cost == line.tokens * line.rate / 1_000_000 for line in explained.lines)
        assert str(explained.cost.ref) in str(explained)
        assert f"total: ${explained.cost.total_cost:f}" in str(explained)


def test_the_explanation_names_every_bucket_once(book: PriceBook) -> None:
    usage = Buckets(250_000, 5_431, 100_001, 50_003, 20_001)
    lines = book.explain(usage, "anthropic", "claude-sonnet-4-5", None, AT).lines
    assert [(line.bucket, line.tokens, line.rate) for line in lines] == [
        ("input", 99_996, Decimal("6")),
        ("cache_read", 100_001, Decimal("0.6")),
        ("cache_write", 30_002, Decimal("7.5")),
        ("cache_write_1h", 20_001, Decimal("12")),
        ("output", 5_431, Decimal("22.5")),
    ]


def test_an_unknown_price_explains_itself_in_words(book: PriceBook) -> None:
    explained = book.explain(Buckets(10, 10), "openai", "no-such-model", None, AT)
    assert not explained.lines
    assert "no price known for model 'no-such-model'" in str(explained)


def test_the_callers_own_price_wins_over_everything() -> None:
    file = CustomPrices([], "x")
    book = PriceBook(file)
    own = (Decimal("0.03"), Decimal("0.06"))
    cost = book.price(Buckets(1500, 500, 1000), "openai", "gpt-4", "gpt-4", AT, "flex", own)
    assert (cost.input_cost, cost.output_cost, cost.total_cost) == (
        Decimal("0.045"),
        Decimal("0.03"),
        Decimal("0.075"),
    )
    assert (cost.source, cost.ref) == ("custom", "token_prices")
    half = book.price(Buckets(1500, 500), "openai", "gpt-4", "gpt-4", AT, None, (Decimal("0.03"), None))
    assert (half.input_cost, half.total_cost) == (Decimal("0.045"), None)
    free = book.price(Buckets(1500, 500), "openai", "x", "x", AT, None, (Decimal(0), Decimal(0)))
    assert free.total_cost == 0


def test_providers_of_the_data_are_reachable_under_our_names() -> None:
    assert set(_DATA_NAMES.values()) <= {provider.id for provider in genai_prices.data.providers}
