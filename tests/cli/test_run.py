"""`spanledger run`: programs that know nothing of us."""

import sqlite3
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

from spanledger.exporter.drainer import Drainer
from spanledger.exporter.pipeline import Pipeline
from spanledger.exporter.settings import Settings
from spanledger.query_api import listening
from spanledger.query_api.cli import main
from spanledger.query_api.demo.provider import create_provider


def test_an_uninstrumented_program_that_uses_openai_gets_rows(spanledger: Any, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("""
import sys
from openai import OpenAI
answer = OpenAI().chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "What is AI?"}])
print(answer.choices[0].message.content)
sys.exit(7)
""")
    with listening.serving(create_provider(), listening.bind("127.0.0.1", 0)) as provider:
        done = spanledger(
            "run", "--database-url", "sqlite:///runs.db", "--service-name", "shop", "--", sys.executable, "app.py",
            OPENAI_BASE_URL=f"{provider}/v1", OPENAI_API_KEY="any",
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (7, "")
    assert done.stdout.startswith("In short: What is AI?")
    settings = Settings(database_url=f"sqlite:///{tmp_path / 'runs.db'}", spool_folder=str(tmp_path / "spool"))
    pipeline = Pipeline(settings)  # on a busy machine the program may end before its last span is stored
    Drainer(pipeline.queue, pipeline.open_ledger).drain()
    pipeline.close()
    connection = sqlite3.connect(tmp_path / "runs.db")
    connection.row_factory = sqlite3.Row
    (row,) = connection.execute("SELECT * FROM llm_call_logs")
    connection.close()
    assert (row["provider"], row["model_id"], row["service_name"]) == ("openai", "gpt-4o", "shop")
    assert row["input_tokens"] == 7
    assert row["total_cost"] > 0
    assert "What is AI?" in row["prompt"]
    assert "In short" in row["response"]


def test_the_environment_s_own_sitecustomize_still_runs(spanledger: Any, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.orig_argv[1] == '-c' and print('theirs')")
    done = spanledger("run", sys.executable, "-c", "print('app')", PYTHONPATH=str(tmp_path))
    assert done.stdout.split() == ["theirs", "app"]


def test_a_python_that_does_not_have_spanledger_runs_the_program_all_the_same(spanledger: Any, tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", with_pip=False)
    done = spanledger("run", str(tmp_path / "bare" / "bin" / "python"), "-c", "print('app')")
    assert (done.returncode, done.stdout) == (0, "app\n")
    assert done.stderr == "spanledger: this run is not recorded: No module named 'spanledger'\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "There is nothing to run"),
        (("no-such-program",), "There is no command 'no-such-program'."),
        (("app.py",), "try: spanledger run python app.py"),
    ],
)
def test_what_cannot_be_run_is_one_sentence(
    arguments: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *arguments]) == 2
    assert sentence in capsys.readouterr().err
