"""Segments → rows: everything a segment holds becomes a row, a counted loss, or a dead letter with its reason."""

import logging
import time
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, Final, NamedTuple

from .custody import Custody
from .errors import SpanledgerError
from .frames import Kind, ids_in, span_body, span_of
from .ledger import Ledger
from .queue import Claim
from .records import Batch, DeadLetter, Handover, merged
from .spans import SpanData, row_id
from .values import moment, sanitize

DAMAGED: Final = "damaged_on_disk"
REFUSED: Final = "refused_by_database"
UNREADABLE: Final = "unreadable"

_log = logging.getLogger(__name__)


class _Segment(NamedTuple):
    """A claimed segment: spans that ended; the bodies of spans that began, by their ids; and frames that are no spans.

    *keys* are the ids of those that ended. Most that began have ended by then, and are never decoded.
    """

    name: str
    ended: list[SpanData]
    keys: set[bytes]
    begun: dict[bytes, bytes]
    lost: Counter[str]


class _Prepared(NamedTuple):
    """The rows of some spans, how many are none of ours, and those that nobody can read."""

    batch: Batch
    skipped: int
    dead: Sequence[DeadLetter]


def deliver(ledger: Ledger, claims: Sequence[Claim]) -> list[Handover]:
    """Commit the spans of *claims*, in one transaction, and say what became of each segment.

    Raises `StoreUnavailable` when the database cannot take them now; then nothing counts as delivered.
    """
    segments = [_read(claim) for claim in claims]
    ended = {key for segment in segments for key in segment.keys}
    prepared = [_prepare(ledger, segment.ended) for segment in segments]
    # What has ended by now was short: it costs no row of its own while it ran.
    running = [_prepare(ledger, _still_running(segment, ended)) for segment in segments]
    batches = [*(p.batch for p in prepared), *(_rows_only(p.batch) for p in running)]
    refused = dict(ledger.commit(merged(batches)).rejected)
    return [_handover(*each, refused) for each in zip(segments, prepared, running, strict=True)]


def retry(ledger: Ledger) -> tuple[int, int]:
    """Try to store every dead letter again, one by one: how many became rows (or nothing of ours), how many did not.

    Raises `StoreUnavailable` when the database cannot take them now.
    """
    custody = Custody(ledger.store)
    letters = custody.dead_letters()
    delivered = [letter.id for letter in letters if not ledger.record([span_of(letter.body.encode())]).rejected]
    custody.forget(delivered)
    return len(delivered), len(letters) - len(delivered)


def _read(claim: Claim) -> _Segment:
    segment = _Segment(claim.name, [], set(), {}, Counter())
    for frame in claim.parsed.frames:
        if frame.kind == Kind.START:
            segment.begun[ids_in(frame.body)] = frame.body
        elif (span := _decoded(frame.body, segment)) is not None and frame.kind == Kind.END:
            segment.ended.append(span)
            segment.keys.add(ids_in(frame.body))
    if claim.parsed.damaged:
        segment.lost[DAMAGED] += 1  # at least: nobody knows how many
    return segment


def _still_running(segment: _Segment, ended: Collection[bytes]) -> list[SpanData]:
    bodies = [body for key, body in segment.begun.items() if key not in ended]
    return [span for body in bodies if (span := _decoded(body, segment)) is not None]


def _decoded(body: bytes, segment: _Segment) -> SpanData | None:
    try:
        return span_of(body)
    except Exception:  # whole, as its checksum says, but written by a version that is not ours
        _log.exception("spanledger: a frame of %s cannot be read", segment.name)
        segment.lost[UNREADABLE] += 1
        return None


def _prepare(ledger: Ledger, spans: Sequence[SpanData]) -> _Prepared:
    """The rows of *spans*. What nobody can read is looked for by halves, so that it costs none of its neighbours."""
    reason = ""
    try:
        mapped = ledger.prepare(spans)
        if not mapped.rejected:
            return _Prepared(mapped.batch, mapped.skipped, ())
        reason = mapped.rejected[0]
    except SpanledgerError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
    if len(spans) == 1:
        return _Prepared(Batch(), 0, [_dead_letter(spans[0], reason)])
    half = len(spans) // 2
    first, second = _prepare(ledger, spans[:half]), _prepare(ledger, spans[half:])
    batch = merged([first.batch, second.batch])
    return _Prepared(batch, first.skipped + second.skipped, [*first.dead, *second.dead])


def _rows_only(batch: Batch) -> Batch:
    """A running span that is no row yet is not worth one: its end will say what it is."""
    return batch._replace(bridges=())


def _handover(segment: _Segment, prepared: _Prepared, running: _Prepared, refused: dict[str, str]) -> Handover:
    rows: list[Any] = [*prepared.batch.executions, *prepared.batch.llm_calls]
    reasons = {row.trace_id + row.span_id: refused[row.id] for row in rows if row.id in refused}
    letters = [
        _dead_letter(span, reasons[key])
        for span in segment.ended
        if (key := f"{span.trace_id:032x}{span.span_id:016x}") in reasons
    ]
    dropped = segment.lost + Counter({UNREADABLE: len(prepared.dead), REFUSED: len(letters)})
    begun: list[Any] = [*running.batch.executions, *running.batch.llm_calls]
    stamp, _, producer = segment.name.partition("-")
    return Handover(
        segment=segment.name,
        producer=producer,
        written_at=moment(int(stamp) if stamp.isdigit() else time.time_ns()),
        produced=len(segment.ended) + segment.lost.total(),
        stored=len(segment.ended) - prepared.skipped - len(prepared.dead) - len(letters),
        skipped=prepared.skipped,
        dropped=dropped,
        opened=[row.id for row in begun if row.id not in refused],
        dead=[*prepared.dead, *letters],
    )


def _dead_letter(span: SpanData, reason: str) -> DeadLetter:
    trace_id, span_id = f"{span.trace_id:032x}"[:32], f"{span.span_id:016x}"[:16]
    id = row_id(span.trace_id & (2**128 - 1), span.span_id & (2**64 - 1))
    return DeadLetter(id, trace_id, span_id, sanitize(reason), span_body(span).decode())
