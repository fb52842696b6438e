"""The Open Inference Protocol over HTTP, as an ASGI application.

Source: https://github.com/kserve/open-inference-protocol (specification/protocol/inference_rest.md).
"""

from __future__ import annotations

import asyncio
import json
from importlib.metadata import version as installed
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from planner.serving.metrics import CONTENT_TYPE
from planner.serving.protocol import (
    HEADER_LENGTH,
    JSON,
    VERSION,
    InferRequest,
    Refused,
    read_request,
    write_response,
)
from planner.serving.service import ServedModel, Service

LARGE = 256 << 10
"""A body from which on reading it would hold up the others."""
SKIPPED = 4
"""So many times the largest body are read and dropped, for the client to come to see its error."""
BODY_S = 60.0


def application(service: Service, max_body: int) -> Starlette:
    """Answers for ``service``. Bodies above ``max_body`` bytes are refused."""

    async def about(request: Request) -> Response:
        return _json(
            {"name": "planner", "version": installed("planner"), "extensions": ["binary_tensor_data"]}
        )

    async def live(request: Request) -> Response:
        return _json({"live": True})

    async def ready(request: Request) -> Response:
        return _json({"ready": service.ready}, 200 if service.ready else 503)

    async def metrics(request: Request) -> Response:
        return Response(service.metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    async def model_ready(request: Request) -> Response:
        model = _model(service, request)
        there = model.ready and not service.draining
        return _json({"name": model.spec.name, "ready": there}, 200 if there else 503)

    async def metadata(request: Request) -> Response:
        return _json(_model(service, request).spec.metadata())

    async def infer(request: Request) -> Response:
        model = _model(service, request)
        service.under_way += 1
        try:
            response = await _infer(service, model, request, max_body)
        except Refused as refused:
            response = _refusal(refused)
        finally:
            service.under_way -= 1
        service.metrics.requests.labels(model.spec.name, str(response.status_code)).inc()
        return response

    named = "/v2/models/{model}"
    routes = [
        Route("/v2", about),
        Route("/v2/health/live", live),
        Route("/v2/health/ready", ready),
        Route("/metrics", metrics),
    ]
    for path in (named, f"{named}/versions/{{version}}"):
        routes += [
            Route(path, metadata),
            Route(f"{path}/ready", model_ready),
            Route(f"{path}/infer", infer, methods=["POST"]),
        ]
    handlers: dict[Any, Any] = {Refused: _on_refused, HTTPException: _on_http, Exception: _on_error}
    return Starlette(routes=routes, exception_handlers=handlers)


def _model(service: Service, request: Request) -> ServedModel:
    name, version = request.path_params["model"], request.path_params.get("version", VERSION)
    if name not in service.models:
        raise Refused(404, f"no model {name!r}; there is {', '.join(service.models)}")
    if version != VERSION:
        raise Refused(404, f"{name} has no version {version!r}; it has {VERSION}")
    return service.models[name]


async def _infer(service: Service, model: ServedModel, request: Request, max_body: int) -> Response:
    if service.draining:
        raise Refused(503, "the service is shutting down")
    encoding = request.headers.get("content-encoding", "identity")
    try:
        body = await asyncio.wait_for(_body(request, max_body), BODY_S)
    except TimeoutError:
        raise Refused(408, f"the body did not come within {BODY_S:g} s") from None
    except ClientDisconnect:
        raise Refused(400, "the client went away") from None
    if encoding != "identity":
        raise Refused(400, f"Content-Encoding {encoding!r} is not supported; send the body as it is")
    header_length = request.headers.get(HEADER_LENGTH)
    if len(body) > LARGE:
        asked: InferRequest = await run_in_threadpool(read_request, body, header_length, model.spec)
    else:
        asked = read_request(body, header_length, model.spec)
    outputs = await model.infer(asked)
    if sum(output.nbytes for output in outputs) > LARGE:
        content, headers = await run_in_threadpool(write_response, asked, outputs, model.spec)
    else:
        content, headers = write_response(asked, outputs, model.spec)
    return Response(content, headers=headers)


async def _body(request: Request, max_body: int) -> bytes:
    """Raises Refused with 413 where it is too large; no more of it than allowed is ever held."""
    told = request.headers.get("content-length", "")
    refused = Refused(413, f"the body may have {max_body} bytes")
    if told.isdigit() and int(told) > SKIPPED * max_body:
        raise refused
    parts: list[bytes] = []
    length = 0
    async for part in request.stream():
        length += len(part)
        if length <= max_body:
            parts.append(part)
        else:
            parts.clear()
        if length > SKIPPED * max_body:
            break
    if length > max_body:
        raise refused
    return b"".join(parts)


def _json(content: dict[str, Any], status: int = 200) -> Response:
    body = json.dumps(content, separators=(",", ":")).encode()
    return Response(body, status, headers={"Content-Type": JSON})


def _refusal(refused: Refused) -> Response:
    return _json({"error": str(refused)}, refused.status)


async def _on_refused(request: Request, refused: Refused) -> Response:
    return _refusal(refused)


async def _on_http(request: Request, error: HTTPException) -> Response:
    reason = f"{request.url.path}: {error.detail.lower()}"
    response = _json({"error": reason}, error.status_code)
    response.headers.update(error.headers or {})
    return response


async def _on_error(request: Request, error: Exception) -> Response:
    return _json({"error": f"internal error: {type(error).__name__}"}, 500)
