//! Headers, parameters and responses that all operations share.

use serde_json::{Map, Value, json};

use super::super::guard::SECURITY_SCHEMES;
use crate::access::Scope;

/// In the order of [`SECURITY_SCHEMES`].
pub(super) fn security_schemes() -> [(&'static str, Value); 3] {
    let scopes = Scope::ALL.map(|scope| format!("`{}`", scope.name())).join(", ");
    let [key, header, token] = SECURITY_SCHEMES;
    let about_key = format!(
        "An API key from `bipedalnet keys create`. Its scopes are some of {scopes}. Until the first key is \
         created, the service requires none. Responses have scores only if the key has the scope \
         `scores`. `X-API-Key` takes keys and tokens too."
    );
    [
        (key, json!({"type": "http", "scheme": "bearer", "description": about_key})),
        (
            header,
            json!({
                "type": "apiKey", "in": "header", "name": "X-API-Key",
                "description": "An API key or a token, for clients that cannot set `Authorization`.",
            }),
        ),
        (
            token,
            json!({
                "type": "http", "scheme": "bearer",
                "description": "A token of the user in the path, from `POST /v1/users/{user}/tokens`. It \
                    allows nothing else, so that a phone needs no API key.",
            }),
        ),
    ]
}

pub(super) fn parameters() -> Value {
    json!({
        "collection": {
            "name": "collection", "in": "query", "required": false,
            "description": "The collection of users that the request is about. Defaults to the only one \
                that the API key is bound to, or to `default`.",
            "schema": {"$ref": "#/components/schemas/Id"}, "example": "default",
        },
        "idempotency_key": {
            "name": "Idempotency-Key", "in": "header", "required": false,
            "description": "Makes retries safe: a retry with the same key gets the first response. \
                Different API keys may use the same idempotency key.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
            "example": "monday",
        },
        "deadline": {
            "name": "Request-Deadline-Ms", "in": "header", "required": false,
            "description": "How long the client waits, in milliseconds. Later, the request is dropped.",
            "schema": {"type": "integer", "minimum": 1, "maximum": u32::MAX}, "example": 10_000,
        },
        "request_id": {
            "name": "X-Request-Id", "in": "header", "required": false,
            "description": "Identifies the request in the operator's log. An id that is not 1 to 64 \
                of `A-Z a-z 0-9 . _ -` is replaced.",
            "schema": {"type": "string"}, "example": "checkout-17",
        },
        "known": {
            "name": "If-None-Match", "in": "header", "required": false,
            "description": "The `ETag` of a response that the client has. If it is still current, \
                the status is 304.",
            "schema": {"type": "string"}, "example": "\"5d41402abc4b2a76\"",
        },
    })
}

/// An example of a parameter that is not an id.
pub(super) fn example(name: &str) -> Option<Value> {
    Some(match name {
        "job" | "enrollment" => json!(1),
        "collection" => json!("shop"),
        "limit" => json!(20),
        "inactive_days" => json!(365),
        "model" => json!("724ae4ec6180104f"),
        "challenge" => json!("5b7a46228b8de7d2fb69adda6930a43d1c0fe21b7d9a44c25e3387f6ab90d1e4"),
        "confirmed" => json!(false),
        "Range" => json!("bytes=0-99"),
        _ => return None,
    })
}

pub(super) fn headers() -> Value {
    let text = |description: &str, example: &str| json!({"description": description, "schema": {"type": "string"}, "example": example});
    json!({
        "Content-Range": text("Which bytes of the file these are, and its size.", "bytes 0-99/39628"),
        "ETag": text("Identifies this response, for `If-None-Match`. Responses over 256 KiB have none.", "\"5d41402abc4b2a76\""),
        "Idempotency-Replayed": {
            "description": "`true` if this is the stored response of an earlier request with the \
                same `Idempotency-Key`.",
            "schema": {"type": "string", "enum": ["true"]}, "example": "true",
        },
        "Location": text("Path of what was created.", "/v1/users/ann"),
        "RateLimit": text("What is left of the tightest rate limit: `r` requests. The full burst is \
            available again in `t` seconds.", "\"key\";r=199;t=1"),
        "RateLimit-Policy": text("The tightest rate limit: `q` requests in `w` seconds.", "\"key\";q=200;w=1"),
        "Retry-After": {
            "description": "Seconds to wait before the next attempt. With 409, 429 and 503.",
            "schema": {"type": "integer", "minimum": 0}, "example": 30,
        },
        "X-Request-Id": text("Identifies the request in the operator's log: the client's id, or a new one.", "checkout-17"),
        "WWW-Authenticate": text("`Bearer`, with 401.", "Bearer"),
    })
}

pub(super) fn responses() -> Value {
    json!({
        "problem": {
            "description": "An error",
            "content": {
                "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}},
            },
            "headers": header_references(&[
                "Retry-After",
                "RateLimit",
                "RateLimit-Policy",
                "WWW-Authenticate",
                "X-Request-Id",
            ]),
        },
        "unchanged": {
            "description": "The client's response is still current",
            "headers": header_references(&["ETag", "RateLimit", "RateLimit-Policy", "X-Request-Id"]),
        },
    })
}

pub(super) fn header_references(names: &[&str]) -> Value {
    let reference =
        |name: &&str| (name.to_string(), json!({"$ref": format!("#/components/headers/{name}")}));
    names.iter().map(reference).collect::<Map<_, _>>().into()
}
