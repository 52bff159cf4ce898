//! Bodies that are not what their headers say, and samples that are not what their field needs: the
//! mistakes behind most parser errors.

use super::problem::{Problem, ProblemType};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// JSON without its byte order mark, which a parser may ignore (RFC 8259, section 8.1).
pub(super) fn without_mark(json: &[u8]) -> &[u8] {
    json.strip_prefix(BYTE_ORDER_MARK).unwrap_or(json)
}

/// What a body is that cannot be parsed, judged by its first bytes. `malformed` is the type of the
/// parser's error.
pub(super) fn recognised(malformed: ProblemType, body: &[u8]) -> Option<Problem> {
    let compressed = |name: &str| {
        let detail = format!(
            "the body is compressed with {name}, but its headers do not say so; set \
             Content-Encoding: {name}"
        );
        Some(Problem::new(malformed, detail).at("content-encoding"))
    };
    match body {
        [0x1f, 0x8b, ..] => compressed("gzip"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => compressed("zstd"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [b'{' | b'[', 0, ..] | [0, b'{' | b'[', ..] => {
            Some(Problem::new(malformed, "the body is in UTF-16; send it in UTF-8"))
        }
        _ => None,
    }
}

/// Adds what is needed to an error about the first sample, if it has too many values.
pub(super) fn about_samples(path: &str, detail: String) -> String {
    let is_first = ["acceleration[0]", "angular_rate[0]"].iter().any(|end| path.ends_with(end));
    match is_first && detail.starts_with("too many values") {
        true => format!(
            "{detail}: a sample is [x, y, z]. If there is one list for each axis, send one for each \
             sample"
        ),
        false => detail,
    }
}
