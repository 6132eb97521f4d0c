"""Asks the HTTP API whatever its own OpenAPI document allows and forbids, while a writer goes on sending good spans.

python tests/fuzz/fuzz_api.py [--examples N] [--seed N]     prints how many requests were made (by schemathesis)

No answer may be an error of the server's, or another than the document says; and whatever was acknowledged to the
writer is stored, by its own list of ids.
"""

import argparse
import random
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from spanledger.exporter.ledger import Ledger
from spanledger.exporter.settings import Settings
from spanledger.query_api import listening
from spanledger.query_api.app import create_app

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
BATCH = 20
TRACE = 0xF00D


class Writer:
    """Sends spans as long as the block runs; *acknowledged* holds the ids of those that it was told are stored."""

    def __init__(self, url: str) -> None:
        self.acknowledged: set[str] = set()
        self._url = url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write)

    def __enter__(self) -> "Writer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _write(self) -> None:
        with httpx.Client(base_url=self._url, timeout=60) as client:
            number = 0
            while not self._stop.wait(0.05):
                request = ExportTraceServiceRequest()
                spans = request.resource_spans.add().scope_spans.add().spans
                for _ in range(BATCH):
                    number += 1
                    span = spans.add(name="chat", start_time_unix_nano=1_700_000_000 * 10**9)
                    span.trace_id, span.span_id = TRACE.to_bytes(16, "big"), number.to_bytes(8, "big")
                    span.attributes.add(key="gen_ai.operation.name").value.string_value = "chat"
                headers = {"content-type": "application/x-protobuf"}
                answer = client.post("/v1/traces", content=request.SerializeToString(), headers=headers)
                if answer.status_code == 200 and not answer.content:
                    self.acknowledged |= {span.span_id.hex() for span in spans}


def stored(database: Path) -> set[str]:
    with closing(sqlite3.connect(database)) as connection:
        return {row[0] for row in connection.execute("SELECT span_id FROM llm_call_logs")}


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--examples", type=int, default=60, help="for each operation")
    options.add_argument("--seed", type=int, default=random.randrange(2**32))
    arguments = options.parse_args()
    with TemporaryDirectory() as folder:
        database = Path(folder) / "fuzz.db"
        settings = Settings(f"sqlite:///{database}")
        ledger = Ledger.open(settings)
        app = create_app(ledger, settings)
        with listening.serving(app, listening.bind("127.0.0.1", 0)) as url:

            def fuzz(*selection: str) -> int:
                program = Path(sys.executable).with_name("schemathesis")
                command = [program, "run", f"{url}/openapi.json", "--checks", CHECKS, "--seed", str(arguments.seed)]
                command += ["--phases", "fuzzing", "--max-examples", str(arguments.examples), *selection]
                return subprocess.run(command, check=False, cwd=folder).returncode

            with Writer(url) as writer:
                failed = fuzz("--exclude-method", "DELETE")
            lost = writer.acknowledged - stored(database)
            failed += fuzz("--include-method", "DELETE")  # afterwards: it finds ids that are there, and deletes them
        ledger.close()
    print(f"A writer was told {len(writer.acknowledged):,} spans are stored meanwhile; {len(lost)} of them are not.")
    return 1 if failed or lost or not writer.acknowledged else 0


if __name__ == "__main__":
    sys.exit(main())
