"""What forks: servers, task queues, pools of processes. Every span of every child is stored, however it ends."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from .world import PATIENCE, World

Seen = Callable[[str], None]

WEB = """
import contextlib
import os
from spanledger.exporter import configure
configure(os.environ["DATABASE"], instrument=False)
from opentelemetry import trace
tracer = trace.get_tracer("t")
tracer.start_span("chat preloaded", attributes={"gen_ai.operation.name": "chat"}).end()

def app(environ, start_response):
    span = tracer.start_span("chat x", attributes={"gen_ai.operation.name": "chat"})
    span.end()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {span.get_span_context().span_id:016x}".encode()]
"""


@contextlib.contextmanager
def server(world: World, folder: Path, *command: str, **environment: str) -> Iterator["subprocess.Popen[str]"]:
    """A server that works in *folder*; asked to end afterwards."""
    given = {"SPANLEDGER_SPOOL_FOLDER": str(world.spool_folder), "DATABASE": world.url}
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=os.environ | given | environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


def ask(world: World, address: str) -> list[str]:
    """The process that answers, and the span it has ended."""
    return world.until(lambda: _answer(address))  # type: ignore[no-any-return]


def _answer(address: str) -> list[str] | None:
    with contextlib.suppress(httpx.HTTPError):
        answer = httpx.get(address, timeout=5)
        return answer.text.split() if answer.status_code == 200 else None
    return None


def answers_while_workers_die(world: World, address: str) -> str:
    """Sixty requests, and three workers killed in between; says what became of their spans."""
    answers = []
    for number in range(60):
        answers.append(ask(world, address))
        if number % 20 == 10:
            os.kill(int(answers[-1][0]), signal.SIGKILL)
    spans = {span for _, span in answers}
    world.until(lambda: spans <= {key.split()[1] for key in world.stored()})
    workers = len({pid for pid, _ in answers})
    return f"{workers} workers, 3 of them killed: {len(answers)} answered requests, 0 spans lost"


@pytest.mark.fault("F13", "F40")
def test_preloaded_workers_of_gunicorn_lose_nothing_when_they_are_killed(
    world: World, tmp_path: Path, seen: Seen
) -> None:
    pytest.importorskip("gunicorn", reason="install gunicorn to fork workers of a preloaded application")
    (tmp_path / "web.py").write_text(WEB)
    command = ["gunicorn", "--preload", "-w", "4", "-b", "127.0.0.1:0", "--no-control-socket", "web:app"]
    with server(world, tmp_path, *command) as gunicorn:
        assert gunicorn.stderr is not None
        address = next(found[1] for line in gunicorn.stderr if (found := re.search(r"at: (http://[\d.:]+)", line)))
        seen(f"gunicorn --preload, {answers_while_workers_die(world, address)}")


@pytest.mark.fault("F13", "F40")
def test_workers_of_uwsgi_lose_nothing_when_they_are_killed(world: World, tmp_path: Path, seen: Seen) -> None:
    """Its default forks after loading, in C. A thread of the master's would stop every worker: no span before that."""
    pytest.importorskip("pyuwsgi", reason="install pyuwsgi to fork workers in C")
    (tmp_path / "web.py").write_text("\n".join(line for line in WEB.splitlines() if "preloaded" not in line))
    port = free_port()
    options = ["--master", "--workers", "3", "--enable-threads", "--die-on-term", "--wsgi-file", "web.py"]
    run = "import pyuwsgi, sys; pyuwsgi.run(sys.argv[1:])"
    (tmp_path / "run_uwsgi.py").write_text(run)
    with server(world, tmp_path, "run_uwsgi", "--http-socket", f"127.0.0.1:{port}", "--callable", "app", *options):
        seen(f"uWSGI, {answers_while_workers_die(world, f'http://127.0.0.1:{port}')}")


TASKS = """
import os
from celery import Celery
from spanledger.exporter import configure
configure(os.environ["DATABASE"], instrument=False)
from opentelemetry import trace
tracer = trace.get_tracer("t")
queue = os.environ["QUEUE"]
folders = {"data_folder_in": queue, "data_folder_out": queue, "control_folder": queue + "/control"}
app = Celery("tasks", broker="filesystem://", broker_transport_options=folders)

@app.task
def work():
    tracer.start_span("chat x", attributes={"gen_ai.operation.name": "chat"}).end()

if __name__ == "__main__":
    for _ in range(10):
        work.delay()
"""


@pytest.mark.fault("F13")
def test_ten_tasks_of_celery_are_ten_spans_though_each_process_does_one(
    world: World, tmp_path: Path, seen: Seen
) -> None:
    """Its workers end by ``os._exit`` before they could have stored anything: the process that forked them does."""
    pytest.importorskip("celery", reason="install celery to run tasks in processes that do one each")
    (tmp_path / "tasks.py").write_text(TASKS)
    (tmp_path / "queue").mkdir()
    environment = os.environ | {"QUEUE": str(tmp_path / "queue"), "DATABASE": world.url}
    subprocess.run([sys.executable, "tasks.py"], cwd=tmp_path, env=environment, check=True, timeout=60)
    worker = ["celery", "-A", "tasks", "worker", "--pool=prefork", "--concurrency=2", "--max-tasks-per-child=1"]
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=ERROR"]
    with server(world, tmp_path, *worker, *quiet, QUEUE=environment["QUEUE"]):
        world.until(lambda: world.count() == 10)
    assert world.count() == 10
    seen("celery prefork, a process per task: 10 tasks in, 10 spans out, stored by the worker's parent")


POOL = """
import multiprocessing
import os
import sys
from spanledger.exporter import configure
configure(os.environ["DATABASE"], instrument=False)
from opentelemetry import trace

def work(number):
    trace.get_tracer("t").start_span("chat x", attributes={"gen_ai.operation.name": "chat"}).end()
    return os.getpid()

if __name__ == "__main__":
    with multiprocessing.get_context(sys.argv[1]).Pool(3, maxtasksperchild=2) as pool:
        print(len(set(pool.map(work, range(12), chunksize=1))))
"""


@pytest.mark.fault("F13")
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_pools_of_processes_lose_nothing(world: World, tmp_path: Path, seen: Seen, method: str) -> None:
    (tmp_path / "pool.py").write_text(POOL)
    given = {"SPANLEDGER_SPOOL_FOLDER": str(world.spool_folder), "DATABASE": world.url}
    command = [sys.executable, "pool.py", method]
    run = subprocess.run(
        command, cwd=tmp_path, env=os.environ | given, capture_output=True, text=True, timeout=PATIENCE
    )
    assert (run.returncode, run.stderr) == (0, "")
    world.drain()
    assert world.count() == 12
    seen(f"multiprocessing, {method}: {run.stdout.strip()} processes, 12 spans ended, 12 stored")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
