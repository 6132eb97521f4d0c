"""What an agent's code imports: executions and model calls as OpenTelemetry GenAI spans."""

from .context import bind_context, context_attributes, using
from .execution import Execution, execution

__all__ = ["Execution", "bind_context", "context_attributes", "execution", "using"]
