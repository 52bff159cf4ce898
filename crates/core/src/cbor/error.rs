//! Why bytes are not the CBOR of a value.

use std::fmt;

use serde::de;

use super::MAX_DEPTH;

/// Why bytes are not the CBOR of a value. Positions are bytes from the start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CborError {
    /// Cut off.
    #[error("the CBOR ends at byte {at}, within an item")]
    End {
        /// Length of the bytes.
        at: usize,
    },
    /// Not CBOR: a reserved head, text that is not UTF-8, a break out of place.
    #[error("no well-formed CBOR item starts at byte {at}")]
    Malformed {
        /// Where the item starts.
        at: usize,
    },
    /// CBOR that has no counterpart in JSON, and is no typed array.
    #[error("{what} at byte {at} cannot be read")]
    Unsupported {
        /// What stands there.
        what: String,
        /// Where the item starts.
        at: usize,
    },
    /// Deep enough to endanger the stack.
    #[error("more than {MAX_DEPTH} lists, maps and tags stand in each other at byte {at}")]
    TooDeep {
        /// Where the item starts.
        at: usize,
    },
    /// More than one item.
    #[error("the item ends at byte {at}, and more bytes follow")]
    Trailing {
        /// Where the item ends.
        at: usize,
    },
    /// A typed or multi-dimensional array whose bytes are not what it says.
    #[error("the array at byte {at} {problem}")]
    Array {
        /// What is wrong.
        problem: String,
        /// Where the array starts.
        at: usize,
    },
    /// Good CBOR, but of another type than is needed.
    #[error("{message}{}", at.map_or(String::new(), |at| format!(", at byte {at}")))]
    Data {
        /// What is needed, and what is there.
        message: String,
        /// Where the innermost item starts that is known to hold the fault.
        at: Option<usize>,
    },
}

impl CborError {
    /// Says where, unless an inner item has said so.
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
