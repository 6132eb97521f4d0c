"""The documentation keeps its word: links lead somewhere, marked code runs, and commands exist."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\[[^\]]+\]\((?!https?://|#)([^)#\s]+)(?:#[^)]*)?\)")
BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]*) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


def blocks(page: Path, mark: str) -> list[str]:
    """The code blocks of *page* that follow the line ``<!-- mark -->``."""
    return [match["text"] for match in BLOCK.finditer(page.read_text()) if match["mark"] == mark]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    missing = [target for target in LINK.findall(page.read_text()) if not (page.parent / target).exists()]
    assert missing == []


def test_every_guide_can_be_reached_from_the_index() -> None:
    index = (ROOT / "docs/index.md").read_text()
    guides = [page.name for page in (ROOT / "docs").glob("*.md") if page.name != "index.md"]
    assert [name for name in guides if f"({name})" not in index] == []


@pytest.mark.parametrize("name", ["demo", "tests"])
def test_each_of_the_readmes_two_commands_is_one_line_that_sets_everything_up(name: str) -> None:
    (block,) = blocks(ROOT / "README.md", f"ci: {name}")
    assert block.count("\n") == 1
    assert block.startswith("python3 -m venv .venv && .venv/bin/pip install ")


def test_every_command_the_pages_show_is_one_the_program_has() -> None:
    from spanledger.query_api.cli import COMMANDS

    shown = {
        word
        for page in PAGES
        for match in BLOCK.finditer(page.read_text())
        for word in re.findall(r"^(?:\S*/bin/)?spanledger ([a-z]+)", match["text"], re.MULTILINE)
    }
    assert shown
    assert shown <= {command.name for command in COMMANDS}


def test_the_reference_is_what_the_code_says_now() -> None:
    command = [sys.executable, str(ROOT / "docs/generate_reference.py"), "--check"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope="module")
def model_provider() -> Iterator[dict[str, str]]:
    """The variables that lead the openai package to the example's provider on this machine."""
    command = [sys.executable, str(ROOT / "examples/local_provider.py"), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        export, *variables = process.stdout.readline().split()
        assert export == "export"
        yield dict(variable.split("=", 1) for variable in variables)
        process.terminate()


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page, "runs")], ids=lambda page: str(page.relative_to(ROOT))
)
def test_the_python_of_a_page_runs_from_top_to_bottom(
    page: Path, tmp_path: Path, model_provider: dict[str, str]
) -> None:
    program = tmp_path / "page.py"
    program.write_text("\n".join(blocks(page, "runs")))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "SPANLEDGER_"))}
    result = subprocess.run(
        [sys.executable, "-W", "error", program],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        env=environment | model_provider | {"XDG_STATE_HOME": str(tmp_path)},
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
