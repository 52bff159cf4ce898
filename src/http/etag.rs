//! Answers that the client has already (RFC 9110, section 13.1.2).

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use crate::access::hexadecimal;

/// Larger answers, exports of recordings for example, go without.
const MAX_BYTES: u64 = 256 << 10;

/// Gives answers to GET a weak ETag, weak because they may be compressed on the way, and answers 304
/// where the client has it. Those that have one already are left alone.
pub(super) async fn etag(request: Request, next: Next) -> Response {
    if request.method() != Method::GET {
        return next.run(request).await;
    }
    let known = request.headers().get(header::IF_NONE_MATCH).cloned();
    let response = next.run(request).await;
    let length = axum::body::HttpBody::size_hint(response.body()).exact();
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
    let digest = hexadecimal(&Sha256::digest(&body)[..16]);
    let tag = format!("W/\"{digest}\"");
    let same = known.is_some_and(|known| matches(&known, &tag));
    let value = HeaderValue::try_from(tag).expect("hexadecimal digits in quotes");
    parts.headers.insert(header::ETAG, value);
    parts
        .headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("private, no-cache"));
    if same {
        parts.status = StatusCode::NOT_MODIFIED;
        parts.headers.remove(header::CONTENT_TYPE);
        parts.headers.remove(header::CONTENT_LENGTH);
        return Response::from_parts(parts, Body::empty());
    }
    Response::from_parts(parts, Body::from(body))
}

/// Weak comparison (RFC 9110, section 8.8.3.2).
pub(super) fn matches(known: &HeaderValue, tag: &str) -> bool {
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    known.to_str().is_ok_and(|list| {
        list.trim() == "*" || list.split(',').any(|candidate| opaque(candidate) == opaque(tag))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_match_weakly_and_in_lists() {
        let tag = "W/\"ab\"";
        for (known, expected) in [
            ("W/\"ab\"", true),
            ("\"ab\"", true),
            ("\"x\", W/\"ab\"", true),
            ("*", true),
            ("\"abc\"", false),
            ("", false),
        ] {
            assert_eq!(matches(&HeaderValue::from_static(known), tag), expected, "{known}");
        }
    }
}
