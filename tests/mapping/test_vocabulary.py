"""Reading a span: the strongest word on a field wins, and nothing useful is lost."""

import math
from typing import Any

from spanledger.exporter.spans import Resource, SpanData
from spanledger.exporter.vocabulary import vocabulary


def read(**attributes: Any) -> dict[str, Any]:
    named = {name.replace("__", "."): value for name, value in attributes.items()}
    span = SpanData(7, 1, None, "chat", 1, 0, 1, 0, None, named, (), Resource(), "", "", 0)
    return vocabulary(span).read(span)


def test_the_newer_name_wins_whatever_the_order_of_the_attributes() -> None:
    old_first = read(gen_ai__usage__prompt_tokens=1, gen_ai__usage__input_tokens=2)
    new_first = read(gen_ai__usage__input_tokens=2, gen_ai__usage__prompt_tokens=1)
    assert old_first["input_tokens"] == new_first["input_tokens"] == 2


def test_an_earlier_dialect_wins_over_a_later_one() -> None:
    draft = read(spanledger__kind="llm_call", spanledger__prompt="ours", gen_ai__input__messages="theirs")
    assert draft["input"] == "ours"


def test_a_value_that_is_none_after_all_leaves_the_field_to_the_next_name() -> None:
    draft = read(gen_ai__usage__input_tokens=math.nan, gen_ai__usage__prompt_tokens=5)
    assert draft["input_tokens"] == 5


def test_every_reported_count_is_kept_also_the_one_that_lost() -> None:
    draft = read(gen_ai__usage__input_tokens=2, gen_ai__usage__prompt_tokens=1)
    assert draft["reported_usage"] == {"gen_ai.usage.input_tokens": 2, "gen_ai.usage.prompt_tokens": 1}
    assert draft["leftovers"] == {}


def test_what_cannot_be_read_stays_among_the_leftovers() -> None:
    assert read(gen_ai__request__stream="perhaps")["leftovers"] == {"gen_ai.request.stream": "perhaps"}


def test_what_nobody_claims_is_kept_and_what_is_empty_is_not() -> None:
    draft = read(my__own=1, nothing="", none=None, gen_ai__operation__name="chat", server__port=443)
    assert draft["leftovers"] == {"my.own": 1}


def test_one_shape_remembered_does_not_leak_into_the_next_span() -> None:
    first, second = read(gen_ai__request__model="a", my__own=1), read(gen_ai__request__model="b", my__own=2)
    assert (first["model_id"], first["leftovers"]) == ("a", {"my.own": 1})
    assert (second["model_id"], second["leftovers"]) == ("b", {"my.own": 2})
