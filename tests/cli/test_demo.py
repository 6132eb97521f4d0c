"""`spanledger demo`, end to end, its numbers added up again from the rows."""

import json
import re
import sqlite3
import sys
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from openai import APIStatusError, OpenAI

from spanledger.query_api import listening
from spanledger.query_api.demo.provider import create_provider
from spanledger.query_api.demo.replay import recordings


def rows(path: str, query: str) -> list[dict[str, Any]]:
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    try:
        return [dict(row) for row in connection.execute(query)]
    finally:
        connection.close()


def test_the_summary_it_prints_is_what_the_rows_add_up_to(spanledger: Any) -> None:
    done = spanledger("demo", "--once")
    assert (done.returncode, done.stderr) == (0, "")
    path = re.search(r"sqlite:///(/\S+ledger\.db)", done.stdout)
    assert path is not None
    calls = rows(path[1], "SELECT * FROM llm_call_logs WHERE counted")
    for model in {call["model_id"] for call in calls}:
        of_model = [call for call in calls if call["model_id"] == model]
        counts = [len(of_model)] + [sum(call[c] or 0 for call in of_model) for c in ("input_tokens", "output_tokens")]
        cost = sum(call["total_cost"] or 0 for call in of_model)
        line = r"\s+".join([re.escape(model), *(f"{count:,}" for count in counts), r"\$([\d.]+)"])
        assert (printed := re.search(line, done.stdout)), (line, done.stdout)
        assert float(printed[1]) == pytest.approx(cost, abs=1e-6), "Python 3.12 adds floats up in another way"
    total = sum(call["total_cost"] or 0 for call in calls)
    assert re.search(rf"all\s+{len(calls)}\s.*\${total:.6f}", done.stdout)
    assert len([call for call in calls if call["status"] == "failed"]) == 2, "the agents' and the recorded failure"
    executions = rows(path[1], "SELECT * FROM execution_logs")
    assert f"executions    {len(executions)} " in done.stdout

    again = spanledger("summary", "--json", "--database-url", f"sqlite:///{path[1]}")
    assert json.loads(again.stdout)["llm_call_analytics"]["total_calls"] == len(calls)


def test_the_agents_leave_a_whole_story(spanledger: Any, tmp_path: Path) -> None:
    done = spanledger("demo", "--once", "--database-url", f"sqlite:///{tmp_path / 'story.db'}")
    assert (done.returncode, done.stderr) == (0, "")
    path = str(tmp_path / "story.db")
    steps = {
        (row["agent_type"], row["execution_step"])
        for row in rows(path, "SELECT * FROM execution_logs WHERE service_name = 'spanledger-demo'")
    }
    assert {("planner", step) for step in ("run", "plan", "execute", "observe")} <= steps
    assert {("designer", "plan"), ("designer", "execute_tool"), ("answer", "execute"), ("answer", "observe")} <= steps
    failed = rows(path, "SELECT * FROM execution_logs WHERE status = 'failed' AND agent_type = 'report'")
    assert [row["error_type"] for row in failed] == ["openai.InternalServerError"]
    agents = "SELECT * FROM llm_call_logs WHERE service_name = 'spanledger-demo'"
    counted = rows(path, f"{agents} AND counted")
    # Our own span of a call and the official instrumentor's are one call; three tasks make 4 + 4 + 1 calls.
    assert len(counted) == 9
    assert all("duplicate" in row["not_counted_reason"] or "rollup" in row["not_counted_reason"]
               for row in rows(path, f"{agents} AND NOT counted"))  # fmt: skip
    assert sum(row["cache_read_tokens"] or 0 for row in counted) > 0
    assert sum(row["reasoning_tokens"] or 0 for row in counted) > 0
    assert {row["execution_id"] for row in counted} == {row["execution_id"] for row in failed} | {
        row["execution_id"] for row in rows(path, "SELECT * FROM execution_logs WHERE agent_type = 'report'")
    }


def test_it_needs_no_sdk(spanledger: Any, tmp_path: Path) -> None:
    (tmp_path / "openai.py").write_text("raise ModuleNotFoundError('openai')")
    (tmp_path / "sitecustomize.py").write_text("""
import importlib.util
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "openai" else find_spec(name, package)
""")
    done = spanledger("demo", "--once", "--database-url", "sqlite:///bare.db", PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "a built-in client" in done.stdout
    counted = rows(
        str(tmp_path / "bare.db"), "SELECT * FROM llm_call_logs WHERE service_name = 'spanledger-demo' AND counted"
    )
    assert len(counted) == 9


def test_it_serves_on_and_says_where_to_look(serving: Any) -> None:
    with (
        serving(command="demo", until="Serving until Ctrl-C") as server,
        urlopen(f"{server.url}/execution-logs/executions?status=failed", timeout=30) as answer,
    ):
        assert json.loads(answer.read())["total_count"] > 0


def test_a_demo_that_fails_says_so_in_its_status(spanledger: Any, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("""
import sys
if "spanledger.query_api.demo.agents" in sys.orig_argv:
    sys.exit("the agents could not even start")
""")
    done = spanledger("demo", "--once", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert "Failed:" in done.stdout
    assert "the agents could not even start" in done.stdout


def test_the_recordings_are_of_different_producers_and_whole() -> None:
    found = list(recordings())
    assert len({recording.producer for recording in found}) >= 6
    assert all(recording.spans for recording in found)


@pytest.fixture
def client() -> Any:
    with (
        listening.serving(create_provider(latency=0), listening.bind("127.0.0.1", 0)) as url,
        OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=2) as client,
    ):
        yield client


def ask(client: OpenAI, text: str, **arguments: Any) -> Any:
    return client.chat.completions.create(
        model=arguments.pop("model", "gpt-4o"), messages=[{"role": "user", "content": text}], **arguments
    )


def test_the_local_provider_counts_as_openai_does(client: OpenAI) -> None:
    usage = ask(client, "a" * 8192).usage
    assert usage.prompt_tokens == 2048 + 4
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.prompt_tokens_details.cached_tokens == 0
    assert ask(client, "a" * 8192).usage.prompt_tokens_details.cached_tokens == 2048
    reasoned = ask(client, "think", model="o4-mini").usage
    assert reasoned.completion_tokens > reasoned.completion_tokens_details.reasoning_tokens > 0


def test_the_local_provider_streams_what_it_would_have_said(client: OpenAI) -> None:
    whole = ask(client, "Which region?")
    chunks = list(ask(client, "Which region?", stream=True, stream_options={"include_usage": True}))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole.choices[0].message.content
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert all(chunk.usage is None for chunk in ask(client, "Which region?", stream=True))


def test_the_local_provider_calls_tools_and_uses_what_they_say(client: OpenAI) -> None:
    parameters = {"type": "object", "properties": {"region": {"type": "string"}, "kind": {"enum": ["bar", "line"]}}}
    tools = [{"type": "function", "function": {"name": "query", "parameters": parameters}}]
    message = ask(client, "Sales?", tools=tools).choices[0].message
    assert json.loads(message.tool_calls[0].function.arguments) == {"region": "Sales?", "kind": "bar"}
    done = client.chat.completions.create(
        model="gpt-4o",
        tools=tools,  # type: ignore[arg-type]
        messages=[
            {"role": "user", "content": "Sales?"},
            message.to_dict(),  # type: ignore[list-item]
            {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "12 rows"},
        ],
    )
    assert "12 rows" in (done.choices[0].message.content or "")


def test_the_local_provider_fails_as_it_is_asked_to(client: OpenAI) -> None:
    assert "Sales" in ask(client, "Sales (provider: fail 429 once)").choices[0].message.content
    with pytest.raises(APIStatusError) as failed:
        ask(client.with_options(max_retries=0), "Sales (provider: fail 503)")
    assert failed.value.status_code == 503
    with pytest.raises(APIStatusError) as failed:
        client.embeddings.create(model="text-embedding-3-small", input="x")
    assert failed.value.status_code == 404


def test_the_example_provider_is_the_same_one() -> None:
    source = (Path(__file__).parents[2] / "examples" / "local_provider.py").read_text()
    assert "spanledger.query_api.demo.provider import create_provider" in source
    assert sys.version_info >= (3, 11)


def test_with_a_key_in_the_environment_the_agents_call_the_real_provider(spanledger: Any, tmp_path: Path) -> None:
    with listening.serving(create_provider(latency=0), listening.bind("127.0.0.1", 0)) as elsewhere:
        done = spanledger(
            "demo", "--once", "--database-url", "sqlite:///real.db",
            OPENAI_BASE_URL=f"{elsewhere}/v1", OPENAI_API_KEY="key",
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "call gpt-4o-mini at 127.0.0.1, as OPENAI_API_KEY is set" in done.stdout
    mine = "SELECT DISTINCT model_id, status FROM llm_call_logs WHERE service_name = 'spanledger-demo' AND counted"
    assert rows(str(tmp_path / "real.db"), mine) == [{"model_id": "gpt-4o-mini", "status": "completed"}]
