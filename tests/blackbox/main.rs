//! The real program from outside: a real socket, a real shell, real clients.

mod commands;
mod connections;
mod description;
mod recordings;
mod retries;
mod server;
mod support;
mod users;
