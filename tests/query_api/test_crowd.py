"""Connections that say nothing, and what they cost those that do."""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from spanledger.query_api import crowd, listening

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers at once, or after as many seconds as the path says; with much to ``/much``. Reads no body."""
    if scope["path" if scope["type"] == "http" else "type"] == "/much":
        await PlainTextResponse("x" * 50_000_000)(scope, receive, send)
    elif scope["type"] == "http":
        await asyncio.sleep(float(scope["path"][1:] or 0))
        await PlainTextResponse("here")(scope, receive, send)


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.URL]:
    """A server that has little patience, and room for ten."""
    monkeypatch.setattr(crowd, "HEAD_SECONDS", 0.5)
    monkeypatch.setattr(listening, "files", lambda: 20)
    with listening.serving(app, listening.bind("127.0.0.1", 0)) as url:
        yield httpx.URL(url)


@contextmanager
def connected(url: httpx.URL, said: bytes = b"") -> Iterator[socket.socket]:
    with socket.create_connection((url.host, url.port or 80), timeout=5) as connection:
        connection.sendall(said)
        yield connection


def read_answers(connection: socket.socket, number: int = 1) -> None:
    said = b""
    while said.count(b"here") < number:
        chunk = connection.recv(4096)
        assert chunk
        said += chunk


def rest_of(connection: socket.socket) -> int:
    """How many bytes the server still said before it ended the connection; raises `TimeoutError` if it did not."""
    size = 0
    try:
        while chunk := connection.recv(1_000_000):
            size += len(chunk)
    except ConnectionResetError:
        pass
    return size


def is_closed(connection: socket.socket) -> bool:
    try:
        rest_of(connection)
    except TimeoutError:
        return False
    return True


def drip(connection: socket.socket, letter: bytes) -> bool:
    """Send *letter* again and again until the server has had enough; whether it has within five seconds."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        try:
            connection.sendall(letter)
        except OSError:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("said", [b"", b"G", b"GET / HTTP/1.1\r\nX: "], ids=["nothing", "a letter", "half a head"])
def test_who_does_not_ask_is_not_waited_for(url: httpx.URL, said: bytes) -> None:
    with connected(url, said) as connection:
        assert is_closed(connection)


@pytest.mark.parametrize(
    "before",
    [b"GET / HTTP/1.1\r\nX: ", GET + b"GET / HTTP/1.1\r\nX: ", b"POST / HTTP/1.1\r\nContent-Length: 10000\r\n\r\n"],
    ids=["a head", "a second head", "a body that was answered before it came"],
)
def test_who_drips_is_not_waited_for(url: httpx.URL, before: bytes) -> None:
    with connected(url, before.replace(b"1.1\r\n", b"1.1\r\nHost: localhost\r\n")) as connection:
        assert drip(connection, b"x")


def test_who_has_asked_is_answered_however_long_it_takes(url: httpx.URL) -> None:
    assert httpx.get(url.join("/1.2"), timeout=5).text == "here"


def test_who_does_not_read_the_answer_is_not_waited_for(url: httpx.URL, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowd, "READ_SECONDS", 0.3)
    with connected(url, GET.replace(b"/", b"/much", 1)) as connection:
        assert connection.recv(100)
        time.sleep(1)
        assert rest_of(connection) < 50_000_000
    assert len(httpx.get(url.join("/much")).text) == 50_000_000


def test_several_requests_at_once_and_one_after_another_are_answered(url: httpx.URL) -> None:
    with connected(url, GET * 3) as connection:
        read_answers(connection, 3)
        connection.sendall(GET)
        read_answers(connection)


def test_who_waits_longest_gives_way_and_who_asks_stays(url: httpx.URL, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowd, "HEAD_SECONDS", 60.0)
    answers: list[str] = []
    asking = [threading.Thread(target=lambda: answers.append(httpx.get(url.join("/1")).text)) for _ in range(3)]
    for thread in asking:
        thread.start()
    with ExitStack() as stack:
        idle = [stack.enter_context(connected(url)) for _ in range(40)]
        assert httpx.get(url, timeout=5).text == "here"
        for thread in asking:
            thread.join(10)
        assert answers == ["here"] * 3
        assert is_closed(idle[0])
        idle[-1].sendall(GET)
        read_answers(idle[-1])


@pytest.mark.skipif(shutil.which("sh") is None, reason="A shell limits the files of the server.")
def test_hundreds_of_idle_connections_do_not_deafen_a_server_with_few_files(tmp_path: Path) -> None:
    serve = f"ulimit -n 256; exec '{sys.executable}' -m spanledger.query_api.cli serve --port 0 --database-url"
    environment = {**os.environ, "SPANLEDGER_SPOOL_FOLDER": str(tmp_path / "spool"), "PYTHONUNBUFFERED": "1"}
    command = ["sh", "-c", f"{serve} 'sqlite:///{tmp_path / 'x.db'}'"]
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True) as server,
        ExitStack() as stack,
    ):
        assert server.stdout is not None
        line = ""
        while not line.startswith("Look at it"):
            line = server.stdout.readline()
        url = httpx.URL(line.split()[3])
        for _ in range(600):
            stack.enter_context(connected(url, b"GET /"))
        for _ in range(3):
            assert httpx.get(url.join("/healthz"), timeout=20).status_code == 200
        server.terminate()
        server.communicate(timeout=30)


def test_a_process_asks_for_as_many_files_as_it_may_have() -> None:
    resource = pytest.importorskip("resource")
    program = "from spanledger.query_api.crowd import files; import resource; print(files())"
    program += "; print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    limit = f"ulimit -S -n 128; ulimit -H -n {min(2000, resource.getrlimit(resource.RLIMIT_NOFILE)[1])}"
    ran = subprocess.run(["sh", "-c", f"{limit}; '{sys.executable}' -c '{program}'"], capture_output=True, text=True)
    assert ran.stdout.split() == ["2000", "2000"]
