//! Responses that the client has already (RFC 9110, section 13.1.2).

use axum::body::{Body, HttpBody, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use headers::{ETag, HeaderMapExt, IfNoneMatch};
use sha2::{Digest, Sha256};

/// Larger responses, such as exports of recordings, have no ETag.
const MAX_BYTES: u64 = 256 << 10;

/// What proxies append to a tag, after a hyphen or two. Tags of this server never end so.
const CODINGS: [&str; 4] = ["gzip", "br", "zstd", "deflate"];

/// Gives responses to GET an ETag, and answers 304 if the client has the response already. The ETag
/// is weak, because responses may be compressed later.
pub(super) async fn etag(
    mut request: Request,
    next: impl AsyncFnOnce(Request) -> Response,
) -> Response {
    drop_codings(request.headers_mut());
    if request.method() != Method::GET {
        return next(request).await;
    }
    let known = request.headers().typed_get::<IfNoneMatch>();
    let response = next(request).await;
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

/// A proxy that compresses a response may add the coding to its tag. A client that has that response has
/// this one.
fn drop_codings(headers: &mut HeaderMap) {
    let Some(known) = headers.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok()) else {
        return;
    };
    let own = CODINGS.iter().fold(known.to_owned(), |tags, coding| {
        tags.replace(&format!("--{coding}\""), "\"").replace(&format!("-{coding}\""), "\"")
    });
    if own != known
        && let Ok(own) = HeaderValue::try_from(own)
    {
        headers.insert(header::IF_NONE_MATCH, own);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_match_weakly_and_in_lists() {
        let tag: ETag = "W/\"ab\"".parse().unwrap();
        for (known, expected) in [
            ("W/\"ab\"", true),
            ("\"ab\"", true),
            ("\"x\", W/\"ab\"", true),
            ("*", true),
            ("W/\"ab-gzip\"", true),
            ("\"x\", \"ab--gzip\"", true),
            ("\"ab-br\"", true),
            ("\"ab-x\"", false),
            ("\"abc\"", false),
            ("", false),
        ] {
            let mut headers =
                HeaderMap::from_iter([(header::IF_NONE_MATCH, known.parse().unwrap())]);
            drop_codings(&mut headers);
            let known_tags = headers.typed_get::<IfNoneMatch>();
            let matches = known_tags.is_some_and(|known| !known.precondition_passes(&tag));
            assert_eq!(matches, expected, "{known}");
        }
    }
}
