"""Every golden trace becomes the rows that stand beside it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

GOLDEN = Path(__file__).parent / "golden"
RECORDINGS = sorted(path for path in GOLDEN.rglob("*.otlp.pb") if not path.name.endswith(".logs.otlp.pb"))


@pytest.mark.parametrize(
    "recording", RECORDINGS, ids=lambda path: str(path.relative_to(GOLDEN)).removesuffix(".otlp.pb")
)
def test_a_recorded_trace_becomes_its_rows(
    recording: Path, golden_rows: Callable[[Path], dict[str, Any]], request: pytest.FixtureRequest
) -> None:
    rows = json.loads(json.dumps(golden_rows(recording), default=str))
    expected = recording.with_name(recording.name.replace(".otlp.pb", ".rows.json"))
    if request.config.getoption("--write-golden", default=False):
        expected.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    assert rows == json.loads(expected.read_text())


def test_there_are_recordings() -> None:
    assert len(RECORDINGS) > 50
