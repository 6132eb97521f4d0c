"""Attribute names and values we write and read: OpenTelemetry's GenAI convention and our own ``spanledger.*``.

The GenAI names follow ``open-telemetry/semantic-conventions-genai`` (main, 2026; last tagged form: semantic
conventions v1.41.0). ``opentelemetry.semconv`` marks its ``gen_ai`` constants deprecated because they moved there, so
they are owned here. This module imports nothing but typing: every other room may import it.
"""

from typing import Final

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.37.0"
"""Schema URL of the spans we emit: what the official ``opentelemetry-instrumentation-genai-*`` packages declare."""

# --- OpenTelemetry: GenAI ---------------------------------------------------------------------------------------------
OPERATION_NAME: Final = "gen_ai.operation.name"
PROVIDER_NAME: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_STREAM: Final = "gen_ai.request.stream"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_ID: Final = "gen_ai.response.id"
RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
"""Seconds from the request to the first chunk of a stream."""
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
"""All input tokens, those read from and written to a cache included."""
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
"""All output tokens, reasoning included."""
CACHE_READ_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE_TOKENS: Final = "gen_ai.usage.cache_write.input_tokens"
REASONING_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
AUDIO_INPUT_TOKENS: Final = "gen_ai.usage.audio.input_tokens"
AUDIO_OUTPUT_TOKENS: Final = "gen_ai.usage.audio.output_tokens"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
SYSTEM_INSTRUCTIONS: Final = "gen_ai.system_instructions"
TOOL_DEFINITIONS: Final = "gen_ai.tool.definitions"
CONVERSATION_ID: Final = "gen_ai.conversation.id"
AGENT_ID: Final = "gen_ai.agent.id"
AGENT_NAME: Final = "gen_ai.agent.name"
WORKFLOW_NAME: Final = "gen_ai.workflow.name"
TOOL_NAME: Final = "gen_ai.tool.name"
TOOL_CALL_ID: Final = "gen_ai.tool.call.id"
TOOL_CALL_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
TOOL_CALL_RESULT: Final = "gen_ai.tool.call.result"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
ERROR_TYPE: Final = "error.type"

REQUEST_PARAMETERS: Final = {
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "max_output_tokens": "gen_ai.request.max_tokens",
    "max_tokens": "gen_ai.request.max_tokens",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "seed": "gen_ai.request.seed",
    "temperature": "gen_ai.request.temperature",
    "top_k": "gen_ai.request.top_k",
    "top_p": "gen_ai.request.top_p",
}
"""Attributes for what callers set on a request, by the names the providers' SDKs give it."""

# Values of gen_ai.operation.name
CHAT: Final = "chat"
GENERATE_CONTENT: Final = "generate_content"
TEXT_COMPLETION: Final = "text_completion"
EMBEDDINGS: Final = "embeddings"
RETRIEVAL: Final = "retrieval"
EXECUTE_TOOL: Final = "execute_tool"
CREATE_AGENT: Final = "create_agent"
INVOKE_AGENT: Final = "invoke_agent"
INVOKE_WORKFLOW: Final = "invoke_workflow"
PLAN: Final = "plan"

# --- OpenTelemetry: general -------------------------------------------------------------------------------------------
SESSION_ID: Final = "session.id"
USER_ID: Final = "user.id"
ENDUSER_ID: Final = "enduser.id"
SERVICE_NAME: Final = "service.name"
DEPLOYMENT_ENVIRONMENT: Final = "deployment.environment.name"
DEPLOYMENT_ENVIRONMENT_OLD: Final = "deployment.environment"
EXCEPTION_EVENT: Final = "exception"
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"
EXCEPTION_STACKTRACE: Final = "exception.stacktrace"

# --- ours: what the convention has no word for ------------------------------------------------------------------------
SCOPE: Final = "spanledger.instrumentation"
"""Name of the instrumentation scope (tracer) of every span we emit."""
KIND: Final = "spanledger.kind"
"""``execution`` or ``llm_call``: which of the two tables the span belongs to. Decides before any other attribute."""
KIND_EXECUTION: Final = "execution"
KIND_LLM_CALL: Final = "llm_call"

EXECUTION_ID: Final = "spanledger.execution.id"
"""Groups all rows of one run. Inherited by everything beneath."""
EXECUTION_LOG_ID: Final = "spanledger.execution_log.id"
"""Explicit owner of an LLM call (``execution_log_id`` of the classic surface): a row's UUID, or any other string."""
AGENT_TYPE: Final = "spanledger.agent.type"
EXECUTION_STEP: Final = "spanledger.execution.step"
ACTION_TYPE: Final = "spanledger.action.type"
STATUS: Final = "spanledger.status"
"""``completed``, ``failed`` or ``cancelled``, where the span's own status cannot say it (cancelled is not an error)."""
INPUT_DATA: Final = "spanledger.input"
"""JSON text."""
OUTPUT_DATA: Final = "spanledger.output"
"""JSON text."""
METADATA: Final = "spanledger.metadata"
"""JSON object as text: what the user attached."""
ERROR_MESSAGE: Final = "spanledger.error.message"
REPORT_ID: Final = "spanledger.report.id"
COMPLETION_ID: Final = "spanledger.completion.id"
WIDGET_ID: Final = "spanledger.widget.id"
STEP_ID: Final = "spanledger.step.id"
EXTERNAL_PLATFORM: Final = "spanledger.external.platform"
EXTERNAL_USER_ID: Final = "spanledger.external.user_id"
CALL_TYPE: Final = "spanledger.call.type"
"""``inference``, ``inference_stream`` or the caller's own word."""
CHUNKS_COUNT: Final = "spanledger.stream.chunks"
PROMPT: Final = "spanledger.prompt"
"""The prompt as plain text, when it was plain text."""
RESPONSE: Final = "spanledger.response"
"""The response as plain text, when it was plain text."""
USAGE_RAW: Final = "spanledger.usage.raw"
"""The provider's own usage block as JSON text."""
SERVICE_TIER: Final = "spanledger.service_tier"
CUSTOM_INPUT_PRICE: Final = "spanledger.price.input"
"""US dollars per 1,000 input tokens, from ``LLMCallLogger.token_prices``."""
CUSTOM_OUTPUT_PRICE: Final = "spanledger.price.output"
"""US dollars per 1,000 output tokens, from ``LLMCallLogger.token_prices``."""
INPUT_COST: Final = "spanledger.cost.input"
OUTPUT_COST: Final = "spanledger.cost.output"
TOTAL_COST: Final = "spanledger.cost.total"
"""US dollars: what the call cost by the prices where it was made. Other backends than the ledger are told so."""
TOKEN_PRICES: Final = "spanledger.token_prices"
"""The user's own prices as a JSON object, on every span inside one of our model calls: when another instrumentation's
span of the same request is the one that counts, the user's prices still decide what it cost."""

CONTEXT_ATTRIBUTES: Final = (
    EXECUTION_ID,
    REPORT_ID,
    COMPLETION_ID,
    WIDGET_ID,
    STEP_ID,
    EXTERNAL_PLATFORM,
    EXTERNAL_USER_ID,
    SESSION_ID,
)
"""Attributes an execution hands to everything beneath it, in the OTel context and, across processes, in baggage."""
