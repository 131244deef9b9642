"""OpenAPI 3.1 of the document in force: the endpoints' contracts and Turnout's own paths.

Called by `routes`.
"""

from collections.abc import Iterable
from typing import Any

from turnout.assembly import endpoint

PROBLEM = {
    "type": "object",
    "description": "RFC 9457 problem document.",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "Stable slug of the error."},
        "detail": {"type": "string", "description": "What happened and what was expected."},
        "hint": {"type": "string", "description": "What to do."},
        "path": {"type": "string", "description": "Field path in the body."},
        "request_id": {"type": "string"},
    },
}
OUTCOME = {
    "type": "object",
    "required": ["name"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string", "description": "As the document's metrics name it."},
        "value": {"type": "number", "default": 1},
        "unit": {"type": ["string", "integer"], "description": "As sent to the endpoint; or give request_id."},
        "request_id": {"type": "string", "description": "The Turnout-Request-Id of the answer it belongs to."},
        "event_id": {"type": "string", "description": "Idempotency key."},
        "ts": {"type": "number", "description": "Seconds since the epoch; default now."},
        "source": {"type": "string"},
        "correction_of": {"type": "string"},
    },
}
HEADERS = {
    "Turnout-Request-Id": "Id of this request, for outcomes and logs.",
    "Turnout-Revision": "Revision of the document that answered.",
    "Turnout-Experiment": "Experiment that ran on the endpoint.",
    "Turnout-Variant": "Variant that answered.",
    "Turnout-Also": "Further experiments and their variants, as experiment=variant.",
}
FAILURES = {
    "400": "Not JSON",
    "422": "Does not fit the contract",
    "500": "The pipeline failed",
    "503": "Overloaded",
    "504": "Too late",
}


def document(endpoints: Iterable[endpoint.Endpoint], *, revision: str) -> dict[str, Any]:
    """The OpenAPI document as JSON-able data."""
    schemas: dict[str, Any] = {"Problem": PROBLEM, "Outcome": OUTCOME}
    paths = {f"/v1/endpoints/{each.name}": _endpoint(each, schemas) for each in endpoints}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Turnout",
            "version": revision or "none",
            "description": "Endpoints of the document in force.",
        },
        "paths": paths | _own(),
        "components": {"schemas": schemas},
    }


def _endpoint(each: endpoint.Endpoint, schemas: dict[str, Any]) -> dict[str, Any]:
    request, reply = each.contract.request, each.contract.reply
    content_type = "text/event-stream" if each.contract.definition.streams else "application/json"
    headers = {name: {"description": text, "schema": {"type": "string"}} for name, text in HEADERS.items()}
    answer = {
        "description": "The pipeline's reply.",
        "headers": headers,
        "content": {content_type: {"schema": _embed(reply.json_schema(), each.name, "Reply", schemas)}},
    }
    return {
        "post": {
            "operationId": each.name,
            "summary": each.description or f"Ask {each.name}",
            "tags": ["endpoints"],
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": _embed(request.json_schema(), each.name, "Request", schemas),
                        "example": request.example(),
                    }
                },
            },
            "responses": {"200": answer} | {status: _problem(text) for status, text in FAILURES.items()},
        }
    }


def _embed(schema: dict[str, Any], name: str, role: str, schemas: dict[str, Any]) -> dict[str, Any]:
    """Move a schema's `$defs` under components, prefixed so that two endpoints' types never collide."""
    prefix = f"{name}.{role}."

    def moved(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: f"#/components/schemas/{prefix}{item[len('#/$defs/') :]}"
                if key == "$ref" and isinstance(item, str) and item.startswith("#/$defs/")
                else moved(item)
                for key, item in value.items()
                if key != "$defs"
            }
        return [moved(item) for item in value] if isinstance(value, list) else value

    for key, definition in schema.get("$defs", {}).items():
        schemas[prefix + key] = moved(definition)
    result: dict[str, Any] = moved(schema)
    return result


def _problem(text: str) -> dict[str, Any]:
    return {
        "description": text,
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }


def _own() -> dict[str, Any]:
    outcome = {"$ref": "#/components/schemas/Outcome"}
    body = {
        "required": True,
        "content": {"application/json": {"schema": {"oneOf": [outcome, {"type": "array", "items": outcome}]}}},
    }
    post = {
        "operationId": "postOutcomes",
        "summary": "Report what happened later, one or many",
        "tags": ["outcomes"],
        "requestBody": body,
        "responses": {
            "202": {"description": "Written down."},
            "400": _problem("Not JSON"),
            "422": _problem("Not an outcome"),
        },
    }
    reads = {
        "/healthz": "The process answers",
        "/readyz": "It wants traffic",
        "/status": "Revision, workers, models, endpoints",
        "/metrics": "Prometheus text",
    }
    gets = {path: {"get": _read(path, text)} for path, text in reads.items()}
    return {"/v1/outcomes": {"post": post}} | _flags() | gets


def _flags() -> dict[str, Any]:
    """OFREP; its own document says the rest: github.com/open-feature/protocol."""
    schema = {"type": "object", "properties": {"context": {"type": "object"}}}
    body = {
        "required": True,
        "content": {"application/json": {"schema": schema, "example": {"context": {"targetingKey": "user-1"}}}},
    }
    key = {"name": "key", "in": "path", "required": True, "schema": {"type": "string"}}
    one = {
        "operationId": "evaluateFlag",
        "summary": "Which variant a unit has, for OpenFeature (OFREP)",
        "tags": ["flags"],
        "parameters": [key],
        "requestBody": body,
        "responses": {
            "200": {"description": "Key, value, variant, reason, metadata"},
            "400": {"description": "The context lacks something"},
            "404": {"description": "No such experiment"},
        },
    }
    every = {
        "operationId": "evaluateFlags",
        "summary": "Which variants a unit has, for OpenFeature (OFREP)",
        "tags": ["flags"],
        "requestBody": body,
        "responses": {"200": {"description": "All flags"}, "304": {"description": "The same as If-None-Match names"}},
    }
    path = "/ofrep/v1/evaluate/flags"
    return {f"{path}/{{key}}": {"post": one}, path: {"post": every}}


def _read(path: str, text: str) -> dict[str, Any]:
    answers = {"200": {"description": text}}
    return {"operationId": path.strip("/"), "summary": text, "tags": ["operations"], "responses": answers}
