//! Bodies of requests as HTTP/1.1 frames them: refused codings, and what a handler leaves unread.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Version, header};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};

use super::problem::{Problem, ProblemType};
use crate::config::{HttpSettings, Live};

/// This many times the largest allowed body is read and discarded.
const DISCARDED_BODIES: usize = 8;

/// Before a response, reads and discards what the handler left of the request's body. A client that
/// sends the whole body first could not see the response otherwise. If too much is left, the response
/// says that the connection closes.
///
/// Refuses transfer codings except `chunked` (RFC 9112, section 6.1).
pub(super) async fn read_the_rest(
    settings: &Live<HttpSettings>,
    request: Request,
    next: impl AsyncFnOnce(Request) -> Response,
) -> Response {
    if request.body().is_end_stream() {
        return next(request).await;
    }
    let (settings, begin) = (settings.get(), Instant::now());
    let (parts, body) = request.into_parts();
    let is_http1 = parts.version < Version::HTTP_2;
    let waits_for_word = parts.headers.contains_key(header::EXPECT);
    let is_framed = is_chunked_at_most(&parts.headers);
    let body = SharedBody::new(body);
    let mut response = match is_framed {
        true => next(Request::from_parts(parts, Body::new(body.clone()))).await,
        false => unsupported_coding().into_response(),
    };
    let limit = Duration::from_secs(settings.request_timeout_seconds.into());
    let left = limit.saturating_sub(begin.elapsed());
    let most = settings.max_body_bytes.saturating_mul(DISCARDED_BODIES);
    // A client that waits for `100 Continue` need not send a body that nobody wants.
    let is_wanted = body.is_begun() || !waits_for_word;
    let is_read = is_wanted && tokio::time::timeout(left, body.discard(most)).await == Ok(true);
    if is_http1 && !(is_read && is_framed) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn is_chunked_at_most(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    codings.next().is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
        && codings.next().is_none()
}

fn unsupported_coding() -> Problem {
    Problem::new(
        ProblemType::UnsupportedTransferEncoding,
        "send the body with Content-Length or in chunks; to compress it, use Content-Encoding",
    )
    .at("transfer-encoding")
}

/// A body that the handler and, later, the middleware read.
#[derive(Clone)]
struct SharedBody(Arc<Mutex<Reading>>);

struct Reading {
    body: Body,
    is_begun: bool,
    is_over: bool,
}

impl SharedBody {
    fn new(body: Body) -> Self {
        Self(Arc::new(Mutex::new(Reading { body, is_begun: false, is_over: false })))
    }

    fn is_begun(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_begun
    }

    /// Reads up to about `most` bytes. Returns whether that was all.
    async fn discard(mut self, most: usize) -> bool {
        let mut length = 0;
        while length <= most {
            match self.frame().await {
                Some(Ok(frame)) => length += frame.data_ref().map_or(0, Bytes::len),
                Some(Err(_)) => return false,
                None => return true,
            }
        }
        false
    }
}

impl HttpBody for SharedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut reading = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        reading.is_begun = true;
        if reading.is_over {
            return Poll::Ready(None);
        }
        let polled = Pin::new(&mut reading.body).poll_frame(context);
        reading.is_over = matches!(polled, Poll::Ready(None));
        polled
    }

    fn size_hint(&self) -> SizeHint {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).body.size_hint()
    }
}
