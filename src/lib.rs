//! The service that tells who is walking from a phone's accelerometer.
//!
//! The modules in the order in which imports may run. Each may use those below it, and the packages
//! [`bipedalnet_client`], [`bipedalnet_training`] and [`bipedalnet_core`].
//!
//! | module | what it does |
//! |---|---|
//! | [`cli`] | one file per subcommand |
//! | [`field_trial`] | people of a data set as clients of a server |
//! | [`http`] | routes, codecs, access, problem+json |
//! | [`service`] | use cases, the inference pool |
//! | [`store`] | SQLite |
//! | [`telemetry`] | metrics and logs |
//! | [`access`] | API keys and scopes |
//! | [`config`] | settings |

pub mod access;
pub mod cli;
pub mod config;
pub mod field_trial;
pub mod http;
pub mod service;
pub mod store;
pub mod telemetry;
