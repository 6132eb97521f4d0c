"""The room costs what it says: the OTel API, and no SDK of anybody."""

import subprocess
import sys


def test_importing_it_loads_no_sdk() -> None:
    program = "import sys, spanledger.instrumentation; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    loaded = set(done.stdout.split())
    assert "opentelemetry.trace" in loaded
    assert "asyncio" not in loaded
    foreign = (
        "opentelemetry.sdk",
        "openai",
        "anthropic",
        "google.genai",
        "sqlalchemy",
        "pydantic",
        "spanledger.exporter",
    )
    assert not [name for name in loaded if name.startswith(foreign)]


def test_every_public_name_exists_and_is_listed_in_order() -> None:
    import spanledger.instrumentation as room

    assert [name for name in room.__all__ if not hasattr(room, name)] == []
    assert len(set(room.__all__)) == len(room.__all__)
