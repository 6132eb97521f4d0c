"""Whatever is passed in, capture answers with JSON of a known size, and never with an exception."""

import dataclasses
import json
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from uuid import UUID

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spanledger.instrumentation.capture import MAX_BYTES, MAX_DEPTH, MAX_NODES, MIN_BYTES, as_json, as_text


def captured(value: object, limit: int = MAX_BYTES) -> Any:
    return json.loads(as_json(value, limit))


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Point(NamedTuple):
    x: int
    y: int


@dataclasses.dataclass
class Widget:
    name: str
    parts: list[str]


class Order(pydantic.BaseModel):
    order_id: int
    lines: list[Point]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (0.5, 0.5),
        (float("nan"), "NaN"),
        (float("inf"), "Infinity"),
        (float("-inf"), "-Infinity"),
        (2**63 - 1, 2**63 - 1),
        (2**63, "9223372036854775808"),
        (-(2**63), -(2**63)),
        ("a\0b", "a␀b"),
        ("\ud83e", "�"),
        ("\ud83e\udd14", "🤔"),
        ("half \udd14 a pair", "half � a pair"),
        (b"text", "text"),
        (b"\xff\x00", "base64:/wA="),
        (bytearray(b"ab"), "ab"),
        (memoryview(b"ab"), "ab"),
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        (Point(1, 2), {"x": 1, "y": 2}),
        (Widget("a", ["b"]), {"name": "a", "parts": ["b"]}),
        (Order(order_id=1, lines=[Point(1, 2)]), {"order_id": 1, "lines": [{"x": 1, "y": 2}]}),
        ((1, 2), [1, 2]),
        ({1}, [1]),
        (deque([1]), [1]),
        (OrderedDict(a=1).keys(), ["a"]),
        ({1: "a", None: "b", (1, 2): "c", Colour.RED: "d"}, {"1": "a", "null": "b", "[1,2]": "c", "red": "d"}),
        (datetime(2026, 1, 2, 3, 4, tzinfo=UTC), "2026-01-02T03:04:00+00:00"),
        (date(2026, 1, 2), "2026-01-02"),
        (timedelta(seconds=1), "0:00:01"),
        (Decimal("0.10"), "0.10"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (PurePosixPath("/a"), "/a"),
        (ValueError("no"), "ValueError: no"),
        (int, "builtins.int"),
    ],
    ids=repr,
)
def test_a_value_becomes_the_json_people_expect(value: object, expected: object) -> None:
    assert captured(value) == expected


def test_a_text_stays_text_and_anything_else_becomes_json() -> None:
    assert as_text("a\0b") == "a␀b"
    assert as_text({"a": 1}) == '{"a":1}'


def test_an_array_becomes_lists() -> None:
    class Array:  # what NumPy's look like, which need not be installed
        size, shape = 4, (2, 2)

        def tolist(self) -> list[list[int]]:
            return [[1, 2], [3, 4]]

    assert captured({"matrix": Array()}) == {"matrix": [[1, 2], [3, 4]]}


def test_real_arrays_and_their_scalars_become_numbers() -> None:
    numpy = pytest.importorskip("numpy")
    assert captured([numpy.arange(3), numpy.int64(5), numpy.float64("nan")]) == [[0, 1, 2], 5, "NaN"]


def test_an_integer_too_long_to_print_in_decimal_is_printed_in_hex() -> None:
    assert captured(1 << 20_000).startswith("0x1000")


def test_a_generator_is_named_and_not_consumed() -> None:
    generator = (number for number in range(3))
    assert "generator" in captured({"stream": generator})["stream"]
    assert list(generator) == [0, 1, 2]


def test_no_memory_address_is_captured() -> None:
    assert " at 0x" not in as_json([object(), lambda: None, Hostile])


def test_a_cycle_is_cut_where_it_closes() -> None:
    loop: list[Any] = [1]
    loop.append({"again": loop})
    assert captured(loop) == [1, {"again": "[cycle]"}]


def test_the_same_object_twice_is_no_cycle() -> None:
    shared = {"a": 1}
    assert captured([shared, shared]) == [shared, shared]


def test_nesting_ends_at_the_depth_limit() -> None:
    deep: list[Any] = []
    for _ in range(3_000):
        deep = [deep]
    text = as_json(deep)
    assert text.count("[") == MAX_DEPTH + 1
    assert f"deeper than {MAX_DEPTH} levels" in text


def test_a_stack_that_is_nearly_full_costs_the_value_and_nothing_else() -> None:
    def descend() -> str:
        try:
            return descend()
        except RecursionError:
            return as_json({"a": [1]})

    assert isinstance(json.loads(descend()), (dict, str))


def test_members_beyond_the_limit_are_counted_out() -> None:
    numbers = captured(list(range(MAX_NODES * 2)))
    assert numbers[-1] == f"[cut after {len(numbers) - 1} members]"
    assert len(numbers) <= MAX_NODES + 1


def test_a_long_string_keeps_head_and_tail_and_says_what_was_cut() -> None:
    text = "head" + "x" * (2 * MAX_BYTES) + "tail"
    kept = captured({"prompt": text, "after": "still here"})
    assert kept["after"] == "still here"
    assert kept["prompt"].startswith("head")
    assert kept["prompt"].endswith("tail")
    before, _, rest = kept["prompt"].partition("…[")
    cut, _, after = rest.partition(" characters cut]…")
    assert len(before) + int(cut) + len(after) == len(text)


def test_a_value_that_fits_is_kept_whole() -> None:
    text = "x" * (MAX_BYTES - MIN_BYTES)
    assert captured({"prompt": text}) == {"prompt": text}


def test_fifty_megabytes_are_cut_in_the_blink_of_an_eye() -> None:
    prompt = "é" * 25_000_000
    started = time.perf_counter()
    assert len(as_json({"prompt": prompt}).encode()) <= MAX_BYTES
    assert time.perf_counter() - started < 0.25  # 5 ms on a quiet machine


class Hostile:
    """Every way to be looked at fails, each with another exception."""

    def __repr__(self) -> str:
        raise SystemExit

    def __str__(self) -> str:
        raise RuntimeError

    def __getattr__(self, name: str) -> Any:
        raise MemoryError

    def __iter__(self) -> Iterator[Any]:
        raise ZeroDivisionError

    def __bool__(self) -> bool:
        raise GeneratorExit

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        raise LookupError


class HostileMapping(dict[Any, Any]):
    def items(self) -> Any:
        raise OSError


class HostileText(str):
    def __str__(self) -> str:
        raise RuntimeError

    def encode(self, *_: Any, **__: Any) -> bytes:
        raise RuntimeError


class EndlessMapping(dict[Any, Any]):
    def items(self) -> Any:
        while True:
            yield "again", self


@pytest.mark.parametrize(
    ("make", "note"),
    [
        (Hostile, "[unreadable: SystemExit]"),
        (HostileMapping, "[unreadable: OSError]"),
        (lambda: HostileText("text"), "text"),
    ],
)
def test_a_hostile_object_becomes_a_note_and_its_neighbours_stay(make: Callable[[], object], note: str) -> None:
    assert captured([1, {"a": make()}, 2]) == [1, {"a": note}, 2]


def test_a_hostile_key_does_no_harm() -> None:
    assert captured({Hostile(): 1}) == {"[unreadable: SystemExit]": 1}


def test_a_mapping_without_end_ends() -> None:
    assert "[cycle]" in as_json(EndlessMapping())


def test_a_keyboard_interrupt_is_not_swallowed() -> None:
    class Interrupted:
        def __repr__(self) -> str:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        as_json(Interrupted())


anything = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.complex_numbers(),
        st.text(st.characters(exclude_categories=()), max_size=400),  # surrogates and controls included
        st.binary(max_size=200),
        st.decimals(),
        st.datetimes(),
        st.uuids(),
        st.builds(Hostile),
        st.builds(HostileText, st.text()),
        st.just(EndlessMapping()),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=20),
        st.tuples(inner, inner),
        st.dictionaries(st.one_of(st.text(max_size=300), st.integers(), st.binary()), inner, max_size=20),
        st.builds(Point, inner, inner),
        st.builds(Widget, inner, inner),
        st.builds(HostileMapping, st.just({}), a=inner),
    ),
    max_leaves=40,
)


@settings(deadline=None)  # the machine may be busy
@given(anything, st.integers(min_value=0, max_value=20_000))
def test_anything_becomes_json_within_the_limit(value: object, limit: int) -> None:
    text = as_json(value, limit)
    assert len(text.encode()) <= max(limit, MIN_BYTES)  # encode: no lone surrogate is left
    assert "\0" not in text
    json.loads(text, parse_constant=pytest.fail)


@settings(deadline=None)  # the machine may be busy
@given(st.text(st.characters(exclude_categories=())), st.integers(min_value=64, max_value=400))
def test_any_text_fits_its_limit(text: str, limit: int) -> None:
    assert len(as_text(text, limit).encode()) <= limit


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0")),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0")), inner)
    ),
    max_leaves=30,
)


@settings(deadline=None)  # the machine may be busy
@given(json_values)
def test_what_is_json_already_comes_back_unchanged(value: object) -> None:
    assert captured(value) == value
