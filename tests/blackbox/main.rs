//! The real program from outside: a real socket, a real shell, real clients.

mod access;
mod batches;
mod client;
mod commands;
mod config;
mod connections;
mod description;
mod durability;
mod evaluation;
mod field_trial;
mod groups;
mod models;
mod operation;
mod readme;
mod recordings;
mod retries;
mod server;
mod support;
mod swaps;
mod training_jobs;
mod updates;
mod users;
mod verification;
