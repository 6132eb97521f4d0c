"""`spanledger serve`, as a process with real sockets."""

import json
import signal
import socket
import sqlite3
import time
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from spanledger.query_api.cli import main
from spanledger.query_api.demo.replay import recordings, send, shift


def get(url: str) -> Any:
    with urlopen(url, timeout=30) as answer:
        return json.loads(answer.read())


def test_it_takes_spans_answers_questions_and_ends_when_asked(serving: Any, tmp_path: Path) -> None:
    with serving("--database-url", "sqlite:///served.db") as server:
        for recording in recordings():
            shift(recording, time.time_ns())
            send(recording, server.url)
        summary = get(f"{server.url}/execution-logs/analytics/summary")
        assert get(f"{server.url}/healthz")
        server.process.send_signal(signal.SIGINT)
        out, err = server.process.communicate(timeout=30)
        assert (server.process.returncode, err) == (0, "")
        assert "Traceback" not in out
    with sqlite3.connect(tmp_path / "served.db") as connection:
        (calls, cost) = connection.execute(
            "SELECT count(*), sum(total_cost) FROM llm_call_logs WHERE counted"
        ).fetchone()
    connection.close()
    assert calls > 0
    assert summary["llm_call_analytics"]["total_calls"] == calls
    assert summary["llm_call_analytics"]["token_stats"]["total_cost"] == pytest.approx(cost)


def test_it_listens_where_otlp_exporters_send_to_as_well(serving: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with serving("--otlp-port", str(port)) as server:
        body = next(recordings()).request.SerializeToString()
        post = Request(f"http://127.0.0.1:{port}/v1/traces", body, {"Content-Type": "application/x-protobuf"})
        with urlopen(post, timeout=30) as answer:
            assert answer.status == 200
        assert get(f"{server.url}/execution-logs/executions?start_date=2020-01-01")["total_count"] > 0


def test_sigterm_ends_it_cleanly(serving: Any) -> None:
    with serving() as server:
        server.process.send_signal(signal.SIGTERM)
        _, err = server.process.communicate(timeout=30)
        assert (server.process.returncode, err) == (0, "")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "db.example"])
def test_an_address_others_can_reach_is_refused_without_keys(
    host: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["serve", "--host", host, "--port", "0", "--database-url", f"sqlite:///{tmp_path / 'x.db'}"]) == 2
    said = capsys.readouterr().err
    assert "no API key yet" in said
    assert "--insecure-no-auth" in said


def test_who_insists_gets_it(serving: Any) -> None:
    with serving("--host", "0.0.0.0", "--insecure-no-auth", until="listens on") as server:
        assert server.process.poll() is None


def test_a_port_that_is_taken_is_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "--port", str(port), "--database-url", f"sqlite:///{tmp_path / 'x.db'}"]) == 2
    assert f"Cannot listen on 127.0.0.1 port {port}" in capsys.readouterr().err
    assert main(["serve", "--port", "70000"]) == 2
    assert "Cannot listen" in capsys.readouterr().err
