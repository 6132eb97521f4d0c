"""Makes each mistake of ``bugs.toml`` in a copy of the code, and asserts that the test named there goes red.

python tests/faults/seeded_bugs/run.py [NAME …]

Each named test is run on the copy as it is, too: a test that is red anyway would prove nothing.
"""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[3]
BUGS = tomllib.loads(Path(__file__).with_name("bugs.toml").read_text())
ROOMS = ("instrumentation", "exporter", "query_api")
SECONDS = 300


def passes(tree: Path, test: str) -> bool:
    """Whether *test* passes on the code in *tree*. One that does not end does not pass."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(str(tree / room) for room in ROOMS),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    with tempfile.TemporaryDirectory(prefix="spanledger-seeded-", ignore_cleanup_errors=True) as base:
        os.chmod(base, 0o755)
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f"--basetemp={base}/t"]
        try:
            run = subprocess.run(
                [*command, *shlex.split(test)], cwd=tree, env=environment, capture_output=True, timeout=SECONDS
            )
        except subprocess.TimeoutExpired:
            return False
    if run.returncode not in (0, 1):
        raise SystemExit(f"{test} cannot be run ({run.returncode}):\n{(run.stdout + run.stderr).decode()[-2000:]}")
    return run.returncode == 0


def main() -> int:
    names = sys.argv[1:] or list(BUGS)
    missed = []
    with tempfile.TemporaryDirectory(prefix="spanledger-seeded-") as folder:
        tree = Path(folder, "tree")
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".git", ".venv", "__pycache__", "*.db*"))
        sound: dict[str, bool] = {}
        for name in names:
            bug = BUGS[name]
            path = tree / bug["file"]
            original = path.read_text()
            if original.count(bug["find"]) != 1:
                raise SystemExit(f"{name}: {bug['file']} does not hold what is to be replaced, or more than once")
            if bug["test"] not in sound:
                sound[bug["test"]] = passes(tree, bug["test"])
            path.write_text(original.replace(bug["find"], bug["put"]))
            caught = not passes(tree, bug["test"])
            path.write_text(original)
            verdict = "caught" if caught and sound[bug["test"]] else "MISSED" if sound[bug["test"]] else "RED ANYWAY"
            print(f"{verdict:10} {name:40} {bug['test']}", flush=True)
            if verdict != "caught":
                missed.append(name)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
