"""The deployment files, read once, and the real tools that check them where they have been built."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def collector() -> dict[str, Any]:
    """collector-config.yaml as data."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "collector-config.yaml").read_text())
    return config


@pytest.fixture(scope="session")
def compose() -> dict[str, Any]:
    """docker-compose.yml as data."""
    project: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return project


@pytest.fixture(scope="session")
def tool() -> Callable[[str], Path]:
    """The path of a binary that tests/e2e/build_tools.sh makes; skips the test where it has not been run."""

    def find(name: str) -> Path:
        folder = Path(os.environ.get("SPANLEDGER_E2E_TOOLS") or Path.home() / ".cache" / "spanledger-tools")
        path = folder / name
        if not path.exists():
            pytest.skip(f"The real {name} has not been built; tests/e2e/build_tools.sh does it where Go is installed.")
        return path

    return find
