"""Our own attributes, ``spanledger.*``: what `spanledger.instrumentation` says that the GenAI convention cannot."""

from typing import Final

from spanledger.instrumentation import semconv

from ..spans import SpanData
from ..values import mapping, money, tokens
from .base import INFERENCE, TASK, Dialect, Draft, Field, Operation

OPERATIONS: Final[dict[str, Operation]] = {
    semconv.KIND_EXECUTION: TASK,
    semconv.KIND_LLM_CALL: INFERENCE,
}

FIELDS: Final = (
    Field("execution_id", semconv.EXECUTION_ID),
    Field("execution_log_id", semconv.EXECUTION_LOG_ID),
    Field("agent_type", semconv.AGENT_TYPE),
    Field("execution_step", semconv.EXECUTION_STEP),
    Field("action_type", semconv.ACTION_TYPE),
    Field("status", semconv.STATUS),
    Field("input", semconv.INPUT_DATA),
    Field("output", semconv.OUTPUT_DATA),
    Field("input", semconv.PROMPT),
    Field("output", semconv.RESPONSE),
    Field("metadata", semconv.METADATA, mapping),
    Field("error_message", semconv.ERROR_MESSAGE),
    Field("report_id", semconv.REPORT_ID),
    Field("completion_id", semconv.COMPLETION_ID),
    Field("widget_id", semconv.WIDGET_ID),
    Field("step_id", semconv.STEP_ID),
    Field("external_platform", semconv.EXTERNAL_PLATFORM),
    Field("external_user_id", semconv.EXTERNAL_USER_ID),
    Field("call_type", semconv.CALL_TYPE),
    Field("chunks_count", semconv.CHUNKS_COUNT, tokens),
    Field("usage_raw", semconv.USAGE_RAW, mapping),
    Field("service_tier", semconv.SERVICE_TIER),
    Field("custom_input_price", semconv.CUSTOM_INPUT_PRICE, money),
    Field("custom_output_price", semconv.CUSTOM_OUTPUT_PRICE, money),
    Field("token_prices", semconv.TOKEN_PRICES, mapping),
)


def operation(span: SpanData) -> Operation | None:
    return OPERATIONS.get(str(span.attributes.get(semconv.KIND)))


COSTS: Final = (semconv.INPUT_COST, semconv.OUTPUT_COST, semconv.TOTAL_COST)
"""For other readers. The same span may come without them as well, and has to make the same row."""
PRICES: Final = {"input": semconv.CUSTOM_INPUT_PRICE, "output": semconv.CUSTOM_OUTPUT_PRICE}


def adjust(span: SpanData, draft: Draft) -> None:
    """The user's prices for the model that answered, else the one that was asked, as if they stood on this span."""
    offered = draft.get("token_prices") or {}
    for model in (draft.get("response_model"), draft.get("model_id")):
        if isinstance(price := offered.get(model), dict):
            for name, attribute in PRICES.items():
                if money(price.get(name)) is not None:
                    draft["reported_usage"].setdefault(attribute, price[name])
            return


OWN: Final = Dialect(
    "spanledger",
    operation,
    FIELDS,
    marks=frozenset((semconv.KIND, semconv.TOKEN_PRICES, *COSTS, *semconv.CONTEXT_ATTRIBUTES)) - {semconv.SESSION_ID},
    claims=(semconv.KIND, *COSTS),
    adjust=adjust,
)
