"""The deployment files, read once."""

from pathlib import Path
from typing import Any

import pytest
import yaml


@pytest.fixture(scope="session")
def collector(root: Path) -> dict[str, Any]:
    """collector-config.yaml as data."""
    config: dict[str, Any] = yaml.safe_load((root / "collector-config.yaml").read_text())
    return config


@pytest.fixture(scope="session")
def compose(root: Path) -> dict[str, Any]:
    """docker-compose.yml as data."""
    project: dict[str, Any] = yaml.safe_load((root / "docker-compose.yml").read_text())
    return project
