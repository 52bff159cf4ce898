//! What the fuzz targets check, apart from panics.

mod documents;
mod recordings;
mod server;

pub use documents::{check_cbor, check_json};
pub use recordings::{check_exact, check_windows};
pub use server::{Answer, Server, request};
