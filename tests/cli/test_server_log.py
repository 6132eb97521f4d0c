"""What the log of `spanledger serve` says: nothing of what strangers send, and no line that they wrote."""

import logging
import os
import socket
import subprocess
import sys
from pathlib import Path

import httpx

from spanledger.query_api.keys import new_token
from spanledger.query_api.logs import FORMAT, LONGEST, Lines

FORGED = "2026-01-01 00:00:00,000 CRITICAL root: pay here"


def entry(message: str, error: Exception | None = None) -> str:
    info = (type(error), error, None) if error else None
    return Lines(FORMAT).format(logging.LogRecord("spanledger", 40, "x.py", 1, "%s", (message,), info))


def test_what_an_entry_quotes_cannot_begin_a_line_or_paint_one() -> None:
    for said in (entry(f"a\n{FORGED}\x1b[2J\r\u202e\u2028{FORGED}"), entry("a", ValueError(f"b\n{FORGED}"))):
        first, *rest = said.splitlines()
        assert " ERROR spanledger: a" in first
        assert rest
        assert all(line.startswith("    ") and line.isprintable() for line in rest)


def test_secrets_and_all_but_the_head_of_a_long_line_stay_out() -> None:
    token = new_token()
    said = entry(f"Bearer {token} postgresql://ledger:hunter2secret@db/ledger {'x' * 100_000}")
    assert token not in said
    assert "hunter2secret" not in said
    assert len(said) == LONGEST


def test_a_server_writes_nothing_about_what_strangers_send(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "spanledger.query_api.cli", "serve", "--port", "0"]
    command += ["--database-url", f"sqlite:///{tmp_path / 'x.db'}"]
    environment = {**os.environ, "SPANLEDGER_SPOOL_FOLDER": str(tmp_path / "spool"), "PYTHONUNBUFFERED": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as server:  # type: ignore[call-overload]
        line = ""
        while not line.startswith("Look at it"):
            line = server.stdout.readline()
        url = httpx.URL(line.split()[3])
        upgrade = {"Connection": "Upgrade", "Upgrade": "websocket"}
        for path in ("/%0aforged%1b[2J", "/v1/traces?key=%0d%0aforged", f"/{new_token()}"):
            assert httpx.get(url.join(path), headers=upgrade).status_code in (404, 405)
        body = b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"name": 5, "x": "\\nforged"}]}]}]}'
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {new_token()}"}
        assert httpx.post(url.join("/v1/traces"), content=body, headers=headers).status_code in (200, 400)
        with socket.create_connection((url.host, url.port or 80), timeout=10) as connection:
            connection.sendall(b"forged \x1b[2J\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 400")
        server.terminate()
        _, log = server.communicate(timeout=30)
    assert log == ""
