"""``grpc.health.v1.Health/Check``: what Kubernetes and load balancers ask a gRPC port, of anyone, as ``/healthz`` is.

It says that the server takes calls. That the database is away is for senders to hear, who are told to come back: a
server that is taken out of service for it would tell them nothing. There is no ``Watch``, whose calls never end: the
protocol allows that, and clients take it for healthy.
"""

from collections.abc import Collection
from typing import Any, Final

import grpc
from grpc_health.v1.health_pb2 import (  # type: ignore[import-untyped]  # the package has no py.typed
    HealthCheckRequest,
    HealthCheckResponse,
)

SERVICE: Final = "grpc.health.v1.Health"
WHOLE_SERVER: Final = ""


def health(services: Collection[str]) -> grpc.GenericRpcHandler:
    """The health service of a server that has these *services*."""

    async def check(request: HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]) -> HealthCheckResponse:
        if request.service != WHOLE_SERVER and request.service not in services:
            await context.abort(grpc.StatusCode.NOT_FOUND, "There is no such service here.")
        return HealthCheckResponse(status=HealthCheckResponse.SERVING)

    method: grpc.RpcMethodHandler[HealthCheckRequest, HealthCheckResponse] = grpc.unary_unary_rpc_method_handler(
        check, HealthCheckRequest.FromString, HealthCheckResponse.SerializeToString
    )
    return grpc.method_handlers_generic_handler(SERVICE, {"Check": method})
