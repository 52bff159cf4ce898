//! The encodings of bodies, and compressed request bodies (RFC 9110, section 8.4).

use std::cell::RefCell;
use std::io::Read;

use axum::http::{HeaderMap, header};
use zstd::zstd_safe::DCtx;

use super::problem::{Problem, ProblemType};

/// Largest window of a zstd stream, as a power of two. It limits the memory that a body can take.
const ZSTD_WINDOW_LOG: u32 = 21;

/// Initial capacity for a decompressed body: ten seconds of walking in CBOR take less.
const PLAIN_BYTES: usize = 8192;

const BROTLI_BUFFER_BYTES: usize = 4096;

thread_local! {
    /// Creating this costs more than decompressing a small body.
    static ZSTD: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Identity,
    Gzip,
    Zstd,
    Brotli,
}

impl Encoding {
    pub fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let Some(value) = headers.get(header::CONTENT_ENCODING) else { return Ok(Self::Identity) };
        value.to_str().ok().and_then(Self::named).ok_or_else(|| {
            Problem::new(
                ProblemType::UnsupportedEncoding,
                "send it uncompressed, or compressed with gzip, zstd or br",
            )
            .at("content-encoding")
        })
    }

    pub fn named(name: &str) -> Option<Self> {
        let named = [
            ("identity", Self::Identity),
            ("gzip", Self::Gzip),
            ("x-gzip", Self::Gzip),
            ("zstd", Self::Zstd),
            ("br", Self::Brotli),
        ];
        let found = named.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, encoding)| encoding)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Brotli => "br",
        }
    }

    /// Decompresses a body. Stops as soon as the result exceeds `most` bytes.
    pub fn decode(self, body: Vec<u8>, most: usize) -> Result<Vec<u8>, Problem> {
        let compressed = &body[..];
        let plain = match self {
            Self::Identity => return Ok(body),
            Self::Gzip => limited(flate2::read::MultiGzDecoder::new(compressed), most),
            Self::Zstd => ZSTD.with_borrow_mut(|context| {
                let mut decoder = zstd::stream::read::Decoder::with_context(compressed, context);
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                limited(decoder, most)
            }),
            Self::Brotli => {
                limited(brotli::Decompressor::new(compressed, BROTLI_BUFFER_BYTES), most)
            }
        };
        let plain = plain.map_err(|error| {
            Problem::new(
                ProblemType::MalformedEncoding,
                format!(
                    "{error}; check that content-encoding is right and that the body is complete"
                ),
            )
            .at("content-encoding")
        })?;
        if plain.len() > most {
            return Err(Problem::too_large(most));
        }
        Ok(plain)
    }
}

/// Reads a stream, up to one byte more than allowed.
fn limited(stream: impl Read, most: usize) -> std::io::Result<Vec<u8>> {
    let mut plain = Vec::with_capacity(PLAIN_BYTES);
    stream.take(most as u64 + 1).read_to_end(&mut plain)?;
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn encode(encoding: Encoding, plain: &[u8]) -> Vec<u8> {
        match encoding {
            Encoding::Identity => plain.to_vec(),
            Encoding::Gzip => {
                let mut encoder =
                    flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(plain).unwrap();
                encoder.finish().unwrap()
            }
            Encoding::Zstd => zstd::encode_all(plain, 3).unwrap(),
            Encoding::Brotli => {
                let mut encoded = Vec::new();
                brotli::CompressorWriter::new(&mut encoded, 4096, 5, 20).write_all(plain).unwrap();
                encoded
            }
        }
    }

    const MOST: usize = 2 << 20;

    const ALL: [Encoding; 4] =
        [Encoding::Identity, Encoding::Gzip, Encoding::Zstd, Encoding::Brotli];

    #[test]
    fn a_decompression_bomb_is_stopped() {
        for encoding in &ALL[1..] {
            let bomb = encode(*encoding, &vec![0; 64 << 20]);
            assert!(bomb.len() < 100_000);
            let problem = encoding.decode(bomb, MOST).unwrap_err();
            assert_eq!(problem, Problem::too_large(MOST));
            assert!(encoding.decode(encode(*encoding, &vec![0; MOST]), MOST).is_ok());
        }
    }

    proptest! {
        #[test]
        fn what_is_compressed_comes_back(
            plain in prop::collection::vec(any::<u8>(), 0..2000),
        ) {
            for encoding in ALL {
                let decoded = encoding.decode(encode(encoding, &plain), MOST);
                prop_assert_eq!(decoded.unwrap(), plain.clone());
            }
        }

        #[test]
        fn garbage_is_an_error_and_so_is_a_cut_body(
            garbage in prop::collection::vec(any::<u8>(), 0..200),
            plain in prop::collection::vec(any::<u8>(), 1..200),
        ) {
            for encoding in &ALL[1..] {
                // It may succeed, but not panic.
                let _ = encoding.decode(garbage.clone(), MOST);
                let mut cut = encode(*encoding, &plain);
                cut.truncate(cut.len() / 2);
                prop_assert!(encoding.decode(cut, MOST).is_err());
            }
        }
    }
}
