//! Errors of CBOR.

use std::fmt;

use serde::de;

use super::MAX_DEPTH;

/// Why bytes are not the CBOR of a value. Positions are bytes from the start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CborError {
    /// The bytes end in the middle of an item.
    #[error("the CBOR ends at byte {at}, in the middle of an item")]
    End {
        /// Length of the bytes.
        at: usize,
    },
    /// The bytes are not CBOR: a reserved head, text that is not UTF-8, or a misplaced break.
    #[error("no well-formed CBOR item starts at byte {at}")]
    Malformed {
        /// Where the item starts.
        at: usize,
    },
    /// The item has no counterpart in JSON and is not a typed array.
    #[error("{what} at byte {at} is not supported")]
    Unsupported {
        /// Description of the item.
        what: String,
        /// Where the item starts.
        at: usize,
    },
    /// Items are nested too deeply.
    #[error("lists, maps and tags are nested more than {MAX_DEPTH} deep at byte {at}")]
    TooDeep {
        /// Where the item starts.
        at: usize,
    },
    /// There is more than one item.
    #[error("the item ends at byte {at}, but more bytes follow")]
    Trailing {
        /// Where the item ends.
        at: usize,
    },
    /// The bytes of a typed or multi-dimensional array do not fit its description.
    #[error("the array at byte {at} {problem}")]
    Array {
        /// What is wrong.
        problem: String,
        /// Where the array starts.
        at: usize,
    },
    /// The bytes are CBOR, but of another type than expected.
    #[error("{message}{}", at.map_or(String::new(), |at| format!(", at byte {at}")))]
    Data {
        /// What was found, and what was expected.
        message: String,
        /// Start of the innermost item that is known to be wrong.
        at: Option<usize>,
    },
}

impl CborError {
    /// Adds the position, unless an inner item has added its own.
    pub(super) fn within(mut self, start: usize) -> Self {
        if let Self::Data { at, .. } = &mut self {
            at.get_or_insert(start);
        }
        self
    }
}

impl de::Error for CborError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Data { message: message.to_string(), at: None }
    }
}
