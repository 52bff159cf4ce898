//! The API described (OpenAPI 3.1): made from the declarations of the routes, completed with what
//! holds for all of them.

use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use crate::access::Scope;
use crate::api;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "bipedalnet",
        description = "Tells who is walking from a phone's accelerometer.\n\nErrors are \
            problem+json (RFC 9457) with a stable `type`. Documents are JSON or, smaller, CBOR (RFC \
            8949) with typed arrays (RFC 8746): say which in `Content-Type` and `Accept`. Bodies and \
            answers may be compressed with gzip, zstd or br. Writes that carry an `Idempotency-Key` \
            count once, however often they are sent: for 24 hours a retry gets the first answer. \
            Answers to GET have an `ETag`.",
    ),
    components(schemas(api::Problem)),
    tags(
        (name = "users", description = "Who can be recognised"),
        (name = "enrollments", description = "Walks by which users are known"),
        (name = "recognition", description = "Who is walking (1:N), and whether it is who they say (1:1)"),
        (name = "operation", description = "For operators"),
    )
)]
struct Description;

/// What does not come from the routes.
pub(super) fn base() -> utoipa::openapi::OpenApi {
    Description::openapi()
}

/// Adds what all routes have in common.
pub(super) fn complete(openapi: utoipa::openapi::OpenApi) -> Value {
    let mut document = serde_json::to_value(openapi).expect("a description is plain data");
    document["components"]["securitySchemes"] = json!({"api_key": {
        "type": "http",
        "scheme": "bearer",
        "description": format!(
            "A key of `bipedalnet keys create`, whose scopes are of {}. A service that never had a \
             key asks for none. Scores are in answers to keys with the scope `scores`.",
            Scope::ALL.map(|scope| format!("`{}`", scope.name())).join(", ")
        ),
    }});
    document["components"]["parameters"] = json!({
        "idempotency_key": {
            "name": "Idempotency-Key", "in": "header", "required": false,
            "description": "Names this request among the key's: retries under it get the first answer.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
        },
        "deadline": {
            "name": "Request-Deadline-Ms", "in": "header", "required": false,
            "description": "Milliseconds for which the client waits: work that nobody waits for is dropped.",
            "schema": {"type": "integer", "minimum": 1, "maximum": u32::MAX},
        },
    });
    document["components"]["responses"] = json!({"problem": {
        "description": "What went wrong",
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }});
    let paths = document["paths"].as_object_mut().into_iter().flatten();
    for (path, operations) in paths {
        // The other POSTs change nothing that a retry could count twice.
        let retried = !path.ends_with("/identify") && !path.ends_with("/challenges");
        for (method, operation) in operations.as_object_mut().into_iter().flatten() {
            if let Some(operation) = operation.as_object_mut() {
                complete_operation(retried && method != "get", operation);
            }
        }
    }
    document
}

fn complete_operation(is_write: bool, operation: &mut Map<String, Value>) {
    let is_api = operation.contains_key("security");
    let own = operation.entry("parameters").or_insert(json!([]));
    for parameter in own.as_array_mut().into_iter().flatten() {
        if parameter["name"] == "user" {
            // As identity::UserId.
            parameter["schema"] = json!({
                "type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[A-Za-z0-9._~-]+$",
                "not": {"enum": [".", ".."]},
            });
        }
    }
    if let (true, Some(parameters)) = (is_api, own.as_array_mut()) {
        if is_write {
            parameters.push(json!({"$ref": "#/components/parameters/idempotency_key"}));
        }
        parameters.push(json!({"$ref": "#/components/parameters/deadline"}));
    }
    if own == &json!([]) {
        operation.remove("parameters");
    }
    if let Some(content) = operation.get_mut("requestBody").and_then(|body| body.get_mut("content"))
    {
        also_cbor(content);
    }
    let responses = operation.get_mut("responses").and_then(Value::as_object_mut);
    for (_, response) in responses.into_iter().flatten() {
        if let Some(content) = response.get_mut("content") {
            also_cbor(content);
        }
    }
    if is_api {
        operation["responses"]["default"] = json!({"$ref": "#/components/responses/problem"});
    }
}

/// Whatever is JSON is CBOR as well.
fn also_cbor(content: &mut Value) {
    if let Some(json) = content.get("application/json").cloned() {
        content["application/cbor"] = json;
    }
}
