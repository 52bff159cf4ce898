//! Compressed responses (RFC 9110, section 12.5.3).
//!
//! A response is compressed as a whole before its first byte is sent. A compressor that waits for a
//! slow client would hold about a megabyte for each response.

use std::io::Write;
use std::sync::{Arc, OnceLock};

use axum::body::{Body, Bytes, HttpBody, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::encoding::Encoding;

/// Smaller bodies fit into a packet or two as they are.
const MIN_BYTES: u64 = 1 << 10;

/// Larger bodies are not compressed, and neither are streams, because the async runtime compresses.
const MAX_BYTES: u64 = 256 << 10;

/// A body that never changes. It is compressed once for each encoding.
pub(super) struct FixedBody {
    plain: Bytes,
    gzip: OnceLock<Bytes>,
    zstd: OnceLock<Bytes>,
    brotli: OnceLock<Bytes>,
}

impl FixedBody {
    pub fn new(plain: impl Into<Bytes>) -> Arc<Self> {
        let (gzip, zstd, brotli) = Default::default();
        Arc::new(Self { plain: plain.into(), gzip, zstd, brotli })
    }

    /// The uncompressed body.
    pub fn plain(&self) -> Bytes {
        self.plain.clone()
    }

    fn compressed(&self, encoding: Encoding) -> Bytes {
        let stored = match encoding {
            Encoding::Identity => return self.plain(),
            Encoding::Gzip => &self.gzip,
            Encoding::Zstd => &self.zstd,
            Encoding::Brotli => &self.brotli,
        };
        stored.get_or_init(|| encode(encoding, &self.plain)).clone()
    }
}

/// Compresses responses as the client prefers. A handler of a [`FixedBody`] adds it to the response's
/// extensions.
pub(super) async fn compress(
    request: Request,
    next: impl AsyncFnOnce(Request) -> Response,
) -> Response {
    let encoding = accepted(request.headers());
    let response = next(request).await;
    if !depends_on_encoding(&response) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    parts.headers.append(header::VARY, HeaderValue::from_static("accept-encoding"));
    if encoding == Encoding::Identity || parts.status == StatusCode::NOT_MODIFIED {
        return Response::from_parts(parts, body);
    }
    parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding.name()));
    parts.headers.remove(header::CONTENT_LENGTH);
    // A response to HEAD.
    if body.is_end_stream() {
        return Response::from_parts(parts, body);
    }
    let body = match parts.extensions.get::<Arc<FixedBody>>() {
        Some(fixed) => fixed.compressed(encoding),
        None => match to_bytes(body, MAX_BYTES as usize).await {
            Ok(plain) => encode(encoding, &plain),
            Err(_) => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        },
    };
    Response::from_parts(parts, Body::from(body))
}

/// Whether the response would be another one with another `Accept-Encoding`.
fn depends_on_encoding(response: &Response) -> bool {
    let header = |name| response.headers().get(name).map(HeaderValue::as_bytes);
    if response.status() == StatusCode::NOT_MODIFIED {
        // Only files have a strong tag, and they are not compressed.
        return header(header::ETAG).is_some_and(|tag| tag.starts_with(b"W/"));
    }
    // A response to HEAD has the length in its header only.
    let stated = header(header::CONTENT_LENGTH);
    let stated = stated.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    let length = stated.or_else(|| response.body().size_hint().exact());
    // Weights do not compress, and the ETag of a model file belongs to its uncompressed bytes.
    header(header::CONTENT_TYPE) != Some(b"application/octet-stream")
        && length.is_some_and(|length| (MIN_BYTES..=MAX_BYTES).contains(&length))
}

/// The encoding with the highest quality in `Accept-Encoding`.
fn accepted(headers: &HeaderMap) -> Encoding {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter();
    let items = values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let rated = items.filter_map(|item| {
        let (name, parameter) = item.split_once(';').unwrap_or((item, "q=1"));
        let quality: f32 = parameter.trim().strip_prefix("q=")?.parse().ok()?;
        let encoding = Encoding::named(name.trim())?;
        (quality > 0.0).then_some((quality, encoding))
    });
    // On a tie, the one that compresses best for its time.
    let order = [Encoding::Identity, Encoding::Gzip, Encoding::Brotli, Encoding::Zstd];
    let rank = |encoding: &Encoding| order.iter().position(|other| other == encoding);
    let best = rated.max_by(|(one_quality, one), (other_quality, other)| {
        one_quality.total_cmp(other_quality).then_with(|| rank(one).cmp(&rank(other)))
    });
    best.map_or(Encoding::Identity, |(_, encoding)| encoding)
}

fn encode(encoding: Encoding, plain: &[u8]) -> Bytes {
    let compressed = match encoding {
        Encoding::Identity => Ok(plain.to_vec()),
        Encoding::Gzip => {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(plain).and_then(|()| encoder.finish())
        }
        Encoding::Zstd => zstd::bulk::compress(plain, zstd::DEFAULT_COMPRESSION_LEVEL),
        Encoding::Brotli => {
            let parameters =
                brotli::enc::BrotliEncoderParams { quality: 5, lgwin: 18, ..Default::default() };
            let mut compressed = Vec::new();
            brotli::BrotliCompress(&mut &plain[..], &mut compressed, &parameters)
                .map(|_| compressed)
        }
    };
    compressed.expect("writing to memory does not fail").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_chooses_the_encoding_of_responses() {
        for (accept, expected) in [
            ("gzip", Encoding::Gzip),
            ("GZIP", Encoding::Gzip),
            ("gzip, deflate, br, zstd", Encoding::Zstd),
            ("gzip, br", Encoding::Brotli),
            ("br;q=0.5, gzip ; q=0.8", Encoding::Gzip),
            ("zstd;q=0, gzip", Encoding::Gzip),
            ("gzip;q=0.5, identity", Encoding::Identity),
            ("zstd;q=0", Encoding::Identity),
            ("zstd;q=x", Encoding::Identity),
            ("deflate, *", Encoding::Identity),
            ("", Encoding::Identity),
        ] {
            let headers =
                HeaderMap::from_iter([(header::ACCEPT_ENCODING, accept.parse().unwrap())]);
            assert_eq!(accepted(&headers), expected, "{accept}");
        }
        assert_eq!(accepted(&HeaderMap::new()), Encoding::Identity);
    }

    #[test]
    fn a_fixed_body_is_compressed_once() {
        let plain: Vec<u8> = b"walking ".repeat(1000);
        let body = FixedBody::new(plain.clone());
        for encoding in [Encoding::Gzip, Encoding::Zstd, Encoding::Brotli] {
            let compressed = body.compressed(encoding);
            assert_eq!(compressed.as_ptr(), body.compressed(encoding).as_ptr());
            assert_eq!(encoding.decode(compressed.to_vec(), plain.len()).unwrap(), plain);
        }
    }
}
