"""`configure`: the one call that wires provider, ledger, other exporters and every installed instrumentor."""

import logging
import os
from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Final

from opentelemetry import trace
from opentelemetry.sdk.environment_variables import (
    OTEL_ATTRIBUTE_COUNT_LIMIT,
    OTEL_EXPORTER_OTLP_ENDPOINT,
    OTEL_EXPORTER_OTLP_PROTOCOL,
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT,
    OTEL_EXPORTER_OTLP_TRACES_PROTOCOL,
    OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT,
)
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from . import instrumentors
from .errors import ConfigurationError
from .health import Delivery
from .pipeline import Pipeline
from .processor import ContextSpanProcessor, LedgerSpanProcessor
from .sampling import RecordEverything
from .settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from .ledger import Ledger

OTEL_TRACES_EXPORTER: Final = "OTEL_TRACES_EXPORTER"
SPAN_ATTRIBUTES: Final = 4096
"""The SDK's default of 128 evicts the oldest attributes, so that model and session vanish first."""
_HANDLE: Final = "_spanledger_configured"

_log = logging.getLogger(__name__)


class Configured:
    """What `configure` wired: flush it, shut it down, or ask its ledger."""

    def __init__(self, tracer_provider: TracerProvider, pipeline: Pipeline, instrumented: Sequence[str]):
        self.tracer_provider = tracer_provider
        self.pipeline = pipeline
        self.instrumented = instrumented
        """Names of the OTel instrumentors that are active."""

    @property
    def ledger(self) -> "Ledger":
        """Opened on first use. Raises `ConfigurationError` or `StoreUnavailable` with a sentence on what to do."""
        return self.pipeline.open_ledger()

    @property
    def delivery(self) -> Delivery:
        """What this process has handed over so far, and what it could not."""
        return self.pipeline.delivery

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Write every ended span now. True when nothing is left to write."""
        return self.tracer_provider.force_flush(timeout_millis)

    def shutdown(self) -> None:
        """Flush and stop; spans that end later are dropped. The interpreter's exit does it by itself."""
        self.tracer_provider.shutdown()


def configure(
    database_url: str | None = None,
    *,
    engine: "Engine | None" = None,
    service_name: str | None = None,
    instrument: bool = True,
    otlp_endpoint: str | None = None,
    settings: Settings | None = None,
) -> Configured:
    """Record every span of this process in the ledger. Call it once, at the start; later calls change nothing.

    An SDK tracer provider that is already set is kept and extended; otherwise one is made from the standard ``OTEL_*``
    variables. Nothing connects here: the draining thread does.

    - *database_url* or *engine*: where the rows go; else ``SPANLEDGER_DATABASE_URL``, else ``spanledger.db`` here.
    - *instrument*: switch on every installed OTel instrumentor (``OTEL_PYTHON_DISABLED_INSTRUMENTATIONS`` excepted).
    - *otlp_endpoint*: also send the spans there; else where ``OTEL_EXPORTER_OTLP_*`` or ``OTEL_TRACES_EXPORTER`` say.

    ``OTEL_TRACES_SAMPLER`` thins out what those other exporters get, and what is propagated; the ledger gets all.
    Official instrumentors put prompts and answers on spans if the content policy is ``full`` and nobody else would
    receive them; ``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`` decides otherwise.

    Raises `ConfigurationError` if a setting cannot be understood.
    """
    current = trace.get_tracer_provider()
    if isinstance(handle := getattr(current, _HANDLE, None), Configured):
        return handle
    settings = settings or Settings.from_environment(database_url=database_url)
    provider = _tracer_provider(current, service_name)
    # Record everything, sample what the environment's sampler chooses: other exporters and the propagated flag see
    # the sampler's decision, and `LedgerSpanProcessor` does not ask for it.
    provider.sampler = RecordEverything(provider.sampler)
    pipeline = Pipeline(settings, engine=engine)
    provider.add_span_processor(ContextSpanProcessor())
    provider.add_span_processor(LedgerSpanProcessor(pipeline))
    others = _other_exporters(otlp_endpoint, from_environment=provider is not current)
    if others:
        from .costed import Costed  # brings the mapping, which a program without other exporters leaves to a thread

        for other in others:
            provider.add_span_processor(BatchSpanProcessor(Costed(other, settings)))
    if settings.content == "full" and not others and provider is not current:
        instrumentors.capture_content()
    if provider is not current:
        trace.set_tracer_provider(provider)
    configured = Configured(provider, pipeline, instrumentors.instrument() if instrument else [])
    setattr(provider, _HANDLE, configured)  # on the process's one global, so that we need none of our own
    return configured


def use_database(database_url: str | None = None) -> Configured:
    """What the loggers call with the URL of the database they were given: where to write, and nothing else."""
    return configure(database_url, instrument=False)


def _tracer_provider(current: trace.TracerProvider, service_name: str | None) -> TracerProvider:
    """The SDK provider that is set, else a new one with room for every attribute of a GenAI span."""
    if isinstance(current, TracerProvider):
        return current
    if not isinstance(current, trace.ProxyTracerProvider):
        raise ConfigurationError(
            f"The tracer provider is a {type(current).__name__}, which takes no span processors; call configure() "
            "before whatever set it, or add LedgerSpanExporter there."
        )
    limited = OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT in os.environ or OTEL_ATTRIBUTE_COUNT_LIMIT in os.environ
    return TracerProvider(
        resource=Resource.create({SERVICE_NAME: service_name} if service_name else {}),
        span_limits=SpanLimits(max_span_attributes=None if limited else SPAN_ATTRIBUTES),
    )


def _other_exporters(otlp_endpoint: str | None, *, from_environment: bool) -> list[SpanExporter]:
    """Who else gets the spans: the argument's endpoint, else whoever the standard variables name."""
    if otlp_endpoint is not None:
        return [_otlp_exporter(otlp_endpoint)]
    if not from_environment:
        return []  # whoever set the provider has already added them
    endpoint_set = OTEL_EXPORTER_OTLP_ENDPOINT in os.environ or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT in os.environ
    names = os.environ.get(OTEL_TRACES_EXPORTER, "otlp" if endpoint_set else "none").split(",")
    exporters = (_exporter_named(name.strip()) for name in names if name.strip() not in ("", "none", "spanledger"))
    return [exporter for exporter in exporters if exporter is not None]


def _exporter_named(name: str) -> SpanExporter | None:
    if name == "otlp":
        return _otlp_exporter()
    try:
        (entry_point,) = entry_points(group="opentelemetry_traces_exporter", name=name)
        exporter: SpanExporter = entry_point.load()()
        return exporter
    except Exception as error:  # somebody else's exporter must not keep ours from working
        _log.warning("spanledger: the exporter %r of %s is left out: %s", name, OTEL_TRACES_EXPORTER, error)
        return None


def _otlp_exporter(endpoint: str | None = None) -> SpanExporter:
    """gRPC if the environment says so, else HTTP, the specification's default. *endpoint* is a base address."""
    protocol = os.environ.get(OTEL_EXPORTER_OTLP_TRACES_PROTOCOL) or os.environ.get(OTEL_EXPORTER_OTLP_PROTOCOL)
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter

        return GrpcExporter(endpoint=endpoint)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter

    path = "/v1/traces"
    return HttpExporter(endpoint=endpoint and endpoint.rstrip("/").removesuffix(path) + path)
