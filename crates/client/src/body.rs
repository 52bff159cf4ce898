use bipedalnet_core::cbor;
use bipedalnet_core::gait::{Precision, Recording, compact, exact};
use serde::Serialize;

use crate::api::WalkDocument;

const ZSTD_LEVEL: i32 = 3;

/// A request body: CBOR, compressed if that makes it smaller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// CBOR, or CBOR compressed with zstd.
    pub bytes: Vec<u8>,
    /// Whether `bytes` are compressed with zstd.
    pub zstd: bool,
}

impl Body {
    /// Encodes a recording in the default [`Precision`], which recognition needs.
    ///
    /// A recording that has gaps is encoded exactly, and the server then names the gaps.
    pub fn of_recording(recording: &Recording) -> Self {
        Self::compressed(encode(recording))
    }

    pub(crate) fn of_document(document: &impl Serialize) -> Self {
        let plain = minicbor_serde::to_vec(document);
        Self::compressed(plain.expect("documents are plain data with string keys"))
    }

    fn compressed(plain: Vec<u8>) -> Self {
        match zstd::bulk::compress(&plain, ZSTD_LEVEL) {
            Ok(bytes) if bytes.len() < plain.len() => Self { bytes, zstd: true },
            _ => Self { bytes: plain, zstd: false },
        }
    }
}

/// Turns a recording into a batch item's walk, in the same precision as [`Body::of_recording`].
pub fn walk(recording: &Recording) -> WalkDocument {
    cbor::from_slice(&encode(recording)).expect("an encoded recording can be decoded")
}

fn encode(recording: &Recording) -> Vec<u8> {
    compact(recording, &Precision::default()).unwrap_or_else(|_| exact(recording))
}
