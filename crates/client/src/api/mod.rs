//! The API's documents: the bodies of requests and responses, in JSON or CBOR.
//!
//! The server and the client share these types. The OpenAPI description is generated from them, so
//! their doc comments are its texts.

mod answers;
mod audit;
mod collections;
mod lists;
mod models;
mod requests;
mod training;

pub use answers::*;
pub use audit::*;
pub use collections::*;
pub use lists::MOST_NAMED_USERS;
pub use models::*;
pub use requests::*;
pub use training::*;
