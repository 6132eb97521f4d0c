"""The Dockerfile, as far as it can be run without an engine: its build step, its command and its healthcheck."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

STEP = re.compile(r"^(FROM|RUN|COPY|USER|ENTRYPOINT|CMD|HEALTHCHECK|ENV)\s+(.*)$")


@pytest.fixture(scope="module")
def steps(root: Path) -> list[tuple[str, str]]:
    """(instruction, arguments) of the Dockerfile, continued lines joined."""
    text = re.sub(r"\s*\\\n\s*", " ", (root / "Dockerfile").read_text())
    return [match.groups() for line in text.splitlines() if (match := STEP.match(line))]  # type: ignore[misc]


def arguments(steps: list[tuple[str, str]], instruction: str) -> list[str]:
    return [argument for name, argument in steps if name == instruction]


def test_both_stages_start_from_the_same_full_python_version(steps: list[tuple[str, str]]) -> None:
    images = [argument.split(" AS ")[0] for argument in arguments(steps, "FROM")]
    assert len(images) == 2
    assert len(set(images)) == 1
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", images[0])


def test_the_server_does_not_run_as_root(steps: list[tuple[str, str]]) -> None:
    assert arguments(steps, "USER") == ["spanledger"]
    assert any("useradd --system --uid 10001" in argument for argument in arguments(steps, "RUN"))


def test_only_what_is_copied_reaches_the_build(root: Path, steps: list[tuple[str, str]]) -> None:
    copied = {
        source for argument in arguments(steps, "COPY") if "--from" not in argument for source in argument.split()[:-1]
    }
    ignore = [line for line in (root / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert ignore[0] == "*"
    assert {line[1:] for line in ignore if line.startswith("!")} == copied


@pytest.fixture(scope="module")
def image(root: Path, steps: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """/opt/spanledger as the build stage makes it: the COPY and RUN lines carried out in an empty folder."""
    if not os.environ.get("SPANLEDGER_TEST_IMAGE"):
        pytest.skip("Installs everything once more, for a minute: set SPANLEDGER_TEST_IMAGE=1, as .ci/run does.")
    source, prefix = tmp_path_factory.mktemp("src"), tmp_path_factory.mktemp("opt") / "spanledger"
    build = steps[: [name for name, _ in steps].index("FROM", 1)]
    for argument in arguments(build, "COPY"):
        *names, _ = argument.split()
        for name in names:
            copy = shutil.copytree if (root / name).is_dir() else shutil.copy
            copy(root / name, source / name)
    for command in arguments(build, "RUN"):
        # The image's `python` is the interpreter it is named for; here that is the one running the tests.
        here = command.replace("/opt/spanledger", str(prefix)).replace("python -m", f"{sys.executable} -m", 1)
        subprocess.run(here, shell=True, check=True, cwd=source, timeout=600)
    return prefix


@pytest.fixture
def server(image: Path, steps: list[tuple[str, str]], tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The image's own program, serving on loopback and a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    (entrypoint,) = arguments(steps, "ENTRYPOINT")
    command = [image / "bin" / json.loads(entrypoint)[0], "serve", "--port", str(port)]
    environment = {"PATH": f"{image}/bin", "SPANLEDGER_DATABASE_URL": f"sqlite:///{tmp_path}/ledger.db"}
    with subprocess.Popen(command, cwd=tmp_path, env=environment) as process:
        yield process, port
        process.terminate()
        process.wait(timeout=20)


def test_the_healthcheck_turns_good_when_the_server_answers(
    image: Path, steps: list[tuple[str, str]], server: tuple[subprocess.Popen[bytes], int]
) -> None:
    process, port = server
    (healthcheck,) = arguments(steps, "HEALTHCHECK")
    program, *options = json.loads(healthcheck.partition("CMD ")[2].replace(":8318/", f":{port}/"))
    probe = [str(image / "bin" / program), *options]
    deadline = time.monotonic() + 30
    while (result := subprocess.run(probe, capture_output=True, text=True, timeout=20)).returncode != 0:
        assert process.poll() is None, "the server ended"
        assert time.monotonic() < deadline, result.stderr
    assert subprocess.run([*probe[:-1], probe[-1].replace("/healthz", "/nowhere")], capture_output=True).returncode != 0


def test_the_default_command_is_refused_with_a_sentence_because_no_one_is_let_in_without_a_key(
    image: Path, steps: list[tuple[str, str]], tmp_path: Path
) -> None:
    (default,) = arguments(steps, "CMD")
    command = [str(image / "bin" / "spanledger"), *json.loads(default)]
    environment = {"SPANLEDGER_DATABASE_URL": f"sqlite:///{tmp_path}/ledger.db"}
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith("spanledger: ")
    assert "Traceback" not in result.stderr


def test_everything_is_importable_from_the_installed_wheel_alone(image: Path, tmp_path: Path) -> None:
    code = "import spanledger.instrumentation, spanledger.exporter, spanledger.query_api, sys; print(sys.prefix)"
    result = subprocess.run(
        [image / "bin/python", "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert result.stdout.strip() == str(image)
