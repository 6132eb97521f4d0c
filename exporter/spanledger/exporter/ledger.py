"""`Ledger`: the one door. Spans go in, rows are durable when it returns."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

from sqlalchemy import Engine

from .backends.base import Record
from .bounds import MAX_VALUE_BYTES
from .charges import charged
from .custom_prices import CustomPrices
from .mapping import Mapped, map_events, map_spans
from .pricing import PriceBook
from .records import Batch, Receipt, merged
from .redaction import Redactor
from .settings import Settings
from .spans import LogEvent, SpanData
from .store import Store, Written


class Ledger:
    """Maps, redacts, prices and stores spans.

    `record` is idempotent and safe to call from many threads; it returns after the rows are committed. A batch may hold
    any spans in any order, again and again: the tables depend on the set alone.
    """

    def __init__(
        self, store: Store, prices: PriceBook, redactor: Redactor, *, max_value_bytes: int = MAX_VALUE_BYTES
    ) -> None:
        self.store = store
        self.prices = prices
        self.redactor = redactor
        self._max_value_bytes = max_value_bytes

    @classmethod
    def open(cls, settings: Settings | None = None, *, engine: Engine | None = None) -> "Ledger":
        """A ledger on ``settings.database_url``, or on an engine that is already there.

        Raises `ConfigurationError` for settings that cannot work and `StoreUnavailable` for a database that is down or
        not migrated.
        """
        settings = settings or Settings.from_environment()
        prices = settings.price_file()
        custom = CustomPrices.read(prices) if prices else None
        redactor = Redactor(settings.content, settings.redact)
        store = Store.open(engine if engine is not None else settings.database_url)
        return cls(store, PriceBook(custom), redactor, max_value_bytes=settings.max_value_bytes)

    def record(self, spans: Sequence[SpanData]) -> Receipt:
        """Store *spans*; see `Receipt` for the answer.

        Raises `StoreUnavailable` when the same call may succeed later; then nothing of it counts as recorded. A span
        that can never be stored is rejected in the receipt and takes no other span with it.
        """
        (receipt,) = self.record_each([spans])
        return receipt

    def record_each(self, groups: Sequence[Sequence[SpanData]]) -> list[Receipt]:
        """`record` for several senders in one transaction: a receipt for each."""
        prepared = [self.prepare(spans) for spans in groups]
        batch = merged(one.batch for one in prepared)
        written = self.commit(batch)
        deleted = _deleted(batch, written)
        if deleted and len(groups) > 1:
            # Some belongs to what was deleted. Whose it is shows one by one: to store the rest again changes nothing.
            return [self.record(spans) for spans in groups]
        refused = dict(written.rejected)
        return [_receipt(spans, mapped, refused, deleted) for spans, mapped in zip(groups, prepared, strict=True)]

    def prepare(self, spans: Sequence[SpanData]) -> Mapped:
        """The rows of *spans*, redacted and priced: the first half of `record`, which needs no database."""
        mapped = map_spans(spans, self._max_value_bytes)
        batch = mapped.batch._replace(
            executions=[self.redactor.execution(row) for row in mapped.batch.executions],
            llm_calls=[charged(self.prices, self.redactor.llm_call(row)) for row in mapped.batch.llm_calls],
        )
        return mapped._replace(batch=batch)

    def commit(self, batch: Batch) -> Written:
        """Store prepared rows durably: the second half of `record`, and raises as it does."""
        return self.store.write(batch)

    def record_events(self, events: Sequence[LogEvent]) -> Receipt:
        """Store the content that log records carry for spans (before or after them); other records are skipped."""
        contents = [self.redactor.content(content) for content in map_events(events)]
        written = self.commit(Batch(contents=contents))
        reasons = [reason for _, reason in written.rejected]
        skipped = len(events) - written.stored - len(reasons)
        return Receipt(len(events), written.stored, skipped, len(reasons), _distinct(reasons))

    def close(self) -> None:
        self.store.close()


def _deleted(batch: Batch, written: Written) -> int:
    """How many rows of *batch* were left out because what they belong to was deleted."""
    return len(batch.executions) + len(batch.llm_calls) - written.stored - len(written.rejected)


def _distinct(reasons: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(reasons))


def _receipt(spans: Sequence[SpanData], mapped: Mapped, refused: Mapping[str, str], deleted: int) -> Receipt:
    rows: Iterable[Record] = chain.from_iterable(mapped.batch)
    reasons = [*mapped.rejected, *{row.id: refused[row.id] for row in rows if row.id in refused}.values()]
    recorded = max(0, len(spans) - mapped.skipped - deleted - len(reasons))
    return Receipt(len(spans), recorded, len(spans) - recorded - len(reasons), len(reasons), _distinct(reasons))
