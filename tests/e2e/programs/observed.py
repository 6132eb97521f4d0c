"""Runs an agent as it is, and notes in a file every span that ends in it, whatever becomes of that span.

python observed.py NOTES agent.py ARGUMENTS...
python observed.py NOTES -m package.agent ARGUMENTS...
"""

import runpy
import sys

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from spanledger.exporter import configure


class Notes(SpanProcessor):
    def __init__(self, path: str) -> None:
        self._file = open(path, "a", buffering=1)  # noqa: SIM115  (open as long as the process lives)

    def on_end(self, span: ReadableSpan) -> None:
        assert span.context is not None
        self._file.write(f"{span.context.trace_id:032x} {span.context.span_id:016x}\n")


if __name__ == "__main__":
    _, notes, *command = sys.argv
    configure().tracer_provider.add_span_processor(Notes(notes))
    if command[0] == "-m":
        sys.argv = command[1:]
        runpy.run_module(command[1], run_name="__main__")
    else:
        sys.argv = command
        runpy.run_path(command[0], run_name="__main__")
