//! The OpenAPI 3.1 description: made from the declarations of the routes, then completed as JSON.
//!
//! utoipa's `Modify` cannot do it: its types have no shared headers, no references to headers, and no
//! `not` in schemas.

mod components;
mod schemas;

use bipedalnet_client::api;
use components::header_references;
use schemas::{complete_named, never_null};
use serde_json::{Map, Value, json};
use utoipa::OpenApi;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "bipedalnet",
        description = "Identifies people by the way they walk, from a phone's accelerometer.\n\n\
            Errors are problem+json (RFC 9457) with a stable `type`. Documents are JSON or CBOR (RFC \
            8949) with typed arrays (RFC 8746), which is smaller. Choose with `Content-Type` and \
            `Accept`. Bodies of requests and responses may be compressed with gzip, zstd or br. \
            Writes with an `Idempotency-Key` take effect once: for 24 hours, a retry gets the first \
            response. Responses to GET have an `ETag`.",
    ),
    servers((url = "http://localhost:8080", description = "Where `bipedalnet serve` listens by default")),
    components(schemas(api::Problem)),
    tags(
        (name = "collections", description = "Groups of users, each with a gallery, thresholds and limits of its own"),
        (name = "users", description = "People who can be identified"),
        (name = "enrollments", description = "Walks that describe a user"),
        (name = "recognition", description = "Identification (1:N) and verification (1:1)"),
        (name = "models", description = "Neural networks, one of which is active"),
        (name = "training", description = "New models, trained on users' kept recordings"),
        (name = "audit", description = "Who did what, and when"),
        (name = "operation", description = "For operators"),
    )
)]
struct Description;

/// Tags of the operations in one collection.
const IN_COLLECTION: [&str; 3] = ["users", "enrollments", "recognition"];

/// Everything but the routes.
pub(super) fn base() -> utoipa::openapi::OpenApi {
    Description::openapi()
}

/// Adds what the declarations cannot say, and what all operations share.
pub(super) fn complete(openapi: utoipa::openapi::OpenApi) -> Value {
    let mut document = serde_json::to_value(openapi).expect("a description is plain data");
    let parts = &mut document["components"];
    parts["securitySchemes"] = components::security_schemes().into_iter().collect();
    parts["parameters"] = components::parameters();
    parts["headers"] = components::headers();
    parts["responses"] = components::responses();
    schemas::complete_schemas(&mut parts["schemas"]);
    let paths = document["paths"].as_object_mut().into_iter().flatten();
    for (path, operations) in paths {
        // These POSTs change nothing, so that they need no idempotency key.
        let is_retried =
            !["/identify", "/challenges", "/tokens"].iter().any(|end| path.ends_with(end));
        for (method, operation) in operations.as_object_mut().into_iter().flatten() {
            if let Some(operation) = operation.as_object_mut() {
                complete_operation(method == "get", is_retried && method != "get", operation);
            }
        }
    }
    document
}

fn complete_operation(is_read: bool, is_write: bool, operation: &mut Map<String, Value>) {
    let is_api = operation.contains_key("security");
    let is_in_collection = operation["tags"].as_array().is_some_and(|tags| {
        tags.iter().any(|tag| IN_COLLECTION.contains(&tag.as_str().unwrap_or_default()))
    });
    if !is_api {
        operation.insert("security".to_owned(), json!([]));
    }
    let own = operation.entry("parameters").or_insert(json!([]));
    for parameter in own.as_array_mut().into_iter().flatten() {
        let name = parameter["name"].as_str().unwrap_or_default().to_owned();
        complete_named(&name, &mut parameter["schema"]);
        if let Some(example) = components::example(&name) {
            parameter["example"] = example;
        }
    }
    if let (true, Some(parameters)) = (is_api, own.as_array_mut()) {
        let common = [
            ("collection", is_in_collection),
            ("known", is_read),
            ("idempotency_key", is_write),
            ("deadline", true),
            ("request_id", true),
        ];
        let common = common.into_iter().filter(|(_, takes)| *takes);
        parameters.extend(
            common.map(|(name, _)| json!({"$ref": format!("#/components/parameters/{name}")})),
        );
    }
    if own == &json!([]) {
        operation.remove("parameters");
    }
    if let Some(content) = operation.get_mut("requestBody").and_then(|body| body.get_mut("content"))
    {
        // A body that may be missing is still no null.
        if let Some(schema) = content.pointer_mut("/application~1json/schema") {
            never_null(schema);
        }
        also_cbor(content);
    }
    let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) else {
        return;
    };
    for (status, response) in responses.iter_mut() {
        if let Some(content) = response.get_mut("content") {
            also_cbor(content);
            if let Some(bytes) = content.get_mut("application/octet-stream") {
                // In OpenAPI 3.1, bytes have no schema.
                *bytes = json!({});
            }
        }
        let headers = [
            ("ETag", is_read),
            ("Idempotency-Replayed", is_write),
            ("Content-Range", status == "206"),
            ("Location", is_write && ["201", "202"].contains(&status.as_str())),
        ]
        .into_iter();
        let headers = headers.filter(|(_, has)| *has).map(|(name, _)| name);
        if is_api {
            let headers: Vec<&str> =
                headers.chain(["RateLimit", "RateLimit-Policy", "X-Request-Id"]).collect();
            response["headers"] = header_references(&headers);
        }
    }
    if is_api && is_read {
        responses.insert("304".into(), json!({"$ref": "#/components/responses/unchanged"}));
    }
    responses.insert("default".into(), json!({"$ref": "#/components/responses/problem"}));
}

/// Every JSON document may be CBOR.
fn also_cbor(content: &mut Value) {
    if let Some(json) = content.get("application/json").cloned() {
        content["application/cbor"] = json;
    }
}
