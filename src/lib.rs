//! The bipedalnet server and its command line.
//!
//! A module may use only those below it, and the packages [`bipedalnet_client`],
//! [`bipedalnet_training`] and [`bipedalnet_core`]:
//!
//! | module | what it does |
//! |---|---|
//! | `cli` | one file per subcommand |
//! | `field_trial` | measures a server with the people of a data set as clients |
//! | `http` | routes, codecs, access control, problem+json |
//! | `service` | use cases, the inference pool |
//! | `store` | SQLite and PostgreSQL |
//! | `telemetry` | metrics and logs |
//! | `access` | API keys and scopes |
//! | `config` | settings |
//!
//! The program needs only [`run`]. The other public items are for benchmarks.

mod access;
mod cli;
mod config;
mod field_trial;
mod http;
mod service;
mod store;
mod telemetry;

pub use cli::run;
pub use config::{Config, Live};
pub use http::{Browsers, router};
pub use service::{GivenModel, Service};
pub use store::Store;
