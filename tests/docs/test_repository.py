"""What the repository as a whole promises, where no single module could."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
SCRIPTS = [".ci/run", "tests/e2e/build_tools.sh"]


def test_every_dependency_has_its_reason_and_every_reason_its_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    required = {Requirement(line).name for line in lines} - {"spanledger"}
    tables = re.findall(r"^\|.*", (ROOT / "docs/decisions/dependencies.md").read_text(), re.MULTILINE)
    explained = {name for row in tables for name in re.findall(r"`([a-z0-9-]+)(?:\[\w+\])?`", row)}
    extras = set(project["optional-dependencies"])
    assert required - explained == set()
    assert explained - required - extras == set()


def test_no_room_hides_the_others_behind_an_init_file() -> None:
    rooms = [ROOT / room / "spanledger" for room in ("instrumentation", "exporter", "query_api")]
    assert all(room.is_dir() for room in rooms)
    assert [room for room in rooms if (room / "__init__.py").exists()] == []


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_stop_at_the_first_error_and_can_be_executed(script: str) -> None:
    path = ROOT / script
    assert path.stat().st_mode & 0o111
    assert "\nset -euo pipefail\n" in path.read_text()
    subprocess.run(["bash", "-n", path], check=True)


def test_the_workflow_runs_the_same_script_as_everyone_and_pins_what_it_uses() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert ".ci/run" in [step.get("run") for step in steps]
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", step["uses"]) for step in steps if "uses" in step)
    assert workflow["permissions"] == {"contents": "read"}
