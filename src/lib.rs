//! Tells who is walking from a phone's accelerometer.
//!
//! The rooms of the house, in the order in which imports may run (each may use those below it):
//!
//! | room | what it does |
//! |---|---|
//! | [`cli`] | one file per subcommand |
//! | [`field_trial`] | people of a data set as clients of a server |
//! | [`client`] | the API, typed, for backends |
//! | [`http`] | routes, codecs, access, problem+json |
//! | [`api`] | documents of requests and answers |
//! | [`service`] | use cases, the inference pool |
//! | [`store`] | SQLite |
//! | [`identity`] | templates, gallery, decision |
//! | [`training`] | data sets, straight-through layers, Adam, evaluation |
//! | [`gait`] | recording to window, walking check, simulator |
//! | [`bnn`] | packed inference, the model file |
//! | [`telemetry`] | metrics and logs |
//! | [`access`] | API keys and scopes |
//! | [`config`] | settings |

pub mod access;
pub mod api;
pub mod bnn;
pub mod cli;
pub mod client;
pub mod config;
pub mod field_trial;
pub mod gait;
pub mod http;
pub mod identity;
pub mod service;
pub mod store;
pub mod telemetry;
pub mod training;
