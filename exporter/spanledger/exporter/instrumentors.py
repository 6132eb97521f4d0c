"""The installed OTel instrumentors, found and switched on through their entry points."""

import logging
import os
from importlib.metadata import Distribution, EntryPoint, entry_points
from typing import Final

GROUP: Final = "opentelemetry_instrumentor"
DISABLED: Final = "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"
CAPTURE_CONTENT: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
OPT_IN: Final = "OTEL_SEMCONV_STABILITY_OPT_IN"

_log = logging.getLogger(__name__)


def capture_content() -> None:
    """Let the official GenAI instrumentors put prompts and answers on their spans, unless the environment decided."""
    os.environ.setdefault(CAPTURE_CONTENT, "SPAN_ONLY")
    os.environ.setdefault(OPT_IN, "gen_ai_latest_experimental")


def instrument() -> list[str]:
    """Switch on every installed instrumentor whose library is installed too; the names of those now active.

    ``OTEL_PYTHON_DISABLED_INSTRUMENTATIONS`` (names, or ``*``) is honoured. One that fails is one warning.
    """
    disabled = {name.strip() for name in os.environ.get(DISABLED, "").split(",")}
    return [
        entry_point.name
        for entry_point in entry_points(group=GROUP)
        if not disabled & {entry_point.name, "*"} and _instrument(entry_point)
    ]


def _instrument(entry_point: EntryPoint) -> bool:
    try:
        if entry_point.dist is not None and _library_is_missing(entry_point.dist, entry_point.name):
            return False
        instrumentor = entry_point.load()()
        if not getattr(instrumentor, "is_instrumented_by_opentelemetry", False):
            instrumentor.instrument(skip_dep_check=True)
        return True
    except ModuleNotFoundError as error:
        _log.debug("spanledger: instrumentation %s is not possible: %s", entry_point.name, error)
    except Exception as error:
        _log.warning("spanledger: instrumentation %s failed and is skipped: %s", entry_point.name, error)
    return False


def _library_is_missing(distribution: Distribution, name: str) -> bool:
    from opentelemetry.instrumentation.dependencies import get_dist_dependency_conflicts

    conflict = get_dist_dependency_conflicts(distribution)
    if conflict is not None and (conflict.found or conflict.found_any):  # installed, in a version it cannot instrument
        _log.warning("spanledger: instrumentation %s is skipped: %s", name, conflict)
    return conflict is not None
