"""Imported by Python itself when its folder is on PYTHONPATH: calls `configure`, then the next sitecustomize."""

import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path


def _record() -> None:
    try:
        from spanledger.exporter import configure

        configure()
    except Exception as error:  # the program runs, recorded or not
        print(f"spanledger: this run is not recorded: {error}", file=sys.stderr)


def _import_next() -> None:
    """The environment's own ``sitecustomize``, which ours hides."""
    here = Path(__file__).parent
    spec = PathFinder.find_spec("sitecustomize", [path for path in sys.path if Path(path) != here])
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(module_from_spec(spec))


if __name__ == "sitecustomize":
    _record()
    _import_next()
