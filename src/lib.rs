//! The bipedalnet server and its command line.
//!
//! A module may use only those below it, and the packages [`bipedalnet_client`],
//! [`bipedalnet_training`] and [`bipedalnet_core`]:
//!
//! | module | what it does |
//! |---|---|
//! | `cli` | one file per subcommand |
//! | `field_trial` | measures a server with the people of a data set as clients |
//! | [`http`] | routes, codecs, access control, problem+json |
//! | [`service`] | use cases, the inference pool |
//! | [`store`] | SQLite |
//! | `telemetry` | metrics and logs |
//! | `access` | API keys and scopes |
//! | [`config`] | settings |
//!
//! Only benchmarks need the public modules.

mod access;
mod cli;
pub mod config;
mod field_trial;
pub mod http;
pub mod service;
pub mod store;
mod telemetry;

pub use cli::run;
