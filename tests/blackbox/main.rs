//! Tests of the real program from outside: through sockets, a shell and real clients.

mod access;
mod at_rest;
mod batches;
mod client;
mod commands;
mod concurrent_enrollments;
mod config;
mod connections;
mod description;
mod durability;
mod evaluation;
mod field_trial;
mod guesses;
mod model_changes;
mod models;
mod operation;
mod overload;
mod readme;
mod recordings;
mod retries;
mod server;
mod support;
mod training_jobs;
mod updates;
mod users;
mod verification;
