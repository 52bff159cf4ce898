//! The API described (OpenAPI 3.1): made from the declarations of the routes, completed with what
//! holds for all of them.

use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use super::problem::ProblemType;
use crate::access::Scope;
use bipedalnet_client::api;
use bipedalnet_core::identity::FALSE_MATCH_RATES;

/// A walk that is long enough, of the simulator.
const EXAMPLE_WALK: &str = include_str!("example_walk.json");

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
        (name = "models", description = "Networks, of which one serves"),
        (name = "training", description = "New networks, from users' kept recordings"),
        (name = "operation", description = "For operators"),
    )
)]
struct Description;

/// What does not come from the routes.
pub(super) fn base() -> utoipa::openapi::OpenApi {
    Description::openapi()
}

/// Adds what the declarations cannot say, and what all routes have in common.
pub(super) fn complete(openapi: utoipa::openapi::OpenApi) -> Value {
    let mut document = serde_json::to_value(openapi).expect("a description is plain data");
    let components = &mut document["components"];
    components["securitySchemes"] = json!({"api_key": {
        "type": "http",
        "scheme": "bearer",
        "description": format!(
            "A key of `bipedalnet keys create`, whose scopes are of {}. A service that never had a \
             key asks for none. Scores are in answers to keys with the scope `scores`.",
            Scope::ALL.map(|scope| format!("`{}`", scope.name())).join(", ")
        ),
    }});
    components["parameters"] = parameters();
    components["headers"] = headers();
    components["responses"] = responses();
    complete_schemas(&mut components["schemas"]);
    let paths = document["paths"].as_object_mut().into_iter().flatten();
    for (path, operations) in paths {
        // The other POSTs change nothing that a retry could count twice.
        let retried = !path.ends_with("/identify") && !path.ends_with("/challenges");
        for (method, operation) in operations.as_object_mut().into_iter().flatten() {
            if let Some(operation) = operation.as_object_mut() {
                complete_operation(method == "get", retried && method != "get", operation);
            }
        }
    }
    document
}

fn parameters() -> Value {
    json!({
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
        "request_id": {
            "name": "X-Request-Id", "in": "header", "required": false,
            "description": "Names this request in the operator's log; others than 1 to 64 of `A-Z a-z 0-9 . _ -` are not taken over.",
            "schema": {"type": "string"},
        },
        "known": {
            "name": "If-None-Match", "in": "header", "required": false,
            "description": "The `ETag` of an answer that the client has: 304 says that it still holds.",
            "schema": {"type": "string"},
        },
    })
}

fn headers() -> Value {
    let text =
        |description: &str| json!({"description": description, "schema": {"type": "string"}});
    json!({
        "Content-Range": text("Which bytes these are, and of how many."),
        "ETag": text("Names this answer, for `If-None-Match`. Answers of more than 256 KiB have none."),
        "Idempotency-Replayed": {
            "description": "`true` where the answer was given before, under the same `Idempotency-Key`.",
            "schema": {"type": "string", "enum": ["true"]},
        },
        "RateLimit": text("What is left of the tightest quota: `r` requests, whole again in `t` seconds."),
        "RateLimit-Policy": text("That quota: `q` requests in `w` seconds."),
        "Retry-After": {
            "description": "Seconds to wait before the next try. With 409, 429 and 503.",
            "schema": {"type": "integer", "minimum": 0},
        },
        "X-Request-Id": text("Names the request in the operator's log: the request's own, or a new one."),
        "WWW-Authenticate": text("`Bearer`, with 401."),
    })
}

fn responses() -> Value {
    json!({
        "problem": {
            "description": "What went wrong",
            "content": {
                "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}},
            },
            "headers": header_refs(&[
                "Retry-After",
                "RateLimit",
                "RateLimit-Policy",
                "WWW-Authenticate",
                "X-Request-Id",
            ]),
        },
        "unchanged": {
            "description": "The client has this answer already",
            "headers": header_refs(&["ETag", "RateLimit", "RateLimit-Policy", "X-Request-Id"]),
        },
    })
}

fn header_refs(names: &[&str]) -> Value {
    let of =
        |name: &&str| (name.to_string(), json!({"$ref": format!("#/components/headers/{name}")}));
    names.iter().map(of).collect::<Map<_, _>>().into()
}

fn complete_schemas(schemas: &mut Value) {
    for (name, schema) in schemas.as_object_mut().into_iter().flatten() {
        // Requests may say null for nothing. Answers leave out what they do not have.
        let is_request = name.ends_with("Document") || name.ends_with("Item");
        complete_schema(!is_request, schema);
    }
    // As identity::UserId.
    schemas["Id"] = json!({
        "type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[A-Za-z0-9._~-]+$",
        "not": {"enum": [".", ".."]}, "examples": ["ann"],
    });
    let walk = &mut schemas["WalkDocument"];
    let example: Value = serde_json::from_str(EXAMPLE_WALK).expect("the file is JSON");
    walk["examples"] = json!([example]);
    for list in ["acceleration", "angular_rate"] {
        let sample = &mut walk["properties"][list]["items"];
        sample["minItems"] = 3.into();
        sample["maxItems"] = 3.into();
    }
    for item in schemas["BatchItem"]["oneOf"].as_array_mut().into_iter().flatten() {
        item["additionalProperties"] = false.into();
    }
    // One or the other.
    schemas["TrainDocument"]["not"] = json!({
        "required": ["epochs", "budget_seconds"],
        "properties": {"epochs": {"type": "integer"}, "budget_seconds": {"type": "integer"}},
    });
    let types = ProblemType::all().map(|kind| {
        // 0 stands for any status.
        let status = kind.status().map_or(0, |status| status.as_u16());
        json!({"type": kind.uri(), "status": status, "meaning": kind.meaning()})
    });
    let problem = &mut schemas["Problem"];
    problem["x-types"] = types.collect();
    problem["properties"]["type"]["format"] = "uri".into();
}

fn complete_schema(is_answer: bool, schema: &mut Value) {
    for parts in ["allOf", "oneOf"] {
        for part in schema.get_mut(parts).and_then(Value::as_array_mut).into_iter().flatten() {
            complete_schema(is_answer, part);
        }
    }
    let required = schema.get("required").cloned().unwrap_or_default();
    let is_required =
        |name: &str| required.as_array().is_some_and(|all| all.contains(&name.into()));
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    for (name, property) in properties.into_iter().flatten() {
        if is_answer && !is_required(name) {
            never_null(property);
        }
        complete_named(name, property);
    }
}

fn never_null(schema: &mut Value) {
    if let Some([kind, Value::String(null)]) = schema["type"].as_array().map(Vec::as_slice)
        && null == "null"
    {
        schema["type"] = kind.clone();
    } else if let Some([value, null]) = schema["oneOf"].as_array().map(Vec::as_slice)
        && null["type"] == "null"
    {
        *schema = value.clone();
    }
}

/// Says what a value may be that has this name, wherever it stands.
fn complete_named(name: &str, schema: &mut Value) {
    let id = json!({"$ref": "#/components/schemas/Id"});
    let values = match name {
        "user" | "session" | "after" | "next" => return refer(schema, id),
        "among" => {
            schema["items"] = id;
            return;
        }
        "acceleration_unit" => json!(["m/s^2", "g"]),
        "angular_rate_unit" => json!(["rad/s", "deg/s"]),
        "fmr" => json!(FALSE_MATCH_RATES),
        _ => return,
    };
    let null = schema["type"].is_array().then_some(Value::Null);
    schema["enum"] = values.as_array().into_iter().flatten().cloned().chain(null).collect();
}

/// Puts a reference in the place of a string, or of a string or null.
fn refer(schema: &mut Value, reference: Value) {
    let may_be_null = schema["type"].is_array();
    let description = schema["description"].take();
    *schema = if may_be_null { json!({"anyOf": [reference, {"type": "null"}]}) } else { reference };
    if description.is_string() {
        schema["description"] = description;
    }
}

fn complete_operation(is_read: bool, is_write: bool, operation: &mut Map<String, Value>) {
    let is_api = operation.contains_key("security");
    let own = operation.entry("parameters").or_insert(json!([]));
    for parameter in own.as_array_mut().into_iter().flatten() {
        let name = parameter["name"].as_str().unwrap_or_default().to_owned();
        complete_named(&name, &mut parameter["schema"]);
    }
    if let (true, Some(parameters)) = (is_api, own.as_array_mut()) {
        let common = [
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
        also_cbor(content);
    }
    let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) else {
        return;
    };
    for (status, response) in responses.iter_mut() {
        if let Some(content) = response.get_mut("content") {
            also_cbor(content);
            if let Some(bytes) = content.get_mut("application/octet-stream") {
                // In OpenAPI 3.1 bytes have no schema.
                *bytes = json!({});
            }
        }
        let headers = [
            ("ETag", is_read),
            ("Idempotency-Replayed", is_write),
            ("Content-Range", status == "206"),
        ]
        .into_iter();
        let headers = headers.filter(|(_, has)| *has).map(|(name, _)| name);
        if is_api {
            let headers: Vec<&str> =
                headers.chain(["RateLimit", "RateLimit-Policy", "X-Request-Id"]).collect();
            response["headers"] = header_refs(&headers);
        }
    }
    if is_api && is_read {
        responses.insert("304".into(), json!({"$ref": "#/components/responses/unchanged"}));
    }
    responses.insert("default".into(), json!({"$ref": "#/components/responses/problem"}));
}

/// Whatever is JSON is CBOR as well.
fn also_cbor(content: &mut Value) {
    if let Some(json) = content.get("application/json").cloned() {
        content["application/cbor"] = json;
    }
}
