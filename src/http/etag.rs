//! Responses that the client has already (RFC 9110, section 13.1.2).

use axum::body::{Body, HttpBody, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use headers::{ETag, HeaderMapExt, IfNoneMatch};
use sha2::{Digest, Sha256};

/// Larger responses, such as exports of recordings, have no ETag.
const MAX_BYTES: u64 = 256 << 10;

/// Gives responses to GET an ETag, and answers 304 if the client has the response already. The ETag
/// is weak, because responses may be compressed later.
pub(super) async fn etag(request: Request, next: Next) -> Response {
    if request.method() != Method::GET {
        return next.run(request).await;
    }
    let known = request.headers().typed_get::<IfNoneMatch>();
    let response = next.run(request).await;
    let length = response.body().size_hint().exact();
    if response.headers().contains_key(header::ETAG)
        || response.status() != StatusCode::OK
        || length.is_none_or(|length| length > MAX_BYTES)
    {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(body) = to_bytes(body, MAX_BYTES as usize).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let digest = const_hex::encode(&Sha256::digest(&body)[..16]);
    let tag: ETag = format!("W/\"{digest}\"").parse().expect("hexadecimal digits in quotes");
    let is_known = known.is_some_and(|known| !known.precondition_passes(&tag));
    parts.headers.typed_insert(tag);
    parts
        .headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("private, no-cache"));
    if is_known {
        parts.status = StatusCode::NOT_MODIFIED;
        parts.headers.remove(header::CONTENT_TYPE);
        parts.headers.remove(header::CONTENT_LENGTH);
        return Response::from_parts(parts, Body::empty());
    }
    Response::from_parts(parts, Body::from(body))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderMap;

    use super::*;

    #[test]
    fn tags_match_weakly_and_in_lists() {
        let tag: ETag = "W/\"ab\"".parse().unwrap();
        for (known, expected) in [
            ("W/\"ab\"", true),
            ("\"ab\"", true),
            ("\"x\", W/\"ab\"", true),
            ("*", true),
            ("\"abc\"", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, known.parse().unwrap())]);
            let known_tags = headers.typed_get::<IfNoneMatch>();
            let matches = known_tags.is_some_and(|known| !known.precondition_passes(&tag));
            assert_eq!(matches, expected, "{known}");
        }
    }
}
