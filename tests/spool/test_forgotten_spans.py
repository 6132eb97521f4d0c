"""Spans that still wait in the spool when their user or session is forgotten."""

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from spanledger.exporter.delivery import deliver
from spanledger.exporter.erasure import Erased, Subject
from spanledger.exporter.frames import Kind, span_body
from spanledger.exporter.ledger import Ledger
from spanledger.exporter.settings import Settings
from spanledger.exporter.spool import Spool

SECRET = "my name is Zebedee"
STARTED = 1_700_000_000_000_000_000


@pytest.mark.parametrize(
    ("subject", "attribute"),
    [(Subject("user", "u-1"), "spanledger.external.user_id"), (Subject("session", "s-1"), "session.id")],
)
def test_what_waits_in_the_spool_is_refused_when_it_is_drained(
    spool: Spool, new_span: Any, tmp_path: Path, subject: Subject, attribute: str
) -> None:
    def kept(trace: int, value: str) -> None:
        span = new_span(trace_id=trace, start_time=STARTED, end_time=STARTED + 10**9)
        told = {
            **span.attributes,
            attribute: value,
            "gen_ai.input.messages": f'[{{"role":"user","content":"{SECRET}"}}]',
        }
        for kind in (Kind.START, Kind.END):
            assert spool.append(kind, span_body(span._replace(attributes=told)))

    kept(1, subject.value)
    kept(2, "another")
    spool.seal()
    with closing(Ledger.open(Settings(f"sqlite:///{tmp_path / 'x.db'}"))) as ledger:
        assert ledger.store.erase(subject) == Erased()
        claims = list(spool.claims())
        deliver(ledger, claims)
        for claim in claims:
            claim.done()
        assert ledger.store.count(subject) == Erased()
        assert ledger.store.count(subject._replace(value="another")) == Erased(llm_calls=1)
        ledger.store.erase(subject._replace(value="another"))
    left = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert SECRET.encode() not in left
