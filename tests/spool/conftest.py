"""A spool in a fresh folder, and spans to put in it."""

import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from spanledger.exporter.spans import Resource, SpanData
from spanledger.exporter.spool import Spool

if sys.platform == "win32":
    pytest.skip("the spool needs flock, which Windows does not have", allow_module_level=True)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


@pytest.fixture
def new_span() -> Callable[..., SpanData]:
    """Makes chat spans of one trace, each with a span id of its own; any field can be given."""
    numbers = itertools.count(1)

    def make(**fields: object) -> SpanData:
        number = next(numbers)
        span = SpanData(
            trace_id=2**120 + 7,
            span_id=number,
            parent_span_id=None,
            name="chat gpt-4o-mini",
            kind=3,
            start_time=1_800_000_000_000_000_000 + number,
            end_time=1_800_000_001_000_000_000 + number,
            status_code=0,
            status_message=None,
            attributes={
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "openai",
                "gen_ai.request.model": "gpt-4o-mini",
                "gen_ai.response.id": f"r{number}",
                "gen_ai.usage.input_tokens": 100 + number,
                "gen_ai.usage.output_tokens": 10,
            },
            events=[],
            resource=Resource("shop", "test"),
            scope="tests",
            scope_version="1",
            dropped_attributes=0,
        )
        return span._replace(**fields)  # type: ignore[arg-type]

    return make
